"""The collection under a real scheduler: schedule, asset cascade, backfill, manual runs, a killed task, a failure.

One Airflow serves all tests of this file; they run in order.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from demo.airflow import Airflow, dag_names
from demo.databases import Databases
from demo.install import ROOT
from include.settings import settings
from tests.end_to_end.airflows import running_airflow, until

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

FIRST = date(2026, 10, 5)  # a Monday
DAYS = [FIRST + timedelta(days=n) for n in range(14)]
METRIC_TABLES = (
    *("daily_subject", "daily_uptime", "daily_traffic", "hourly_traffic", "hourly_latency", "daily_error"),
    *("daily_users", "daily_user_sketch", "daily_transactions", "daily_revenue", "daily_support", "daily_feedback"),
    *("rollup", "rollup_uptime", "rollup_traffic", "rollup_error", "rollup_users", "rollup_transactions"),
    *("rollup_revenue", "rollup_support", "rollup_feedback"),
)


class World:
    """A platform, its warehouse and the Airflow that operates it."""

    def __init__(self, airflow: Airflow, warehouse_url: str, escrow_url: str) -> None:
        self.airflow, self.warehouse_url, self.escrow_url = airflow, warehouse_url, escrow_url

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.warehouse_url) as connection:
            return connection.execute(query).fetchall()

    def runs(self, dag_id: str, **wanted: str) -> list[dict[str, Any]]:
        return [run for run in self.airflow.runs(dag_id) if all(run[key] == value for key, value in wanted.items())]

    def finished(self, run: dict[str, Any], *, seconds: float = 120) -> str:
        path = f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}"
        until(lambda: self.airflow.call("GET", path)["state"] in ("success", "failed"), seconds)
        for one in self.airflow.call("GET", f"{path}/taskInstances")["task_instances"]:
            if one["state"] == "failed":  # shown with a test that fails
                log = f"{path}/taskInstances/{one['task_id']}/logs/{one['try_number']}?map_index={one['map_index']}"
                print(one["task_id"], one["map_index"], str(self.airflow.call("GET", log))[-3000:])
        return str(self.airflow.call("GET", path)["state"])

    def handle_incidents(self) -> None:
        """Do at once what the next minute's run of incident_watch would do."""
        assert self.finished(self.airflow.trigger("incident_watch")) == "success"

    def at_rest(self) -> None:
        """Wait for all runs but scheduled ones to end."""
        until(
            lambda: (
                not [
                    run
                    for run in self.airflow.runs()
                    if run["state"] in ("queued", "running") and run["run_type"] != "scheduled"
                ]
            ),
            60,
        )

    def fingerprint(self, days: tuple[date, ...] | list[date]) -> str:
        """A hash over every metric row of some days and their periods."""
        digest = hashlib.sha256()
        for table in METRIC_TABLES:
            key = "period_start" if table.startswith("rollup") else "day"
            first = f"'{min(days) - timedelta(days=40)}'" if key == "period_start" else f"'{min(days)}'"
            for row in self.rows(
                f"SELECT t::text FROM ops.{table} t WHERE {key} BETWEEN {first} AND '{max(days)}' ORDER BY t::text"
            ):
                digest.update(str(row).encode())
        return digest.hexdigest()


