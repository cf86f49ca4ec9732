"""The weekly maintenance runs against real servers: findings, questions to a person, their answers, rebuilt indexes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from include.settings import settings
from tests.catalogue import dags
from tests.conftest import Platform
from tests.dags.test_runs import run

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("airflow_database")]


class World:
    """The platform's database with four bloated indexes, one of them small, and what the warehouse has."""

    def __init__(self, warehouse: psycopg.Connection, escrow: psycopg.Connection) -> None:
        self.warehouse, self.escrow = warehouse, escrow

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.warehouse.execute(query.encode()).fetchall()

    def pages(self, index: str) -> int:
        row = self.escrow.execute("SELECT pg_relation_size(%s::regclass) / 8192", (index,)).fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture
def world(platform: Platform, databases: Databases, environment: pytest.MonkeyPatch) -> Iterator[World]:
    for name, value in (
        ("INDEX_REVIEW__BLOAT_MINIMUM_BYTES", "262144"),
        ("REINDEX__WITHOUT_APPROVAL_UP_TO_BYTES", "600000"),
        ("REINDEX__WAIT_SECONDS", "20"),
    ):
        environment.setenv(f"OPERATIONS__MAINTENANCE__{name}", value)
    settings.cache_clear()
    with (
        psycopg.connect(databases.url(platform.warehouse, "warehouse_reader"), autocommit=True) as warehouse,
        psycopg.connect(databases.url(platform.escrow, "escrow_owner"), autocommit=True) as escrow,
    ):
        for name, rows in (("small", 20_000), ("large", 40_000), ("larger", 60_000), ("largest", 80_000)):
            escrow.execute(f"CREATE TABLE {name} (id bigint) WITH (autovacuum_enabled = off)".encode())
            escrow.execute(f"INSERT INTO {name} SELECT generate_series(1, {rows})".encode())
            escrow.execute(f"CREATE INDEX {name}_id ON {name} (id)".encode())
            escrow.execute(f"DELETE FROM {name} WHERE id % 10 <> 0".encode())
            escrow.execute(f"VACUUM (ANALYZE, TRUNCATE off) {name}".encode())
        escrow.execute("REINDEX TABLE users")  # grown in random order, its indexes are a third empty
        yield World(warehouse, escrow)
    settings.cache_clear()


@contextmanager
def _answering(answers: dict[str, str]) -> Iterator[set[str]]:
    """Answer the questions as the UI does, beside the run; "nobody" lets the time of one run out.

    Yields what was asked.

    ``dag.test`` writes a task's state once more when the task has begun to wait, which may undo an answer that came
    before: whatever still waits is answered again.
    """
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.orm import configure_mappers

    configure_mappers()  # loads models: two threads that do would wait for each other
    waiting = select(HITLDetail).join(HITLDetail.task_instance).where(TaskInstance.state == "awaiting_input")

    def respond() -> None:
        while not over.wait(0.3):
            with create_session() as session:
                for question in session.scalars(waiting):
                    asked.add(question.subject)
                    index = question.subject.removeprefix("Rebuild the index public.").removesuffix("?")
                    _submit(session, question, answers[index])

    over, asked = threading.Event(), set[str]()
    thread = threading.Thread(target=respond)
    thread.start()
    try:
        yield asked
    finally:
        over.set()
        thread.join()


def _submit(session: Any, question: Any, answer: str) -> None:
    from airflow._shared.timezones import timezone
    from airflow.models.trigger import handle_event_submit
    from airflow.triggers.base import TriggerEvent

    in_time = answer != "nobody"
    rebuild, leave = question.options
    question.responded_by = {"id": "1", "name": "ann"} if in_time else None
    question.responded_at = timezone.utcnow()
    question.chosen_options = [rebuild if answer == "rebuild" else leave] if in_time else list(question.defaults)
    handle_event_submit(
        TriggerEvent(question.as_resume_event_payload(timedout=not in_time)),  # type: ignore[no-untyped-call]
        task_instance=question.task_instance,
        session=session,
    )


