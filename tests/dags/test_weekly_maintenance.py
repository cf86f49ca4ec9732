"""The weekly maintenance runs against real servers: findings, questions to a person, their answers, rebuilt indexes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from include.settings import settings
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
def _answering(answers: dict[str, str]) -> Iterator[None]:
    """Answer the questions as the UI does, beside the run; "nobody" lets the time of one run out.

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
                    index = question.subject.removeprefix("Rebuild the index public.").removesuffix("?")
                    _submit(session, question, answers[index])

    over = threading.Event()
    thread = threading.Thread(target=respond)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _submit(session: Any, question: Any, option: str) -> None:
    from airflow._shared.timezones import timezone
    from airflow.models.trigger import handle_event_submit
    from airflow.triggers.base import TriggerEvent

    in_time = option != "nobody"
    question.responded_by = {"id": "1", "name": "ann"} if in_time else None
    question.responded_at = timezone.utcnow()
    question.chosen_options = [option] if in_time else list(question.defaults or [])
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
    with _answering({"large_id": "Approve", "larger_id": "Reject", "largest_id": "nobody"}):
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
