"""Remedies that partition a table: planned as the maintenance role does it, and run as an operator pastes them."""

import re
from datetime import UTC, datetime
from typing import Any

import psycopg

from include.maintenance.postgres import partition_remedy
from include.maintenance.postgres.partition_remedy import Plan
from include.platform import database
from include.platform.database import Table


def planned(table: str = "public.audit_logs", time_column: str = "created_at", now: datetime | None = None) -> Plan:
    """The remedy for a table, with partitions of a month."""
    with database.maintenance_session() as session:
        found: Table = database.table_of(session, table)
        return partition_remedy.plan(session, found.name, found.oid, time_column, "month", now or datetime.now(UTC))


def apply(connection: psycopg.Connection, sql: str) -> None:
    """Run a remedy as psql would: each statement on its own, once what it asks for is confirmed."""
    for statement in confirmed(sql).split(";\n"):
        connection.execute(statement.encode())


def paste(connection: psycopg.Connection, sql: str) -> list[str]:
    """Run a remedy as psql does when it is pasted: each statement, whatever became of others. Returns the errors.

    What it asks for is confirmed.
    """
    return paste_unread(connection, confirmed(sql))


def confirmed(sql: str) -> str:
    """A remedy with the statements that wait, indented in comments, for who has looked at what stands above them."""
    return re.sub(r"^--   (?=.*;$)", "", sql, flags=re.MULTILINE)


def paste_unread(connection: psycopg.Connection, sql: str) -> list[str]:
    """Paste a remedy without a look at it; returns the errors."""
    errors = []
    for statement in sql.split(";\n"):
        try:
            connection.execute(statement.encode())
        except psycopg.Error as error:
            errors.append(str(error.diag.message_primary))
    return errors


def one(connection: psycopg.Connection, query: str) -> Any:
    """The only value of the only row of a query."""
    [(value,)] = connection.execute(query.encode()).fetchall()
    return value