@pytest.fixture(scope="module")
def world(
    servers: dict[str, int | str],
    databases: Databases,
    warehouse_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    from demo.platform import database, history

    folder = tmp_path_factory.mktemp("end-to-end")
    databases.create("e2e_escrow", "escrow_owner")
    databases.create("e2e_warehouse", "warehouse_owner", template=warehouse_template)
    connections = databases.connections(warehouse="e2e_warehouse", escrow="e2e_escrow")
    connections["AIRFLOW_CONN_PLATFORM_REDIS"] = f"redis://127.0.0.1:{servers['redis']}/0"
    connections["AIRFLOW_CONN_PLATFORM_CHAIN"] = f"http://127.0.0.1:{servers['chain']}"
    for name in ("platform_logs", "backups", "archive", "reports"):
        (folder / name).mkdir()
        extra = {"conn_type": "fs", "extra": {"path": str(folder / name)}}
        connections[f"AIRFLOW_CONN_{name.upper()}"] = json.dumps(extra)
    escrow = databases.url("e2e_escrow", "escrow_owner")
    database.install(escrow)
    writer = databases.url("e2e_warehouse", "warehouse_writer")
    history.generate(escrow, writer, folder / "platform_logs", first_day=DAYS[0], days=len(DAYS))
    with running_airflow(
        "e2e",
        databases,
        folder,
        connections=connections,
        dags=dag_names() | {"never_in_time", "quotes_a_connection"},
        settings={
            "OPERATIONS__RUNS__RETRY_DELAY_SECONDS": "1",
            "OPERATIONS__INCIDENTS__SPOOL": str(folder / "spool" / "signals.jsonl"),
            "OPERATIONS__TRAFFIC__LATE_LINES_MINUTES": "0",
            "OPERATIONS__MAINTENANCE__INDEX_REVIEW__BLOAT_MINIMUM_BYTES": "262144",
            "OPERATIONS__MAINTENANCE__REINDEX__WITHOUT_APPROVAL_UP_TO_BYTES": "1",
            **_never_due("daily_maintenance", "weekly_maintenance", "weekly_backup_verification"),
            **_never_due("monthly_maintenance", "monthly_disaster_recovery"),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(
                [_bundle("dags-folder", ROOT / "dags"), _bundle("tests", Path(__file__).with_name("dags"))]
            ),
        },
    ) as airflow:
        yield World(airflow, databases.url("e2e_warehouse", "warehouse_reader"), escrow)
    for name in ("e2e_escrow", "e2e_warehouse"):
        databases.drop(name)


def _never_due(*schedules: str) -> dict[str, str]:
    """Settings with which schedules do not tick during the tests, whatever day and hour it is."""
    far_away = (datetime.now(UTC).month + 5) % 12 + 1
    return {f"OPERATIONS__SCHEDULES__{name.upper()}": f"0 0 1 {far_away} *" for name in schedules}


def _bundle(name: str, path: Path) -> dict[str, Any]:
    return {
        "name": name,
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(path)},
    }


def _yesterday() -> str:
    return f"{datetime.now(UTC).date() - timedelta(days=1)}"


def test_schedules_start_runs(world: World) -> None:
    first = _yesterday()
    until(lambda: world.runs("platform_watch", state="success", run_type="scheduled"), 120)
    runs = until(lambda: world.runs("daily_metrics", run_type="scheduled"), 60)
    run = min(runs, key=lambda run: run["partition_key"])
    yesterday = run["partition_key"]
    assert yesterday in (first, _yesterday()), "midnight may come in between"
    assert world.finished(run) == "success"
    states = dict(world.rows(f"SELECT subject, state FROM ops.daily_subject WHERE day = '{yesterday}'"))
    assert states["traffic"] == "missing", "no log of that day: its figures are absent, the run says so and succeeds"
    assert world.rows(f"SELECT * FROM ops.daily_traffic WHERE day = '{yesterday}'") == []


