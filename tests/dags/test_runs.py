"""Every DAG runs against real servers, without a logical date, as asset, partition and manual runs do."""

import itertools
import json
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from include.outcome import MaintenanceFailed
from include.settings import settings
from tests.catalogue import DAG_FILES, dags
from tests.conftest import Platform

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("airflow_database")]

DAY = date(2026, 10, 7)
_SECONDS = itertools.count()


def run(name: str, **conf: Any) -> Any:
    """Run a DAG to its end as an asset-triggered run would: there is no logical date.

    ``dag.test`` of 3.3.2 cannot store a DAG that has a deadline; the end-to-end tests run the DAGs with theirs.
    """
    dags.cache_clear()  # a test run keeps its parameters in the DAG object
    dag = dags()[name]
    dag.deadline = None
    # Runs that are due at the same instant are the same run: each gets a second of its own.
    due = datetime(2026, 10, 9, tzinfo=UTC) + timedelta(seconds=next(_SECONDS))
    try:
        return dag.test(logical_date=None, run_after=due, run_conf=conf)
    finally:
        dags.cache_clear()


@pytest.fixture(autouse=True)
def _without_a_running_airflow(environment: pytest.MonkeyPatch) -> None:
    """The end-to-end tests run these DAGs where Airflow's database and API can be reached."""
    environment.setenv("OPERATIONS__MAINTENANCE__AIRFLOW__WITHOUT_CONNECTIONS", '["airflow_db", "airflow_api"]')
    settings.cache_clear()


@pytest.fixture
def warehouse_of(platform: Platform, databases: Databases) -> Any:
    with psycopg.connect(databases.url(platform.warehouse, "warehouse_reader"), autocommit=True) as connection:
        yield lambda query: connection.execute(query).fetchall()


def test_the_list_of_dags_under_test_is_complete() -> None:
    assert {path.stem for path in DAG_FILES} == {
        "daily_maintenance", "daily_metrics", "daily_reports", "incident_watch", "monthly_disaster_recovery",
        "monthly_maintenance", "monthly_metrics", "platform_watch",
        "weekly_backup_verification", "weekly_maintenance", "weekly_metrics",
    }  # fmt: skip


def test_daily_metrics_reports_and_rollups(warehouse_of: Any) -> None:
    metrics = run("daily_metrics", day=f"{DAY}")
    states = {one.task_id: str(one.state) for one in metrics.get_task_instances()}
    assert (states.pop("notice_failure"), states.pop("report_incomplete_day")) == ("skipped", "skipped")
    assert set(states.values()) == {"success"}
    assert _reported(metrics) == {("daily_metrics", f"{DAY}")}
    for name in ("daily_reports", "weekly_metrics", "monthly_metrics"):
        assert run(name, day=f"{DAY}").state == "success", name
    assert warehouse_of("SELECT DISTINCT day FROM ops.daily_subject WHERE state = 'complete'") == [(DAY,)]
    assert warehouse_of("SELECT subject FROM ops.daily_subject ORDER BY 1") == [
        ("support",), ("traffic",), ("transactions",), ("uptime",), ("users",)
    ]  # fmt: skip
    assert warehouse_of("SELECT kind, period_key FROM ops.report ORDER BY 1") == [
        ("daily_system_health", f"{DAY}"),
        ("daily_user_activity", f"{DAY}"),
    ]
    assert warehouse_of("SELECT grain, period_key, days_held, days_expected, is_final FROM ops.rollup ORDER BY 1") == [
        ("month", "2026-10", 1, 31, False),
        ("week", "2026-W41", 1, 7, False),
    ]


