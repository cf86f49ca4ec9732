"""Reads rows of a source table by time and key, in the form of an archive, and deletes them. The statements: rows.sql.

What is deleted is what was archived because of one of two conditions, each checked by the server for every row in the
statement that deletes it:

- ``settled``: the row's transaction (xmin) is older than all that were running when the archive's reading began. Such
  a row was visible to that reading, and a row that was changed or added since has a newer transaction.
- equal content: the MD5 sum of the row's line is the one computed from the archive file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.maintenance.pruning import archive_lines, columns, row_statements
from include.maintenance.pruning.archive_lines import ESCAPE, ESCAPED, FIELD, NULL, ROW
from include.maintenance.pruning.row_statements import composed
from include.maintenance.pruning.sources import Source
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import database
from include.platform.database import Column, Table
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg

    from include.warehouse.legal_holds import LegalHold

COUNT_LIMIT = 50_000
"""Rows up to which a plan or proof counts; beyond, it estimates or says "at least"."""

_KEPT_BYTES = 16 << 20
_STATEMENTS = statements(__file__)


@dataclass(frozen=True)
class Place:
    """Where a row stands in the order of time and key, both as texts."""

    time: str
    key: str


@dataclass(frozen=True)
class Stretch:
    """Consecutive rows of a chunk, from the first to the last (both included)."""

    rows: int
    first: Place
    last: Place


@dataclass(frozen=True)
class Batch:
    """Rows, column by column as they came from the server (columns.py).

    ``numbers``: whether columns that have numbers came as these. ``escaped``: whether a text contains a character that
    stands for something.
    """

    rows: int
    values: tuple[str | bytes, ...]
    numbers: bool
    escaped: bool

    @property
    def size(self) -> int:
        """Bytes or characters of all values."""
        return sum(len(value) for value in self.values)

    def places(self, source: Source, positions: Sequence[int]) -> list[Place]:
        """The places of the rows at some positions, from 0."""
        times, keys = (self._texts(source, column, positions) for column in source.positions)
        return [Place(time, key) for time, key in zip(times, keys, strict=True)]

    def _texts(self, source: Source, column: int, positions: Sequence[int]) -> list[str]:
        value = self.values[column]
        if isinstance(value, bytes):
            kind = columns.number_type(source.columns[column])
            assert kind is not None
            return columns.texts(kind, value, positions)
        texts = value.split(ROW)
        return [_plain(texts[position]) for position in positions]


# ---------------------------------------------------------------------------------------------------- counting
def count(connection: psycopg.Connection[Any], source: Source, held: tuple[LegalHold, ...]) -> dict[str, Any]:
    """Return how many rows are past their retention (``rows_older``), and the oldest and newest of them.

    ``rows_held`` of them are under a legal hold, ``rows_free`` are not. Beyond COUNT_LIMIT, ``rows_older`` is the
    planner's estimate, the others are COUNT_LIMIT + 1, and ``…_is_exact`` is False.
    """
    with database.errors_named(f"pruning of {source.name}"):
        older = _number(connection, source, "older", held)
        oldest, newest = (
            connection.execute(composed(name, source), _values(source), prepare=False).fetchone() if older else None
            for name in ("oldest", "newest")
        )
        exact = older <= COUNT_LIMIT
        if not exact:
            row = connection.execute(composed("estimate", source), _values(source), prepare=False).fetchone()
            assert row is not None
            older = max(older, int(row[0][0]["Plan"]["Plan Rows"]))
        rows_held = _number(connection, source, "held", held) if held else 0
        return {
            "rows_older": older,
            "rows_older_is_exact": exact,
            "rows_held": rows_held,
            "rows_held_is_exact": rows_held <= COUNT_LIMIT,
            "rows_free": _number(connection, source, "free", held) if held else older,
            "oldest": _aware(oldest[0]) if oldest else None,
            "newest": _aware(newest[0]) if newest else None,
        }


def _number(connection: psycopg.Connection[Any], source: Source, statement: str, held: tuple[LegalHold, ...]) -> int:
    values = _values(source) | {"limit": COUNT_LIMIT + 1}
    row = connection.execute(composed(statement, source, held=held), values, prepare=False).fetchone()
    assert row is not None
    return int(row[0])


def snapshot(connection: psycopg.Connection[Any]) -> str:
    """Return the oldest transaction that is running now, as a 32-bit transaction id."""
    row = connection.execute(_STATEMENTS["snapshot"]).fetchone()
    assert row is not None
    return str(row[0])


# ----------------------------------------------------------------------------------------------------- reading
def keep_memory(connection: psycopg.Connection[Any]) -> None:
    """Let the server's process and this one keep the memory of a batch for the next one (see rows.sql)."""
    connection.execute(_STATEMENTS["keep_memory"])
    bytes(_KEPT_BYTES)  # freed at once: that is all


