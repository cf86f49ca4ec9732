"""What an archive's file holds, and its hash: the same rows give the same one, other rows another."""

import hashlib
import json
from itertools import permutations
from pathlib import Path

import duckdb
import pytest

from include.maintenance.pruning import archive_files
from include.maintenance.pruning.archive_files import ArchiveDamaged
from include.platform.database import Column

ABOUT = {"time_column": "at", "key_column": "k"}
COLUMNS = [
    Column("at", "timestamp with time zone", not_null=True, generated=False),
    Column("k", "bigint", not_null=True, generated=False),
    Column("word", "text", not_null=False, generated=False),
]
ROWS = [(0, 7, "one"), (0, 9, None), (5_000_000, 8, "two, too"), (86_400_000_000, 1, "")]
"""Microseconds since 2000 (as PostgreSQL counts), key, text."""


def _write(path: Path, rows: list[tuple[int, int, str | None]], columns: list[Column] | None = None) -> str:
    return archive_files.write(path, columns or COLUMNS, [_batch(rows)], escaped=False, about=ABOUT).content_hash


def _batch(rows: list[tuple[int, int, str | None]]) -> tuple[str | bytes, ...]:
    numbers = (b"".join(row[n].to_bytes(8, "big", signed=True) for row in rows) for n in (0, 1))  # type: ignore[union-attr]
    return (*numbers, "\x1e".join("\x1d" if row[2] is None else row[2] for row in rows))


def _as_texts(rows: list[tuple[int, int, str | None]]) -> tuple[str | bytes, ...]:
    times = {0: "2000-01-01 00:00:00+00", 5_000_000: "2000-01-01 00:00:05+00", 86_400_000_000: "2000-01-02 00:00:00+00"}
    return ("\x1e".join(times[at] for at, _, _ in rows), "\x1e".join(str(k) for _, k, _ in rows), _batch(rows)[2])


def _by_hand(rows: list[tuple[int, int, str | None]]) -> str:
    content = b""
    for column in _batch(rows):
        one = column if isinstance(column, bytes) else column.encode()
        content += str(len(one)).encode() + b":" + one
    return hashlib.sha256(content).hexdigest()


def test_the_hash_does_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    expected = _by_hand(ROWS)  # they are sorted as they stand there
    for number, order in enumerate(permutations(ROWS)):
        path = tmp_path / f"{number}.parquet"
        assert _write(path, list(order)) == expected, order
        assert archive_files.read(path).content_hash == expected, order


def test_rows_that_are_alike_in_time_and_key_have_an_order_too(tmp_path: Path) -> None:
    rows: list[tuple[int, int, str | None]] = [(0, 7, "a"), (0, 7, "b"), (0, 7, None)]
    found = {_write(tmp_path / f"{n}.parquet", list(order)) for n, order in enumerate(permutations(rows))}
    assert found == {_by_hand(rows)}


def test_rows_that_travelled_as_texts_have_one_hash_in_any_order(tmp_path: Path) -> None:
    found = set()
    for number, order in enumerate(permutations(ROWS)):
        path = tmp_path / f"{number}.parquet"
        written = archive_files.write(path, COLUMNS, [_as_texts(list(order))], escaped=False, about=ABOUT)
        assert archive_files.read(path).content_hash == written.content_hash
        found.add(written.content_hash)
    assert len(found) == 1


@pytest.mark.parametrize(
    "other",
    [
        [(1, 7, "one"), *ROWS[1:]],
        [(0, 6, "one"), *ROWS[1:]],
        [(0, 7, None), (0, 9, "one"), *ROWS[2:]],
        [(0, 9, "one"), (0, 7, None), *ROWS[2:]],
        [*ROWS[:3], (86_400_000_000, 1, None)],
        ROWS[:3],
        [*ROWS, ROWS[3]],
    ],
)
def test_other_rows_have_another_hash(tmp_path: Path, other: list[tuple[int, int, str | None]]) -> None:
    assert _write(tmp_path / "other.parquet", other) != _write(tmp_path / "rows.parquet", ROWS)


def test_several_batches_are_one_file(tmp_path: Path) -> None:
    batches = [_batch(ROWS[:1]), _batch(ROWS[1:3]), _batch(ROWS[3:])]
    written = archive_files.write(tmp_path / "a.parquet", COLUMNS, batches, escaped=False, about=ABOUT)
    assert (written.row_count, written.content_hash) == (4, _by_hand(ROWS))


def test_a_file_of_the_format_before_is_read_with_its_own_hash(tmp_path: Path) -> None:
    """The sum of the MD5 sums of the rows' lines, computed here by hand."""
    path, old = tmp_path / "new.parquet", tmp_path / "old.parquet"
    _write(path, ROWS)
    metadata = archive_files.read(path).metadata | {"format": 2}
    del metadata["numbers"]
    told = json.dumps(metadata).replace("'", "''")
    duckdb.sql(f"COPY (FROM '{path}') TO '{old}' (FORMAT parquet, KV_METADATA {{gold_escrow_archive: '{told}'}})")
    lines = [
        "2000-01-01 00:00:00+00\x1f7\x1fone",
        "2000-01-01 00:00:00+00\x1f9\x1f\x1d",
        "2000-01-01 00:00:05+00\x1f8\x1ftwo, too",
        "2000-01-02 00:00:00+00\x1f1\x1f",
    ]
    digests = [hashlib.md5(line.encode()).digest() for line in lines]
    low, high = (sum(int.from_bytes(one[n : n + 8], "little") for one in digests) % 2**64 for n in (0, 8))
    content = archive_files.read(old)
    assert (content.row_count, content.content_hash) == (4, f"{low:016x}{high:016x}")
    written = archive_files.write_without(content, tmp_path / "rest.parquet", ["k"], [("7",)])
    assert (written.row_count, written.format, len(written.content_hash)) == (3, 2, 32), "its manifest says which hash"
    assert archive_files.sum_of_rows(content) == content.content_hash
    assert archive_files.sum_of_rows(archive_files.read(path)) == content.content_hash


def test_a_null_where_none_may_be_is_damage(tmp_path: Path) -> None:
    """Nothing is lost between what the server says of a column and what it sends: such a row is not archived."""
    never = [*COLUMNS[:2], Column("word", "text", not_null=True, generated=False)]
    with pytest.raises(ArchiveDamaged, match="differ from the source rows after they were written, in word"):
        _write(tmp_path / "a.parquet", ROWS, never)


def test_a_null_in_the_place_of_a_number_is_damage(tmp_path: Path) -> None:
    """Also where the number was the one that numpy puts there."""
    rows: list[tuple[int, int, str | None]] = [(0, 999_999, "one")]
    path, other = tmp_path / "a.parquet", tmp_path / "b.parquet"
    expected = _write(path, rows)
    told = json.dumps(archive_files.read(path).metadata).replace("'", "''")
    duckdb.sql(
        f"COPY (SELECT * REPLACE (NULL::BIGINT AS k) FROM '{path}') TO '{other}' "
        f"(FORMAT parquet, KV_METADATA {{gold_escrow_archive: '{told}'}})"
    )
    assert archive_files.read(other).content_hash != expected
