"""Reads and deletes rows of a source table by time and key, with their hashes. The statements stand in rows.sql."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.maintenance import archive_files
from include.outcome import ConfigurationError
from include.platform import database
from include.platform.database import Column, Table
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

    from include.warehouse.archives import Archive

_STATEMENTS = statements(__file__)
_TIME_TYPES = ("timestamp with time zone", "timestamp without time zone")  # without a time zone it is taken as UTC


@dataclass(frozen=True)
class Source:
    """A table that rows are taken from. ``time_column`` says how old a row is, ``key_column`` which row it is."""

    table: Table
    columns: list[Column]
    time_column: str
    key_column: str
    key_type: str


@dataclass(frozen=True)
class Batch:
    """Rows as texts, with the hashes that the database computed; ``first`` and ``last`` are aware, in UTC."""

    rows: list[tuple[str | None, ...]]
    row_hashes: list[str]
    first: datetime
    last: datetime


def source_of(connection: psycopg.Connection[Any], table_name: str, time_column: str, key_column: str) -> Source:
    """Look a table up and check that its rows can be told apart and deleted alone. Raises ConfigurationError."""
    with database.errors_named(f"pruning of {table_name}"):
        return _source(connection, table_name, time_column, key_column)


def _source(connection: psycopg.Connection[Any], table_name: str, time_column: str, key_column: str) -> Source:
    table = database.table_of(connection, table_name)
    columns = database.columns_of(connection, table)
    types = {column.name: column for column in columns}
    for name in (time_column, key_column):
        if name not in types:
            raise ConfigurationError(
                f"{table.name} has no column {name}; correct maintenance.prune in the configuration"
            )
    if types[time_column].type_name.replace("(3)", "").replace("(6)", "") not in _TIME_TYPES:
        raise ConfigurationError(f"{table.name}.{time_column} is no time stamp; correct maintenance.prune.time_column")
    if not types[key_column].not_null or not database.is_unique(connection, table, [key_column, time_column]):
        raise ConfigurationError(
            f"{table.name}.{key_column} does not identify a row; it must be NOT NULL and have a unique index"
        )
    if others := database.tables_changed_by_deletion(connection, table):
        raise ConfigurationError(
            f"deleting from {table.name} would also change {', '.join(others)} through a foreign key; prune that first "
            "and remove its ON DELETE action"
        )
    archive_files.check_names(table.name, columns)
    return Source(table, columns, time_column, key_column, types[key_column].type_name)


def count(connection: psycopg.Connection[Any], source: Source, cut_off: datetime) -> dict[str, Any]:
    """Return ``rows`` in all, ``rows_older`` than the cut-off, and the ``oldest`` and ``newest`` of those."""
    from psycopg.rows import dict_row

    with _errors_named(source), connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_composed("count", source), {"cut_off": cut_off}).fetchone()
    assert row is not None
    return row


def next_batch(connection: psycopg.Connection[Any], source: Source, cut_off: datetime, batch_rows: int) -> Batch | None:
    """Return the oldest rows before the cut-off by time and key, or None when there are none."""
    values = {"cut_off": cut_off, "batch_rows": batch_rows}
    with _errors_named(source):
        found = connection.execute(_composed("next_batch", source), values).fetchall()
    if not found:
        return None
    return Batch([row[:-2] for row in found], [row[-2] for row in found], _aware(found[0][-1]), _aware(found[-1][-1]))


def find(connection: psycopg.Connection[Any], source: Source, keys: list[str | None], archive: Archive) -> list[str]:
    """Return the hashes of the rows with these keys within an archive's time range, as they are now."""
    with _errors_named(source):
        found = connection.execute(_composed("find", source), _range(keys, archive))
        return [row_hash for (row_hash,) in found]


def delete(connection: psycopg.Connection[Any], source: Source, keys: list[str | None], archive: Archive) -> list[str]:
    """Delete the rows with these keys within an archive's time range; return the hashes of what was deleted.

    The caller's transaction decides whether it stays so.
    """
    with _errors_named(source):
        found = connection.execute(_composed("delete", source), _range(keys, archive))
        return [row_hash for (row_hash,) in found]


def hashes_by_key(
    connection: psycopg.Connection[Any], table: Table, columns: list[Column], key_column: str, keys: list[str | None]
) -> list[str]:
    """Return the hashes of the rows of any table with these keys, over the given columns in their order."""
    from psycopg import sql

    statement = sql.SQL("SELECT {} FROM {} WHERE {}::text = ANY (%s)").format(
        _row_hash(columns), table.identifier, sql.Identifier(key_column)
    )
    return [row_hash for (row_hash,) in connection.execute(statement, (keys,))]


def _errors_named(source: Source) -> AbstractContextManager[None]:
    return database.errors_named(f"pruning of {source.table.name}")


def _range(keys: list[str | None], archive: Archive) -> dict[str, Any]:
    return {"keys": keys, "first": archive.first_created_at, "last": archive.last_created_at}


def _composed(statement: str, source: Source) -> sql.Composed:
    from psycopg import sql

    return sql.SQL(_STATEMENTS[statement]).format(  # our own file's text
        table=source.table.identifier,
        time=sql.Identifier(source.time_column),
        key=sql.Identifier(source.key_column),
        key_type=sql.SQL(source.key_type),  # as the server itself writes it
        texts=sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(c.name)) for c in source.columns),
        row_hash=_row_hash(source.columns),
    )


def _row_hash(columns: list[Column]) -> sql.Composed:
    """SHA-256 of a row as archive_files describes it."""
    from psycopg import sql

    part = sql.SQL("coalesce(octet_length(convert_to({column}::text, 'UTF8')) || ':' || {column}::text, '-') || ','")
    parts = sql.SQL(" || ").join(part.format(column=sql.Identifier(column.name)) for column in columns)
    return sql.SQL("encode(sha256(convert_to({}, 'UTF8')), 'hex')").format(parts)


def _aware(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=UTC)
