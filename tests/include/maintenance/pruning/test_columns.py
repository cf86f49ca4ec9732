"""Numbers instead of texts: the same rows, the same content hash, whatever the values."""

import random
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.maintenance.pruning import archive_files, archive_lines, columns, prune, rows, sources
from include.maintenance.pruning.restore import restore
from include.maintenance.pruning.rows import Batch
from include.maintenance.pruning.sources import Source
from include.outcome import ConfigurationError
from tests.include.maintenance.pruning.audit_log_rows import CUT_OFF, NOW, rule

_TABLE = """
CREATE TABLE public.numbers (
    k bigint PRIMARY KEY, at timestamptz NOT NULL, small smallint NOT NULL, whole integer NOT NULL,
    plain timestamp NOT NULL, zoned timestamptz NOT NULL, word text NOT NULL, maybe bigint
);
GRANT SELECT, DELETE ON public.numbers TO operations_maintainer;
"""
_INSERT = "INSERT INTO public.numbers VALUES (%s, %s, %s, %s, %s::timestamp, %s::timestamptz, %s, %s)"
_LINES = (
    "SELECT md5(concat_ws(E'\\x1f', k::text, at::text, small::text, whole::text, plain::text, zoned::text, word,"
    " coalesce(maybe::text, E'\\x1d'))) FROM public.numbers"
)
_EDGES = [
    "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999", "1970-01-01 00:00:00",
    "1999-12-31 23:59:59.9", "2000-01-01 00:00:00", "2024-02-29 12:00:00.000001", "1582-10-10 01:02:03.12",
]  # fmt: skip


def _source(connection: psycopg.Connection) -> Source:
    return sources.look_up(connection, "public.numbers", "at", "k", NOW)


def _read(connection: psycopg.Connection, source: Source) -> Batch:
    connection.execute("SET timezone = 'UTC'")
    batch = rows.read(connection, source, None, 10_000, (), None)
    assert batch is not None
    return batch


def _written(path: Path, source: Source, batch: Batch) -> archive_files.Written:
    about = {"time_column": source.time_column, "key_column": source.key_column}
    return archive_files.write(path, source.columns, [batch.values], escaped=batch.escaped, about=about)


def test_numbers_give_the_texts_that_the_server_writes(any_platform: psycopg.Connection, tmp_path: Path) -> None:
    """The sum by lines is taken from what the file says; here it is held against the server's own texts."""
    chance = random.Random(20)
    any_platform.execute(_TABLE)
    with any_platform.cursor() as cursor:
        for n in range(500):
            seconds = chance.randrange(-62_135_596_800, 253_402_300_800)
            moment = any_platform.execute(
                "SELECT (timestamp '1970-01-01' + %s * interval '1 second' + %s * interval '1 microsecond')::text",
                (seconds, chance.choice([0, 1, 10, 500_000, 999_999, chance.randrange(10**6)])),
            ).fetchone()
            assert moment is not None
            plain = _EDGES[n] if n < len(_EDGES) else moment[0]
            values = (n - 250, f"{plain}+00", chance.randrange(-(2**15), 2**15), chance.randrange(-(2**31), 2**31))
            cursor.execute(
                _INSERT, (*values, plain, f"{plain}+00", chance.choice(["", "a,b", "金"]), n if n % 3 else None)
            )
    source = replace(_source(any_platform), cut_off=None)
    batch = _read(any_platform, source)
    assert batch.numbers
    assert [isinstance(value, bytes) for value in batch.values] == [True] * 6 + [False] * 2
    written = _written(tmp_path / "numbers.parquet", source, batch)
    assert written.row_count == 500
    content = archive_files.read(tmp_path / "numbers.parquet")
    assert content.content_hash == written.content_hash
    assert archive_files.sum_of_rows(content) == archive_lines.sum_of(one for (one,) in any_platform.execute(_LINES))


