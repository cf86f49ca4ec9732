"""The tables that ``airflow db clean`` moves removed rows to: exported, when configured, and dropped.

An exported table is a CSV file, compressed with zstd, in the folder ``airflow`` of the connection ``archive``. Its
table is dropped only after the file was read back and found equal in content and number of rows, and is safe on disk.
"""

from __future__ import annotations

import csv
import hashlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.outcome import MaintenanceFailed
from include.platform import folders, regular_files

if TYPE_CHECKING:
    import fsspec
    import psycopg

FOLDER = "airflow"


def counts(database: psycopg.Connection[Any], tables: list[str]) -> dict[str, int]:
    """Count the rows of tables."""
    from psycopg import sql

    found = {}
    for table in tables:
        row = database.execute(sql.SQL("SELECT count(*) FROM public.{}").format(sql.Identifier(table))).fetchone()
        assert row is not None
        found[table] = int(row[0])
    return found


def take_away(database: psycopg.Connection[Any], tables: list[str], *, export: bool) -> dict[str, dict[str, Any]]:
    """Drop tables, exported first when ``export`` is set. Returns rows, file and SHA-256 of each.

    A table that was exported by an attempt that was killed is exported again to the same name. Raises
    ConfigurationError or MaintenanceFailed.
    """
    from psycopg import sql

    done: dict[str, dict[str, Any]] = {}
    for table in tables:
        done[table] = {"rows": counts(database, [table])[table]}
        if export:
            done[table] |= _export(database, table, done[table]["rows"])
        database.execute(sql.SQL("DROP TABLE public.{}").format(sql.Identifier(table)))
    return done


def _export(database: psycopg.Connection[Any], table: str, rows: int) -> dict[str, Any]:
    import zstandard
    from psycopg import sql

    archive = folders.open_folder("archive")
    files, folder = archive.system, archive.place(FOLDER)
    name, partial = f"{folder}/{table}.csv.zst", f"{folder}/.{table}.partial"
    files.makedirs(folder, exist_ok=True)
    digest = hashlib.sha256()
    copy = sql.SQL("COPY public.{} TO STDOUT (FORMAT csv, HEADER)").format(sql.Identifier(table))
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    with (
        _created(archive, partial) as target,
        compressor.stream_writer(target) as packed,
        database.cursor() as cursor,
        cursor.copy(copy) as source,
    ):
        for block in source:
            digest.update(block)
            packed.write(block)
    read = hashlib.sha256()
    csv.field_size_limit(sys.maxsize)  # an XCom may be of any length
    records = sum(1 for _ in csv.reader(_lines(files, partial, read))) - 1
    if (records, read.hexdigest()) != (rows, digest.hexdigest()):
        files.rm(partial)
        raise MaintenanceFailed(
            f"the export of {table} reads back as {records} of {rows} rows or with another content; the table is kept"
        )
    _move(archive, partial, name)
    return {"file": f"{FOLDER}/{table}.csv.zst", "sha256_of_content": digest.hexdigest()}


def _created(archive: folders.Folder, partial: str) -> Any:
    """Open a file to be written; one of ours is private from the beginning, and what a killed export left is gone.

    Airflow's rows may hold what only operators may read.
    """
    if not archive.is_local:
        return archive.system.open(partial, "wb")
    Path(partial).unlink(missing_ok=True)
    return regular_files.create(Path(partial))


def _move(archive: folders.Folder, partial: str, name: str) -> None:
    """Give a file its name, safe on disk where it is ours: the table is gone after that, whatever becomes of us."""
    if not archive.is_local:
        archive.system.mv(partial, name)
        return
    folders.to_disk(Path(partial))
    Path(partial).replace(name)
    for folder in Path(name).parents[:2]:  # the folder itself may be new
        folders.to_disk(folder)


def _lines(files: fsspec.AbstractFileSystem, name: str, digest: Any) -> Iterator[str]:
    """Every line of a compressed file as text, hashed as it passes."""
    import zstandard

    with files.open(name, "rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed) as content:
        for line in io.BufferedReader(content):
            digest.update(line)
            yield line.decode()
