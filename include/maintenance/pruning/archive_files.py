"""Parquet files of rows that leave a table: written, compared with the source rows, read back; and their manifests.

A row's line stands for its content: each column as the text that PostgreSQL gives for it (``::text``), joined by the
control character 1F; null is 1D; a 10, 1D, 1E or 1F within a text becomes 10 and a digit. No two different rows give
the same line. Rows come from the server column by column (columns.py), the texts of a column joined by 1E.

In the file a column has a native Parquet type when each of its values gives the very same text again, and is text
otherwise; the source types stand in the file. After writing, the file is read again and every value is compared with
the server's.

The content hash does not depend on the order of the rows: the MD5 sums of all lines are added up, as two little-endian
numbers of 64 bits each, modulo 2^64. It finds damage and mistakes; the SHA-256 of the file and of its manifest, each of
which names the manifest before it, find changes that somebody made on purpose.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.maintenance.pruning.columns import number_type
from include.maintenance.pruning.columns import values as number_values
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import folders
from include.platform.database import Column, literal, quoted
from include.platform.folders import Folder

if TYPE_CHECKING:
    import duckdb

    from include.warehouse.archives import Archive

CONNECTION = "archive"
ROW, FIELD, NULL, ESCAPE = "\x1e", "\x1f", "\x1d", "\x10"
ESCAPED = ((ESCAPE, ESCAPE + "0"), (NULL, ESCAPE + "1"), (ROW, ESCAPE + "2"), (FIELD, ESCAPE + "3"))
"""Characters that stand for something in a line, and what they become within a text, in the order of replacing."""

FORMAT = 2
_METADATA_KEY = "gold_escrow_archive"
_HALF = 1 << 64
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
    """A file that was compared with the source rows; ``native`` tells the columns' Parquet types."""

    row_count: int
    content_hash: str
    file_sha256: str
    columns: list[dict[str, Any]]


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
    their types. Raises ArchiveDamaged when the file is not equal to the rows.
    """
    stored = [_native_type(column) for column in columns]
    with _source(columns, batches, escaped) as (connection, source, values):
        different, row_count, content_hash = -1, 0, ""
        for _ in range(2):
            described = [asdict(column) | {"stored": kind} for column, kind in zip(columns, stored, strict=True)]
            metadata = about | {"format": FORMAT, "escaped": escaped, "columns": described}
            selected = ", ".join(
                f"{value.typed(kind)} AS {quoted(column.name)}"
                for column, kind, value in zip(columns, stored, values, strict=True)
            )
            _write(connection, f"SELECT {selected} FROM {source}", path, metadata)  # noqa: S608 - quoted names
            different, row_count, content_hash = _compare(connection, path, described, source, values, escaped)
            if not different:
                return Written(row_count, content_hash, folders.file_sha256(path), described)
            stored = _exact_types(connection, stored, source, values)
    raise ArchiveDamaged(f"{different} rows of {path.name} differ from the source rows after they were written")


def write_without(source: Content, path: Path, columns: Sequence[str], excluded: Sequence[Sequence[str]]) -> Written:
    """Write a local archive file again, leaving out the rows whose ``columns`` (as texts) are among ``excluded``."""
    import numpy

    left_out = {f"k{n}": numpy.array([row[n] for row in excluded], dtype=object) for n in range(len(columns))}
    same = " AND ".join(f"CAST(a.{quoted(name)} AS VARCHAR) = CAST(k{n} AS VARCHAR)" for n, name in enumerate(columns))
    with _duckdb() as connection:
        connection.register("excluded", left_out)
        select = f"SELECT * FROM read_parquet({literal(str(source.path))}) AS a ANTI JOIN excluded ON {same}"  # noqa: S608
        _write(connection, select, path, source.metadata)
    content = read(path)
    return Written(content.row_count, content.content_hash, folders.file_sha256(path), source.metadata["columns"])


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


def _compare(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    described: list[dict[str, Any]],
    source: str,
    values: list[_Value],
    escaped: bool,
) -> tuple[int, int, str]:
    """Read a file again; return how many rows differ from the source's, the number of rows, and their hash."""
    again = ", ".join(f"{quoted(column['name'])} AS f{n}" for n, column in enumerate(described))
    same = " AND ".join(
        f"{value.sql} IS NOT DISTINCT FROM {f'f{n}' if value.is_number else _text(f'f{n}', column['stored'])}"
        for n, (column, value) in enumerate(zip(described, values, strict=True))
    )
    row = connection.execute(
        f"SELECT count(*) FILTER (NOT same), {_HASH_SUMS} FROM (SELECT {same} AS same, md5_number(line)::UHUGEINT AS m "  # noqa: S608 - quoted names
        f"FROM {source} POSITIONAL JOIN "
        f"(SELECT {again}, {_line(described, escaped)} AS line FROM read_parquet({literal(str(path))})) AS file)"
    ).fetchone()
    assert row is not None
    return row[0], row[1], _hash_text(row[2], row[3])


