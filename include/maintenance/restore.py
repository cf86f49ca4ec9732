"""Brings an archive's rows back into a table, to check the archive or to use the rows again."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include import connections
from include.maintenance import archive_files, rows
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import database
from include.warehouse import archives

if TYPE_CHECKING:
    import psycopg

    from include.maintenance.archive_files import Content
    from include.platform.database import Table


def restore(archive_id: str, connection_id: str, target: str) -> dict[str, Any]:
    """Copy the rows of an archive into the table ``target`` (``schema.name``) of a database, and prove it.

    A table that does not exist is created with the source's columns and types, without its indexes. All or nothing,
    in one transaction: the restored rows must have the archive's content hash. Returns the archive, target and
    number of rows. Raises ConfigurationError (no such archive, a missing privilege) or MaintenanceFailed (a damaged
    file, rows that are there already).
    """
    with connections.postgres("warehouse", autocommit=True) as warehouse:
        archive = archives.get(warehouse, archive_id)
    if archive is None:
        raise ConfigurationError(f"there is no archive {archive_id} in ops.archive; correct its name")
    with tempfile.TemporaryDirectory(prefix="gold-escrow-restore-") as folder:
        path = Path(folder) / "archive.parquet"
        archive_files.store().fetch(archive.location, path, archive.file_sha256)
        content = archive_files.read(path)
    what = f"restore of {archive_id} to {target}"
    with (
        connections.postgres(connection_id, autocommit=True) as connection,
        database.errors_named(what, connection_id),
    ):
        database.prepare(connection)
        with connection.transaction():
            table = _target(connection, target, content)
            _copy(connection, table, content)
            key = content.metadata["key_column"]
            hashes = rows.hashes_by_key(connection, table, content.columns, key, content.values(key))
            if archive_files.content_hash(hashes) != archive.content_hash:
                raise MaintenanceFailed(f"{what}: the restored rows are not those of the archive; nothing was restored")
    return {"archive": archive_id, "target": table.name, "rows": len(content.rows)}


def _target(connection: psycopg.Connection[Any], name: str, content: Content) -> Table:
    from psycopg import sql

    schema, _, relation = name.partition(".")
    if not schema or not relation:
        raise ConfigurationError(f"'{name}' is no target; write it as schema.table")
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.type_name)) for column in content.columns
    )
    exists = connection.execute(
        "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s",
        (schema, relation),
    ).fetchone()
    if not exists:
        connection.execute(sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(schema, relation), columns))
    return database.table_of(connection, sql.Identifier(schema, relation).as_string(connection))


def _copy(connection: psycopg.Connection[Any], table: Table, content: Content) -> None:
    from psycopg import sql

    # The target computes its own generated columns; in a table made here they are plain ones.
    computed = {column.name for column in database.columns_of(connection, table) if column.generated}
    positions = [n for n, column in enumerate(content.columns) if column.name not in computed]
    names = sql.SQL(", ").join(sql.Identifier(content.columns[n].name) for n in positions)
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(table.identifier, names)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in content.rows:
            copy.write_row([row[n] for n in positions])
