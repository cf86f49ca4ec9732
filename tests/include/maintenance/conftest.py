"""A platform database of the test's own, with an audit log that the maintenance role may prune."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo

import psycopg
import pytest

from demo.databases import Databases
from include.warehouse import session

AUDIT_LOGS = """
CREATE TABLE public.audit_logs (
    audit_log_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at   timestamptz NOT NULL,
    actor        text,
    action       text NOT NULL,
    detail       jsonb
);
CREATE INDEX ON public.audit_logs (created_at);
GRANT USAGE ON SCHEMA public TO operations_maintainer;
GRANT SELECT, DELETE ON public.audit_logs TO operations_maintainer;
ALTER TABLE public.audit_logs SET (autovacuum_enabled = off);
"""


@pytest.fixture
def platform(
    databases: Databases, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection]:
    """Yield an autocommit connection as the owner of the platform's schema; the maintenance connections lead to it."""
    with _platform_on(databases, environment) as owner:
        yield owner


@pytest.fixture
def any_platform(
    any_databases: Databases, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection]:
    """As ``platform``, on PostgreSQL 18 and again on PostgreSQL 15; the warehouse stays on 18."""
    with _platform_on(any_databases, environment) as owner:
        yield owner


@contextmanager
def _platform_on(databases: Databases, environment: pytest.MonkeyPatch) -> Iterator[psycopg.Connection]:
    name = f"escrow_{uuid.uuid4().hex[:12]}"
    databases.create(name, "escrow_owner")
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB", databases.url(name, "operations_reader"))
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", databases.url(name, "operations_maintainer"))
    environment.setenv("AIRFLOW_CONN_PLATFORM_OWNER", databases.url(name, "escrow_owner"))
    with psycopg.connect(databases.url(name, "escrow_owner"), autocommit=True) as owner:
        owner.execute("SET timezone = 'UTC'")
        owner.execute(AUDIT_LOGS)
        yield owner
    databases.drop(name)


@pytest.fixture
def clock_ahead(environment: pytest.MonkeyPatch) -> None:
    """Let this process take the present for thirty days later; the warehouse keeps its own clock."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(days=30)

    environment.setattr(session, "datetime", Ahead)
