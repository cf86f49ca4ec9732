"""Parquet files of rows that leave a table: written, compared with the source rows, read back.

Rows come from the server column by column (columns.py). In the file a column has a native Parquet type when each of
its values gives the very same text again, and is text otherwise; the source types stand in the file. After writing, the
file is read again and every value is compared with the server's.

The content hash does not depend on where the rows lie: it is the SHA-256 of the rows sorted by time, key and then the
other columns, column by column in the form in which they come from the server, each with its number of bytes before it.
The SHA-256 of the file and of its manifest, each of which names the manifest before it, find what somebody exchanged.
Files of the format before, 2, have the sum of their rows' lines (archive_lines.py) for a content hash.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.maintenance.pruning import archive_lines
from include.maintenance.pruning.columns import equal, number_type, numbers_of, sent
from include.maintenance.pruning.columns import values as number_values
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import folders
from include.platform.database import Column, literal, quoted
from include.platform.folders import Folder

if TYPE_CHECKING:
    import duckdb

    from include.warehouse.archives import Archive

CONNECTION = "archive"
FORMAT = 3
HASHES = {
    2: "sum of the MD5 sums of the rows' lines, both halves modulo 2^64",
    FORMAT: "SHA-256 of the rows sorted by time and key, column by column",
}
"""What the content hash is in the files of each format that can be read."""

_METADATA_KEY = "gold_escrow_archive"
_COMPRESSION_LEVEL = 1  # of zstd: a higher one saves little on rows like these and takes much longer
_DICTIONARY_SIZE = 5000  # of a column with more values the dictionary is made in vain: half of all writing
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
class Written:
    """A file that was compared with the source rows; its ``columns`` say in which Parquet type each is stored.

    Its format is that of the file that it was made from, where there was one.
    """

    row_count: int
    content_hash: str
    file_sha256: str
    columns: list[dict[str, Any]]
    format: int = FORMAT


@dataclass(frozen=True)
class Content:
    """What a file holds, with the hash of its rows as they were read."""

    path: Path
    columns: list[Column]
    metadata: dict[str, Any]
    row_count: int
    content_hash: str


# ----------------------------------------------------------------------------------------------------- writing
def write(
    path: Path,
    columns: Sequence[Column],
    batches: Sequence[tuple[str | bytes, ...]],
    *,
    escaped: bool,
    about: dict[str, Any],
) -> Written:
    """Write rows to a local Parquet file compressed with zstd, and compare it with them, read again.

    ``batches`` hold the rows' values by column, all in the same form (columns.py); ``escaped`` tells whether a text in
    them contains one of the characters that stand for something. ``about`` is kept in the file beside the columns and
    their types; its ``time_column`` and ``key_column`` name the order of the content hash. Raises ArchiveDamaged when
    the file is not equal to the rows.
    """
    came = list(zip(*batches, strict=True))
    as_numbers = any(isinstance(column[0], bytes) for column in came)
    stored = [_native_type(column) for column in columns]
    different: list[int] = []
    with _source(columns, batches, escaped) as (connection, source, values):
        for _ in range(2):
            described = [asdict(column) | {"stored": kind} for column, kind in zip(columns, stored, strict=True)]
            metadata = about | {"format": FORMAT, "escaped": escaped, "numbers": as_numbers, "columns": described}
            selected = ", ".join(
                f"{value if kind == 'VARCHAR' else f'TRY_CAST({value} AS {kind})'} AS {quoted(column.name)}"
                for column, kind, value in zip(columns, stored, values, strict=True)
            )
            _write(connection, f"SELECT {selected} FROM {source}", path, metadata)  # noqa: S608 - quoted names
            row_count, again = _contents(connection, path, metadata)
            different = [n for n, (one, other) in enumerate(zip(came, again, strict=True)) if not equal(one, other)]
            if not different:
                content_hash = _content_hash(connection, path, metadata, again)
                return Written(row_count, content_hash, folders.file_sha256(path), described)
            # A value whose native type gives another text, most likely: its column is stored as text then.
            stored = [
                "VARCHAR" if n in different and isinstance(came[n][0], str) else kind for n, kind in enumerate(stored)
            ]
    names = ", ".join(columns[n].name for n in different)
    raise ArchiveDamaged(f"the rows of {path.name} differ from the source rows after they were written, in {names}")


def write_without(source: Content, path: Path, columns: Sequence[str], excluded: Sequence[Sequence[str]]) -> Written:
    """Write a local archive file again, leaving out the rows whose ``columns`` (as texts) are among ``excluded``."""
    import numpy

    left_out = {f"k{n}": numpy.array([row[n] for row in excluded], dtype=object) for n in range(len(columns))}
    same = " AND ".join(f"CAST(a.{quoted(name)} AS VARCHAR) = CAST(k{n} AS VARCHAR)" for n, name in enumerate(columns))
    with _duckdb() as connection:
        connection.register("excluded", left_out)
        select = f"SELECT * FROM read_parquet({literal(str(source.path))}) AS a ANTI JOIN excluded ON {same}"  # noqa: S608
        _write(connection, select, path, source.metadata)
    return compared(read(path))


def compared(content: Content) -> Written:
    """Return what is known of a file that holds rows which were compared before."""
    metadata = content.metadata
    return Written(
        content.row_count,
        content.content_hash,
        folders.file_sha256(content.path),
        metadata["columns"],
        metadata["format"],
    )


def _write(connection: duckdb.DuckDBPyConnection, select: str, path: Path, metadata: dict[str, Any]) -> None:
    import duckdb

    said = json.dumps(metadata, ensure_ascii=False)
    try:
        connection.execute(
            f"COPY ({select}) TO {literal(str(path))} (FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd, "
            f"COMPRESSION_LEVEL {_COMPRESSION_LEVEL}, DICTIONARY_SIZE_LIMIT {_DICTIONARY_SIZE}, "
            f"KV_METADATA {{{_METADATA_KEY}: {literal(said)}}})"
        )
    except (duckdb.IOException, duckdb.OutOfMemoryException, OSError) as error:
        raise MaintenanceFailed(
            f"an archive file could not be written to {path.parent} ({_why(error)}); no row was deleted without its "
            "archive; make room there or set TMPDIR to a larger folder"
        ) from None


def _why(error: Exception) -> str:
    found = re.search(r"No space left on device|File too large|Disk quota exceeded|Permission denied", str(error))
    return found[0] if found else type(error).__name__


# ----------------------------------------------------------------------------------------------------- reading
def read(path: Path) -> Content:
    """Read a local Parquet file, with the hash of its rows. Raises ArchiveDamaged."""
    import duckdb

    try:
        with _duckdb() as connection:
            found = connection.execute(
                "SELECT decode(value) FROM parquet_kv_metadata(?) WHERE decode(key) = ?", [str(path), _METADATA_KEY]
            ).fetchone()
            metadata = json.loads(found[0]) if found else {}
            if metadata.get("format") not in HASHES:
                raise ArchiveDamaged(f"{path.name} does not say what it holds, or was written in another format")
            described = metadata["columns"]
            columns = [_column(one) for one in described]
            if metadata["format"] == FORMAT:
                row_count, contents = _contents(connection, path, metadata)
                content_hash = _content_hash(connection, path, metadata, contents)
            else:
                row_count, content_hash = _sum_of_rows(connection, path, metadata)
    except (duckdb.Error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise ArchiveDamaged(f"{path.name} cannot be read as an archive ({type(error).__name__})") from None
    return Content(path, columns, metadata, row_count, content_hash)


def sum_of_rows(content: Content) -> str:
    """Return the sum of a file's rows by their lines, which the server can tell of a table's rows as well."""
    with _duckdb() as connection:
        return _sum_of_rows(connection, content.path, content.metadata)[1]


def keys(content: Content, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the given columns of every row as texts, and then the MD5 sum of the row's line in hexadecimal."""
    texts = ", ".join(f"CAST({quoted(name)} AS VARCHAR)" for name in columns)
    line = archive_lines.line(content.metadata["columns"], content.metadata["escaped"])
    with _duckdb() as connection:
        return connection.execute(
            f"SELECT {texts}, md5({line}) FROM read_parquet(?)",  # noqa: S608 - quoted names
            [str(content.path)],
        ).fetchall()


