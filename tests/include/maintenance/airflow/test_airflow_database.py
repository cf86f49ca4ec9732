"""Old rows of a real metadata database are removed by the real ``airflow db clean``, and what is needed stays."""

import csv
import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import zstandard

from include.maintenance.airflow import airflow_database
from include.outcome import ConfigurationError, MaintenanceFailed, Outcome, SourceUnavailable
from include.settings import settings
from tests.include.maintenance.airflow.airflow_rows import (
    DAGS,
    NOW,
    add_asset_event,
    add_backfill,
    add_run,
    ago,
    rows_of_our_own,
)
from tests.recorded_findings import latest_findings

pytestmark = pytest.mark.airflow
DAILY, BY_HAND = DAGS


@pytest.fixture
def airflow(
    airflow_database: str, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection]:
    environment.setenv("AIRFLOW_CONN_AIRFLOW_DB", airflow_database)
    with rows_of_our_own(airflow_database) as connection:
        yield connection


def action(warehouse: psycopg.Connection, run_id: str) -> Any:
    row = warehouse.execute(
        "SELECT state, reason, plan, applied, proof FROM ops.maintenance_action"
        " WHERE kind = 'clean_airflow_database' AND run_id = %s",
        (run_id,),
    ).fetchone()
    assert row
    return row


def runs(airflow: psycopg.Connection) -> list[str]:
    found = airflow.execute("SELECT run_id FROM dag_run WHERE dag_id = ANY (%s) ORDER BY start_date", (list(DAGS),))
    return [run_id for (run_id,) in found]


def count(airflow: psycopg.Connection, table: str) -> int:
    row = airflow.execute(f"SELECT count(*) FROM {table} WHERE dag_id = ANY (%s)", (list(DAGS),)).fetchone()
    assert row
    return int(row[0])


def archives(airflow: psycopg.Connection) -> list[str]:
    found = airflow.execute("SELECT relname FROM pg_class WHERE starts_with(relname, '_airflow_deleted_')")
    return [name for (name,) in found]