def _exact_types(
    connection: duckdb.DuckDBPyConnection, stored: list[str], source: str, values: list[_Value]
) -> list[str]:
    """Text for those columns that have a value whose native type gives another text."""
    checks = ", ".join(
        "true"
        if value.is_number or kind == "VARCHAR"
        else f"coalesce(bool_and({_text(value.typed(kind), kind)} IS NOT DISTINCT FROM {value.sql}), true)"
        for kind, value in zip(stored, values, strict=True)
    )
    row = connection.execute(f"SELECT {checks} FROM {source}").fetchone()  # noqa: S608 - made of numbers
    assert row is not None
    return [kind if exact else "VARCHAR" for kind, exact in zip(stored, row, strict=True)]


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
            if metadata.get("format") != FORMAT:
                raise ArchiveDamaged(f"{path.name} does not say what it holds, or was written in another format")
            described = metadata["columns"]
            columns = [Column(c["name"], c["type_name"], c["not_null"], c["generated"]) for c in described]
            row = connection.execute(
                f"SELECT {_HASH_SUMS} FROM (SELECT md5_number({_line(described, metadata['escaped'])})::UHUGEINT AS m"  # noqa: S608
                " FROM read_parquet(?))",
                [str(path)],
            ).fetchone()
    except (duckdb.Error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise ArchiveDamaged(f"{path.name} cannot be read as an archive ({type(error).__name__})") from None
    assert row is not None
    return Content(path, columns, metadata, row[0], _hash_text(row[1], row[2]))


def keys(content: Content, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the given columns of every row as texts, and then the MD5 sum of the row's line in hexadecimal."""
    texts = ", ".join(f"CAST({quoted(name)} AS VARCHAR)" for name in columns)
    line = _line(content.metadata["columns"], content.metadata["escaped"])
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


def content_hash(md5_sums: Iterable[str]) -> str:
    """Return the hash of rows from the MD5 sums of their lines in hexadecimal."""
    import numpy

    halves = numpy.frombuffer(bytes.fromhex("".join(md5_sums)), dtype="<u8").reshape(-1, 2)
    low, high = halves.sum(axis=0, dtype=numpy.uint64).tolist() if len(halves) else (0, 0)
    return _hash_text(low, high)


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
_HASH_SUMS = f"count(m), coalesce(sum((m & {_HALF - 1}::UHUGEINT)::HUGEINT), 0), coalesce(sum((m >> 64)::HUGEINT), 0)"


def _hash_text(low: int, high: int) -> str:
    return f"{low % _HALF:016x}{high % _HALF:016x}"


@dataclass(frozen=True)
class _Value:
    """What DuckDB makes a column's values from: numbers, or texts that may be read as another type."""

    sql: str
    is_number: bool

    def typed(self, kind: str) -> str:
        """The value in a Parquet type; NULL for a text that is none of it."""
        return self.sql if self.is_number or kind == "VARCHAR" else f"TRY_CAST({self.sql} AS {kind})"


@contextmanager
def _source(
    columns: Sequence[Column], batches: Sequence[tuple[str | bytes, ...]], escaped: bool
) -> Iterator[tuple[duckdb.DuckDBPyConnection, str, list[_Value]]]:
    """The rows in their order: a session, what stands after FROM in it, and the value of each column."""
    import numpy

    numbers: dict[str, Any] = {}
    texts: dict[str, Any] = {}
    values = []
    for n, (column, sent) in enumerate(zip(columns, zip(*batches, strict=True), strict=True)):
        if isinstance(sent[0], bytes) and (kind := number_type(column)):
            numbers[f"c{n}"] = number_values(kind, sent)
            values.append(_Value(kind.value.format(f"c{n}"), is_number=True))
        else:
            texts[f"c{n}"] = numpy.array(sent, dtype=object)  # a text of many rows for each batch
            values.append(_Value(_parsed(f"c{n}", escaped), is_number=False))
    with _duckdb() as connection:
        if numbers:
            connection.register("numbers", numbers)
        if texts:
            connection.register("batches", texts)
            split = ", ".join(f"unnest(string_split({name}, chr(30))) AS {name}" for name in texts)
            connection.execute(f"CREATE TEMPORARY TABLE texts AS SELECT {split} FROM batches")  # noqa: S608
        source = " POSITIONAL JOIN ".join([*(["numbers"] if numbers else []), *(["texts"] if texts else [])])
        yield connection, source, values


def _line(described: list[dict[str, Any]], escaped: bool) -> str:
    """The line of a row of a file."""
    fields = []
    for column in described:
        text = _text(quoted(column["name"]), column["stored"])
        if escaped and column["stored"] == "VARCHAR":
            for plain, instead in ESCAPED:
                text = f"replace({text}, {_characters(plain)}, {_characters(instead)})"
        fields.append(text if column["not_null"] else f"coalesce({text}, chr(29))")
    return f"concat({', chr(31), '.join(fields)})"


def _text(name: str, stored: str) -> str:
    """The text of a value of a file, as PostgreSQL writes it."""
    text = f"CAST({name} AS VARCHAR)"
    if stored != "TIMESTAMPTZ":
        return text
    # The session is in UTC, but DuckDB would ask a calendar for each time with a zone, and take three times as long.
    return f"CASE WHEN isfinite({name}) THEN CAST(make_timestamp(epoch_us({name})) AS VARCHAR) || '+00' ELSE {text} END"


def _parsed(name: str, escaped: bool) -> str:
    """A text as it stood in the table, or NULL."""
    text = f"nullif({name}, chr(29))"
    if escaped:
        for plain, instead in reversed(ESCAPED):
            text = f"replace({text}, {_characters(instead)}, {_characters(plain)})"
    return text


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


def _characters(text: str) -> str:
    return " || ".join(f"chr({ord(letter)})" for letter in text)
