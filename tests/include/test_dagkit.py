"""What every DAG gets from dagkit: the window of a run, and callbacks that leave one signal and never raise."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from include import dagkit
from include.outcome import ConfigurationError, IncidentClass
from include.settings import settings
from include.window import Grain


def context(**changes: Any) -> dict[str, Any]:
    """What a task sees in a run that is due in the morning of 9 October."""
    run = SimpleNamespace(
        dag_id="daily_metrics",
        run_id="run",
        partition_key=changes.get("partition_key"),
        run_after=datetime(2026, 10, 9, 5, tzinfo=UTC),
    )
    return {"dag_run": run, "params": {"day": None}, "partition_key": None} | changes


@pytest.mark.parametrize(
    ("given", "grain", "key"),
    [
        ({}, Grain.DAY, "2026-10-08"),
        ({"partition_key": "2026-10-03"}, Grain.DAY, "2026-10-03"),
        ({"params": {"day": "2026-10-01"}, "partition_key": "2026-10-03"}, Grain.DAY, "2026-10-01"),
        ({"partition_key": "2026-09-28 (W40)"}, Grain.WEEK, "2026-W40"),
        ({"params": {"day": "2026-10-04"}}, Grain.WEEK, "2026-W40"),
        ({}, Grain.WEEK, "2026-W41"),
        ({"partition_key": "2026-10"}, Grain.MONTH, "2026-10"),
        ({"params": {"day": "2026-02-28"}}, Grain.MONTH, "2026-02"),
    ],
)
def test_the_window_of_a_run(given: dict[str, Any], grain: Grain, key: str) -> None:
    assert dagkit.window_of(context(**given), grain).key == key


def test_a_day_that_is_none_is_named() -> None:
    with pytest.raises(ConfigurationError, match="'2026-02-30' is not a day of the calendar"):
        dagkit.window_of(context(params={"day": "2026-02-30"}))


def test_announcing_days_names_each_as_a_partition() -> None:
    added: list[str] = []
    events = {dagkit.DAILY_METRICS: SimpleNamespace(add_partitions=added.extend)}
    dagkit.announce({"outlet_events": events}, dagkit.DAILY_METRICS, {date(2026, 10, 2), date(2026, 10, 1)})
    assert added == ["2026-10-01", "2026-10-02"]


def test_an_asset_without_a_day_is_not_reported() -> None:
    task = SimpleNamespace(outlets=[dagkit.DAILY_METRICS, dagkit.WEEKS_TO_ROLL_UP])
    dagkit.announce({"outlet_events": {}, "task": task}, dagkit.WEEKS_TO_ROLL_UP, set())
    assert task.outlets == [dagkit.DAILY_METRICS]


def test_the_tier_decides_the_class() -> None:
    assert [tier.incident_class for tier in dagkit.Tier] == [IncidentClass.P1, IncidentClass.P2, IncidentClass.P3]


@pytest.mark.airflow
@pytest.mark.parametrize(("minutes", "is_due"), [(10, False), (2, True)])
def test_a_new_deployment_waits_for_the_next_tick_unless_one_is_just_due(
    environment: pytest.MonkeyPatch, minutes: int, is_due: bool
) -> None:
    """As the scheduler reads the schedule, which comes to it as JSON."""
    from airflow.serialization.decoders import decode_timetable
    from airflow.serialization.encoders import encode_timetable
    from airflow.timetables.base import TimeRestriction

    latest = datetime.now(UTC) - timedelta(minutes=minutes)
    environment.setenv("OPERATIONS__SCHEDULES__MONTHLY_MAINTENANCE", f"{latest:%M %H %d} * *")
    settings.cache_clear()
    schedule = decode_timetable(json.loads(json.dumps(encode_timetable(dagkit.every("monthly_maintenance")))))
    first = schedule.next_dagrun_info(
        last_automated_data_interval=None, restriction=TimeRestriction(None, None, catchup=False)
    )
    assert first is not None
    assert (first.run_after < datetime.now(UTC)) == is_due
    assert is_due or first.run_after > datetime.now(UTC) + timedelta(days=20)


def signals(warehouse: psycopg.Connection) -> list[tuple[Any, ...]]:
    return warehouse.execute("SELECT idempotency_key, kind, class, title FROM ops.signal ORDER BY signal_id").fetchall()


def test_callbacks_leave_one_signal_each_however_often_they_fire(warehouse: psycopg.Connection) -> None:
    dag = SimpleNamespace(dag_id="daily_metrics", tags=["chapter:reporting", "tier:critical"])
    instance = SimpleNamespace(
        dag_id="daily_metrics", run_id="run", task_id="users", map_index=-1, try_number=3, log_url="http://x/log"
    )
    for _ in range(2):
        dagkit.task_failed(
            {"dag": dag, "task_instance": instance, "exception": ValueError("password=hunter2 is wrong")}
        )
        dagkit.run_failed(context(dag=dag, reason="task_failure"))
        dagkit.deadline_missed({"dag_run": {"dag_id": "daily_metrics", "dag_run_id": "run"}}, tier="standard")
    assert signals(warehouse) == [
        ("airflow:daily_metrics:run:users:-1:3:task_failed", "task_failed", "P1", "daily_metrics: task users failed"),
        ("airflow:daily_metrics:run::-1:0:dag_failed", "dag_failed", "P1", "daily_metrics: run failed"),
        (
            "airflow:daily_metrics:run::-1:0:deadline_missed",
            "deadline_missed",
            "P3",
            "daily_metrics: run not finished by its deadline",
        ),
    ]
    assert "hunter2" not in str(warehouse.execute("SELECT detail FROM ops.signal").fetchall())


def test_a_lost_process_has_no_exception(warehouse: psycopg.Connection) -> None:
    instance = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1)
    dagkit.task_failed({"dag": SimpleNamespace(tags=["tier:standard"]), "task_instance": instance})
    assert "may have been lost" in str(warehouse.execute("SELECT detail FROM ops.signal").fetchall())


def test_a_run_that_was_cleared_and_fails_again_is_another_signal(warehouse: psycopg.Connection) -> None:
    given = context(dag=SimpleNamespace(dag_id="daily_metrics", tags=["tier:standard"]))
    for given["dag_run"].clear_number in (0, 0, 1, 2, 2):
        dagkit.run_failed(given)
    assert [key for key, *_ in signals(warehouse)] == [
        f"airflow:daily_metrics:run::-1:{number}:dag_failed" for number in (0, 1, 2)
    ]


def test_a_failed_run_of_which_airflow_names_little_is_a_signal(warehouse: psycopg.Connection) -> None:
    """The task that failed is not in the DAG any more."""
    dag = SimpleNamespace(dag_id="daily_metrics", tags=["tier:important"])
    dagkit.run_failed({"dag": dag, "run_id": "run", "reason": "task_failure"})
    assert signals(warehouse) == [
        ("airflow:daily_metrics:run::-1:0:dag_failed", "dag_failed", "P2", "daily_metrics: run failed")
    ]


@pytest.mark.parametrize(("state", "told"), [("queued", 1), ("running", 1), ("failed", 0), ("success", 0), (None, 1)])
def test_only_a_run_that_goes_on_misses_its_deadline(
    warehouse: psycopg.Connection, state: str | None, told: int
) -> None:
    dagkit.deadline_missed({"dag_run": {"dag_id": "daily_metrics", "dag_run_id": "run", "state": state}})
    assert len(signals(warehouse)) == told


@pytest.mark.parametrize("callback", [dagkit.task_failed, dagkit.run_failed, dagkit.deadline_missed])
def test_a_callback_that_cannot_read_what_it_is_given_says_so(warehouse: psycopg.Connection, callback: Any) -> None:
    callback({"dag_run": 7})
    callback({"dag_run": 7})
    [(_, kind, klass, title), another] = signals(warehouse)
    assert (kind, klass) == ("dag_failed", "P2")
    assert "which one could not be read" in title
    assert "Error" in str(warehouse.execute("SELECT detail ->> 'error' FROM ops.signal").fetchall())
    assert another[0] != signals(warehouse)[0][0]


def test_with_the_warehouse_away_the_signal_waits_in_the_spool(environment: pytest.MonkeyPatch, tmp_path: Any) -> None:
    environment.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://nobody:none@127.0.0.1:1/warehouse")
    dag = SimpleNamespace(dag_id="daily_metrics", tags=["tier:important"])
    dagkit.run_failed(context(dag=dag, reason="timed_out"))
    assert "daily_metrics: run failed" in (tmp_path / "spool" / "signals.jsonl").read_text()
