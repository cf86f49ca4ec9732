"""Callbacks leave one signal of each failure or delay, and never raise."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from include import dag_signals, dagkit
from include.outcome import IncidentClass


def failed_run(**changes: Any) -> dict[str, Any]:
    return {"dag_run": SimpleNamespace(dag_id="daily_metrics", run_id="run", partition_key=None)} | changes


def test_the_tier_decides_the_class() -> None:
    assert [tier.incident_class for tier in dag_signals.Tier] == [IncidentClass.P1, IncidentClass.P2, IncidentClass.P3]


def test_stored_deadlines_find_their_callback() -> None:
    """Airflow keeps its path with each deadline."""
    assert dagkit.deadline_missed is dag_signals.deadline_missed


def signals(warehouse: psycopg.Connection) -> list[tuple[Any, ...]]:
    return warehouse.execute("SELECT idempotency_key, kind, class, title FROM ops.signal ORDER BY signal_id").fetchall()


def test_callbacks_leave_one_signal_each_however_often_they_fire(warehouse: psycopg.Connection) -> None:
    dag = SimpleNamespace(dag_id="daily_metrics", tags=["chapter:reporting", "tier:critical"])
    instance = SimpleNamespace(
        dag_id="daily_metrics", run_id="run", task_id="users", map_index=-1, try_number=3, log_url="http://x/log"
    )
    for _ in range(2):
        dag_signals.task_failed(
            {"dag": dag, "task_instance": instance, "exception": ValueError("password=hunter2 is wrong")}
        )
        dag_signals.run_failed(failed_run(dag=dag, reason="task_failure"))
        dag_signals.deadline_missed({"dag_run": {"dag_id": "daily_metrics", "dag_run_id": "run"}}, tier="standard")
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


def test_a_failed_run_names_the_task_that_failed_last(warehouse: psycopg.Connection) -> None:
    """The only signal of a task whose process was killed. It is one signal, whichever task Airflow names."""
    dag = SimpleNamespace(dag_id="daily_metrics", tags=["tier:important"])
    for task, map_index, log in (("users", 3, "http://x/users"), ("traffic", -1, "http://x/traffic")):
        instance = SimpleNamespace(task_id=task, map_index=map_index, try_number=2, log_url=log)
        run = SimpleNamespace(run_id=f"run of {task}", partition_key="2026-10-03", clear_number=1)
        for _ in range(2):
            dag_signals.run_failed({"dag": dag, "dag_run": run, "ti": instance, "reason": "task_failure"})
    assert [(key, title) for key, _, _, title in signals(warehouse)] == [
        ("airflow:daily_metrics:run of users::-1:1:dag_failed", "daily_metrics: run failed at task users"),
        ("airflow:daily_metrics:run of traffic::-1:1:dag_failed", "daily_metrics: run failed at task traffic"),
    ]
    of_all = {"dag_id": "daily_metrics", "task_id": "", "try_number": 1, "error": "task_failure"}
    assert [detail for (detail,) in warehouse.execute("SELECT detail FROM ops.signal ORDER BY signal_id")] == [
        {**of_all, "run_id": "run of users", "partition_key": "2026-10-03", "task": "users", "map_index": 3,
         "log_url": "http://x/users"},
        {**of_all, "run_id": "run of traffic", "partition_key": "2026-10-03", "task": "traffic",
         "log_url": "http://x/traffic"},
    ]  # fmt: skip


@pytest.mark.parametrize(("map_index", "told"), [(0, 0), (7, 7), (-1, None)])
def test_a_copy_of_a_mapped_task_says_which(warehouse: psycopg.Connection, map_index: int, told: int | None) -> None:
    instance = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=map_index, try_number=1)
    dag_signals.task_failed({"dag": SimpleNamespace(tags=["tier:standard"]), "task_instance": instance})
    [(detail,)] = warehouse.execute("SELECT detail FROM ops.signal").fetchall()
    assert detail.get("map_index") == told


def test_a_lost_process_has_no_exception(warehouse: psycopg.Connection) -> None:
    instance = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1)
    dag_signals.task_failed({"dag": SimpleNamespace(tags=["tier:standard"]), "task_instance": instance})
    assert "may have been lost" in str(warehouse.execute("SELECT detail FROM ops.signal").fetchall())


def test_a_run_that_was_cleared_and_fails_again_is_another_signal(warehouse: psycopg.Connection) -> None:
    given = failed_run(dag=SimpleNamespace(dag_id="daily_metrics", tags=["tier:standard"]))
    for given["dag_run"].clear_number in (0, 0, 1, 2, 2):
        dag_signals.run_failed(given)
    assert [key for key, *_ in signals(warehouse)] == [
        f"airflow:daily_metrics:run::-1:{number}:dag_failed" for number in (0, 1, 2)
    ]


def test_a_failed_run_of_which_airflow_names_little_is_a_signal(warehouse: psycopg.Connection) -> None:
    """The task that failed is not in the DAG any more. The run failed before with a task that is, and was cleared."""
    dag = SimpleNamespace(dag_id="daily_metrics", tags=["tier:important"])
    dag_signals.run_failed(failed_run(dag=dag))
    begun = datetime.now(UTC)
    dag_signals.run_failed({"dag": dag, "run_id": "run", "reason": "task_failure"})
    hours = {f"{one:%Y-%m-%dT%H}" for one in (begun, datetime.now(UTC))}
    first, (key, *rest) = signals(warehouse)
    assert first[0] == "airflow:daily_metrics:run::-1:0:dag_failed"
    assert key in {f"airflow:daily_metrics:run::-1:{hour}:dag_failed" for hour in hours}
    assert rest == ["dag_failed", "P2", "daily_metrics: run failed"]


@pytest.mark.parametrize(("state", "told"), [("queued", 1), ("running", 1), ("failed", 0), ("success", 0), (None, 1)])
def test_only_a_run_that_goes_on_misses_its_deadline(
    warehouse: psycopg.Connection, state: str | None, told: int
) -> None:
    dag_signals.deadline_missed({"dag_run": {"dag_id": "daily_metrics", "dag_run_id": "run", "state": state}})
    assert len(signals(warehouse)) == told


@pytest.mark.parametrize("callback", [dag_signals.task_failed, dag_signals.run_failed, dag_signals.deadline_missed])
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
    dag_signals.run_failed(failed_run(dag=dag, reason="timed_out"))
    assert "daily_metrics: run failed" in (tmp_path / "spool" / "signals.jsonl").read_text()