def read(
    connection: psycopg.Connection[Any],
    source: Source,
    after: Place | None,
    limit: int,
    held: tuple[LegalHold, ...],
    settled_before: str | None,
) -> Batch | None:
    """Return the next rows after a place that are not held, or None when there are none.

    ``settled_before``: a transaction from ``snapshot``; None takes the rows of any transaction.
    """
    values = _values(source) | {"rows": limit, "settled_before": settled_before}
    if after:
        values |= {"time": after.time, "key": after.key}
    statement, settled = "next_rows" if after else "first_rows", settled_before is not None
    numbers, escape = True, False
    while True:
        query = composed(statement, source, held=held, settled=settled, escape=escape, numbers=numbers)
        row = connection.execute(query, values, prepare=False, binary=True).fetchone()
        assert row is not None
        count, nulls, *sent = row
        if not count:
            return None
        texts = [one for one in sent if isinstance(one, str)]
        if numbers and not _have_plain_texts(source, sent, count):
            numbers = False
        elif escape:
            _check_whole(source, texts, count)
            return Batch(count, tuple(sent), numbers, any(ESCAPE in one for one in texts))
        elif _has_no_marks(texts, count, nulls):
            return Batch(count, tuple(sent), numbers, escaped=False)
        else:
            escape = True


def _have_plain_texts(source: Source, sent: list[str | bytes], rows: int) -> bool:
    return all(
        columns.count(kind, one) == rows and columns.have_plain_texts(kind, one)
        for column, one in zip(source.columns, sent, strict=True)
        if isinstance(one, bytes) and (kind := columns.number_type(column))
    )


def _check_whole(source: Source, texts: list[str], rows: int) -> None:
    """Raise unless each column has a text for each row: a null where none may be has none."""
    if not all(one.count(ROW) == rows - 1 for one in texts):
        raise ConfigurationError(
            f"{source.name} has nulls in a column that is declared NOT NULL; correct those rows and validate it"
        )


def _has_no_marks(texts: list[str], rows: int, nulls: int) -> bool:
    """Whether the characters that stand for something do so everywhere, and stand in no text."""
    return (
        all(one.count(ROW) == rows - 1 for one in texts)
        and sum(one.count(NULL) for one in texts if NULL in one) == nulls  # looking is faster than counting
        and not any(ESCAPE in one or FIELD in one for one in texts)
    )