def test_a_backfill_of_14_days_cascades_into_reports_and_two_weeks(world: World) -> None:
    # The command that docs/operate.md gives; the demo uses the API, as the UI does.
    days = ("--from-date", f"{DAYS[0]}", "--to-date", f"{DAYS[-1]}", "--reprocess-behavior", "completed")
    world.airflow.command("backfill", "create", "--dag-id", "daily_metrics", *days, "--max-active-runs", "8")
    keys = {f"{day}" for day in DAYS}

    def done(dag_id: str) -> set[Any]:
        return {run["partition_key"] for run in world.runs(dag_id, state="success")} & keys

    until(lambda: done("daily_metrics") == keys, 240)
    until(lambda: done("daily_reports") == keys, 120)
    final = "SELECT period_key FROM ops.rollup WHERE grain = 'week' AND days_held = 7 AND is_final ORDER BY 1"
    until(lambda: world.rows(final) == [("2026-W41",), ("2026-W42",)], 120)
    month = "SELECT days_held FROM ops.rollup WHERE grain = 'month' AND period_key = '2026-10'"
    until(lambda: world.rows(month) == [(14,)], 60)

    def weeks() -> list[str]:
        keys = [run["partition_key"] for run in world.runs("weekly_metrics", state="success")]
        return sorted(key for key in keys if key.startswith("2026-10"))

    until(lambda: len(weeks()) >= 2, 60)  # the rows are there a moment before their run has ended
    # One run for each week, when its last day is there.
    assert weeks() == ["2026-10-05 (W41)", "2026-10-12 (W42)"]
    assert world.rows(f"SELECT count(*) FROM ops.report WHERE period_key BETWEEN '{DAYS[0]}' AND '{DAYS[-1]}'") == [
        (28,)
    ]
    world.at_rest()
    # The watch has less than a minute, which a machine that other programs keep busy may not have for it.
    assert not [one for one in world.runs("~", state="failed") if one["dag_id"] != "platform_watch"]


def test_a_day_run_again_gives_identical_rows(world: World) -> None:
    before = world.fingerprint(DAYS)
    for start in ({"conf": {"day": f"{DAYS[3]}"}}, {"partition_key": f"{DAYS[3]}"}):
        assert world.finished(world.airflow.trigger("daily_metrics", **start)) == "success"
    writes = world.rows(
        "SELECT subject, count(*), count(*) FILTER (WHERE changed) FROM ops.metric_write "
        f"WHERE day = '{DAYS[3]}' GROUP BY 1"
    )
    assert {(number, changed) for _, number, changed in writes} == {(3, 1)}, "written three times, changed once"
    assert world.fingerprint(DAYS) == before


def test_a_corrected_day_refreshes_its_week_and_month_and_report(world: World) -> None:
    with psycopg.connect(world.escrow_url) as escrow:
        escrow.execute(
            "INSERT INTO users (email, full_name, registered_at)"
            " SELECT 'late' || n || '@example.org', 'Late', %s FROM generate_series(1, 5) n",
            (datetime(2026, 10, 6, 12, tzinfo=UTC),),
        )
    week = "SELECT new_users FROM ops.rollup_users WHERE grain = 'week' AND period_start = '2026-10-05'"
    report = "SELECT input_hash FROM ops.report WHERE kind = 'daily_user_activity' AND period_key = '2026-10-06'"
    before, old_report = world.rows(week)[0][0], world.rows(report)
    assert world.finished(world.airflow.trigger("daily_metrics", conf={"day": "2026-10-06"})) == "success"
    until(lambda: world.rows(week) == [(before + 5,)], 90)
    until(lambda: world.rows(report) != old_report, 90)
    world.at_rest()  # the month's run may still write


def test_maintenance_by_hand_with_parameters(world: World) -> None:
    run = world.airflow.trigger("daily_maintenance", conf={"dry_run": True})
    assert world.finished(run) == "success"
    actions = f"SELECT DISTINCT dry_run, state FROM ops.maintenance_action WHERE run_id = '{run['dag_run_id']}'"
    assert {(True, "planned")} <= set(world.rows(actions)) <= {(True, "planned"), (True, "nothing_to_do")}
    of_run = f"run_id = '{run['dag_run_id']}'"
    clean = f"SELECT state FROM ops.maintenance_action WHERE kind = 'clean_airflow_database' AND {of_run}"
    assert world.rows(clean) == [("planned",)], "a task reaches Airflow's database through its connection"
    found = world.rows(f"SELECT check_name, outcome FROM ops.finding WHERE check_name LIKE 'airflow%' AND {of_run}")
    assert dict(found) == {"airflow_database": "ok", "airflow_dags": "ok"}, "all DAGs are there and none is paused"


