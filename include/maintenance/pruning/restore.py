"""Brings an archive's rows back into a table, to check the archive or to use the rows again."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
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


def restore(archive_id: str, connection_id: str, target: str) -> dict[str, Any]:
    """Copy the rows of an archive into the table ``target`` (``schema.name``) of a database, and prove it.

    A table that does not exist is created with the source's columns and types, without its indexes. All or nothing,
    in one transaction: what the server says that it inserted must have the archive's content hash. Returns the archive,
    target and number of rows. Raises ConfigurationError (no such archive, a missing privilege or partition) or
    MaintenanceFailed (a damaged file, rows that are there already).
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
    ):
        return into(connection, archive, target)


def into(
    connection: psycopg.Connection[Any], archive: Archive, target: str, *, unknown_as_text: bool = False
) -> dict[str, Any]:
    """As ``restore``, over a connection that is open already, in autocommit mode.

    With ``unknown_as_text`` a column of a type that this database lacks is created as text, to compare the archive
    where the platform's own types are not. What is compared is the text of every value, so that nothing is lost by
    it. The types are returned as ``as_text``.
    """
    with tempfile.TemporaryDirectory(prefix="gold-escrow-restore-") as folder:
        path = Path(folder) / "archive.parquet"
        archive_files.fetch(folders.open_folder(archive_files.CONNECTION), archive.location, path, archive.file_sha256)
        content = archive_files.read(path)
        archive_files.write_csv(content, path.with_suffix(".csv"))
        database.prepare(connection)
        unknown = _unknown_types(connection, content.columns) if unknown_as_text else set()
        with connection.transaction():
            table = _restore(connection, archive, content, path.with_suffix(".csv"), target, unknown)
    done = {"archive": archive.archive_id, "target": table.name, "rows": content.row_count}
    return done | ({"as_text": sorted(unknown)} if unknown else {})


def _unknown_types(connection: psycopg.Connection[Any], columns: Sequence[Column]) -> set[str]:
    """The types of these columns that the database does not have."""
    names = sorted({column.type_name for column in columns})
    statement = "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regtype(name) IS NULL"
    return {name for (name,) in connection.execute(statement, (names,))}


def _restore(
    connection: psycopg.Connection[Any], archive: Archive, content: Content, csv: Path, target: str, unknown: set[str]
) -> Table:
    import psycopg

    what = f"restore of {archive.archive_id} to {target}"
    as_text = [replace(one, type_name="text") if one.type_name in unknown else one for one in content.columns]
    table = _target(connection, target, as_text)
    # The target computes its own generated columns; in a table made here they are plain ones.
    computed = {column.name for column in database.columns_of(connection, table) if column.generated}
    _copy(connection, table, content, csv)
    written = [column.name for column in content.columns if column.name not in computed]
    try:
        count, content_hash = rows.put_back(connection, table, content.columns, written)
    except psycopg.errors.CheckViolation as error:
        raise ConfigurationError(
            f"{what}: {error.diag.message_primary}; create the partition first or restore to another table"
        ) from None
    if (count, content_hash) != (archive.row_count, archive.content_hash):
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
    exists = connection.execute(
        "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s",
        (schema, relation),
    ).fetchone()
    if not exists:
        # Older archives name types as the database's own search path finds them.
        connection.execute("SET LOCAL search_path TO DEFAULT")
        connection.execute(sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(schema, relation), columns))
        connection.execute("SET LOCAL search_path TO pg_catalog")
    return database.table_of(connection, sql.Identifier(schema, relation).as_string(connection))


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