def stretches(source: Source, batch: Batch, largest: int) -> list[Stretch]:
    """Cut a batch into stretches of at most ``largest`` rows, each as long as the others."""
    parts = -(-batch.rows // largest)
    ends = [batch.rows * part // parts for part in range(parts + 1)]
    firsts = batch.places(source, ends[:-1])
    lasts = batch.places(source, [end - 1 for end in ends[1:]])
    return [
        Stretch(end - start, first, last)
        for start, end, first, last in zip(ends, ends[1:], firsts, lasts, strict=False)
    ]


# ---------------------------------------------------------------------------------------------------- deleting
def delete_stretches(
    connection: psycopg.Connection[Any],
    source: Source,
    group: list[Stretch],
    held: tuple[LegalHold, ...],
    settled_before: str,
    *,
    whole_times: bool,
) -> int:
    """Delete the archived rows of consecutive stretches that are unchanged and not held; return how many.

    ``whole_times``: no row of the same source, before or after these, has the time of their first or last one. Raises
    MaintenanceFailed as ``check_columns`` does.
    """
    first, last = group[0].first, group[-1].last
    values = _values(source) | {
        "first_time": first.time,
        "first_key": first.key,
        "last_time": last.time,
        "last_key": last.key,
        "settled_before": settled_before,
    }
    statement = composed("delete_times" if whole_times else "delete_range", source, held=held, settled=True)
    return _delete(connection, source, statement, values, sum(one.rows for one in group))


def delete_equal(
    connection: psycopg.Connection[Any],
    source: Source,
    archived: list[tuple[str, ...]],
    held: tuple[LegalHold, ...],
) -> int:
    """Delete those of the archived rows (key, time, MD5 sum) whose content is unchanged and that are not held.

    Raises MaintenanceFailed as ``check_columns`` does.
    """
    values = _listed(archived) | {"sums": [row[2] for row in archived]}
    return _delete(connection, source, composed("delete_equal", source, held=held), values, len(archived))


def _delete(
    connection: psycopg.Connection[Any], source: Source, statement: bytes, values: dict[str, Any], expected: int
) -> int:
    columns = [column.name for column in source.columns]
    values |= {"table": source.table.name, "columns": columns}
    deleted = connection.execute(statement, values, prepare=False).rowcount
    if deleted < expected:
        check_columns(connection, source.table, columns)
    return deleted


def check_columns(connection: psycopg.Connection[Any], table: Table, columns: Sequence[str]) -> None:
    """Raise MaintenanceFailed when a table has a column that its archives, which have ``columns``, do not."""
    found = connection.execute(_STATEMENTS["new_columns"], {"table": table.name, "columns": list(columns)}).fetchone()
    if found:
        raise MaintenanceFailed(
            f"the column {found[0]} of {table.name} was added or renamed while rows were archived without it; they are "
            "not deleted: run it again"
        )


def still_there(
    connection: psycopg.Connection[Any], source: Source, archived: list[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """Return those of the archived rows that are in the table, whatever their content."""
    found = connection.execute(composed("still_there", source), _listed(archived), prepare=False)
    return [archived[position - 1] for position in sorted({position for (position,) in found})]


def _listed(archived: list[tuple[str, ...]]) -> dict[str, Any]:
    return {"keys": [row[0] for row in archived], "times": [row[1] for row in archived]}


def put_back(
    connection: psycopg.Connection[Any], table: Table, columns: list[Column], written: list[str]
) -> tuple[int, str]:
    """Insert the rows of the temporary table restored_rows; return how many there are now, and their sum by lines.

    ``columns`` are the archive's, ``written`` the names of those that are written and not computed.
    """
    from psycopg import sql

    statement = sql.SQL(_STATEMENTS["put_back"]).format(
        table=table.identifier,
        names=sql.SQL(", ").join(sql.Identifier(name) for name in written),
        sum=row_statements.sum_of(columns),
    )
    row = connection.execute(statement).fetchone()
    assert row is not None
    sums = row[1]
    return row[0], archive_lines.sum_of(sums[n : n + 32] for n in range(0, len(sums), 32))


def _values(source: Source) -> dict[str, Any]:
    cut_off = source.cut_off.astimezone(UTC).isoformat() if source.cut_off else None
    return {"cut_off": cut_off, "since": source.since, "until": source.until}


def _plain(text: str) -> str:
    for plain, instead in reversed(ESCAPED):
        text = text.replace(instead, plain)
    return text


def _aware(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=UTC)
