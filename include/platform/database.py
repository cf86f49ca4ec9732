"""The platform's database as maintenance sees it: safe sessions, tables and their columns, who holds what.

The statements stand in database.sql. Everything works for a role that is no superuser, on PostgreSQL 13 to 18.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from include import connections
from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

MAINTENANCE = "platform_db_maintenance"
_STATEMENTS = statements(__file__)
_LONGEST_LOCK_WAIT_MILLISECONDS = 5000
_BRIEF_LOCK_WAIT = "'800ms'"
"""For SQL that people run: below ``deadlock_timeout``, after which the server cancels an autovacuum in the way."""


@dataclass(frozen=True)
class Table:
    """One table of the platform; ``name`` is its schema-qualified name, quoted where it must be."""

    oid: int
    schema: str
    relation: str
    name: str

    @property
    def identifier(self) -> sql.Identifier:
        """The name to put into a statement."""
        from psycopg import sql

        return sql.Identifier(self.schema, self.relation)


@dataclass(frozen=True)
class Horizon:
    """The oldest rows that somebody may still see, and who.

    ``age`` counts transactions, ``transaction`` is the same as a 64-bit transaction id (it grows for ever): what a
    transaction with that id or a later one has deleted must stay. ``since`` is when the holder began, or None where the
    server does not tell.
    """

    holder: str
    age: int
    transaction: int
    since: datetime | None


@dataclass(frozen=True)
class Column:
    """One column of a table; ``type_name`` is written as in SQL, ``generated`` ones cannot be written."""

    name: str
    type_name: str
    not_null: bool
    generated: bool


RowsOf = Literal["tables", "catalogs", "cluster"]
"""Whose old rows: of this database's tables, of its system catalogs, or of those that all databases share."""


def server_version(connection: psycopg.Connection[Any]) -> int:
    """Return the server's version as ``server_version_num``, for example 180001."""
    return connection.info.server_version


@contextmanager
def maintenance_session(what: str = "") -> Iterator[psycopg.Connection[Any]]:
    """Open the platform's database for maintenance, in autocommit mode.

    ``what`` is done in it: the database's errors are named by that, as ``errors_named`` does; without it they pass as
    they are. Raises ConfigurationError for a superuser's login, and otherwise as ``connections.postgres`` does.
    """
    named = errors_named(what) if what else nullcontext()
    with connections.postgres(MAINTENANCE, autocommit=True) as connection, named:
        if prepare(connection):
            raise ConfigurationError(
                f"the connection {MAINTENANCE} logs in as a superuser; give it a role that may only maintain the tables"
            )
        yield connection


def prepare(connection: psycopg.Connection[Any]) -> bool:
    """Make an autocommit session wait little for locks and write values exactly; tell whether its role is a superuser.

    It sees all rows of a table or gets an error, never a part of them by row-level security. It waits for locks for
    less than ``deadlock_timeout`` (at most 5 s): a lock request that waits longer than that makes the server cancel an
    autovacuum in its way.
    """
    row = connection.execute(_STATEMENTS["session"], {"longest": _LONGEST_LOCK_WAIT_MILLISECONDS}).fetchone()
    return bool(row and row[0])


def server(connection: psycopg.Connection[Any]) -> tuple[str, str | None]:
    """Return the name of the cluster with its database, and of the primary in it; None when the server is a standby.

    Raises psycopg.Error.
    """
    row: tuple[str, str | None] | None = connection.execute(_STATEMENTS["server"]).fetchone()
    assert row is not None, "the statement always gives a row"
    return row


def in_comment(text: str) -> str:
    """Return a text that stays within a ``--`` comment of SQL: a name or an identifier may hold a line break.

    Control characters and the other ends of a line become question marks.
    """
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", "?", text)


