"""A backup is verified by restoring it: what is whole passes, and every kind of damage is found and named."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.backups import backup_verification, full_restoration
from include.maintenance.backups.backup_checks import Result, failed
from include.maintenance.backups.backup_verification import Verification
from include.maintenance.backups.drill_stages import Stages, errors_named
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import backup_facts, backups, scratch_place
from include.platform.backup_facts import SUFFIX, Facts, TableFacts
from include.sections import BackupSource
from include.warehouse import actions, drills
from include.warehouse.drills import Drill, DrillOutcome, Stage, StageOutcome
from tests.include.maintenance.backups.backup_platform import configure, filled_database, stages

DUMP: dict[str, Any] = {"name": "nightly", "format": "custom", "files": "*.dump"}
KIND = "backup_verification"
Prepared = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    yield
    assert list(Path(tempfile.gettempdir()).glob(f"{scratch_place.PREFIX}*")) == [], "a scratch server was left behind"


@pytest.fixture
def escrow(any_databases: Databases) -> Iterator[str]:
    """URL of a filled database on either version, as its owner."""
    with filled_database(any_databases) as url:
        yield url


@pytest.fixture(scope="module")
def shared(databases: Databases) -> Iterator[str]:
    """URL of a filled database that no test changes."""
    with filled_database(databases) as url:
        yield url


def _verify(run_id: str = "r1", source: str = "nightly", **given: Any) -> tuple[Drill, str]:
    """Verify, and return the drill with the message of what was raised."""
    said = ""
    try:
        backup_verification.verify(source, run_id, **given)
    except (MaintenanceFailed, ConfigurationError) as error:
        said = f"{type(error).__name__}: {error}"
    drill = drills.find(KIND, source, run_id)
    assert drill is not None
    assert (drill.outcome is DrillOutcome.PASSED) == (said == "")
    return drill, said


def _outcomes(drill: Drill, wanted: StageOutcome) -> set[str]:
    return {name for name, stage in stages(drill).items() if stage.outcome is wanted}


def _change_facts(folder: Path, name: str, change: Callable[[Facts], Facts]) -> None:
    file = folder / f"{name}{SUFFIX}"
    file.write_text(backup_facts.to_json(change(backup_facts.from_json(file.read_text(), name))))


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_dry_run_plans_and_begins_nothing(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, escrow: str, folder: Path, tmp_path: Path
) -> None:
    configure(environment, tmp_path, DUMP)
    with pytest.raises(MaintenanceFailed, match=r"nightly"):
        backup_verification.verify("nightly", "r1", dry_run=True)
    act = actions.find(KIND, "nightly", "r1")
    assert act is not None
    assert (act.dry_run, act.state) == (True, "failed")
    assert act.reason.startswith("there is no backup of nightly")
    for name in ("a.dump", "b.dump"):
        backups.take(escrow, folder, name)
    told = backup_verification.verify("nightly", "r1", dry_run=True)
    act = actions.find(KIND, "nightly", "r1")
    assert act is not None
    assert (act.dry_run, act.state) == (True, "planned")
    assert act.plan == {"backup": "b.dump", "backups": 2, "bytes": (folder / "b.dump").stat().st_size}
    assert told == act.summary() | act.plan
    assert drills.find(KIND, "nightly", "r1") is None


# ------------------------------------------------------------------------------------------------- whole backups
def test_a_whole_dump_passes(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, escrow: str, folder: Path, tmp_path: Path
) -> None:
    configure(environment, tmp_path, DUMP)
    backups.take(escrow, folder, "a.dump")
    begun = time.monotonic()
    drill, said = _verify()
    assert said == ""
    found = stages(drill)
    assert _outcomes(drill, StageOutcome.NOT_APPLICABLE) == {"wal"}
    assert _outcomes(drill, StageOutcome.PASSED) == {
        "age", "space", "fetch", "checksums", "server", "restore", "catalog", "analyze", "amcheck", "row_counts",
        "foreign_keys", "sequences", "constraints", "query", "newest_rows", "negative_control", "recovery_point",
        "recovery_time",
    }  # fmt: skip
    assert found["row_counts"].detail == {"tables": 4, "rows": 300 + 2000 + 2 + 1, "exact": True}
    assert found["newest_rows"].detail["newest"] == {
        "public.people": "2026-10-01T05:00:00.000000Z",  # the 300th minute of the day
        "public.letters": "2026-10-01T00:00:00.000000Z",  # what expires in 2099 is not yet
        "public.visits_2026": "2026-10-03T00:00:00.000000Z",
    }
    assert found["sequences"].detail == {"sequences": 2}
    assert found["constraints"].detail["broken"] == []
    control = found["negative_control"].detail
    assert set(control) == {"flipped byte", "cut short", "missing row"}
    assert "refused by its checksum" in control["flipped byte"]
    facts = backups.read_facts("a.dump")
    assert facts is not None
    assert drill.rpo_seconds == pytest.approx((drill.started_at - facts.snapshot_at).total_seconds(), abs=0.01)
    parts = [found[name].seconds or 0 for name in ("fetch", "server", "restore")]
    rest = max(found[name].seconds or 0 for name in ("foreign_keys", "analyze"))
    assert drill.rto_seconds is not None
    assert sum(parts) + rest - 0.01 <= drill.rto_seconds <= (time.monotonic() - begun)
    assert (drill.rpo_target_seconds, drill.rto_target_seconds) == (26 * 3600, 3600)
    again, _ = _verify()
    assert again == drill, "a run verifies once"


def test_a_whole_directory_passes(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, shared: str, folder: Path, tmp_path: Path
) -> None:
    configure(environment, tmp_path, DUMP | {"format": "directory"})
    backups.take(shared, folder, "a.dump", "directory", jobs=2)
    drill, said = _verify()
    assert said == ""
    assert stages(drill)["checksums"].detail["files"] == len(list((folder / "a.dump").iterdir()))


@pytest.mark.parametrize(
    ("tables", "basis"),
    [
        ("CREATE TABLE plain AS VALUES (1), (2)", "snapshot of the backup, all of whose rows came back"),
        ("CREATE TABLE plain (at timestamptz)", "snapshot of the backup, all of whose rows came back"),
        (
            "CREATE TABLE plain AS VALUES (1), (2); CREATE PUBLICATION everything FOR TABLE plain",
            "snapshot of the backup, all of whose rows came back",
        ),
    ],
    ids=["without times", "without rows", "published without a key"],
)
def test_an_unusual_database_passes(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, databases: Databases, folder: Path, tmp_path: Path,
    tables: str, basis: str,
) -> None:  # fmt: skip
    configure(environment, tmp_path, DUMP, query="SELECT count(*) >= 0 FROM plain")
    name = f"escrow_{uuid.uuid4().hex[:12]}"
    databases.create(name, "escrow_owner")
    url = databases.url(name, "escrow_owner")
    try:
        with psycopg.connect(url) as owner:
            owner.execute(tables.encode())
        backups.take(url, folder, "a.dump")
        facts = backups.read_facts("a.dump")
        drill, said = _verify()
        assert said == ""
        assert stages(drill)["newest_rows"].outcome is StageOutcome.NOT_APPLICABLE
        assert stages(drill)["recovery_point"].detail["basis"] == basis
        assert facts is not None
        assert drill.rpo_seconds == pytest.approx((drill.started_at - facts.snapshot_at).total_seconds(), abs=0.01)
    finally:
        databases.drop(name)


def test_an_invalid_index_is_not_missed(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, escrow: str, folder: Path, tmp_path: Path
) -> None:
    """pg_dump leaves it out."""
    configure(environment, tmp_path, DUMP)
    with (
        psycopg.connect(escrow, autocommit=True) as owner,
        pytest.raises(psycopg.errors.UniqueViolation),
    ):
        owner.execute("CREATE UNIQUE INDEX CONCURRENTLY twins ON letters (sent_on)")
    backups.take(escrow, folder, "a.dump")
    assert _verify()[1] == ""


def test_the_recovery_time_is_that_of_what_brings_the_data_back(warehouse: psycopg.Connection) -> None:
    found = Stages(drills.begin(KIND, "nightly", "r1"))
    for name, seconds in {
        "fetch": 1,
        "checksums": 7000,
        "wal": 20,
        "server": 300,
        "restore": 4000,
        "analyze": 9,
    }.items():
        found.found[name] = Stage(name, StageOutcome.PASSED, float(seconds))
    found.ended["analyze"] = 1060000.0
    with scratch_place.scratch_place("test") as place:
        attempt = Verification(
            found,
            BackupSource(name="nightly", format="custom", files="*.dump", every_hours=24),
            place,
            1,
            checking_since=1000000.0,
        )
    assert attempt.recovery_seconds == 1 + 20 + 300 + 4000 + 60000, "the checks before it do not count"


# ------------------------------------------------------------------------------------------------------- damage
@pytest.mark.parametrize("kind", ["custom", "directory"])
def test_one_flipped_byte_fails(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, shared: str, folder: Path, tmp_path: Path, kind: str
) -> None:
    configure(environment, tmp_path, DUMP | {"format": kind})
    backup = backups.take(shared, folder, "a.dump", kind)  # type: ignore[arg-type]
    victim = backup if kind == "custom" else max(backup.glob("*.gz"), key=lambda path: path.stat().st_size)
    _flip(victim)
    drill, said = _verify()
    assert said.startswith("MaintenanceFailed: the backup verification of nightly failed: checksums:")
    assert f"the content of {victim.name} has changed since it was written" in said
    assert (drill.outcome, drill.rto_seconds) == (DrillOutcome.FAILED, None)
    assert "restore" not in stages(drill), "what is damaged is not restored"


def test_a_truncated_dump_fails_with_and_without_facts(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, shared: str, folder: Path, tmp_path: Path
) -> None:
    configure(environment, tmp_path, DUMP | {"facts_required": False})
    backup = backups.take(shared, folder, "a.dump")
    size = backup.stat().st_size
    os.truncate(backup, size - 100)
    assert f"a.dump has {size - 100} bytes instead of {size}" in _verify()[1]
    (folder / f"a.dump{SUFFIX}").unlink()
    os.truncate(backup, size // 2)
    drill, said = _verify("r2")
    assert "pg_restore" in said
    assert _outcomes(drill, StageOutcome.FAILED) == {"restore"}


def test_everything_that_differs_is_named(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, databases: Databases, folder: Path, tmp_path: Path
) -> None:
    """A lost table, a lost row, a broken constraint, a sequence behind, a wrong answer: all in one drill."""
    configure(environment, tmp_path, DUMP, query="SELECT count(*) = 299 FROM people", recovery_time_minutes=1e-3)
    with filled_database(databases) as url:
        with psycopg.connect(url) as owner:
            owner.execute("ALTER TABLE people ADD CONSTRAINT never CHECK (person_id < 300) NOT VALID")
            owner.execute("ALTER TABLE people ADD CONSTRAINT fine CHECK (person_id < 301) NOT VALID")
            owner.execute("SELECT setval('letters_letter_id_seq', 1999)")
        backups.take(url, folder, "a.dump")

    def lose(facts: Facts) -> Facts:
        tables = facts.tables | {
            "public.people": TableFacts(301, facts.tables["public.people"].newest),
            "public.letters": TableFacts(2000, "2026-10-05T00:00:00.000000Z"),
            "public.lost": TableFacts(1),
        }
        return replace(facts, tables=tables, catalog=[*facts.catalog, ("table", "public.lost", "owner x")])

    _change_facts(folder, "a.dump", lose)
    drill, said = _verify()
    found = stages(drill)
    reasons = {name: stage.reason for name, stage in found.items() if stage.outcome is StageOutcome.FAILED}
    assert reasons == {
        "catalog": "the restored schema differs: table public.lost is missing",
        "row_counts": "the restored rows are not those of the backup: public.people has 300 rows instead of 301, "
        "public.lost is missing",
        "newest_rows": "the newest rows are not those of the backup: public.letters ends at "
        "2026-10-01T00:00:00.000000Z instead of 2026-10-05T00:00:00.000000Z",
        "constraints": "restored rows break constraints that were never validated: never of public.people",
        "sequences": "sequences are behind the rows they number: public.letters_letter_id_seq is at 1999 while "
        "public.letters.letter_id has 2000",
        "query": "backups.query did not give a row that is true",
        "recovery_time": found["recovery_time"].reason,
        "recovery_point": found["recovery_point"].reason,
    }
    assert found["constraints"].detail["not_validated_before"] == ["fine of public.people"]
    assert found["recovery_point"].reason.endswith("hours of work would be lost; the target is 26 hours")
    assert all(name in said for name in reasons)
    assert found["recovery_point"].detail["basis"] == "newest row that came back", "what is missing is not counted"


def test_a_backup_that_is_too_old(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, shared: str, folder: Path, tmp_path: Path
) -> None:
    configure(environment, tmp_path, DUMP)
    backups.take(shared, folder, "a.dump")
    _change_facts(folder, "a.dump", lambda facts: replace(facts, snapshot_at=facts.snapshot_at - timedelta(hours=27)))
    drill, said = _verify()
    assert "age: the newest backup of nightly, a.dump, is 27.0 hours old; one is due every 24 hours" in said
    assert {"age", "recovery_point"} == _outcomes(drill, StageOutcome.FAILED), "it is restored nevertheless"
    assert drill.rpo_seconds == pytest.approx(27 * 3600, abs=60)


def test_no_backup_and_damaged_facts(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    configure(environment, tmp_path, DUMP)
    assert "there is no backup of nightly" in _verify()[1]
    (folder / "a.dump").write_bytes(b"no dump")
    said = _verify("r2")[1]
    assert "checksums: no checksums were recorded" not in said, "it stops at what cannot be read"
    assert "pg_restore cannot read the dump a.dump" in said
    (folder / f"a.dump{SUFFIX}").write_text("{}")
    assert "the recorded facts a.dump.facts.json are damaged" in _verify("r3")[1]
    with pytest.raises(ConfigurationError, match="there is no backup source hourly; backups.sources has nightly"):
        backup_verification.verify("hourly", "r4")


# ---------------------------------------------------------------------------------------- what could not be checked
def test_without_facts_it_is_no_pass(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, shared: str, folder: Path, tmp_path: Path
) -> None:
    configure(environment, tmp_path, DUMP, recovery_point_hours=1e6)
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB", shared)
    backups.take(shared, folder, "a.dump")
    (folder / f"a.dump{SUFFIX}").unlink()
    with psycopg.connect(shared, autocommit=True) as owner:
        owner.execute("VACUUM ANALYZE")
    drill, said = _verify()
    assert drill.outcome is DrillOutcome.COULD_NOT_RUN
    assert _outcomes(drill, StageOutcome.UNKNOWN) == {"checksums", "row_counts", "newest_rows"}
    assert "within 5%" in said
    assert stages(drill)["catalog"].detail["compared_with"] == "live database"

    configure(environment, tmp_path, DUMP | {"facts_required": False}, recovery_point_hours=1e6)
    drill, _ = _verify("r2")
    assert drill.outcome is DrillOutcome.PASSED
    assert "row_counts: no row counts were recorded" in drill.reason, "it passes, and says what it did not check"


def test_damage_that_nothing_would_notice_fails_the_drill(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, shared: str, folder: Path, tmp_path: Path
) -> None:
    """An uncompressed dump without checksums: the negative control shows that a flipped byte goes unseen."""
    configure(environment, tmp_path, DUMP | {"facts_required": False}, recovery_point_hours=1e6)
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB", shared)
    from include.platform import postgres_binaries

    program = postgres_binaries.find(18) / "pg_dump"
    subprocess.run([program, "-Fc", "--compress=0", "-f", folder / "a.dump", shared], check=True)
    drill, said = _verify()
    assert "negative_control: a damaged copy passed the checks (flipped byte:" in said
    assert _outcomes(drill, StageOutcome.FAILED) == {"negative_control"}


def test_no_programs_of_that_version_and_no_space(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, shared: str, folder: Path, tmp_path: Path
) -> None:
    configure(environment, tmp_path, DUMP)
    backups.take(shared, folder, "a.dump")
    _change_facts(folder, "a.dump", lambda facts: replace(facts, server_version=90600))
    drill, said = _verify()
    assert said.startswith("ConfigurationError: no programs of PostgreSQL 9 are installed here")
    assert drill.outcome is DrillOutcome.COULD_NOT_RUN
    assert stages(drill)["server"].outcome is StageOutcome.UNKNOWN
    _change_facts(folder, "a.dump", lambda facts: replace(facts, database=facts.database | {"bytes": 10**15}))
    drill, said = _verify("r2")
    assert "free space or set backups.scratch_folder to a larger disk" in said
    assert drill.outcome is DrillOutcome.COULD_NOT_RUN


def test_a_disk_that_fills_up(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, databases: Databases, folder: Path, tmp_path: Path
) -> None:
    small = Path(tempfile.mkdtemp(prefix="gold-escrow-small-"))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=72m,mode=755", "tmpfs", small], capture_output=True)
    if mounted.returncode != 0:
        small.rmdir()
        pytest.skip("a small disk cannot be mounted here (it takes root)")
    name = f"escrow_{uuid.uuid4().hex[:12]}"
    databases.create(name, "escrow_owner")
    url = databases.url(name, "escrow_owner")
    try:
        with psycopg.connect(url) as owner:
            owner.execute("CREATE TABLE large AS SELECT repeat('x', 1900) AS filler FROM generate_series(1, 16000)")
        configure(environment, tmp_path, DUMP, scratch_folder=str(small))
        backups.take(url, folder, "a.dump")
        _change_facts(folder, "a.dump", lambda facts: replace(facts, database=facts.database | {"bytes": -200 << 20}))
        with pytest.raises(ConfigurationError):
            backup_verification.verify("nightly", "r1")
        with pytest.raises(ConfigurationError):
            full_restoration.rehearse("nightly", "r1", datetime.now(UTC))
        for kind in (KIND, full_restoration.KIND):
            drill = drills.find(kind, "nightly", "r1")
            assert drill is not None
            assert drill.outcome is DrillOutcome.COULD_NOT_RUN, "a full disk says nothing of the backup"
            assert f"the disk of the scratch folder {small} is full" in drill.reason
            assert stages(drill)["server"].outcome is StageOutcome.PASSED, "it filled up on the way"
        assert list(small.iterdir()) == []
    finally:
        databases.drop(name)
        subprocess.run(["umount", small], check=True)
        small.rmdir()


def test_a_full_disk_is_told_by_what_was_raised_as_well(environment: pytest.MonkeyPatch) -> None:
    """The error of a copy names it; by then the partial copy may be gone."""
    copied = "the backup base-1 cannot be read: [Errno 28] No space left on device"
    damaged = "the backup base-1 cannot be read: it is damaged"

    def raising(error: Exception) -> Callable[[], Result]:
        def check() -> Result:
            raise error

        return check

    with scratch_place.scratch_place("test") as place:
        for full in (MaintenanceFailed(copied), OSError(errno.ENOSPC, "No space left on device")):
            with pytest.raises(ConfigurationError, match="the disk of the scratch folder .* is full"):
                errors_named(raising(full), place)
        assert errors_named(raising(MaintenanceFailed(damaged)), place) == failed(damaged)
        with pytest.raises(PermissionError):
            errors_named(raising(PermissionError(errno.EACCES, "not allowed")), place)


# --------------------------------------------------------------------------------------------------------- kills
_CHILD = "from include.maintenance.backups import backup_verification; backup_verification.verify('nightly', 'r1')"


def test_a_killed_drill_is_cleaned_up_and_begun_again(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, shared: str, folder: Path, tmp_path: Path
) -> None:
    configure(environment, tmp_path, DUMP)
    backups.take(shared, folder, "a.dump")
    temporary = Path(tempfile.gettempdir())
    for attempt, moment in enumerate(("*/restored/data/PG_VERSION", "*/sockets-restored/.s.PGSQL.5432"), 1):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD], cwd=Path(__file__).parents[4], stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 30
        while not list(temporary.glob(f"{scratch_place.PREFIX}{moment}")):
            assert child.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        left = next(temporary.glob(f"{scratch_place.PREFIX}*"))
        drill = drills.find(KIND, "nightly", "r1")
        assert drill is not None
        assert (drill.outcome, drill.attempts) == (DrillOutcome.RUNNING, attempt)
        _wait_until(lambda place=left: not _servers_in(place))  # type: ignore[misc]
    drill, said = _verify()
    assert (said, drill.outcome, drill.attempts) == ("", DrillOutcome.PASSED, 3)
    assert not left.exists()


def _servers_in(place: Path) -> list[str]:
    """Servers (not the programs that make one) that work within a place."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if str(link.readlink()).startswith(f"{place}/restored/data"):
                found.append(link.parent.name)
        except OSError:
            continue
    return found


def _wait_until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)
