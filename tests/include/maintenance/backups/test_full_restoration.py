"""Everything of a backup comes back to an empty place: database, archives, roles, configuration; timed and compared."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from demo.databases import Databases
from include.maintenance.backups import backup_verification, failover_drill, full_restoration
from include.maintenance.backups.failover_drill import Plan
from include.maintenance.pruning import prune
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import backups, estate_backup
from include.settings import DEFAULT_FILE, settings
from include.warehouse import drills
from include.warehouse.drills import Drill, DrillOutcome
from tests.include.maintenance.backups.backup_platform import filled_database, stages
from tests.include.maintenance.backups.drill_places import own_scratch_folder

DUE = datetime(2099, 1, 5, 5, tzinfo=UTC)
DUMP = {"name": "nightly", "format": "custom", "files": "*.dump", "every_hours": 24}
BASE = {"name": "nightly", "format": "base", "files": "base-*", "every_hours": 24}


@pytest.fixture(autouse=True)
def scratch_folder(environment: pytest.MonkeyPatch) -> Iterator[Path]:
    with own_scratch_folder(environment) as folder:
        yield folder


def configure(patch: pytest.MonkeyPatch, tmp_path: Path, source: dict[str, Any], **restoration: str) -> None:
    """Let the configuration have this backup source, and these files be part of the backup."""
    content = yaml.safe_load(DEFAULT_FILE.read_text())
    content["backups"] |= {"sources": [source], "query": "SELECT count(*) = 300 FROM people"}
    content["restoration"] |= restoration
    file = tmp_path / "operations.yaml"
    file.write_text(yaml.safe_dump(content))
    patch.setenv("OPERATIONS_CONFIG", str(file))
    settings.cache_clear()


@pytest.fixture
def escrow(any_databases: Databases) -> Iterator[str]:
    """URL of a filled database on either version, as its owner."""
    with filled_database(any_databases) as url:
        yield url


@pytest.fixture
def estate(any_databases: Databases, escrow: str, warehouse: psycopg.Connection, tmp_path: Path) -> Path:
    """The folder of backups with a dump, the server's roles and the configuration."""
    folder = tmp_path / "backups"
    backups.take(escrow, folder, "a.dump")
    estate_backup.take(escrow, folder, "20261001", DEFAULT_FILE)
    return folder


def restored(run_id: str = "r1", **given: Any) -> tuple[Drill, str]:
    """Restore everything; return the drill and what was raised."""
    said = ""
    try:
        full_restoration.rehearse("nightly", run_id, DUE, **given)
    except (MaintenanceFailed, ConfigurationError) as error:
        said = f"{type(error).__name__}: {error}"
    drill = drills.find("full_restoration", "nightly", run_id)
    assert drill is not None
    assert (drill.outcome is DrillOutcome.PASSED) == (said == "")
    return drill, said


def archive_rows(databases: Databases, environment: pytest.MonkeyPatch, url: str) -> None:
    """Let the daily pruning archive 50 rows, with a value that no backup of before can have."""
    name = url.rsplit("/", 1)[-1]
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", databases.url(name, "operations_maintainer"))
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(
            "CREATE TABLE public.audit_logs"
            " (audit_log_id bigint PRIMARY KEY, created_at timestamptz NOT NULL, feels mood)"
        )
        owner.execute("ALTER TYPE mood ADD VALUE 'glad'")
        owner.execute("GRANT USAGE ON SCHEMA public TO operations_maintainer")
        owner.execute("GRANT SELECT, DELETE ON public.audit_logs TO operations_maintainer")
        owner.execute(
            "INSERT INTO public.audit_logs SELECT n, now() - interval '99 days', 'glad' FROM generate_series(1, 50) n"
        )
    [rule] = settings().maintenance.prune
    prune.prune(rule, "prune", False)


