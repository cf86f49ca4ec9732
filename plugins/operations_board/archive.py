"""The archive of reports: days, each with its reports or with the word that says why there is none."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

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


def parse_month(text: str) -> date | None:
    """Read a month written as YYYY-MM and return its first day, or None when it is not one."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}", text):
        return None
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        return None


def following(month: date) -> date:
    """Return the first day of the next month; the last month that a date can name is followed by itself."""
    return month if (month.year, month.month) == (9999, 12) else (month + timedelta(days=32)).replace(day=1)


def preceding(month: date) -> date:
    """Return the first day of the month before; the first month of all is preceded by itself."""
    return month if (month.year, month.month) == (1, 1) else (month - timedelta(days=1)).replace(day=1)


def days_in(month: date) -> list[date]:
    """Return the days of a month."""
    return [month.replace(day=number) for number in range(1, monthrange(month.year, month.month)[1] + 1)]


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
