"""Compares a platform's database with the source contract (``source_contract.sql``, docs/source-contract.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from include.outcome import ConfigurationError
from include.platform import contract_fixes
from include.platform.database import quoted

CONTRACT = Path(__file__).with_name("source_contract.sql")
CATALOGUE = Path(__file__).with_name("contract_catalogue.sql")
SCHEMA = "operations"

_SCHEMA_RIGHTS = """SELECT current_user::text, count(*) > 0, bool_or(has_schema_privilege(oid, 'USAGE')) IS TRUE
    FROM pg_namespace WHERE nspname = %(schema)s"""
_VIEW = re.compile(r"CREATE VIEW operations\.(\w+) AS SELECT(.*?)WHERE false;", re.DOTALL)
_COLUMN = re.compile(r"NULL::(\w+)\s+AS (\w+),?[ \t]*(?:-- *(.*))?")
_FULL_NAMES = {"timestamptz": "timestamp with time zone"}
_TEXTS = ("text", "character varying")
_ACCEPTED = {
    "identifier": ("bigint", "integer", "uuid", *_TEXTS),
    "numeric": ("numeric", "integer", "bigint"),
    "integer": ("integer", "smallint", "bigint"),
    "text": _TEXTS,
}
"""Types that serve as well as the named one: nothing is lost when they are read."""


class Kind(StrEnum):
    """What can be wrong with a column or a view."""

    MISSING_VIEW = "missing view"
    MISSING_COLUMN = "missing column"
    WRONG_TYPE = "wrong type"
    MISSING_PRIVILEGE = "missing privilege"
    MISSING_TABLE = "missing table"
    SUPERUSER = "superuser"


@dataclass(frozen=True)
class Column:
    """A column of the contract: its name, its type, the types that serve, and what it means."""

    name: str
    type: str
    accepted: tuple[str, ...]
    meaning: str


@dataclass(frozen=True)
class Problem:
    """One difference from the contract, and the SQL that mends it (to be run by the views' owner).

    Text in angle brackets stands for names and expressions that only the platform's people know.
    """

    view: str
    column: str
    kind: Kind
    detail: str
    fix: str
    schema: str = SCHEMA

    @property
    def where(self) -> str:
        """The view or table; without a name the problem is about the role itself."""
        return f"{self.schema}.{self.view}" if self.view else "the server"

    def __str__(self) -> str:
        return self.where + (f", column {self.column}" if self.column else "") + f": {self.detail}"


@lru_cache(maxsize=1)
def contract() -> dict[str, tuple[Column, ...]]:
    """Return the columns of every view of the contract, as ``source_contract.sql`` declares them."""
    text = CONTRACT.read_text(encoding="utf-8")
    return {name: tuple(_column(*found) for found in _COLUMN.findall(body)) for name, body in _VIEW.findall(text)}


def _column(short: str, name: str, meaning: str) -> Column:
    full = _FULL_NAMES.get(short, short)
    accepted = _ACCEPTED["identifier"] if meaning.startswith("identifier") else _ACCEPTED.get(full, (full,))
    return Column(name, short, accepted, meaning)


def problems(connection: psycopg.Connection[Any]) -> list[Problem]:
    """Return every difference between the database and the contract, for the role of the connection.

    An open transaction is left as it was. Raises psycopg.Error when the database is lost.
    """
    return [problem for view in contract() for problem in _view_problems(connection, view)]


def require(connection: psycopg.Connection[Any], *views: str) -> None:
    """Make sure that ``views`` (all of the contract when none is named) can be read as the contract says.

    Raises ConfigurationError that names the first missing view or column and the remedy.
    """
    for view in views or tuple(contract()):
        if view not in contract():
            raise ConfigurationError(f"the source contract has no view {view}; it has {', '.join(contract())}")
        if found := _view_problems(connection, view):
            first = found[0]
            raise ConfigurationError(
                f"the platform's database does not meet the source contract: {first}; "
                f"run as the owner of the views: {first.fix} (python -m include.platform check lists every problem)"
            )


@dataclass(frozen=True)
class Found:
    """What the catalogue says of one view."""

    kind: str
    definition: str
    role: str
    may_use_schema: bool
    may_select: bool
    types: dict[str, str]
    indexes: list[str]


def _view_problems(connection: psycopg.Connection[Any], view: str) -> list[Problem]:
    columns = contract()[view]
    found = _look_up(connection, view)
    if found is None:
        fix = _missing_view_fix(connection, view, columns)
        return [Problem(view, "", Kind.MISSING_VIEW, "the view does not exist", fix)]
    listed = _column_problems(view, columns, found)
    if privilege := _privilege_problem(connection, view, columns, found):
        listed.append(privilege)
    return listed


def _missing_view_fix(connection: psycopg.Connection[Any], view: str, columns: tuple[Column, ...]) -> str:
    """Return SQL that makes a view which the connection's role can read at once, and the schema where it is missing."""
    row = _row(connection, _SCHEMA_RIGHTS, {"schema": SCHEMA})
    assert row is not None
    name, role = f"{SCHEMA}.{view}", quoted(row[0])
    # Only where they are needed: PostgreSQL asks for the right to create schemas also of one that exists.
    create = "" if row[1] else f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}; "
    usage = "" if row[2] else f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}; "
    names = ", ".join(f"<expression>::{column.type} AS {column.name}" for column in columns)
    made = f"CREATE VIEW {name} AS SELECT {names} FROM <your table>;"  # noqa: S608 - text for people
    return f"{create}{usage}{made} GRANT SELECT ON {name} TO {role};"