def literal(text: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """Return a name in SQL's quotes."""
    return '"' + name.replace('"', '""') + '"'


def dollar_quoted(body: str, word: str) -> str:
    """Return a body of PL/pgSQL in dollar quotes made of ``word``, whatever names it holds: none of them ends it."""
    tag = f"${word}$"
    while tag in body:
        tag = f"{tag[:-1]}{word[-1]}$"
    return f"{tag} {body} {tag}"


def identifier(name: str) -> str:
    """Return a name as SQL has it, quoted only where it must be."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else quoted(name)


def as_argument(name: str) -> str:
    """Return a database's name as PostgreSQL's programs take it: one with = or :// in it would say where to connect."""
    from psycopg.conninfo import make_conninfo

    return name if re.fullmatch(r"[\w.-]+", name) else make_conninfo(dbname=name)


def bare(identifier: str) -> str:
    """Return a name as SQL has it without its quotes."""
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier


def briefly(lines: Sequence[str]) -> list[str]:
    """Statements that lock others out for a moment: they must not queue for the lock, with everybody behind them."""
    return [f"SET lock_timeout = {_BRIEF_LOCK_WAIT};", *lines, "RESET lock_timeout;"]


def together(lines: Sequence[str]) -> list[str]:
    """Statements that take effect together, of which none queues for its lock."""
    return ["BEGIN;", f"SET LOCAL lock_timeout = {_BRIEF_LOCK_WAIT};", *lines, "COMMIT;"]


def update_first(connection: psycopg.Connection[Any]) -> str:
    """A comment for advice that builds an index CONCURRENTLY, where that may corrupt it (PostgreSQL 14.0 to 14.3)."""
    if 140000 <= server_version(connection) < 140004:
        return "-- PostgreSQL 14.0 to 14.3 may corrupt what it builds CONCURRENTLY: update to 14.4 first.\n"
    return ""


@contextmanager
def errors_named(what: str, connection_id: str = MAINTENANCE) -> Iterator[None]:
    """Turn the database's errors within into one sentence about ``what``, for example "VACUUM of public.users".

    Raises ConfigurationError (a missing privilege, table or column), SourceUnavailable (the connection was lost, or the
    server could not do it just now: its disk is full, a deadlock) or MaintenanceFailed (a lock or time limit, or a
    constraint in the way).
    """
    import psycopg
    from psycopg import errors

    try:
        yield
    except errors.LockNotAvailable:
        raise MaintenanceFailed(
            f"{what}: another session holds a lock on it for longer than maintenance waits; nothing was changed, "
            "try again when that session has ended"
        ) from None
    except errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"{what}: the role of {connection_id} lacks a privilege ({error.diag.message_primary}); grant it"
        ) from None
    except (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedObject) as error:
        raise ConfigurationError(f"{what}: {error.diag.message_primary}; correct the name or create it") from None
    except errors.QueryCanceled:
        raise MaintenanceFailed(f"{what}: the statement was cancelled or ran into its time limit") from None
    except errors.IntegrityError as error:
        where = f"{error.diag.schema_name}.{error.diag.table_name}"
        raise MaintenanceFailed(
            f"{what}: the constraint {error.diag.constraint_name} of {where} is in the way; nothing was changed"
        ) from None
    except psycopg.OperationalError as error:
        if error.sqlstate and error.sqlstate[:2] not in ("08", "57"):  # neither the connection nor a shutdown
            raise SourceUnavailable(
                f"{what}: the server could not do it just now ({error.diag.message_primary})"
            ) from None
        raise SourceUnavailable(f"{what}: the connection {connection_id} was lost") from None


def table_of(connection: psycopg.Connection[Any], name: str) -> Table:
    """Find a table by its schema-qualified name. Raises ConfigurationError when there is none."""
    import psycopg

    try:
        row = connection.execute(_STATEMENTS["table"], {"name": name}).fetchone()
    except psycopg.errors.InvalidName:
        row = None
    if row is None:
        raise ConfigurationError(f"the platform's database has no table {name} that {MAINTENANCE} can see")
    return Table(*row)


def columns_of(connection: psycopg.Connection[Any], table: Table) -> list[Column]:
    """Return the columns of a table in their order."""
    return [Column(*row) for row in connection.execute(_STATEMENTS["columns"], {"oid": table.oid})]


def is_unique(connection: psycopg.Connection[Any], table: Table, columns: list[str]) -> bool:
    """Tell whether a valid, complete unique index lies on these columns or on some of them."""
    row = connection.execute(_STATEMENTS["unique"], {"oid": table.oid, "columns": columns}).fetchone()
    return bool(row and row[0])


def tables_changed_by_deletion(connection: psycopg.Connection[Any], table: Table) -> list[str]:
    """Return the tables whose rows a deletion would delete or change too, through foreign keys."""
    return [name for (name,) in connection.execute(_STATEMENTS["changed_by_deletion"], {"oid": table.oid})]


def horizon(connection: psycopg.Connection[Any], of: RowsOf = "tables") -> Horizon | None:
    """Return what keeps dead rows from being removed, or old ones from being frozen, most; None when nothing does.

    The age of a whole database is that of its oldest table or catalog, and so a matter of the "cluster".
    """
    reach = {"catalogs": of != "tables", "everywhere": of == "cluster"}
    row = connection.execute(_STATEMENTS["horizon"], reach).fetchone()
    return Horizon(*row) if row else None


def blind_role(connection: psycopg.Connection[Any]) -> str | None:
    """Return the session's role when it may not see what others do and since when (pg_read_all_stats), else None."""
    row = connection.execute(_STATEMENTS["blind_role"]).fetchone()
    return row[0] if row else None
