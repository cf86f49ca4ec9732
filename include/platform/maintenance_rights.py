"""Compares what the role of platform_db_maintenance may do with what maintenance needs (docs/source-contract.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg

from include.platform import contract_fixes
from include.platform.contract import Kind, Problem

_ROLE = """
    SELECT current_user::text, rolsuper, pg_has_role(current_user, 'pg_monitor', 'USAGE')
    FROM pg_roles WHERE rolname = current_user
"""
_TABLE = """
    SELECT has_schema_privilege(relnamespace, 'USAGE'), has_table_privilege(pg_class.oid, 'SELECT'),
           has_table_privilege(pg_class.oid, 'DELETE')
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = %s AND relname = %s AND relkind IN ('r', 'p')
"""


def problems(connection: psycopg.Connection[Any], tables: Iterable[str]) -> list[Problem]:
    """Return what the connection's role lacks to look at the server and to prune ``tables`` (schema.name each).

    Raises psycopg.Error when the database is lost.
    """
    row = connection.execute(_ROLE).fetchone()
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
        fix = f"GRANT pg_monitor TO {contract_fixes.quoted(role)};"
        found.append(Problem("", "", Kind.MISSING_PRIVILEGE, detail, fix))
    for table in tables:
        found += _table_problems(connection, role, *table.split(".", 1))
    return found


def _table_problems(connection: psycopg.Connection[Any], role: str, schema: str, name: str) -> list[Problem]:
    row = connection.execute(_TABLE, (schema, name)).fetchone()
    if row is None:
        detail = "the table, which maintenance.prune names, does not exist"
        fix = "-- correct maintenance.prune in config/operations.yaml"
        return [Problem(name, "", Kind.MISSING_TABLE, detail, fix, schema)]
    lacking = [right for right, given in zip(("USAGE", "SELECT", "DELETE"), row, strict=True) if not given]
    if not lacking:
        return []
    grants = []
    if "USAGE" in lacking:
        grants.append(f"GRANT USAGE ON SCHEMA {schema} TO {contract_fixes.quoted(role)};")
    if rights := [right for right in lacking if right != "USAGE"]:
        grants.append(f"GRANT {', '.join(rights)} ON {schema}.{name} TO {contract_fixes.quoted(role)};")
    detail = f"the role {role}, which prunes it, lacks {', '.join(lacking)}"
    return [Problem(name, "", Kind.MISSING_PRIVILEGE, detail, " ".join(grants), schema)]