def test_an_index_is_rebuilt_when_a_person_approves_it(world: World) -> None:
    with psycopg.connect(world.escrow_url, autocommit=True) as escrow:
        for name in ("approved", "rejected"):
            escrow.execute(f"CREATE TABLE {name} (id bigint) WITH (autovacuum_enabled = off)".encode())
            escrow.execute(f"INSERT INTO {name} SELECT generate_series(1, 40000)".encode())
            escrow.execute(f"CREATE INDEX {name}_id ON {name} (id)".encode())
            escrow.execute(f"DELETE FROM {name} WHERE id % 10 <> 0".encode())
            escrow.execute(f"VACUUM (ANALYZE, TRUNCATE off) {name}".encode())
    run = world.airflow.trigger("weekly_maintenance")
    path = f"/dags/weekly_maintenance/dagRuns/{run['dag_run_id']}"
    waits_since: dict[int, float] = {}

    def answered() -> bool:
        for question in world.airflow.call("GET", f"{path}/hitlDetails")["hitl_details"]:
            index, now = question["task_instance"]["map_index"], time.monotonic()
            # As a person, who reads first: Airflow loses an answer that comes before its task waits, and takes the end
            # of the process that asked for that of the task when its scheduler hears of the answer before.
            if question["task_instance"]["state"] == "awaiting_input" and now - waits_since.setdefault(index, now) > 5:
                rebuild, leave = question["options"]
                answer = {"chosen_options": [rebuild if "approved_id" in question["subject"] else leave]}
                world.airflow.call("PATCH", f"{path}/taskInstances/ask_for_approval/{index}/hitlDetails", json=answer)
        return world.airflow.call("GET", path)["state"] in ("success", "failed")

    until(answered, 240)
    assert world.finished(run) == "success"
    acts = world.rows(
        "SELECT resource, state, plan ->> 'answer' FROM ops.maintenance_action"
        f" WHERE run_id = '{run['dag_run_id']}' AND resource IN ('public.approved_id', 'public.rejected_id') ORDER BY 1"
    )
    assert acts == [
        ("public.approved_id", "proven", "approved by operator"),
        ("public.rejected_id", "nothing_to_do", "rejected by operator"),
    ]


def _task_process(airflow: Airflow, client_port: int) -> psutil.Process:
    """The process that runs the task which waits in the platform's database."""
    scheduler = psutil.Process(airflow.children["scheduler"].popen.pid)
    for worker in scheduler.children():
        for runner in worker.children():
            if any(connection.laddr.port == client_port for connection in runner.net_connections()):
                return runner
    raise LookupError


def test_a_killed_task_is_tried_again_and_nothing_is_half_written(world: World, databases: Databases) -> None:
    before = world.fingerprint(DAYS)
    superuser = databases.postgres.url("postgres")
    waiting = (
        "SELECT client_port FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND usename = 'operations_reader' AND datname = 'e2e_escrow'"
    )
    with psycopg.connect(world.escrow_url) as lock, psycopg.connect(superuser, autocommit=True) as monitor:
        lock.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        run = world.airflow.trigger("daily_metrics", conf={"day": f"{DAYS[5]}"})
        [client_port] = until(lambda: monitor.execute(waiting).fetchone(), 90)
        _task_process(world.airflow, client_port).kill()

        def noticed() -> bool:
            [task] = _tasks(world, run, "users")
            return bool(task["state"] != "running" or task["try_number"] > 1)

        until(noticed, 60)
    assert world.finished(run, seconds=150) == "success"
    [task] = _tasks(world, run, "users")
    assert task["try_number"] == 2
    assert world.fingerprint(DAYS) == before


def _tasks(world: World, run: dict[str, Any], task_id: str) -> list[dict[str, Any]]:
    return [task for task in world.airflow.tasks(run["dag_id"], run["dag_run_id"]) if task["task_id"] == task_id]


def test_a_run_that_misses_its_deadline_leaves_a_signal_while_it_goes_on(world: World) -> None:
    run = world.airflow.trigger("never_in_time")
    signal = (
        f"SELECT class FROM ops.signal WHERE kind = 'deadline_missed' AND detail ->> 'run_id' = '{run['dag_run_id']}'"
    )
    until(lambda: world.rows(signal), 60)
    assert world.rows(signal) == [("P1",)]
    assert world.finished(run) == "success"
    until(lambda: world.rows("SELECT 1 FROM ops.incident WHERE fingerprint = 'airflow:never_in_time'"), 150)