def test_the_place_of_a_row_is_exact(any_platform: psycopg.Connection) -> None:
    any_platform.execute(_TABLE)
    for key, at in ((-(2**63), "0001-01-01 00:00:00.000001+00"), (2**63 - 1, "2026-01-02 03:04:05.6+00")):
        any_platform.execute(_INSERT, (key, at, 0, 0, at[:-3], at, "x", None))
    source = _source(any_platform)
    batch = _read(any_platform, source)
    places = batch.places(source, [0, 1])
    assert [int(place.key) for place in places] == [-(2**63), 2**63 - 1]
    same = "SELECT %s::timestamptz = at FROM public.numbers WHERE k = %s::bigint"
    assert [any_platform.execute(same, (place.time, place.key)).fetchone() for place in places] == [(True,), (True,)]


@pytest.mark.parametrize("zoned", ["infinity", "-infinity", "0044-03-15 00:00:00+00 BC", "10000-01-01 00:00:00+00"])
def test_times_that_programs_write_differently_travel_as_texts(
    any_platform: psycopg.Connection, warehouse: psycopg.Connection, zoned: str, tmp_path: Path
) -> None:
    """Rows in either form stand beside each other: each archive has one of them, and all come back."""
    any_platform.execute(_TABLE)
    with any_platform.cursor() as cursor:
        for n in range(23):
            other = zoned if n in (7, 22) else "2026-01-01 00:00:00+00"
            cursor.execute(_INSERT, (n, f"2026-01-{n + 1:02d} 00:00:00+00", n, n, "2026-01-01", other, "x", None))
    every = "SELECT n::text FROM public.numbers n ORDER BY k"
    before = any_platform.execute(every).fetchall()
    done = prune.prune(rule(table="public.numbers", time_column="at", key_column="k"), "r1", dry_run=False, now=NOW)
    assert (done["state"], done["rows"]) == ("proven", 23)
    assert any_platform.execute(every).fetchall() == []
    for (archive,) in warehouse.execute("SELECT archive_id FROM ops.archive WHERE state = 'deleted'").fetchall():
        restore(archive, "platform_owner", "public.numbers")
    assert any_platform.execute(every).fetchall() == before


def test_a_promise_of_no_nulls_that_was_never_checked(platform: psycopg.Connection) -> None:
    """PostgreSQL 18 adds NOT NULL without looking at the rows that are there."""
    platform.execute(_TABLE)
    platform.execute("ALTER TABLE public.numbers ALTER COLUMN whole DROP NOT NULL, ALTER COLUMN word DROP NOT NULL")
    platform.execute(_INSERT, (1, CUT_OFF, 1, None, "2026-01-01", CUT_OFF, None, None))
    platform.execute("ALTER TABLE public.numbers ADD CONSTRAINT whole_set NOT NULL whole NOT VALID")
    platform.execute("ALTER TABLE public.numbers ADD CONSTRAINT word_set NOT NULL word NOT VALID")
    source = _source(platform)
    promised = {column.name: column.not_null for column in source.columns}
    assert (promised["whole"], promised["word"], promised["small"]) == (False, False, True)
    batch = _read(platform, source)
    assert (batch.values[3], batch.values[6]) == ("\x1d", "\x1d")
    platform.execute("ALTER TABLE public.numbers DROP CONSTRAINT numbers_pkey, ADD UNIQUE (k)")
    platform.execute("ALTER TABLE public.numbers ALTER COLUMN k DROP NOT NULL")
    platform.execute("ALTER TABLE public.numbers ADD CONSTRAINT k_set NOT NULL k NOT VALID")
    with pytest.raises(ConfigurationError, match=r"numbers\.k does not identify a row; it must be NOT NULL"):
        _source(platform)


_TEXTS = st.text(alphabet="ab\x1e", max_size=9)


@given(st.lists(_TEXTS, min_size=1, max_size=4), _TEXTS)
def test_batches_are_equal_to_one_value_exactly_where_they_are_when_joined(batches: list[str], other: str) -> None:
    whole = "\x1e".join(batches)
    assert columns.equal(batches, whole)
    assert columns.equal(batches, other) == (other == whole)
    assert not columns.equal(batches, None)
    sent, numbers = [batch.encode() for batch in batches], "".join(batches).encode()
    assert columns.equal(sent, numbers)
    assert columns.equal(sent, other.encode()) == (other.encode() == numbers)
