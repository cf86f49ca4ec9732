"""Brings an archive's rows back into a table, to check the archive or to use the rows again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include import connections
from include.maintenance.pruning import archive_files, rows
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import database, folders
from include.warehouse import archives

if TYPE_CHECKING:
    import psycopg

    from include.maintenance.pruning.archive_files import Content
    from include.platform.database import Column, Table
    from include.warehouse.archives import Archive

_PIECE = 1 << 20


class AsText(StrEnum):
    """Which columns become text in a table that is created.

    What is compared is the text of every value, which is how they are archived: nothing is lost by it.
    """

    NONE = "none"
    UNKNOWN = "unknown"
    """Those of types that the database lacks."""
    OWN = "own"
    """Those of all types that PostgreSQL does not bring: enums and domains may refuse by now what they once took."""


_TYPES = {
    AsText.UNKNOWN: "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regtype(name) IS NULL",
    AsText.OWN: (
        "SELECT name FROM unnest(%s::text[]) AS name WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_type t"
        " WHERE t.oid = to_regtype(name) AND t.typnamespace = 'pg_catalog'::regnamespace)"
    ),
}


def restore(archive_id: str, connection_id: str, target: str, *, as_text: bool = False) -> dict[str, Any]:
    """Copy the rows of an archive into the table ``target`` (``schema.name``) of a database, and prove it.

    A table that does not exist is created with the source's columns and types, without its indexes; ``as_text`` makes
    the columns of the platform's own types text there, and is refused for a table that exists. All or nothing, in one
    transaction: what the server says that it inserted must be the rows of the file. Returns the archive, target
    and number of rows. Raises ConfigurationError (no such archive, a missing privilege or partition, a type that has
    changed) or MaintenanceFailed (a damaged file, rows that are there already).
    """
    with connections.postgres("warehouse", autocommit=True) as warehouse:
        archive = archives.get(warehouse, archive_id)
    if archive is None:
        raise ConfigurationError(f"there is no archive {archive_id} in ops.archive; correct its name")
    if archive.state not in ("verified", "deleted"):
        raise ConfigurationError(
            f"the archive {archive_id} is {archive.state}: its rows are in their table or in the one that replaces it"
        )
    what = f"restore of {archive_id} to {target}"
    with (
        connections.postgres(connection_id, autocommit=True) as connection,
        database.errors_named(what, connection_id),
        _changed_types_named(what, as_text),
    ):
        return into(connection, archive, target, AsText.OWN if as_text else AsText.NONE)


@contextmanager
def _changed_types_named(what: str, as_text: bool) -> Iterator[None]:
    """Name the way round a type that is gone, or that refuses what it once took, to who has not taken it yet."""
    from psycopg import errors

    try:
        yield
    except (errors.UndefinedObject, errors.InvalidSchemaName, errors.DataError, errors.IntegrityError) as error:
        if isinstance(error, errors.IntegrityError) and not error.diag.datatype_name:  # not of a domain
            raise
        way_round = "if a type has changed since, restore with --as-text to a table that does not exist yet"
        raise ConfigurationError(
            f"{what}: {error.diag.message_primary}; {'restore to another table' if as_text else way_round}"
        ) from None


def into(
    connection: psycopg.Connection[Any], archive: Archive, target: str, as_text: AsText = AsText.NONE
) -> dict[str, Any]:
    """As ``restore``, over a connection that is open already, in autocommit mode.

    The types whose values became text are returned as ``as_text``. Raises psycopg.Error for what the server refuses.
    """
    with tempfile.TemporaryDirectory(prefix="gold-escrow-restore-") as folder:
        path = Path(folder) / "archive.parquet"
        content = archive_files.fetch_content(folders.open_folder(archive_files.CONNECTION), archive, path)
        archive_files.write_csv(content, path.with_suffix(".csv"))
        database.prepare(connection)
        with connection.transaction():
            if as_text is not AsText.NONE and _exists(connection, target):
                what = f"restore of {archive.archive_id} to {target}"
                raise ConfigurationError(
                    f"{what}: that table exists and keeps its types; with --as-text name one that does not exist yet"
                )
            types = _types(connection, content.columns, as_text)
            table = _restore(connection, archive, content, path.with_suffix(".csv"), target, types)
    done = {"archive": archive.archive_id, "target": table.name, "rows": content.row_count}
    return done | ({"as_text": sorted(types)} if types else {})


def _types(connection: psycopg.Connection[Any], columns: Sequence[Column], as_text: AsText) -> set[str]:
    """The types of these columns whose values become text."""
    if as_text is AsText.NONE:
        return set()
    names = sorted({column.type_name for column in columns})
    with _own_search_path(connection):
        return {name for (name,) in connection.execute(_TYPES[as_text], (names,))}


@contextmanager
def _own_search_path(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Look for types by the database's own search path, which is how older archives name them; in a transaction."""
    connection.execute("SET LOCAL search_path TO DEFAULT")
    yield
    connection.execute("SET LOCAL search_path TO pg_catalog")


def _restore(
    connection: psycopg.Connection[Any], archive: Archive, content: Content, csv: Path, target: str, as_text: set[str]
) -> Table:
    import psycopg

    what = f"restore of {archive.archive_id} to {target}"
    described = [replace(one, type_name="text") if one.type_name in as_text else one for one in content.columns]
    table = _target(connection, target, described)
    # The target computes its own generated columns; in a table made here they are plain ones.
    computed = {column.name for column in database.columns_of(connection, table) if column.generated}
    _copy(connection, table, content, csv)
    written = [column.name for column in content.columns if column.name not in computed]
    try:
        restored = rows.put_back(connection, table, content.columns, written)
    except psycopg.errors.CheckViolation as error:
        raise ConfigurationError(
            f"{what}: {error.diag.message_primary}; create the partition first or restore to another table"
        ) from None
    if restored != (archive.row_count, archive_files.sum_of_rows(content)):
        raise MaintenanceFailed(f"{what}: the restored rows are not those of the archive; nothing was restored")
    return table


def _target(connection: psycopg.Connection[Any], name: str, described: Sequence[Column]) -> Table:
    from psycopg import sql

    schema, _, relation = name.partition(".")
    if not schema or not relation:
        raise ConfigurationError(f"'{name}' is no target; write it as schema.table")
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.type_name)) for column in described
    )
    if not _exists(connection, name):
        with _own_search_path(connection):
            connection.execute(sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(schema, relation), columns))
    return database.table_of(connection, sql.Identifier(schema, relation).as_string(connection))


def _exists(connection: psycopg.Connection[Any], name: str) -> bool:
    schema, _, relation = name.partition(".")
    query = (
        "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s"
    )
    return connection.execute(query, (schema, relation)).fetchone() is not None


def _copy(connection: psycopg.Connection[Any], table: Table, content: Content, csv: Path) -> None:
    """Copy the rows into a temporary table of the target's types."""
    from psycopg import sql

    types = {column.name: column.type_name for column in database.columns_of(connection, table)}
    if missing := [column.name for column in content.columns if column.name not in types]:
        raise ConfigurationError(f"{table.name} has no column {missing[0]}; restore to another table")
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(types[column.name])) for column in content.columns
    )
    connection.execute(sql.SQL("CREATE TEMPORARY TABLE restored_rows ({}) ON COMMIT DROP").format(columns))
    statement = "COPY restored_rows FROM STDIN (FORMAT csv, NULL '\\N')"
    with connection.cursor() as cursor, cursor.copy(statement) as copy, csv.open("rb") as file:
        while piece := file.read(_PIECE):
            copy.write(piece)
