"""Parquet files of rows that leave a table: written, put into the archive folder, read back.

Every value travels as the text that PostgreSQL writes for it. A column is kept in a native Parquet type when each of
its values in the file gives the very same text again, and as text otherwise; the source types stand in the file.

Rows are compared by hashes. A row's hash is SHA-256 over its columns in order, each as ``<bytes>:<text>,`` or ``-,``
for null, so that no two different rows give the same input. PostgreSQL computes it for the source rows and DuckDB,
independently, for the file. The content hash is SHA-256 over the sorted row hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include import connections
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform.database import Column

if TYPE_CHECKING:
    import duckdb
    import fsspec

CONNECTION = "archive"
_METADATA_KEY = "gold_escrow_archive"
_NATIVE = {
    "smallint": "SMALLINT",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "uuid": "UUID",
    "timestamp with time zone": "TIMESTAMPTZ",
    "timestamp without time zone": "TIMESTAMP",
}


class ArchiveDamaged(MaintenanceFailed):
    """The file of an archive is missing or is not what was written."""


@dataclass(frozen=True)
class Content:
    """What a file holds: its rows as texts, in the order of ``columns``."""

    columns: list[Column]
    metadata: dict[str, Any]
    rows: list[tuple[str | None, ...]]
    content_hash: str

    def values(self, column: str) -> list[str | None]:
        """The values of one column."""
        position = [found.name for found in self.columns].index(column)
        return [row[position] for row in self.rows]


def content_hash(row_hashes: Iterable[str]) -> str:
    """Return the hash of a set of rows, whatever their order."""
    return hashlib.sha256("".join(sorted(row_hashes)).encode()).hexdigest()


def write(path: Path, columns: list[Column], rows: list[tuple[str | None, ...]], about: dict[str, Any]) -> str:
    """Write rows to a local Parquet file compressed with zstd; return the file's SHA-256.

    ``about`` is kept in the file beside the columns and their types.
    """
    import numpy

    with _duckdb() as connection:
        # DuckDB scans a dictionary of arrays, one per column.
        texts = {f"c{n}": numpy.array([row[n] for row in rows], dtype=object) for n in range(len(columns))}
        connection.register("texts", texts)
        selected = ", ".join(f"CAST(c{n} AS VARCHAR) AS {_quoted(column.name)}" for n, column in enumerate(columns))
        connection.execute(f"CREATE TABLE source AS SELECT {selected} FROM texts")  # noqa: S608 - quoted names
        stored = [_stored_type(connection, column) for column in columns]
        described = [asdict(column) | {"stored": kind} for column, kind in zip(columns, stored, strict=True)]
        metadata = json.dumps(about | {"columns": described}, ensure_ascii=False)
        selected = ", ".join(
            f"CAST({_quoted(column.name)} AS {kind}) AS {_quoted(column.name)}"
            for column, kind in zip(columns, stored, strict=True)
        )
        connection.execute(
            f"COPY (SELECT {selected} FROM source) TO {_literal(str(path))} "  # noqa: S608 - quoted names
            f"(FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{_METADATA_KEY}: {_literal(metadata)}}})"
        )
    return file_sha256(path)


def read(path: Path) -> Content:
    """Read a local Parquet file back, with the hash of its rows. Raises ArchiveDamaged."""
    import duckdb

    try:
        with _duckdb() as connection:
            found = connection.execute(
                "SELECT decode(value) FROM parquet_kv_metadata(?) WHERE decode(key) = ?", [str(path), _METADATA_KEY]
            ).fetchone()
            if found is None:
                raise ArchiveDamaged(f"{path.name} does not say what it holds")
            metadata = json.loads(found[0])
            columns = [Column(c["name"], c["type_name"], c["not_null"], c["generated"]) for c in metadata["columns"]]
            texts = ", ".join(f"CAST({_quoted(column.name)} AS VARCHAR)" for column in columns)
            names = [f"c{n}" for n in range(len(columns))]
            parts = " || ".join(f"coalesce(strlen({name}) || ':' || {name}, '-') || ','" for name in names)
            rows = connection.execute(
                f"SELECT *, sha256({parts}) FROM (SELECT {texts} FROM read_parquet(?)) AS f ({', '.join(names)})",  # noqa: S608
                [str(path)],
            ).fetchall()
    except (duckdb.Error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise ArchiveDamaged(f"{path.name} cannot be read as an archive ({type(error).__name__})") from None
    return Content(columns, metadata, [row[:-1] for row in rows], content_hash(row[-1] for row in rows))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a local file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Store:
    """The archive folder: a local folder or object storage."""

    system: fsspec.AbstractFileSystem
    root: str

    def put(self, path: Path, location: str) -> None:
        """Copy a local file to its place under another name first, so that it never stands there in part."""
        final, partial = self._place(location), self._place(_partial(location))
        with _storage_errors(location):
            self.system.makedirs(final.rpartition("/")[0], exist_ok=True)
            self.system.put_file(str(path), partial)
            if self._local:
                _to_disk(Path(partial))
                Path(partial).replace(final)
                _to_disk(Path(final).parent)
            else:
                self.system.mv(partial, final)

    def fetch(self, location: str, path: Path, expected_sha256: str) -> None:
        """Copy a file of the folder to a local one. Raises ArchiveDamaged when it is missing or its bytes differ."""
        try:
            with _storage_errors(location):
                self.system.get_file(self._place(location), str(path))
        except FileNotFoundError:
            raise ArchiveDamaged(f"the archive file {location} is missing") from None
        if file_sha256(path) != expected_sha256:
            raise ArchiveDamaged(f"the archive file {location} is damaged: its SHA-256 is not the recorded one")

    def remove(self, location: str) -> None:
        """Remove a file and what an interrupted ``put`` left of it."""
        for name in (self._place(location), self._place(_partial(location))):
            with _storage_errors(location):
                if self.system.exists(name):
                    self.system.rm_file(name)

    @property
    def _local(self) -> bool:
        return "file" in (self.system.protocol if isinstance(self.system.protocol, tuple) else (self.system.protocol,))

    def _place(self, location: str) -> str:
        return f"{self.root.rstrip('/')}/{location}"


def store() -> Store:
    """Open the folder of the connection ``archive``. Raises ConfigurationError."""
    return Store(*connections.folder(CONNECTION))


def check_names(table: str, columns: list[Column]) -> None:
    """Raise ConfigurationError when two column names differ in case only: Parquet readers take them for one."""
    names = [column.name.lower() for column in columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(f"{table} has columns that differ in case only ({twice[0]}); it cannot be archived")


def _partial(location: str) -> str:
    folder, _, name = location.rpartition("/")
    return f"{folder}/.{name}.partial"


def _stored_type(connection: duckdb.DuckDBPyConnection, column: Column) -> str:
    """A native type in which every value of the column keeps its text, or VARCHAR."""
    native = _NATIVE.get(column.type_name)
    if number := re.fullmatch(r"numeric\((\d+),(\d+)\)", column.type_name):
        precision, scale = int(number[1]), int(number[2])
        native = f"DECIMAL({precision},{scale})" if scale <= precision <= 38 else None
    if native is None:
        return "VARCHAR"
    name = _quoted(column.name)
    row = connection.execute(
        f"SELECT count(*) FROM source WHERE CAST(TRY_CAST({name} AS {native}) AS VARCHAR) IS DISTINCT FROM {name}"  # noqa: S608
    ).fetchone()
    return native if row == (0,) else "VARCHAR"


@contextmanager
def _duckdb() -> Iterator[duckdb.DuckDBPyConnection]:
    import duckdb

    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


@contextmanager
def _storage_errors(location: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise MaintenanceFailed(
            f"the archive folder (connection {CONNECTION}) failed on {location}: "
            f"{error.strerror or type(error).__name__}; no row was deleted without its archive"
        ) from None


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