def test_old_rows_go_and_what_is_needed_stays(
    airflow: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for days in (400, 200, 150):
        add_run(airflow, DAILY, days, "scheduled")
    stuck = add_run(airflow, BY_HAND, 120, "manual", "running")
    add_run(airflow, BY_HAND, 110, "manual")
    new = add_run(airflow, DAILY, 100, "scheduled")
    airflow.execute(
        "INSERT INTO trigger (classpath, kwargs, created_date) VALUES ('upkeep', '', %s)", (ago(300),)
    )  # of an asset watcher, say: they live on
    airflow.execute("CREATE TABLE _airflow_deleted__log__20260101000000 AS SELECT * FROM log LIMIT 2")

    airflow_database.clean("dry", True)
    state, _, plan, applied, _ = action(warehouse, "dry")
    assert (state, applied) == ("planned", None)
    assert {name: plan["rows_due"][name] for name in ("dag_run", "task_instance", "xcom", "log", "job")} == {
        "dag_run": 3, "task_instance": 3, "xcom": 3, "log": 3, "job": 0
    }  # fmt: skip
    assert plan["held_back_by"] == f"the run {stuck} of {BY_HAND} is not finished"
    assert plan["removed_rows"] == {"_airflow_deleted__log__20260101000000": 2}
    assert len(runs(airflow)) == 6
    assert archives(airflow)

    airflow_database.clean("first", False)
    state, reason, plan, applied, proof = action(warehouse, "first")
    assert state == "proven"
    assert reason.endswith(f"the run {stuck} of {BY_HAND} is not finished")
    assert runs(airflow) == [stuck, f"manual__{ago(110):%Y-%m-%d}", new], "those since the run that goes on are kept"
    assert count(airflow, "task_instance") == count(airflow, "xcom") == count(airflow, "log") == 3
    assert archives(airflow) == []
    assert sum(proof["rows_due_after"].values()) == 0
    assert proof["rows_after"]["dag_run"] == plan["rows_before"]["dag_run"] - 3
    assert applied["removed_rows"]["_airflow_deleted__log__20260101000000"] == {"rows": 2}
    [found] = latest_findings("airflow_database")
    assert found.finding.outcome is Outcome.WARNING, "somebody must look at the run that holds the clean-up back"

    airflow.execute("UPDATE dag_run SET state = 'failed' WHERE run_id = %s", (stuck,))
    airflow.execute("UPDATE task_instance SET state = 'failed' WHERE run_id = %s", (stuck,))
    environment.setenv("OPERATIONS__MAINTENANCE__AIRFLOW__REMOVED_ROWS", "export")
    settings.cache_clear()
    airflow_database.clean("second", False)
    assert runs(airflow) == [new], "the newest run of a DAG stays however old it is"
    assert archives(airflow) == []
    [file] = (tmp_path / "archive" / "airflow").glob("*dag_run__*.csv.zst")
    with zstandard.open(file, "rt") as content:
        exported = list(csv.DictReader(io.StringIO(content.read())))
    assert sorted(row["run_id"] for row in exported) == sorted([stuck, f"manual__{ago(110):%Y-%m-%d}"])
    rows = airflow.execute("SELECT count(*) FROM trigger WHERE classpath = 'upkeep'").fetchone()
    assert rows == (1,)
    [found] = latest_findings("airflow_database")
    assert found.finding.outcome is Outcome.OK
    airflow_database.clean("third", False)
    assert action(warehouse, "third")[:2] == ("nothing_to_do", "no row is older than 90 days")
    settings.cache_clear()


@pytest.mark.usefixtures("clock_ahead")
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_clock_that_is_wrong_removes_nothing(
    airflow: psycopg.Connection, warehouse: psycopg.Connection, dry_run: bool
) -> None:
    kept = [add_run(airflow, DAILY, days, "scheduled") for days in (85, 70)]  # the first is old 30 days later
    with pytest.raises(ConfigurationError, match="set the clock that is wrong") as raised:
        airflow_database.clean("r1", dry_run)
    assert action(warehouse, "r1")[:2] == ("failed", str(raised.value))
    assert runs(airflow) == kept
    [found] = latest_findings("airflow_database")
    assert found.finding.outcome is Outcome.UNKNOWN


def test_what_holds_the_cut_off_back(airflow: psycopg.Connection) -> None:
    cut_off = NOW - timedelta(days=90)
    assert airflow_database.held_back(airflow, cut_off) == (cut_off, "")
    asset, event = add_asset_event(airflow, 100)
    assert airflow_database.held_back(airflow, cut_off) == (cut_off, ""), "an event that nobody waits for"
    run = airflow.execute(
        "INSERT INTO asset_partition_dag_run (target_dag_id, partition_key, created_at, updated_at)"
        " VALUES (%s, '2026-01', now(), now()) RETURNING id",
        (DAILY,),
    ).fetchone()
    assert run
    airflow.execute(
        "INSERT INTO partitioned_asset_key_log (asset_id, asset_event_id, asset_partition_dag_run_id,"
        " source_partition_key, target_dag_id, target_partition_key, created_at)"
        " VALUES (%s, %s, %s, '2026-01-01', %s, '2026-01', %s)",
        (asset, event, run[0], DAILY, ago(100)),
    )
    found = airflow_database.held_back(airflow, cut_off)
    assert found == (ago(100), f"the run of {DAILY} for the partition 2026-01 still waits for events")

    airflow.execute(
        "INSERT INTO asset_dag_run_queue (asset_id, target_dag_id, created_at) VALUES (%s, %s, %s)",
        (asset, DAILY, ago(105)),
    )
    assert airflow_database.held_back(airflow, cut_off) == (
        ago(105), f"the next run of {DAILY} still waits for other assets"
    )  # fmt: skip

    backfill = add_backfill(airflow, DAILY)
    run_id = add_run(airflow, DAILY, 110, "backfill")
    assert airflow_database.held_back(airflow, cut_off)[0] == ago(105), "the run is not of the backfill"
    airflow.execute("UPDATE dag_run SET backfill_id = %s WHERE run_id = %s", (backfill, run_id))
    assert airflow_database.held_back(airflow, cut_off) == (
        ago(110), f"the backfill {backfill} of {DAILY} is not complete"
    )  # fmt: skip
    airflow.execute(
        "UPDATE task_instance SET state = 'deferred', start_date = %s WHERE run_id = %s", (ago(111), run_id)
    )
    assert airflow_database.held_back(airflow, cut_off) == (
        ago(111), f"the task one of the run {run_id} of {DAILY} is deferred"
    )  # fmt: skip


def test_a_run_that_was_cleared_holds_the_cut_off_back_from_when_it_was_created(airflow: psycopg.Connection) -> None:
    cut_off = NOW - timedelta(days=90)
    cleared = add_run(airflow, BY_HAND, 120, "manual", "running")
    airflow.execute("UPDATE task_instance SET state = 'success' WHERE run_id = %s", (cleared,))
    expected = (ago(120), f"the run {cleared} of {BY_HAND} is not finished")
    for begins in (None, NOW):  # as clearing leaves it, and once it goes on
        airflow.execute("UPDATE dag_run SET start_date = %s WHERE run_id = %s", (begins, cleared))
        assert airflow_database.held_back(airflow, cut_off) == expected
    airflow.execute("UPDATE dag_run SET run_after = %s WHERE run_id = %s", (ago(900), cleared))
    assert airflow_database.held_back(airflow, cut_off) == expected, "a run of old dates has no rows that are as old"
    airflow.execute("UPDATE dag_run SET created_at = NULL, run_after = %s WHERE run_id = %s", (ago(130), cleared))
    assert airflow_database.held_back(airflow, cut_off)[0] == ago(130), "written by an Airflow that did not note it"

    backfill = add_backfill(airflow, DAILY)
    airflow.execute(
        "UPDATE dag_run SET state = 'success', created_at = %s, start_date = %s, backfill_id = %s WHERE run_id = %s",
        (ago(140), NOW, backfill, cleared),
    )
    assert airflow_database.held_back(airflow, cut_off) == (
        ago(140), f"the backfill {backfill} of {DAILY} is not complete"
    )  # fmt: skip


def test_a_table_that_cannot_be_cleaned_is_a_failure(
    airflow: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    airflow.execute("INSERT INTO job (dag_id, latest_heartbeat) VALUES (%s, %s)", (DAILY, ago(100)))
    airflow.execute("REVOKE DELETE ON job FROM airflow")
    try:
        with pytest.raises(MaintenanceFailed, match="1 rows of job should be removed and are still there.*clean job"):
            airflow_database.clean("r1", False)
    finally:
        airflow.execute("GRANT DELETE ON job TO airflow")
    assert action(warehouse, "r1")[0] == "failed"
    assert archives(airflow) == [], "what the failed clean-up left behind is removed"
    [found] = latest_findings("airflow_database")
    assert found.finding.outcome is Outcome.UNKNOWN, "what an earlier night found is over"
    assert found.finding.summary.startswith("It could not be checked: 1 rows of job should be removed")


def test_without_the_connection_it_is_a_failure(warehouse: psycopg.Connection) -> None:
    with pytest.raises(
        ConfigurationError, match="the connection airflow_db is not defined; set AIRFLOW_CONN_AIRFLOW_DB"
    ):
        airflow_database.clean("r1", False)
    assert action(warehouse, "r1")[0] == "failed"
    [found] = latest_findings("airflow_database")
    assert found.finding.outcome is Outcome.UNKNOWN


def test_who_is_without_the_connection_on_purpose_has_nothing_to_do(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__AIRFLOW__WITHOUT_CONNECTIONS", '["airflow_db"]')
    settings.cache_clear()
    airflow_database.clean("r1", False)
    reason = "old rows are not removed here on purpose: maintenance.airflow.without_connections names airflow_db"
    assert action(warehouse, "r1")[:2] == ("nothing_to_do", reason)
    [found] = latest_findings("airflow_database")
    assert (found.finding.outcome, found.finding.summary) == (Outcome.NOT_APPLICABLE, reason)
    environment.setenv("AIRFLOW_CONN_AIRFLOW_DB", "postgresql://a:b@127.0.0.1:1/none")
    with pytest.raises(SourceUnavailable):  # where the connection is given all the same, it is used
        airflow_database.clean("r2", False)
    settings.cache_clear()


def test_what_was_done_is_told_when_the_time_was_over_or_it_failed(
    airflow: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    run = airflow_database._run

    def hurried(command: list[str], *, most_seconds: float) -> Any:
        return run(command, most_seconds=0.1 if "--yes" in command else most_seconds)

    for days in (100, 200):
        add_run(airflow, DAILY, days, "scheduled")
    airflow.execute("CREATE TABLE _airflow_deleted__log__20260101000000 AS SELECT * FROM log LIMIT 1")
    environment.setenv("OPERATIONS__MAINTENANCE__AIRFLOW__REMOVED_ROWS", "export")
    settings.cache_clear()
    with environment.context() as patch:
        patch.setattr(airflow_database, "_run", hurried)
        airflow_database.clean("r1", False)
    state, reason, _, applied, proof = action(warehouse, "r1")
    assert (state, proof) == ("postponed", None)
    assert reason.endswith("old rows are left for the next run: 30 minutes were over")
    exported = applied["removed_rows"]["_airflow_deleted__log__20260101000000"]
    assert (exported["rows"], len(exported["sha256_of_content"])) == (1, 64)
    assert (applied["rows_due_before"]["dag_run"], applied["rows_due_after"]["dag_run"]) == (1, 1)
    assert applied["rows_after"]["dag_run"] >= 2
    [found] = latest_findings("airflow_database")
    left = sum(applied["rows_due_after"].values())
    assert (found.finding.outcome, found.finding.summary) == (
        Outcome.WARNING, f"old rows were left by the latest run, now because {reason}"
    )  # fmt: skip
    assert (found.finding.evidence["rows_left"], found.finding.evidence["runs_in_a_row"]) == (left, 1)
    with environment.context() as patch:
        patch.setattr(airflow_database, "_run", hurried)
        airflow_database.clean("r1a", False)
    [found] = latest_findings("airflow_database")
    assert found.finding.summary.startswith("old rows were left by the last 2 runs")
    airflow_database.clean("r1b", True)  # a dry run leaves them too
    [found] = latest_findings("airflow_database")
    assert found.finding.outcome is Outcome.WARNING

    airflow.execute("CREATE TABLE _airflow_deleted__log__20260102000000 AS SELECT * FROM log LIMIT 1")
    airflow.execute("REVOKE DELETE ON dag_run FROM airflow")
    try:
        with pytest.raises(MaintenanceFailed, match="rows of dag_run should be removed"):
            airflow_database.clean("r2", False)
    finally:
        airflow.execute("GRANT DELETE ON dag_run TO airflow")
    airflow_database.clean("r2a", True)
    [found] = latest_findings("airflow_database")
    assert found.finding.outcome is Outcome.UNKNOWN
    assert found.finding.summary.startswith("the latest clean-up failed: ")
    state, _, _, _, proof = action(warehouse, "r2")
    assert (state, proof["rows_due_after"]["dag_run"]) == ("failed", 1)
    assert proof["removed_rows"]["_airflow_deleted__log__20260102000000"]["file"].endswith(".csv.zst")
    settings.cache_clear()


def _counts_end_never(patch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Give the counts with these numbers (from 0 on) no time."""
    run, counts = airflow_database._run, iter(range(100))

    def hurried(command: list[str], *, most_seconds: float) -> Any:
        hurry = "--dry-run" in command and next(counts) in numbers
        return run(command, most_seconds=0.1 if hurry else most_seconds)

    patch.setattr(airflow_database, "_run", hurried)


def test_rows_that_could_not_be_counted_in_time_are_removed_all_the_same(
    airflow: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    note = "counting them did not end within 480 seconds"
    for days in (100, 200, 300):
        add_run(airflow, DAILY, days, "scheduled")
    with environment.context() as patch:
        _counts_end_never(patch, 0, 1)
        airflow_database.clean("r1", False)
    state, reason, plan, applied, proof = action(warehouse, "r1")
    assert (state, reason, proof) == ("postponed", f"how many old rows are left is not known: {note}", None)
    assert runs(airflow) == [f"scheduled__{ago(100):%Y-%m-%d}"], "the backlog got smaller"
    assert (plan["rows_due"], plan["rows_due_note"]) == (None, note)
    assert (applied["rows_due_before"], applied["rows_due_after"], applied["rows_due_note"]) == (None, None, note)
    assert applied["rows_after"]["dag_run"] == plan["rows_before"]["dag_run"] - 2
    [found] = latest_findings("airflow_database")
    assert (found.finding.outcome, found.finding.evidence["rows_due"]) == (Outcome.UNKNOWN, None)
    assert found.finding.summary == f"how many rows are older than 90 days is not known: {note}"

    add_run(airflow, DAILY, 400, "scheduled")
    with environment.context() as patch:
        _counts_end_never(patch, 0)
        airflow_database.clean("r2", False)
    state, _, _, _, proof = action(warehouse, "r2")
    assert (state, proof["rows_due_before"], proof["rows_due_note"]) == ("proven", None, "")
    assert sum(proof["rows_due_after"].values()) == 0
    [found] = latest_findings("airflow_database")
    assert found.finding.outcome is Outcome.OK


def test_sessions_go_where_this_airflow_keeps_them_in_its_database(
    airflow: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    def cleaned(run_id: str) -> Any:
        airflow_database.clean(run_id, False)
        return action(warehouse, run_id)

    for name, days in (("old", 100), ("new", 10)):
        values = (name, ago(days).replace(tzinfo=None))
        airflow.execute("INSERT INTO session (session_id, data, expiry) VALUES (%s, '', %s)", values)
    try:
        state, _, plan, _, _ = cleaned("without FAB")
        assert (state, "session" in plan["rows_due"]) == ("nothing_to_do", False), "db clean would not take it"
        fab = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
        environment.setenv("AIRFLOW__CORE__AUTH_MANAGER", fab)
        environment.setenv("AIRFLOW__FAB__SESSION_BACKEND", "securecookie")
        assert "session" not in cleaned("in cookies")[2]["rows_due"]
        environment.delenv("AIRFLOW__FAB__SESSION_BACKEND")
        state, _, plan, _, proof = cleaned("in the database")
        assert (state, plan["rows_due"]["session"], proof["rows_due_after"]["session"]) == ("proven", 1, 0)
        assert airflow.execute("SELECT session_id FROM session").fetchall() == [("new",)]
    finally:
        airflow.execute("DELETE FROM session")
    airflow.execute("ALTER TABLE session RENAME TO no_session")
    try:
        assert "session" not in cleaned("not made yet")[2]["rows_due"]
    finally:
        airflow.execute("ALTER TABLE no_session RENAME TO session")


def test_another_database_or_another_clean_up(
    airflow_database: str, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    from include.maintenance.airflow import airflow_database as module

    environment.setenv("AIRFLOW_CONN_AIRFLOW_DB", f"postgresql://{warehouse.info.user}:{warehouse.info.password}"
                       f"@{warehouse.info.host}:{warehouse.info.port}/{warehouse.info.dbname}")  # fmt: skip
    with pytest.raises(ConfigurationError, match="does not lead to Airflow's metadata database"):
        module.clean("r1", False)
    environment.setenv("AIRFLOW_CONN_AIRFLOW_DB", airflow_database)
    with psycopg.connect(airflow_database, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtext('gold-escrow-operations: airflow db clean'))")
        with pytest.raises(MaintenanceFailed, match="another clean-up"):
            module.clean("r2", False)


def test_a_clean_up_that_takes_too_long_is_stopped_with_all_that_it_started(
    airflow_database: str, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from include.maintenance.airflow import airflow_database as module

    environment.setenv("AIRFLOW_CONN_AIRFLOW_DB", airflow_database)
    started = f'echo "$AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" > {tmp_path}/url; sleep 77.7 & sleep 77.7'
    ended = module._run(["bash", "-c", started], most_seconds=0.5)
    assert ended.status is None
    assert module._why(ended) == "its time was over"
    assert (tmp_path / "url").read_text().strip() == airflow_database.replace("postgresql:", "postgresql+psycopg2:")
    left = [process for process in psutil.process_iter(["cmdline"]) if "77.7" in (process.info["cmdline"] or [])]
    assert psutil.wait_procs(left, timeout=20)[1] == [], "killed, and gone as soon as the system has cleaned up"
