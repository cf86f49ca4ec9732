"""Creates the platform's schema, its source-contract views and the grants of its roles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

SQL = Path(__file__).parent / "sql"
TABLES = (
    "users",
    "sessions",
    "page_views",
    "transactions",
    "fees",
    "support_tickets",
    "feedback",
    "authentication_events",
    "audit_logs",
)
"""The platform's tables of rows that accumulate, parents before children."""


def run_file(connection: psycopg.Connection[Any], name: str) -> None:
    """Execute one of the SQL files beside this module."""
    connection.execute((SQL / name).read_text(encoding="utf-8").encode())


def install(owner_url: str) -> None:
    """Create tables, constraints, views and grants as the schema's owner, in one transaction.

    Running it again changes nothing. The roles of ``demo.databases.ROLES`` must exist. Raises psycopg.Error.
    """
    import psycopg

    with psycopg.connect(owner_url) as connection:
        connection.execute("SET client_min_messages = warning")
        for name in ("tables.sql", "constraints.sql", "views.sql", "grants.sql"):
            run_file(connection, name)
