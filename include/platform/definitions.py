"""How everything in the platform's database is defined and how far its counters are, read in one consistent moment.

The statements stand in definitions.sql. No superuser is needed: what a role cannot read is named with the grant that
would let it. Texts of functions and views are never returned, and secrets are masked.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.masking import MASK, is_secret_name, mask
from include.platform import database
from include.warehouse.snapshots import Definition, TableSize
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg

_STATEMENTS = statements(__file__)
KINDS = tuple(name for name in _STATEMENTS if name not in ("counters", "system_identifier", "tables"))
"""Every kind of definition."""

_PARTED = "\x1f"  # between parts of a definition of which each may be a secret of its own
_HASHED = 4  # digits: enough to tell that a secret has changed, too few to find it by trying
_GRANTS = {
    "access_rule": "GRANT SELECT ON pg_catalog.pg_hba_file_rules TO {role};\n"
    "GRANT EXECUTE ON FUNCTION pg_catalog.pg_hba_file_rules() TO {role};",
    "setting": "GRANT pg_read_all_settings TO {role};",
    "system_identifier": "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO {role};",
}


@dataclass(frozen=True)
class Everything:
    """What was read: ``facts`` are the columns of ``ops.platform_snapshot`` but the run's own."""

    facts: dict[str, Any]
    tables: list[TableSize]
    definitions: list[Definition]


def read(connection: psycopg.Connection[Any]) -> Everything:
    """Read all definitions, table sizes and counters in one snapshot of the database; ``connection`` is in autocommit.

    ``facts["unreadable"]`` holds each kind that the role may not read, with the grant that would let it.
    """
    unreadable: dict[str, str] = {}
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SELECT set_config('search_path', '', true)")
        role = connection.execute("SELECT quote_ident(current_user)").fetchone()
        assert role is not None

        def rows(kind: str) -> list[tuple[Any, ...]]:
            found = _rows(connection, kind)
            if found is None:
                unreadable[kind] = _grant(kind, str(role[0]))
            return found or []

        counters = connection.execute(_STATEMENTS["counters"], {}).fetchone()
        assert counters is not None
        identifiers = rows("system_identifier")
        tables = [TableSize(*row) for row in rows("tables")]
        definitions = [
            Definition(kind, str(name), without_secrets(kind, str(name), str(text)))
            for kind in KINDS
            for name, text in rows(kind)
        ]
        if not _sees_all_settings(connection):
            unreadable["setting"] = _grant("setting", str(role[0]))
            definitions = [definition for definition in definitions if definition.kind != "setting"]
    names = ("taken_at", "database_name", "server_version", "next_transaction", "next_multixact", "counters_since")
    facts = dict(zip(names, counters, strict=True))
    facts |= {"system_identifier": identifiers[0][0] if identifiers else None, "unreadable": unreadable}
    return Everything(facts, tables, definitions)


def _rows(connection: psycopg.Connection[Any], kind: str) -> list[tuple[Any, ...]] | None:
    """Run a kind's statement; None when the role may not read it."""
    from psycopg import errors

    version = database.server_version(connection)
    # Of this database only: asking for one that somebody drops at this moment is an error.
    own = "CASE WHEN d.datname = current_database() THEN d.oid END"
    actual = f"'actual ' || pg_database_collation_actual_version({own})"
    collation = actual if version >= 150000 else "NULL"
    text = _STATEMENTS[kind].replace("{actual_collation_version}", collation)
    text = re.sub(r"\{is_ours\((\w+), (\w+)\)\}", _is_ours, text)
    text = re.sub(r"\{not_of_extension\((\w+), (\w+)\)\}", _not_of_extension, text)
    try:
        with connection.transaction():
            return connection.execute(text, {}).fetchall()
    except errors.InsufficientPrivilege:
        return None


def without_secrets(kind: str, name: str, text: str) -> str:
    """Return a definition with its secrets masked; the beginning of the original's hash shows when one of them changes.

    One that was masked before stays as it is.
    """
    parts, between = text.split(_PARTED), " " if kind == "access_rule" else ", "
    shown, whole = between.join(map(_part, parts)), between.join(parts)
    if kind == "setting" and "." in name and is_secret_name(name):  # the server's own hold none, such as ssl_key_file
        shown = MASK
    elif kind == "column" and is_secret_name(name.rpartition(".")[2]):
        shown = re.sub(r"'(?:[^']|'')*'", f"'{MASK}'", shown)  # its default
    if shown == whole:
        return shown
    return f"{shown} (hash {hashlib.sha256(text.encode()).hexdigest()[:_HASHED]})"


def _part(text: str) -> str:
    name, equals, _ = text.partition("=")
    # A value may have spaces in it, at which mask would end.
    return f"{name}={MASK}" if equals and re.fullmatch(r"[\w.]+", name) and is_secret_name(name) else mask(text)


def _is_ours(match: re.Match[str]) -> str:
    relation, schema = match.groups()
    return (
        f"{relation}.relpersistence <> 't' AND NOT {relation}.relispartition"
        f" AND {schema}.nspname <> 'information_schema' AND {schema}.nspname !~ '^pg_'"
        f" AND {_of_no_extension(relation, 'pg_class')}"
    )


def _not_of_extension(match: re.Match[str]) -> str:
    return _of_no_extension(*match.groups())


def _of_no_extension(alias: str, catalogue: str) -> str:
    return (
        f"NOT EXISTS (SELECT FROM pg_depend x WHERE x.objid = {alias}.oid"
        f" AND x.classid = 'pg_catalog.{catalogue}'::regclass AND x.deptype = 'e')"
    )


def _sees_all_settings(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute("SELECT pg_has_role(current_user, 'pg_read_all_settings', 'USAGE')").fetchone()
    return bool(row and row[0])


def _grant(kind: str, role: str) -> str:
    return _GRANTS.get(kind, "GRANT pg_monitor TO {role};").format(role=role)
