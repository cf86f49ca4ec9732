"""Writes the readings of pg_stat_statements and tells what happened between two of them.

The statistics themselves are never reset: other tools read them too. The statements stand in query_statistics.sql.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from include.warehouse import session
from include.warehouse.statements import one_row, statements

_STATEMENTS = statements(__file__)


LOST = "(text lost)"
"""Text of a query whose own the server has lost."""


class Entry(NamedTuple):
    """One entry of pg_stat_statements: its counters since it began. ``text`` must hold no values; it may be LOST."""

    query_id: int
    role_id: int
    top_level: bool
    text: str
    calls: int
    seconds: float
    rows_returned: int
    blocks_hit: int
    blocks_read: int
    read_seconds: float | None
    temporary_blocks: int
    entry_since: datetime | None


@dataclass(frozen=True)
class Reading:
    """All entries of one moment; ``statistics_since`` and ``evictions`` are absent before PostgreSQL 14."""

    server: str
    taken_at: datetime
    statistics_since: datetime | None
    evictions: int | None
    entries: Sequence[Entry]


class Work(NamedTuple):
    """What one query did in a period, of all roles; ``read_seconds`` is absent when the server does not measure it."""

    query_id: int
    text: str
    calls: int
    seconds: float
    rows_returned: int
    blocks_hit: int
    blocks_read: int
    read_seconds: float | None
    temporary_blocks: int

    @property
    def mean_milliseconds(self) -> float:
        """Mean time of one execution."""
        return self.seconds * 1000 / self.calls


class Period(NamedTuple):
    """The work between two readings, the most time first.

    Without an earlier reading (``began_at`` is None) it is the work since the statistics or the entry began.
    ``vanished`` entries of the earlier reading are gone, with what they had counted since then; ``evictions`` is
    absent before PostgreSQL 14.
    """

    ended_at: datetime
    began_at: datetime | None
    statistics_since: datetime | None
    was_reset: bool
    evictions: int | None
    entries: int
    vanished: int
    work: list[Work]


def record(run_id: str, reading: Reading, *, keep_days: int) -> None:
    """Store a run's reading in place of its earlier one, in one transaction; remove those older than ``keep_days``.

    Raises ConfigurationError and SourceUnavailable as ``session.transaction`` does.
    """
    columns = {name: [getattr(entry, name) for entry in reading.entries] for name in Entry._fields}
    values: dict[str, Any] = columns | {
        "run_id": run_id,
        "server": reading.server,
        "taken_at": reading.taken_at,
        "statistics_since": reading.statistics_since,
        "evictions": reading.evictions,
        "keep_days": keep_days,
        "lost": LOST,
    }
    with session.transaction() as connection:
        for statement in ("remove", "snapshot", "entries", "texts", "forget_texts"):
            connection.execute(_STATEMENTS[statement], values)


def periods(run_id: str, *, baseline_days: int) -> tuple[Period, Period | None]:
    """Return the period that ends with a run's reading, and the one before it when there are readings for it.

    A period begins with the newest reading that is at least ``baseline_days`` older than its end. Raises
    ConfigurationError and SourceUnavailable as ``session.transaction`` does.
    """
    with session.transaction() as connection:

        def baseline(of: str) -> str | None:
            found = connection.execute(_STATEMENTS["baseline"], {"run_id": of, "days": baseline_days}).fetchone()
            return str(found[0]) if found else None

        def period(run: str, base: str | None) -> Period:
            names = {"run_id": run, "base": base}
            facts = one_row(connection, _STATEMENTS["completeness"], names)  # of a reading that was stored before
            return Period._make((*facts, [Work(*row) for row in connection.execute(_STATEMENTS["period"], names)]))

        base = baseline(run_id)
        return period(run_id, base), period(base, baseline(base)) if base else None