def test_no_password_stands_in_the_log_of_a_task(world: World, databases: Databases) -> None:
    """Viewers read the logs."""
    run = world.airflow.trigger("quotes_a_connection")
    assert world.finished(run) == "success"
    folder = world.airflow.folder / "logs" / "dag_id=quotes_a_connection" / f"run_id={run['dag_run_id']}"
    [log] = [path.read_text() for path in folder.rglob("*.log")]
    assert "cannot connect to postgresql://warehouse_writer:***@" in log
    password = urlsplit(databases.url("e2e_warehouse", "warehouse_writer")).password
    assert password
    assert password not in log


def test_a_failure_becomes_one_incident(world: World) -> None:
    with psycopg.connect(world.escrow_url, autocommit=True) as escrow:
        escrow.execute("ALTER VIEW operations.feedback RENAME TO feedback_gone")
        try:
            run = world.airflow.trigger("daily_metrics", conf={"day": f"{DAYS[6]}"})
            assert world.finished(run) == "failed"
            [task] = _tasks(world, run, "support")
            assert task["try_number"] == 1, "a missing view is not tried again"
        finally:
            escrow.execute("ALTER VIEW operations.feedback_gone RENAME TO feedback")
    signals = "SELECT kind, detail FROM ops.signal WHERE fingerprint = 'airflow:daily_metrics'"
    until(lambda: {kind for kind, _ in world.rows(signals)} == {"task_failed", "dag_failed"}, 90)
    assert any("operations.feedback" in str(detail) for _, detail in world.rows(signals))
    world.handle_incidents()
    incident = "SELECT incident_id, class FROM ops.incident WHERE fingerprint = 'airflow:daily_metrics'"
    assert [(name[:9], urgency) for name, urgency in world.rows(incident)] == [(f"INC-{datetime.now(UTC):%Y}-", "P2")]
    numbers = [int(name[9:]) for (name,) in world.rows("SELECT incident_id FROM ops.incident ORDER BY 1")]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_database_that_is_away_is_tried_again_then_fails_and_is_made_up_for(
    world: World, databases: Databases
) -> None:
    world.at_rest()
    before = world.fingerprint(DAYS)
    signals = "SELECT count(*) FROM ops.signal WHERE fingerprint = 'airflow:daily_metrics'"
    [(earlier,)] = world.rows(signals)
    with psycopg.connect(databases.postgres.url("postgres"), autocommit=True) as superuser:
        superuser.execute("ALTER DATABASE e2e_escrow ALLOW_CONNECTIONS false")
        try:
            run = world.airflow.trigger("daily_metrics", conf={"day": f"{DAYS[7]}"})
            assert world.finished(run) == "failed"
        finally:
            superuser.execute("ALTER DATABASE e2e_escrow ALLOW_CONNECTIONS true")
    tasks = {task["task_id"]: task for task in world.airflow.tasks("daily_metrics", run["dag_run_id"])}
    tries = settings().runs.retries + 1
    for subject in ("users", "transactions", "support"):
        assert (tasks[subject]["state"], tasks[subject]["try_number"]) == ("failed", tries), subject
    assert tasks["traffic"]["state"] == "success", "the logs are there"
    assert world.fingerprint(DAYS) == before, "nothing is half-written or poorer than it was"
    until(lambda: world.rows(signals)[0][0] >= earlier + 4, 90)  # three tasks and their run
    world.handle_incidents()
    open_incidents = "SELECT count(*), min(occurrences) FROM ops.incident WHERE fingerprint = 'airflow:daily_metrics'"
    [(incidents, occurrences)] = world.rows(open_incidents)
    assert incidents == 1, "one that is open takes what follows"
    assert occurrences >= earlier + 4
    again = world.airflow.trigger("daily_metrics", conf={"day": f"{DAYS[7]}"})
    assert world.finished(again) == "success"
    assert world.fingerprint(DAYS) == before