def write_csv(content: Content, path: Path) -> None:
    r"""Write an archive's rows as CSV: every value quoted, null as an unquoted ``\N``."""
    texts = ", ".join(f"CAST({quoted(c.name)} AS VARCHAR) AS {quoted(c.name)}" for c in content.columns)
    with _duckdb() as connection:
        connection.execute(
            f"COPY (SELECT {texts} FROM read_parquet({literal(str(content.path))})) TO {literal(str(path))} "  # noqa: S608
            "(FORMAT csv, HEADER false, FORCE_QUOTE *, NULLSTR '\\N')"
        )


def fetch(folder: Folder, location: str, path: Path, expected_sha256: str) -> None:
    """Copy a file of the archive folder to a local one. Raises ArchiveDamaged when it is missing or other bytes."""
    if not folder.fetch(location, path):
        raise ArchiveDamaged(f"the archive file {location} is missing")
    if folders.file_sha256(path) != expected_sha256:
        raise ArchiveDamaged(f"the archive file {location} is damaged: its SHA-256 is not the recorded one")


def fetch_content(folder: Folder, archive: Archive, path: Path) -> Content:
    """Fetch a recorded archive's file and read it. Raises ArchiveDamaged unless it is exactly what was recorded."""
    fetch(folder, archive.location, path, archive.file_sha256)
    content = read(path)
    if (content.row_count, content.content_hash) != (archive.row_count, archive.content_hash):
        raise ArchiveDamaged(f"the archive file {archive.location} does not hold the rows that were recorded")
    return content