def _look_up(connection: psycopg.Connection[Any], view: str) -> Found | None:
    row = _row(connection, CATALOGUE.read_text(encoding="utf-8"), {"schema": SCHEMA, "view": view})
    return None if row is None else Found(*row)


def _row(connection: psycopg.Connection[Any], query: str, parameters: dict[str, str]) -> tuple[Any, ...] | None:
    # The connection is the caller's, whose rows may be dictionaries.
    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(_static(query), parameters).fetchone()


def _static(text: str) -> sql.SQL:
    return sql.SQL(cast("Any", text))


def _column_problems(view: str, columns: tuple[Column, ...], found: Found) -> list[Problem]:
    """Return what is wrong with the columns of a view; one fix, the same for each of them, mends all at once."""
    listed = []
    for column in columns:
        there = found.types.get(column.name)
        if there is None:
            detail = f"the column does not exist; it should be {column.type}"
            listed.append(Problem(view, column.name, Kind.MISSING_COLUMN, detail, ""))
        elif there not in column.accepted:
            detail = f"the type is {there}; it should be {' or '.join(column.accepted)}"
            listed.append(Problem(view, column.name, Kind.WRONG_TYPE, detail, ""))
    fix = contract_fixes.columns(f"{SCHEMA}.{view}", columns, found) if listed else ""
    return [replace(one, fix=fix) for one in listed]


def _privilege_problem(
    connection: psycopg.Connection[Any], view: str, columns: tuple[Column, ...], found: Found
) -> Problem | None:
    role = quoted(found.role)
    if not found.may_use_schema:
        fix = f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}; GRANT SELECT ON {SCHEMA}.{view} TO {role};"
        return Problem(view, "", Kind.MISSING_PRIVILEGE, f"the role {found.role} may not use the schema", fix)
    # Rights may be given for single columns, and the view's own rights count: only reading tells. No row is fetched.
    names = [column.name for column in columns if column.name in found.types]
    reading = sql.SQL("SELECT {} FROM {} LIMIT 0").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(SCHEMA, view)
    )
    try:
        with connection.transaction():
            connection.execute(reading)
    except psycopg.errors.InsufficientPrivilege as error:
        if not found.may_select:
            fix = f"GRANT SELECT ON {SCHEMA}.{view} TO {role};"
            return Problem(view, "", Kind.MISSING_PRIVILEGE, f"the role {found.role} may not read the view", fix)
        refused = (error.diag.message_primary or "").removeprefix("permission denied for ")
        detail = f"the view itself is refused its source ({refused})"
        fix = (
            f"GRANT SELECT ON <the view's tables> TO <the view's owner>; "
            f"ALTER VIEW {SCHEMA}.{view} RESET (security_invoker);"
        )
        return Problem(view, "", Kind.MISSING_PRIVILEGE, detail, fix)
    return None


def table(found: list[Problem]) -> str:
    """Return the problems as one table for people: view, column, problem, and the fix of each."""
    heads = ("view", "column", "problem", "fix")
    rows = [(one.where, one.column or "-", f"{one.kind}: {one.detail}", one.fix) for one in _merged(found)]
    widths = [max(len(row[place]) for row in (heads, *rows)) for place in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]) for row in rows
    ]
    head = "  ".join([*(cell.ljust(width) for cell, width in zip(heads, widths, strict=False)), heads[3]])
    return "\n".join([head, "-" * len(head), *lines])


def _merged(found: list[Problem]) -> list[Problem]:
    """Say ``as above`` instead of repeating a fix that mends several columns at once."""
    seen: set[str] = set()
    result = []
    for one in found:
        result.append(replace(one, fix="(mended by the fix above)") if one.fix in seen else one)
        seen.add(one.fix)
    return result