def test_everything_comes_back_and_is_timed(
    any_databases: Databases, escrow: str, estate: Path, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configure(environment, tmp_path, DUMP, globals="globals-*.sql", configuration="operations-*.yaml")
    archive_rows(any_databases, environment, escrow)
    drill, said = restored()
    assert said == ""
    found = stages(drill)
    assert {name for name, stage in found.items() if stage.outcome.value != "passed"} == {
        "wal",
        "server_configuration",
    }
    assert found["server_configuration"].outcome.value == "not_applicable", "a dump has none, which is said"
    assert found["archives"].detail["rows"] == 50
    assert found["archives"].detail["types_compared_as_text"] == ["public.mood"]
    assert found["globals"].detail["roles"] >= 8
    assert (drill.detail["durable"], "archives" in drill.detail["timed"]) == (True, False)
    roles = estate / "globals-20261001.sql"
    assert "PASSWORD" not in roles.read_text()
    assert roles.stat().st_mode & 0o077 == 0
    assert found["configuration"].detail["file"] == "operations-20261001.yaml"
    parts = ("fetch", "wal", "server", "restore", "analyze", "globals", "configuration")
    assert drill.rto_seconds == pytest.approx(sum(found[name].seconds or 0 for name in parts), abs=0.01)
    assert drill.rpo_seconds is not None
    assert drill.rpo_seconds < 120
    assert (drill.rto_target_seconds, drill.rpo_target_seconds) == (3600, 26 * 3600)
    assert drill.detail["earlier_drills"] == 0
    assert full_restoration.rehearse("nightly", "r1", DUE) == drill.summary(), "a repeated task does it once"


@pytest.mark.parametrize("any_databases", ["postgresql18"], indirect=True)
def test_the_time_is_that_of_a_server_that_makes_everything_durable(
    estate: Path, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The weekly verification, which looks at the backup, does not."""
    asked = "SELECT current_setting('fsync') || current_setting('full_page_writes') || current_setting('autovacuum')"
    configure(environment, tmp_path, DUMP, globals="", configuration="")
    environment.setenv("OPERATIONS__BACKUPS__QUERY", f"{asked} = 'ononon'")
    settings.cache_clear()
    drill, said = restored()
    assert said == ""
    environment.setenv("OPERATIONS__BACKUPS__QUERY", f"{asked} = 'offoffoff'")
    settings.cache_clear()
    backup_verification.verify("nightly", "r1")
    weekly = drills.find("backup_verification", "nightly", "r1")
    assert weekly is not None
    assert (drill.detail["durable"], weekly.detail["durable"]) == (True, False)
    assert stages(weekly)["recovery_time"].detail["durable"] is False


@pytest.mark.parametrize("any_databases", ["postgresql18"], indirect=True)
def test_faults_and_gaps(estate: Path, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    configure(environment, tmp_path, DUMP, globals="globals-*.sql", configuration="operations-*.yaml")
    (estate / "operations-20261002.yaml").write_text("platform: {name: x}\n")
    drill, said = restored("no configuration")
    assert "operations-20261002.yaml is no configuration that works: the section alerts is missing" in said
    assert drill.outcome is DrillOutcome.FAILED

    (estate / "globals-20261002.sql").write_text(
        "CREATE ROLE one;\nALTER ROLE nobody_at_all LOGIN PASSWORD 'hunter2';\n"
    )
    drill, said = restored("no roles")
    assert "globals-20261002.sql could not be run" in said
    assert "hunter2" not in said

    configure(environment, tmp_path, DUMP, globals="roles-*.sql")
    drill, said = restored("no file")
    assert "nothing in the folder of the connection backups is named roles-*.sql" in said
    assert drill.outcome is DrillOutcome.COULD_NOT_RUN

    configure(environment, tmp_path, DUMP, globals="", configuration="")
    environment.setenv("OPERATIONS__BACKUPS__RECOVERY_TIME_MINUTES", "0.0001")
    settings.cache_clear()
    drill, said = restored("too slow, and only the database")
    assert "minutes to bring everything back; the target is 0.0001" in said
    assert drill.outcome is DrillOutcome.FAILED
    assert drill.rto_seconds is not None, "what was measured is kept"
    assert drill.rpo_seconds is not None
    assert stages(drill)["globals"].outcome.value == "not_applicable"
    assert stages(drill)["archives"].reason == "nothing was archived yet"

    (estate / "a.dump.facts.json").unlink()
    environment.delenv("OPERATIONS__BACKUPS__RECOVERY_TIME_MINUTES")
    environment.setenv("OPERATIONS__BACKUPS__RECOVERY_POINT_HOURS", "999999")  # the rows themselves are old
    settings.cache_clear()
    drill, said = restored("no facts")
    assert "could not be checked" in said
    assert drill.outcome is DrillOutcome.COULD_NOT_RUN, "what cannot be compared is no pass"


def test_the_trend_names_what_has_become_slower(warehouse: psycopg.Connection) -> None:
    parts = ["fetch", "wal", "server", "restore", "analyze", "globals", "configuration"]
    same = {"durable": True, "timed": parts}
    for n, seconds in enumerate((10.0, 12.0, 11.0)):
        drill = drills.begin("full_restoration", "nightly", f"run {n}")
        drills.record(drill, drills.Stage("restore", drills.StageOutcome.PASSED, seconds))
        drills.finish(drill, DrillOutcome.PASSED, rto_seconds=seconds, detail=same)
    drill = drills.begin("full_restoration", "nightly", "now")
    assert full_restoration._trend(drill, 20.0) == {"earlier_drills": 3, "rto_median_before_seconds": 11.0}
    slower = full_restoration._trend(drill, 33.0)
    assert slower["remark"] == "it took 3.0 times the 11.0 s that were usual before"
    drill = drills.begin("full_restoration", "nightly", "run 3")
    drills.record(drill, drills.Stage("restore", drills.StageOutcome.PASSED, 20.0))
    drills.finish(drill, DrillOutcome.PASSED, rto_seconds=20.0, detail=same)
    # One that made nothing durable, or had the archives in its time, is no comparison.
    other: list[dict[str, Any]] = [
        {"timed": parts}, {"durable": True}, {"durable": True, "timed": [*parts, "archives"]},
    ]  # fmt: skip
    for n, others in enumerate(other):
        drill = drills.begin("full_restoration", "nightly", f"other {n}")
        drills.record(drill, drills.Stage("restore", drills.StageOutcome.PASSED, 99.0))
        drills.finish(drill, DrillOutcome.PASSED, rto_seconds=99.0, detail=others)
    even = full_restoration._trend(drill, 20.0)
    assert even == {"earlier_drills": 4, "rto_median_before_seconds": 11.5}, "between the two middle ones"


def test_sources(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    configure(environment, tmp_path, DUMP)
    assert full_restoration.sources(None) == ["nightly"]
    assert full_restoration.sources("nightly") == ["nightly"]
    with pytest.raises(ConfigurationError, match="there is no backup source other; backups.sources has nightly"):
        full_restoration.sources("other")


def test_a_failover_from_a_base_backup(
    old_databases: Databases, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backups.take(old_databases.postgres.url("postgres"), tmp_path / "backups", "base-1", "base")
    configure(environment, tmp_path, BASE)
    plan = Plan("nightly", 0.01, 0.3, "on")
    assert failover_drill.rehearse(plan, "r1", dry_run=True)["backup"] == "base-1"
    assert drills.find("failover", plan.resource, "r1") is None, "a dry run begins nothing"
    summary = failover_drill.rehearse(plan, "r1")
    assert summary["outcome"] == "passed"
    assert summary["lost_writes"] == 0
    assert failover_drill.rehearse(plan, "r1")["drill"] == summary["drill"], "a passed drill is not repeated"


_KILLED = """
from include.maintenance.backups import failover_drill
failover_drill.rehearse(failover_drill.Plan("nightly", 0.01, 60.0, "off"), "r1")
"""


@pytest.mark.parametrize("any_databases", ["postgresql18"], indirect=True)
def test_a_killed_drill_leaves_nothing_and_runs_anew(
    estate: Path, environment: pytest.MonkeyPatch, tmp_path: Path, scratch_folder: Path
) -> None:
    configure(environment, tmp_path, DUMP)
    plan = Plan("nightly", 0.01, 0.3, "off")
    victim = subprocess.Popen([sys.executable, "-c", _KILLED], cwd=DEFAULT_FILE.parents[1])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        drill = drills.find("failover", plan.resource, "r1")
        if drill is not None and "build_standby" in stages(drill):
            break
        time.sleep(0.1)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    deadline = time.monotonic() + 20
    while any(str(scratch_folder) in _target(path) for path in Path("/proc").glob("[0-9]*/cwd")):
        assert time.monotonic() < deadline, "both servers end with the drill"
        time.sleep(0.05)
    deadline = time.monotonic() + 60
    while list(scratch_folder.iterdir()):
        assert time.monotonic() < deadline, "the copy of production goes with it"
        time.sleep(0.05)
    drill = drills.find("failover", plan.resource, "r1")
    assert drill is not None
    assert drill.outcome is DrillOutcome.RUNNING
    assert failover_drill.rehearse(plan, "r1")["outcome"] == "passed"
    drill = drills.find("failover", plan.resource, "r1")
    assert drill is not None
    assert drill.attempts == 2


def _target(link: Path) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115 - the link of another user's process
    except OSError:
        return ""