def check_names(table: str, columns: Sequence[Column]) -> None:
    """Raise ConfigurationError when two column names differ in case only: Parquet readers take them for one."""
    names = [column.name.lower() for column in columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(f"{table} has columns that differ in case only ({twice[0]}); it cannot be archived")


# ---------------------------------------------------------------------------------------------------- the parts
def _contents(
    connection: duckdb.DuckDBPyConnection, path: Path, metadata: Mapping[str, Any], order: str = ""
) -> tuple[int, list[str | bytes | None]]:
    """How many rows a file has, and each of its columns in the form in which it came from the server (columns.py).

    ``order`` sorts the rows, which else stand as they do in the file: one thread aggregates them one after the other.
    A column is None where nothing can be told: it has no value, or nulls in the place of numbers.
    """
    import numpy

    described = metadata["columns"]
    kinds = {n: kind for n, one in enumerate(described) if metadata["numbers"] and (kind := number_type(_column(one)))}
    texts = [
        f"string_agg({archive_lines.field(column, metadata['escaped'])}, {archive_lines.ROW_MARK} {order})"
        for n, column in enumerate(described)
        if n not in kinds
    ]
    file = f"FROM read_parquet({literal(str(path))})"
    row = connection.execute(f"SELECT {', '.join(['count(*)', *texts])} {file}").fetchone()
    assert row is not None
    asked = ", ".join(f"{kind.number.format(quoted(described[n]['name']))} AS c{n}" for n, kind in kinds.items())
    numbers = connection.execute(f"SELECT {asked} {file} {order}").fetchnumpy() if kinds else {}
    found = iter(row[1:])
    contents: list[str | bytes | None] = []
    for n in range(len(described)):
        if n not in kinds:
            contents.append(next(found))
        else:  # a masked number would be read as the one that numpy puts in its place
            array = numbers[f"c{n}"]
            contents.append(None if numpy.ma.is_masked(array) else sent(kinds[n], array))
    return row[0], contents


def _content_hash(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    metadata: Mapping[str, Any],
    contents: Sequence[str | bytes | None],
) -> str:
    """The hash of a file's rows; ``contents`` are its columns as the file has them."""
    if not _are_sorted(metadata, contents):
        named = [metadata["time_column"], metadata["key_column"], *(one["name"] for one in metadata["columns"])]
        order = f"ORDER BY {', '.join(f'{quoted(name)} NULLS LAST' for name in dict.fromkeys(named))}"
        contents = _contents(connection, path, metadata, order)[1]
    digest = hashlib.sha256()
    for content in contents:
        sorted_bytes = content.encode() if isinstance(content, str) else content or b""
        digest.update(b"%d:" % len(sorted_bytes))
        digest.update(sorted_bytes)
    return digest.hexdigest()


def _are_sorted(metadata: Mapping[str, Any], contents: Sequence[str | bytes | None]) -> bool:
    """Whether the rows are seen to be sorted by time and key, no two of them alike in both."""
    found = []
    for column, content in zip(metadata["columns"], contents, strict=True):
        if column["name"] in (metadata["time_column"], metadata["key_column"]):
            if not isinstance(content, bytes):  # DuckDB sorts texts, maybe otherwise than the server
                return False
            kind = number_type(_column(column))
            assert kind is not None
            found.append((column["name"], numbers_of(kind, content)))
    time, key = (dict(found)[metadata[which]] for which in ("time_column", "key_column"))
    return bool(((time[1:] > time[:-1]) | ((time[1:] == time[:-1]) & (key[1:] > key[:-1]))).all())


def _sum_of_rows(connection: duckdb.DuckDBPyConnection, path: Path, metadata: Mapping[str, Any]) -> tuple[int, str]:
    line = archive_lines.line(metadata["columns"], metadata["escaped"])
    row = connection.execute(
        f"SELECT count(*), {archive_lines.SUMS} FROM (SELECT md5_number({line})::UHUGEINT AS m FROM read_parquet(?))",  # noqa: S608 - quoted names
        [str(path)],
    ).fetchone()
    assert row is not None
    return row[0], archive_lines.sum_text(row[1], row[2])


def _column(described: Mapping[str, Any]) -> Column:
    return Column(described["name"], described["type_name"], described["not_null"], described["generated"])


@contextmanager
def _source(
    columns: Sequence[Column], batches: Sequence[tuple[str | bytes, ...]], escaped: bool
) -> Iterator[tuple[duckdb.DuckDBPyConnection, str, list[str]]]:
    """The rows in their order: a session, what stands after FROM in it, and the SQL of each column's values."""
    import numpy

    numbers: dict[str, Any] = {}
    texts: dict[str, Any] = {}
    values = []
    for n, (column, came) in enumerate(zip(columns, zip(*batches, strict=True), strict=True)):
        if isinstance(came[0], bytes) and (kind := number_type(column)):
            numbers[f"c{n}"] = number_values(kind, came)
            values.append(kind.value.format(f"c{n}"))
        else:
            texts[f"c{n}"] = numpy.array(came, dtype=object)  # a text of many rows for each batch
            values.append(archive_lines.value(f"c{n}", escaped))
    split = ", ".join(f"unnest(string_split({name}, {archive_lines.ROW_MARK})) AS {name}" for name in texts)
    with _duckdb() as connection:
        parts = []
        if numbers:
            connection.register("numbers", numbers)
            parts.append("numbers")
        if texts:
            connection.register("batches", texts)
            parts.append(f"(SELECT {split} FROM batches) AS texts")  # noqa: S608 - made of numbers
        yield connection, " POSITIONAL JOIN ".join(parts), values


def _native_type(column: Column) -> str:
    """The type in which a column is tried to be stored."""
    if number := re.fullmatch(r"numeric\((\d+),(\d+)\)", column.type_name):
        precision, scale = int(number[1]), int(number[2])
        return f"DECIMAL({precision},{scale})" if scale <= precision <= 38 else "VARCHAR"
    return _NATIVE.get(column.type_name, "VARCHAR")


def prepare() -> None:
    """Open what files are written and read with, for all that come; it takes as long as ten thousand rows."""
    with _duckdb():
        pass


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """An empty database in memory."""
    import duckdb

    return duckdb.connect(config={"threads": 1})


@contextmanager
def _duckdb() -> Iterator[duckdb.DuckDBPyConnection]:
    """A session of its own, also for a thread of its own; what it creates must be temporary."""
    with _database().cursor() as session:
        session.execute("SET TimeZone = 'UTC'")
        yield session