def test_a_dry_run_reviews_but_neither_asks_nor_rebuilds(world: World) -> None:
    before = {name: world.pages(f"{name}_id") for name in ("small", "large", "larger", "largest")}
    assert run("weekly_maintenance", dry_run=True).state == "success"
    checks = world.rows("SELECT DISTINCT check_name FROM ops.finding ORDER BY 1")
    assert [check for (check,) in checks] == [
        "foreign_keys_without_index", "index_advice", "index_bloat", "invalid_indexes", "query_regressions",
        "query_statistics", "redundant_indexes", "slow_queries", "table_bloat", "unused_indexes",
    ]  # fmt: skip
    assert world.rows("SELECT resource, state FROM ops.maintenance_action ORDER BY 1") == [
        ("public.large_id", "planned"),
        ("public.larger_id", "planned"),
        ("public.largest_id", "planned"),
        ("public.small_id", "planned"),
    ]
    assert {name: world.pages(f"{name}_id") for name in before} == before


def test_large_indexes_are_rebuilt_only_when_approved(world: World) -> None:
    with _answering({"large_id": "rebuild", "larger_id": "leave", "largest_id": "nobody"}):
        assert run("weekly_maintenance").state == "success"
    acts = "SELECT resource, state, reason, plan ->> 'answer' FROM ops.maintenance_action ORDER BY 1"
    assert world.rows(acts) == [
        ("public.large_id", "proven", "", "approved by ann"),
        ("public.larger_id", "nothing_to_do", "rejected by ann", "rejected by ann"),
        ("public.largest_id", "nothing_to_do", "nobody approved it in time", "nobody approved it in time"),
        ("public.small_id", "proven", "", ""),
    ]
    assert world.pages("large_id") < 20
    assert world.pages("larger_id") > 150
    assert world.pages("largest_id") > 200
    assert world.pages("small_id") < 12


def _cleared(done: Any, *task_ids: str) -> None:
    """Clear the tasks of a run, as Airflow's UI does, and run what is due then, as ``dag.test`` does."""
    from airflow._shared.timezones import timezone
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import clear_task_instances
    from airflow.sdk.definitions.dag import _run_task
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.utils.session import create_session

    dag = dags()[done.dag_id]
    with create_session() as session:
        again: Any = session.get(DagRun, done.id)
        stored: Any = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
        stored.on_success_callback, stored.on_failure_callback = dag.on_success_callback, dag.on_failure_callback
        again.dag = stored
        clear_task_instances([one for one in again.get_task_instances() if one.task_id in task_ids], session)
        again.state = "running"
        session.commit()
        while again.state == "running":
            session.expire_all()
            for one in again.update_state(session=session)[0]:
                one.try_number += 1
                one.state, one.scheduled_dttm = "scheduled", timezone.utcnow()
            session.commit()
            for one in again.get_task_instances(session=session):
                if one.state == "scheduled":
                    with suppress(Exception):
                        _run_task(ti=one, task=dag.task_dict[one.task_id], run_triggerer=True)
            time.sleep(0.2)


AFTER_IT = ("choose_indexes", "write_questions", "ask_for_approval", "read_answers", "rebuild_index")


def test_an_answer_counts_only_for_the_index_that_was_shown(world: World) -> None:
    """A person is shown the question of the run's first attempt: Airflow does not replace it."""
    with _answering({"large_id": "leave", "larger_id": "leave", "largest_id": "leave"}):
        done = run("weekly_maintenance", most_indexes=1)
    world.escrow.execute("REINDEX INDEX largest_id")
    before = world.pages("larger_id")
    with _answering({"largest_id": "rebuild"}) as asked:
        _cleared(done, "review_bloat", *AFTER_IT)
    assert asked == {"Rebuild the index public.largest_id?"}
    assert world.pages("larger_id") == before
    [(error,)] = world.rows("SELECT detail ->> 'error' FROM ops.signal WHERE kind = 'task_failed'")
    assert "answer 'Rebuild public.largest_id' belongs to a question of an earlier attempt" in error
    assert "not to the one for 'Rebuild public.larger_id'; trigger a new run" in error


def test_a_review_that_cannot_be_made_fails_the_run(world: World, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", "postgresql://x:y@127.0.0.1:1/escrow")
    environment.setenv("OPERATIONS__RUNS__RETRIES", "0")
    settings.cache_clear()
    assert run("weekly_maintenance").state == "failed"
    unknown = world.rows("SELECT check_name FROM ops.finding WHERE outcome = 'unknown' ORDER BY 1")
    assert [check for (check,) in unknown] == [
        "foreign_keys_without_index", "index_advice", "index_bloat", "invalid_indexes", "query_regressions",
        "query_statistics", "redundant_indexes", "slow_queries", "table_bloat", "unused_indexes",
    ]  # fmt: skip
