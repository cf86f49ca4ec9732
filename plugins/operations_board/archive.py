"""The archive of reports: days, each with its reports or with the word that says why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from plugins.operations_board.warehouse import Row


@dataclass(frozen=True)
class Entry:
    """What the archive says about one kind of report on one day.

    ``state`` is the report's verdict, or missing, pending (its metrics are not due yet), future, or before (older than
    the first report of all).
    """

    kind: str
    state: str
    headline: str = ""
    has_report: bool = False


@dataclass(frozen=True)
class ArchiveDay:
    """One day of the archive."""

    day: date
    entries: list[Entry] = field(default_factory=list)


def days_of(
    days: Sequence[date],
    reports: Sequence[Row],
    kinds: Sequence[str],
    *,
    first_key: str | None,
    finished: date,
    expected: date,
) -> list[ArchiveDay]:
    """Lay the reports out by day.

    ``first_key`` is the oldest day with a report at all, ``finished`` the last day that has ended and ``expected`` the
    last day whose reports are due.
    """
    known = {(row["period_key"], row["kind"]): row for row in reports}
    found = []
    for day in days:
        entries = []
        for kind in kinds:
            if row := known.get((day.isoformat(), kind)):
                entries.append(Entry(kind, row["verdict"], row["headline"], has_report=True))
            elif day > finished:
                entries.append(Entry(kind, "future"))
            elif first_key is None or day.isoformat() < first_key:
                entries.append(Entry(kind, "before"))
            else:
                entries.append(Entry(kind, "missing" if day <= expected else "pending"))
        found.append(ArchiveDay(day, entries))
    return found
