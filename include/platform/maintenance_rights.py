"""Compares what the role of platform_db_maintenance may do with what maintenance needs (docs/source-contract.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg

from include.platform.contract import Kind, Problem
from include.platform.database import quoted
from include.warehouse.statements import statements

_STATEMENTS = statements(__file__)


def may_maintain(server_version: int) -> str:
    """Return SQL that tells whether the role may vacuum the relation ``c``: a privilege since PostgreSQL 17."""
    return _STATEMENTS["may_maintain" if server_version >= 170000 else "may_maintain_before_17"]


def problems(connection: psycopg.Connection[Any], tables: Iterable[str]) -> list[Problem]:
    """Return what the connection's role lacks to look at the server and its sequences, to vacuum and to prune.

    ``tables`` are those to prune (schema.name).
    Raises psycopg.Error when the database is lost.
    """
    row = connection.execute(_STATEMENTS["role"]).fetchone()
    assert row is not None
    role, superuser, monitors = row
    if superuser:
        detail = f"the role {role} of platform_db_maintenance is a superuser, which maintenance refuses"
        return [
            Problem("", "", Kind.SUPERUSER, detail, "CREATE ROLE operations_maintainer LOGIN PASSWORD '<password>';")
        ]
    found = []
    if not monitors:
        detail = f"the role {role} may not read the server's statistics"
        fix = f"GRANT pg_monitor TO {quoted(role)};"
        found.append(Problem("", "", Kind.MISSING_PRIVILEGE, detail, fix))
    found += _sequence_problems(connection, role)
    found += _vacuum_problems(connection, role)
    for table in tables:
        found += _table_problems(connection, role, *table.split(".", 1))
    return found


def _sequence_problems(connection: psycopg.Connection[Any], role: str) -> list[Problem]:
    found = []
    for schema, count in connection.execute(_STATEMENTS["unread_sequences"]).fetchall():
        detail = f"the role {role} may not read {count} sequences of {schema}, so that nobody learns when keys run out"
        fix = f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA {quoted(schema)} TO {quoted(role)};"
        found.append(Problem("", "", Kind.MISSING_PRIVILEGE, detail, fix, schema))
    return found


def _vacuum_problems(connection: psycopg.Connection[Any], role: str) -> list[Problem]:
    """A role that may maintain some of the tables is enough: others may be left to autovacuum."""
    version = connection.info.server_version
    row = connection.execute(_STATEMENTS["tables"].format(may_maintain=may_maintain(version))).fetchone()
    assert row is not None
    tables, maintained = row
    if maintained or not tables:
        return []
    granted = "pg_maintain" if version >= 170000 else "<the owner of the tables>"
    detail = f"the role {role} may vacuum and analyze none of the {tables} tables"
    fix = f"GRANT {granted} TO {quoted(role)};"
    return [Problem("", "", Kind.MISSING_PRIVILEGE, detail, fix)]


def _table_problems(connection: psycopg.Connection[Any], role: str, schema: str, name: str) -> list[Problem]:
    row = connection.execute(_STATEMENTS["pruned_table"], (schema, name)).fetchone()
    if row is None:
        detail = "the table, which maintenance.prune names, does not exist"
        fix = "-- correct maintenance.prune in config/operations.yaml"
        return [Problem(name, "", Kind.MISSING_TABLE, detail, fix, schema)]
    lacking = [right for right, given in zip(("USAGE", "SELECT", "DELETE"), row, strict=True) if not given]
    if not lacking:
        return []
    grants = []
    if "USAGE" in lacking:
        grants.append(f"GRANT USAGE ON SCHEMA {schema} TO {quoted(role)};")
    if rights := [right for right in lacking if right != "USAGE"]:
        grants.append(f"GRANT {', '.join(rights)} ON {schema}.{name} TO {quoted(role)};")
    detail = f"the role {role}, which prunes it, lacks {', '.join(lacking)}"
    return [Problem(name, "", Kind.MISSING_PRIVILEGE, detail, " ".join(grants), schema)]
