"""A sample of the archives is restored and compared: what is whole passes, damage is found and named."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from include.maintenance.backups import archive_samples
from include.maintenance.pruning import prune
from include.outcome import ConfigurationError, MaintenanceFailed, Outcome, SourceUnavailable
from include.settings import settings
from include.warehouse import actions, archives, drills
from include.warehouse.archives import Archive
from include.warehouse.findings import Finding
from tests.include.maintenance.backups.drill_places import own_scratch_folder
from tests.recorded_findings import latest_findings

LATER = datetime(2099, 1, 5, 5, tzinfo=UTC)


def found() -> dict[str, Finding]:
    return {one.finding.resource: one.finding for one in latest_findings("archive_samples")}


@pytest.fixture(autouse=True)
def scratch_folder(environment: pytest.MonkeyPatch) -> Iterator[Path]:
    with own_scratch_folder(environment) as folder:
        yield folder


@pytest.fixture
def archived(platform: psycopg.Connection, warehouse: psycopg.Connection, tmp_path: Path) -> list[Path]:
    """Five archives of an audit log, made by the daily pruning; their files."""
    [rule] = settings().maintenance.prune
    for years in (5, 4, 3, 2, 1):
        platform.execute(
            "INSERT INTO public.audit_logs (created_at, actor, action, detail)"
            " SELECT now() - %s * interval '365 days' - n * interval '1 second', 'a' || n, 'b', '{\"k\": 1}'"
            " FROM generate_series(1, 120) AS n",
            (years,),
        )
        prune.prune(rule, f"run {years}", False)
    return sorted((tmp_path / "archive").rglob("*.parquet"))


def archive(name: str) -> Archive:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Archive(name, "public.t", name, 1, "", "", at, at)


def test_the_sample_is_drawn_by_the_month() -> None:
    candidates = [archive(f"archive {n}") for n in range(200)]
    october = archive_samples.sample(candidates, "2026-10", 5)
    assert october == archive_samples.sample(list(reversed(candidates)), "2026-10", 5), "whatever their order"
    assert october != archive_samples.sample(candidates, "2026-11", 5)
    assert len({one.archive_id for one in october}) == 5
    drawn = {
        one.archive_id for month in range(1, 13) for one in archive_samples.sample(candidates, f"2026-{month}", 50)
    }
    assert len(drawn) > 180, "over a year nearly all are drawn"


def test_nothing_archived_is_not_applicable(platform: psycopg.Connection) -> None:
    assert archive_samples.check("run", LATER, 5) == {"check": "archive_samples", "outcome": "not_applicable",
                                                      "not_applicable": 1}  # fmt: skip
    act = actions.find("archive_restoration", "sample of the archives", "run")
    assert act is not None
    assert (act.state, act.reason) == ("nothing_to_do", "nothing was archived yet")


def test_a_dry_run_only_names_the_sample(archived: list[Path]) -> None:
    told = archive_samples.check("run", LATER, 2, dry_run=True)
    assert (told["state"], told["archives"], told["rows"]) == ("planned", 5, 240)
    assert len(set(told["sample"])) == 2
    assert {name.rsplit("/", 1)[-1] for name in told["sample"]} <= {path.name for path in archived}
    assert found() == {}
    assert drills.find("archive_restoration", "sample of the archives", "run") is None
    archive_samples.check("run", LATER, 2)
    restored = {name.rsplit("/", 1)[-1] + ".parquet" for name in found()} - {"all other archives.parquet"}
    assert restored == {name.rsplit("/", 1)[-1] for name in told["sample"]}, "the run itself takes the same"


def test_whole_archives_come_back_exactly(archived: list[Path], warehouse: psycopg.Connection) -> None:
    summary = archive_samples.check("run", LATER, 2)
    assert summary["rows"] == 240
    assert summary["outcome"] == "ok"
    assert [one.outcome for one in found().values()].count(Outcome.OK) == 2
    assert found()["all other archives"].evidence == {"archives": 3}
    assert [one.row_count for one in archives.restorable(warehouse, LATER)] == [120] * 5
    drill = drills.find("archive_restoration", "sample of the archives", "run")
    assert drill is not None
    assert drill.done
    assert archive_samples.check("run", LATER, 2) == drill.summary(), "a repeated task does it once"


def test_archives_made_after_the_run_was_due_are_left_out(archived: list[Path]) -> None:
    assert archive_samples.check("run", datetime.now(UTC) - timedelta(hours=1), 5)["outcome"] == "not_applicable"


def test_every_damage_is_found_and_the_others_are_looked_at_too(
    archived: list[Path], warehouse: psycopg.Connection
) -> None:
    content = bytearray(archived[0].read_bytes())
    content[len(content) // 2] ^= 1  # one flipped bit
    archived[0].write_bytes(content)
    archived[1].unlink()
    Path(f"{archived[2]}.manifest.json").unlink()
    warehouse.execute(
        "UPDATE ops.archive SET content_hash = reverse(content_hash) WHERE location LIKE %s", (f"%{archived[3].name}",)
    )
    with pytest.raises(MaintenanceFailed, match="4 of 5 archives cannot be restored"):
        archive_samples.check("run", LATER, 5)
    told = {name.rsplit("/", 1)[-1]: one for name, one in found().items()}
    for path, problem in zip(
        archived,
        (
            "its SHA-256 is not the recorded one",
            "is missing",
            "the manifest",
            "does not hold the rows that were recorded",
        ),
        strict=False,
    ):
        finding = told[path.name.removesuffix(".parquet")]
        assert finding.outcome is Outcome.CRITICAL
        assert problem in finding.summary
        assert path.name in finding.remedy
    assert told[archived[4].name.removesuffix(".parquet")].outcome is Outcome.OK
    drill = drills.find("archive_restoration", "sample of the archives", "run")
    assert drill is not None
    assert drill.outcome.value == "failed"


def test_types_that_a_plain_server_lacks_are_compared_as_text(
    platform: psycopg.Connection, warehouse: psycopg.Connection, tmp_path: Path
) -> None:
    platform.execute("CREATE TYPE mood AS ENUM ('calm', 'cross, \"so''')")
    platform.execute("CREATE DOMAIN share AS numeric(6, 3) CHECK (VALUE < 100)")
    platform.execute("CREATE EXTENSION IF NOT EXISTS hstore")
    platform.execute("CREATE SCHEMA own CREATE TABLE pairs (a integer, b text)")
    platform.execute(
        "ALTER TABLE public.audit_logs ADD feels mood NOT NULL DEFAULT 'cross, \"so''', ADD moods mood[],"
        " ADD part share, ADD marks hstore, ADD pair own.pairs"
    )
    platform.execute(
        "INSERT INTO public.audit_logs (created_at, actor, action, detail, moods, part, marks, pair)"
        " SELECT now() - n * interval '99 days', 'a' || n, 'b', '{}', ARRAY['calm', NULL]::mood[],"
        "        n / 3.0, hstore('k' || n, E'\\n,'), ROW(n, NULL)::own.pairs FROM generate_series(1, 90) AS n"
    )
    [rule] = settings().maintenance.prune
    prune.prune(rule, "run", False)
    assert archive_samples.check("run", LATER, 1)["rows"] == 90
    [one] = [one for one in found().values() if one.outcome is Outcome.OK]
    names = ["own.pairs", "public.hstore", "public.mood", "public.mood[]", "public.share"]
    assert one.evidence["types_compared_as_text"] == names

    warehouse.execute("UPDATE ops.archive SET content_hash = reverse(content_hash)")
    with pytest.raises(MaintenanceFailed, match="1 of 1 archives cannot be restored"):
        archive_samples.check("run 2", LATER, 1)


def test_an_archive_that_cannot_be_tried_is_unknown_and_no_pass(
    archived: list[Path], warehouse: psycopg.Connection
) -> None:
    warehouse.execute("UPDATE ops.archive SET manifest_sha256 = NULL, chain_number = NULL")
    with pytest.raises(ConfigurationError, match="1 of 1 archives could not be tried"):
        archive_samples.check("run", LATER, 1)
    assert Outcome.UNKNOWN in {one.outcome for one in found().values()}
    drill = drills.find("archive_restoration", "sample of the archives", "run")
    assert drill is not None
    assert drill.outcome.value == "could_not_run"


def test_without_a_server_or_the_storage_last_months_ok_is_not_the_latest(
    archived: list[Path], environment: pytest.MonkeyPatch
) -> None:
    archive_samples.check("last month", LATER, 5)
    assert Outcome.OK in {one.outcome for one in found().values()}
    environment.setenv("OPERATIONS__BACKUPS__SCRATCH_FOLDER", "/nowhere")
    settings.cache_clear()
    with pytest.raises(ConfigurationError, match="/nowhere"):
        archive_samples.check("this month", LATER, 5)
    [one] = found().values()
    assert one.outcome is Outcome.UNKNOWN
    assert "the scratch folder /nowhere does not exist" in one.summary

    environment.delenv("OPERATIONS__BACKUPS__SCRATCH_FOLDER")
    settings.cache_clear()
    environment.setenv("AIRFLOW_CONN_ARCHIVE", "s3://x:y@bucket/?endpoint_url=http%3A%2F%2F127.0.0.1%3A1")
    with pytest.raises((ConfigurationError, SourceUnavailable)):
        archive_samples.check("this month", LATER, 5)
    assert {one.outcome for one in found().values()} <= {Outcome.UNKNOWN, Outcome.NOT_APPLICABLE}
