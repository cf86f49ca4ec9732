"""A platform database whose source contract is made of plain tables, to be filled by hand."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from demo.databases import Databases

_TABLES = """
CREATE SCHEMA operations;
GRANT USAGE ON SCHEMA operations TO operations_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA operations GRANT SELECT ON TABLES TO operations_reader;
CREATE TABLE operations.users (user_id bigint, registered_at timestamptz, verified_at timestamptz);
CREATE TABLE operations.sessions (session_id bigint, user_id bigint, started_at timestamptz);
CREATE TABLE operations.page_views (user_id bigint, viewed_at timestamptz, path text);
CREATE TABLE operations.transactions (transaction_id bigint, created_at timestamptz, completed_at timestamptz,
    disputed_at timestamptz, cancelled_at timestamptz, failed_at timestamptz, amount_usd numeric,
    chain_transaction_hash text);
CREATE TABLE operations.fees (fee_id bigint, kind text, charged_at timestamptz, amount_usd numeric);
CREATE TABLE operations.support_tickets (ticket_id bigint, priority text, created_at timestamptz,
    first_response_at timestamptz, resolved_at timestamptz);
CREATE TABLE operations.feedback (feedback_id bigint, given_at timestamptz, rating integer);
"""


@contextmanager
def contract(databases: Databases, environment: pytest.MonkeyPatch) -> Iterator[psycopg.Connection[Any]]:
    """Yield an autocommit connection as the tables' owner; platform_db leads to them as operations_reader."""
    name = f"escrow_{uuid.uuid4().hex[:12]}"
    databases.create(name, "escrow_owner")
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB", databases.url(name, "operations_reader"))
    with psycopg.connect(databases.url(name, "escrow_owner"), autocommit=True) as owner:
        owner.execute(_TABLES)
        yield owner
    databases.drop(name)


def fill(platform: psycopg.Connection[Any], table: str, rows: list[tuple[Any, ...]]) -> None:
    """Insert whole rows into one of the contract's tables."""
    with platform.cursor() as cursor, cursor.copy(f"COPY operations.{table} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