def test_a_day_of_which_a_subject_failed_is_reported_and_its_run_fails(
    warehouse_of: Any, platform: Platform, databases: Databases, environment: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(databases.url(platform.escrow, "escrow_owner"), autocommit=True) as escrow:
        escrow.execute("DROP VIEW operations.users CASCADE")
    environment.setenv("AIRFLOW_CONN_PLATFORM_LOGS", json.dumps({"conn_type": "fs"}))  # without its folder
    done = run("daily_metrics", day=f"{DAY}")
    assert done.state == "failed"
    assert {one.task_id: str(one.state) for one in done.get_task_instances()} == {
        "uptime": "success", "transactions": "success", "support": "success", "traffic": "failed", "users": "failed",
        # It is cleared with them: once they succeed, the day is reported again.
        "report_day": "upstream_failed",
        "notice_failure": "success", "report_incomplete_day": "success",
    }  # fmt: skip
    assert _reported(done) == {("daily_metrics", f"{DAY}")}, "a week and month are due with their last day"
    assert run("daily_reports", day=f"{DAY}").state == "success"
    assert warehouse_of("SELECT kind FROM ops.report WHERE verdict <> 'ok' AND missing <> '{}' ORDER BY 1") == [
        ("daily_system_health",), ("daily_user_activity",)
    ]  # fmt: skip


def _reported(done: Any) -> set[tuple[str, str | None]]:
    """The assets and days that a run has reported."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        events = (
            select(AssetModel.name, AssetEvent.partition_key)
            .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
            .where(AssetEvent.source_run_id == done.run_id, AssetEvent.source_dag_id == done.dag_id)
        )
        return {(name, key) for name, key in session.execute(events)}


def test_a_run_without_a_day_is_about_the_last_finished_one(warehouse_of: Any) -> None:
    assert run("daily_metrics").state == "success"
    assert warehouse_of("SELECT DISTINCT day FROM ops.daily_subject") == [(date(2026, 10, 8),)]


def test_a_wrong_day_is_refused_at_once(platform: Platform) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError, match="'yesterday' is not a 'date'"):
        run("daily_metrics", day="yesterday")


def test_a_day_of_the_future_is_refused_and_reaches_nobody(warehouse_of: Any) -> None:
    day = datetime.now(UTC).date() + timedelta(days=40)
    done = run("daily_metrics", day=f"{day}")
    assert {one.task_id: str(one.state) for one in done.get_task_instances()} == {
        **dict.fromkeys(("uptime", "traffic", "users", "transactions", "support"), "failed"),
        "report_day": "upstream_failed", "notice_failure": "success", "report_incomplete_day": "failed",
    }  # fmt: skip
    assert _reported(done) == set()
    assert run("daily_reports", day=f"{day}").state == "failed"
    assert warehouse_of("SELECT count(*) FROM ops.daily_subject") == [(0,)]
    assert warehouse_of("SELECT count(*) FROM ops.report") == [(0,)]
    [(error,)] = warehouse_of(
        "SELECT DISTINCT detail ->> 'error' FROM ops.signal WHERE detail ->> 'task_id' = 'uptime'"
    )
    assert error.startswith(f"ConfigurationError: the day {day} has not begun in UTC; the last finished day is ")


def test_maintenance_plans_only_in_a_dry_run(warehouse_of: Any) -> None:
    assert run("daily_maintenance", dry_run=True).state == "success"
    states = {state for (state,) in warehouse_of("SELECT DISTINCT state FROM ops.maintenance_action WHERE dry_run")}
    assert states <= {"planned", "nothing_to_do", "proven"}
    assert warehouse_of("SELECT count(*) FROM ops.archive") == [(0,)]


def test_pruning_is_postponed_after_the_minutes_of_its_run(warehouse_of: Any) -> None:
    assert run("daily_maintenance", bounds={"prune.longest_minutes": 1e-9}).state == "success"
    [(state, reason)] = warehouse_of("SELECT state, reason FROM ops.maintenance_action WHERE kind = 'prune'")
    assert (state, reason.partition(" of ")[0]) == ("postponed", "the 1e-09 minutes")
    assert warehouse_of("SELECT outcome FROM ops.finding WHERE check_name = 'pruning_backlog'") == [("warning",)]


@pytest.mark.parametrize(
    ("bounds", "sentence"),
    [
        ({"prune.table": "public.users"}, r"'prune\.table' is not one of \['vacuum\.due_share', "),
        ({"prune.keep_days": 10}, "10 is less than the minimum of 90"),
        ({"prune.batch_rows": "many"}, "'many' is not of type 'integer'"),
        ({"cache.call_milliseconds": 9}, "9 is greater than the maximum of 8"),
        ({"logs.keep_files": 3}, "3 is not of type 'null'"),
    ],
)
def test_a_bound_that_no_run_can_have_is_refused_at_once(
    platform: Platform, bounds: dict[str, Any], sentence: str
) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError, match=sentence):
        run("daily_maintenance", bounds=bounds)


def test_maintenance_acts_and_proves(warehouse_of: Any, platform: Platform, databases: Databases) -> None:
    with psycopg.connect(databases.url(platform.escrow, "escrow_owner"), autocommit=True) as escrow:
        old = escrow.execute("SELECT now() - interval '90 days'").fetchone()  # while the run goes on, more become old
        count = "SELECT count(*), count(*) FILTER (WHERE created_at < %s) FROM audit_logs"
        [(before, to_prune)] = escrow.execute(count, old).fetchall()
        assert to_prune > 0, "the platform has rows to prune"
        assert run("daily_maintenance").state == "success"
        [(after, left)] = escrow.execute(count, old).fetchall()
        assert left == 0
    assert warehouse_of("SELECT sum(row_count) FROM ops.archive WHERE state = 'deleted'") == [(before - after,)]
    assert warehouse_of("SELECT count(*) FROM ops.maintenance_action WHERE state IN ('failed', 'applying')") == [(0,)]


def test_maintenance_fails_when_a_table_or_pruning_does_and_still_does_the_rest(
    warehouse_of: Any, platform: Platform, databases: Databases, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPERATIONS__RUNS__RETRIES", "0")  # a retry waits for half a minute
    settings.cache_clear()
    with psycopg.connect(databases.url(platform.escrow, "escrow_owner")) as holder:
        holder.execute("REVOKE ALL ON audit_logs FROM operations_maintainer")
        holder.commit()
        holder.execute("LOCK TABLE users IN SHARE UPDATE EXCLUSIVE MODE")
        failed = run("daily_maintenance")
    assert failed.state == "failed"
    states = {(one.task_id, one.state) for one in failed.get_task_instances()}
    assert {
        ("prune_table", "failed"), ("fail_run", "failed"), ("maintain_table", "failed"),
        ("maintain_table", "success"), ("finish_tables", "success"),
    } <= states  # fmt: skip
    # A task that was killed has no signal of its own: that of the run names the task that failed last.
    [users] = [
        one.map_index
        for one in failed.get_task_instances()
        if one.task_id == "maintain_table" and one.state == "failed"
    ]
    said = dict(warehouse_of("SELECT title, detail FROM ops.signal"))
    of_run = said["daily_maintenance: run failed at task maintain_table"]
    assert (of_run["task"], of_run["map_index"], of_run["error"]) == ("maintain_table", users, "task_failure")
    assert of_run["log_url"].endswith(f"/tasks/maintain_table/mapped/{users}?try_number=1")
    assert said["daily_maintenance: task fail_run failed"]["error"] == (
        "MaintenanceFailed: prune_table_0 failed; the log of each says what and why, and just ends where it was killed"
    ), "it does not wait for the tables"
    acts = dict(warehouse_of("SELECT resource, state FROM ops.maintenance_action WHERE kind IN ('vacuum', 'analyze')"))
    assert (acts.pop("all tables"), acts.pop("public.users")) == ("failed", "failed")
    assert set(acts.values()) == {"proven"}, "what can be done is done"
    # Airflow judges a run by its last tasks: whatever else fails, fails it through fail_run.
    counted = failed._tis_for_dagrun_state(dag=dags()["daily_maintenance"], tis=failed.get_task_instances())
    assert {one.task_id for one in counted if one.state == "failed"} == {"fail_run"}
    settings.cache_clear()


def test_maintenance_that_somebody_marks_failed_ends_as_failed(platform: Platform) -> None:
    from airflow.api.common.mark_tasks import set_dag_run_state_to_failed
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.utils.session import create_session

    ended = run("daily_maintenance", dry_run=True)
    with create_session() as session:
        again: Any = session.get(type(ended), ended.id)
        again.state = "running"
        tasks = again.get_task_instances(session=session)
        to_come = [one for one in tasks if one.task_id in ("maintain_table", "finish_tables", "fail_run")]
        for one in to_come:
            one.state = "running" if one.task_id == "maintain_table" else None
    dag = DagSerialization.from_dict(DagSerialization.to_dict(dags()["daily_maintenance"]))
    set_dag_run_state_to_failed(dag=dag, run_id=ended.run_id, commit=True)
    with create_session() as session:
        marked: Any = session.get(type(ended), ended.id)
        states = {(one.task_id, one.state) for one in marked.get_task_instances(session=session)}
        assert marked.state == "failed"
    assert states >= {("maintain_table", "failed"), ("finish_tables", "skipped"), ("fail_run", "skipped")}


def test_maintenance_fails_when_only_the_end_of_its_plan_does(
    warehouse_of: Any, platform: Platform, environment: pytest.MonkeyPatch
) -> None:
    from include.maintenance.postgres import vacuum

    def broken(*_: object) -> None:
        raise MaintenanceFailed("the database's age could not be read")

    environment.setenv("OPERATIONS__RUNS__RETRIES", "0")
    settings.cache_clear()
    environment.setattr(vacuum, "finish", broken)
    ended = run("daily_maintenance")
    assert ended.state == "failed"
    failed = {one.task_id for one in ended.get_task_instances() if one.state == "failed"}
    assert failed == {"finish_tables", "fail_run"}
    [(error,)] = warehouse_of("SELECT detail ->> 'error' FROM ops.signal WHERE title LIKE '%: task fail_run failed'")
    assert error.startswith("MaintenanceFailed: finish_tables failed; the log of each says what and why")
    settings.cache_clear()


def test_a_table_that_is_cleared_when_the_window_is_over_has_one_again(
    platform: Platform, environment: pytest.MonkeyPatch
) -> None:
    from airflow.models.taskinstance import clear_task_instances
    from airflow.sdk.execution_time.context import set_current_context
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState

    from include.maintenance.postgres import vacuum

    ended = run("daily_maintenance", dry_run=True)
    with create_session() as session:
        clear_task_instances([one for one in ended.get_task_instances() if one.task_id == "maintain_table"], session)
        again: Any = session.get(type(ended), ended.id)
        assert (again.state, again.start_date) == ("queued", None)
        again.set_state(DagRunState.RUNNING)  # as the scheduler does
        begun = again.start_date
    given: list[dict[str, Any]] = []
    environment.setattr(vacuum, "maintain", lambda item, run_id, dry_run: given.append(item))
    context: Any = {
        "dag_run": SimpleNamespace(start_date=begun),
        "run_id": ended.run_id,
        "params": {"dry_run": True, "window_minutes": 90},
    }
    task = dags()["daily_maintenance"].get_task("maintain_table").python_callable
    with set_current_context(context):
        task({"table": "public.users", "ends_at": (begun - timedelta(hours=8)).isoformat()}, **context)
    assert given == [{"table": "public.users", "ends_at": (begun + timedelta(minutes=90)).isoformat()}]


def test_backups_are_verified(warehouse_of: Any, platform: Platform, databases: Databases, tmp_path: Path) -> None:
    from demo.platform import backups

    url = databases.url(platform.escrow, "escrow_owner")
    dump = backups.take(url, tmp_path / "backups", datetime.now(UTC).date())
    # The history of this platform ended long ago: its newest rows are in the backup all the same.
    assert run("weekly_backup_verification", source="nightly", jobs=2).state == "success"
    assert warehouse_of("SELECT resource, outcome, reason FROM ops.drill") == [("nightly", "passed", "")]
    os.truncate(dump, dump.stat().st_size - 1)
    failed = run("weekly_backup_verification")
    assert failed.state == "failed"
    [(reason,)] = warehouse_of("SELECT reason FROM ops.drill WHERE outcome = 'failed'")
    [verified] = [one for one in failed.get_task_instances() if one.task_id == "verify_backup"]
    assert verified.try_number == 1, "a backup that fails once has failed"
    assert reason.startswith("checksums: the backup's files are not what was written")


def test_the_watches_run(warehouse_of: Any, platform: Platform) -> None:
    assert run("platform_watch").state == "success"
    assert run("incident_watch").state == "success"
    seen = dict(
        warehouse_of("SELECT resource, outcome FROM ops.observation WHERE observed_at > now() - interval '1 minute'")
    )
    assert seen["database"] == "ok"
    assert seen["cache"] == "ok"
    assert seen["chain"] == "ok"
    assert seen["frontend"] == "unknown", "no address is connected in this test: that is not ok and not down"


def test_a_failing_task_becomes_an_incident(warehouse_of: Any, platform: Platform, databases: Databases) -> None:
    with psycopg.connect(databases.url(platform.escrow, "escrow_owner"), autocommit=True) as escrow:
        escrow.execute("DROP VIEW operations.users CASCADE")
    assert run("daily_metrics", day=f"{DAY}").state == "failed"
    assert run("incident_watch").state == "success"
    [(incident, klass, state, title)] = warehouse_of("SELECT incident_id, class, state, title FROM ops.incident")
    assert incident.endswith("-001")
    assert (klass, state) == ("P2", "detected")
    assert "daily_metrics" in title
    assert warehouse_of("SELECT count(*) FROM ops.daily_users") == [(0,)], "nothing is half-written"
    assert any("operations.users" in str(detail) for (detail,) in warehouse_of("SELECT detail FROM ops.signal"))
