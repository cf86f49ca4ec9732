"""A table that rows are taken from: looked up, and refused when its rows could not be told apart or deleted alone."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.maintenance.pruning import archive_files
from include.outcome import ConfigurationError
from include.platform import database
from include.platform.database import Column, Table
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg

TIME_TYPES = ("timestamp with time zone", "timestamp without time zone")
"""Types that a time column may have; without a time zone it is taken as UTC."""

_STATEMENTS = statements(__file__)
_LARGE = 100_000


def without_precision(time_type: str) -> str:
    """The type of a time column without its precision, as in timestamp(0): limits must not be rounded to that."""
    return re.sub(r"\(\d\)", "", time_type)


@dataclass(frozen=True)
class Source:
    """A table that rows are taken from; ``time_column`` says how old a row is, ``key_column`` which row it is.

    ``table`` is what statements work on: the table ``name`` itself or one of its partitions. ``cut_off`` is an aware
    datetime, or None for rows of any age. ``key_is_unique`` is False where only key and time together are. Texts of
    the time column, ``since`` and ``until`` (not included), leave out rows of other times.
    """

    name: str
    table: Table
    columns: tuple[Column, ...]
    time_column: str
    time_type: str
    key_column: str
    key_type: str
    key_is_unique: bool
    cut_off: datetime | None = None
    since: str | None = None
    until: str | None = None

    def between(self, since: str | None, until: str | None) -> Source:
        """The same for rows of some times only."""
        return replace(self, since=since, until=until)

    def on(self, table: Table, cut_off: datetime | None) -> Source:
        """The same for another table (a partition) or age."""
        return replace(self, table=table, cut_off=cut_off)

    @property
    def positions(self) -> tuple[int, int]:
        """The positions of time and key among the columns."""
        names = [column.name for column in self.columns]
        return names.index(self.time_column), names.index(self.key_column)


def look_up(
    connection: psycopg.Connection[Any], table_name: str, time_column: str, key_column: str, cut_off: datetime
) -> Source:
    """Look a table up and check that its rows can be told apart and deleted alone. Raises ConfigurationError."""
    with database.errors_named(f"pruning of {table_name}"):
        return _source(connection, table_name, time_column, key_column, cut_off)


def of_partition(connection: psycopg.Connection[Any], source: Source, table: Table) -> Source:
    """The rows of a partition, of any age: with its own columns, as one that waits detached gets none of its table's.

    The common columns keep their order, on which the sums of archived rows rest.
    """
    own, order = database.columns_of(connection, table), [column.name for column in source.columns]
    archive_files.check_names(table.name, own)
    own.sort(key=lambda column: order.index(column.name) if column.name in order else len(order))
    return replace(source.on(table, None), columns=tuple(own))


def _source(
    connection: psycopg.Connection[Any], table_name: str, time_column: str, key_column: str, cut_off: datetime
) -> Source:
    table = database.table_of(connection, table_name)
    columns = database.columns_of(connection, table)
    types = {column.name: column for column in columns}
    for name in (time_column, key_column):
        if name not in types:
            raise ConfigurationError(
                f"{table.name} has no column {name}; correct maintenance.prune in the configuration"
            )
    time_type = without_precision(types[time_column].type_name)
    if time_type not in TIME_TYPES:
        raise ConfigurationError(f"{table.name}.{time_column} is no time stamp; correct maintenance.prune.time_column")
    _check_key(connection, table, types[key_column], time_column)
    if others := database.tables_changed_by_deletion(connection, table):
        raise ConfigurationError(
            f"deleting from {table.name} would also change {', '.join(others)} through a foreign key; prune that first "
            "and remove its ON DELETE action"
        )
    archive_files.check_names(table.name, columns)
    _check_rows(connection, table)
    values = {"oid": table.oid, "time": time_column}
    found = connection.execute(_STATEMENTS["index_on_time"], values).fetchone()
    if found and not found[0] and found[1] > _LARGE:
        raise ConfigurationError(
            f"{table.name} has about {found[1]} rows but no btree index that begins with {time_column}: every batch "
            f"would read all of it; {'update PostgreSQL to 14.4 and ' if database.update_first(connection) else ''}"
            f"create one first (CREATE INDEX CONCURRENTLY ON {table.name} ({time_column}))"
        )
    return Source(
        table_name,  # as in maintenance.prune: holds, archives and acts are recorded under it, unquoted
        table,
        tuple(columns),
        time_column,
        time_type,
        key_column,
        types[key_column].type_name,
        database.is_unique(connection, table, [key_column]),
        cut_off,
    )


def _check_key(connection: psycopg.Connection[Any], table: Table, key: Column, time_column: str) -> None:
    """Raise ConfigurationError where a column does not tell rows apart in an order of the server's own."""
    if not key.not_null or not database.is_unique(connection, table, [key.name, time_column]):
        raise ConfigurationError(
            f"{table.name}.{key.name} does not identify a row; it must be NOT NULL and have a unique index"
        )
    foreign = connection.execute(_STATEMENTS["foreign_order"], {"oid": table.oid, "key": key.name}).fetchone()
    if foreign:
        raise ConfigurationError(
            f"{table.name}.{key.name} is of the type {foreign[0]}, which an extension sorts in its own way; name a "
            "unique column of one of PostgreSQL's own types in maintenance.prune.key_column"
        )


def _check_rows(connection: psycopg.Connection[Any], table: Table) -> None:
    """Raise ConfigurationError where statements on a table would see fewer rows than it has, or those of others."""
    if children := [name for (name,) in connection.execute(_STATEMENTS["children"], {"oid": table.oid})]:
        raise ConfigurationError(
            f"{table.name} has tables that inherit from it ({', '.join(children)}): deleting from it would delete "
            "their rows too, and their own columns would be in no archive; give each of them a rule of its own in "
            f"maintenance.prune instead of {table.name}"
        )
    if hidden := [name for (name,) in connection.execute(_STATEMENTS["hidden"], {"oid": table.oid})]:
        raise ConfigurationError(
            f"row-level security hides rows of {', '.join(hidden)} from the role of {database.MAINTENANCE}; what it "
            "does not see would never be pruned, or dropped without an archive: ALTER ROLE … BYPASSRLS for that role"
        )
