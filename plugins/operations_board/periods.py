"""Weeks and months as the board shows them: which there are, their figures, and what keeps one from being whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby

from include.reporting import formats
from include.reporting.figures import DEFINITIONS, NOT_COMPUTED
from include.reporting.formats import Number, Unit
from include.window import WINDOW_OF, Grain, Window
from plugins.operations_board.presentation import words
from plugins.operations_board.warehouse import Row

SHOWN = {Grain.WEEK: 8, Grain.MONTH: 12}
"""How many periods the page of all shows."""

FIGURES: dict[str, dict[str, str]] = {
    "uptime": {"uptime_overall": "Uptime"},
    "traffic": {
        "requests": "Requests",
        "error_rate": "Error rate",
        "response_average_seconds": "Average response",
        "response_p95_seconds": "95th percentile",
        "response_p99_seconds": "99th percentile",
        "errors": "Server errors (5xx)",
        "client_errors": "Client errors (4xx)",
        "bytes_sent": "Data sent",
        "lines_broken": "Broken log lines",
    },
    "users": {
        "active_users": "Active users",
        "sessions": "Sessions",
        "page_views": "Page views",
        "new_users": "Registrations",
        "verified_users": "Verified on the day of registration",
        "pending_verification": "Not verified on that day",
    },
    "transactions": {
        "transactions_created": "Created",
        "transactions_completed": "Completed",
        "transactions_disputed": "Disputed",
        "transactions_cancelled": "Cancelled",
        "transactions_failed": "Failed",
        "value_created": "Value created",
        "value_completed": "Value completed",
        "value_disputed": "Value disputed",
        "value_cancelled": "Value cancelled",
        "value_failed": "Value failed",
    },
    "revenue": {"revenue": "Revenue", "fees": "Fees and refunds"},
    "support": {
        "tickets_created": "Tickets created",
        "tickets_resolved": "Tickets resolved",
        "tickets_breached": "Tickets past target",
        "first_response_hours": "Average first answer",
    },
    "feedback": {
        "rating_average": "Average rating",
        "ratings": "Ratings",
        **{f"rating_{stars}": f"{stars} {'star' if stars == 1 else 'stars'}" for stars in range(5, 0, -1)},
    },
}
"""Every figure of a period by the rollup table that holds it."""

KEY_FIGURES: dict[str, tuple[str, ...]] = {
    "Platform": (
        "uptime_overall", "requests", "error_rate", "response_average_seconds", "response_p95_seconds",
    ),
    "Users": ("active_users", "new_users"),
    "Transactions": (
        "transactions_created", "transactions_completed", "transactions_disputed", "transactions_failed",
        "value_created", "revenue",
    ),
    "Support": ("tickets_created", "tickets_resolved", "rating_average"),
}  # fmt: skip
"""What the page of all periods shows of each, by the heading of its rows."""

_TABLE_OF = {name: table for table, names in FIGURES.items() for name in names}
_TOTALS = (Unit.COUNT, Unit.US_DOLLARS, Unit.BYTES)
"""Units that grow with the days of a period: such figures are compared only when both periods are whole."""


# ------------------------------------------------------------------------------------------------ which there are
def of_key(grain: Grain, key: str, timezone: str) -> Window | None:
    """Read a period written as 2026-W40 (week) or 2026-10 (month); None when it is none.

    Years begin at 1000, so that there is always a period before one.
    """
    try:
        if grain is Grain.WEEK:
            found = re.fullmatch(r"([1-9][0-9]{3})-W([0-9]{2})", key)
            first = date.fromisocalendar(int(found[1]), int(found[2]), 1) if found else None
        else:
            first = date.fromisoformat(f"{key}-01") if re.fullmatch(r"[1-9][0-9]{3}-[0-9]{2}", key) else None
        return WINDOW_OF[grain](first, timezone) if first else None
    except (ValueError, OverflowError):
        return None


def preceding(window: Window) -> Window:
    """Return the period before."""
    return WINDOW_OF[window.grain](window.first_day - timedelta(days=1), window.timezone)


def following(window: Window) -> Window:
    """Return the period after."""
    return WINDOW_OF[window.grain](window.days[-1] + timedelta(days=1), window.timezone)


def newest_first(grain: Grain, bounds: Row | None, expected: date, timezone: str) -> list[Window]:
    """Return the periods to show and the one before the oldest of them, with which that is compared.

    They go back from the period of ``expected``, the last day whose metrics are due, or from a newer one that was
    rolled up, to the first of ``bounds`` (a row of period_bounds.sql). Empty when none was ever rolled up.
    """
    if bounds is None or bounds["first_day"] is None:
        return []
    found = [WINDOW_OF[grain](max(bounds["last_day"], expected), timezone)]
    while len(found) < SHOWN[grain] and found[-1].first_day > bounds["first_day"]:
        found.append(preceding(found[-1]))
    return [*found, preceding(found[-1])]


def span_of(window: Window) -> str:
    """Write the first and the last day of a period, for example "28 Sep to 4 Oct" or "5 to 11 Oct"."""
    first, last = window.days[0], window.days[-1]
    return f"{first.day}{f' {first:%b}' if first.month != last.month else ''} to {last.day} {last:%b}"


def name_of(window: Window) -> str:
    """Write a period, for example "Week 2026-W40" or "October 2026"."""
    return f"Week {window.key}" if window.grain is Grain.WEEK else f"{window.first_day:%B %Y}"


# -------------------------------------------------------------------------------------------------------- figures
@dataclass(frozen=True)
class Cell:
    """One figure of a period.

    ``text`` is empty when it is absent, and ``reason`` says why. ``change`` is the difference to the period before,
    empty when there is nothing to compare it with, and ``comparison`` tells that period's figure as well. ``error`` is
    the standard error of an estimate. ``days`` says of how many days of the period the figure is, and is empty when
    they are as many as the period holds and none is incomplete.
    """

    name: str
    label: str
    text: str = ""
    reason: str = ""
    change: str = ""
    comparison: str = ""
    error: str = ""
    days: str = ""


def cell(name: str, row: Row, before: Row, grain: Grain) -> Cell:
    """Write a figure of a row of periods.sql, compared with the row of the period before it."""
    table, unit = _TABLE_OF[name], DEFINITIONS[name].unit
    label, value, old = FIGURES[table][name], row[name], before[name]
    if value is None:
        return Cell(name, label, reason=_why_absent(name, table, row, grain))
    whole, old_whole = is_whole(row, table), is_whole(before, table)
    is_comparable = unit not in _TOTALS or (whole and old_whole)
    change = formats.change(value, old, unit) if old is not None and is_comparable else ""
    comparison = "no comparison yet"
    if old is not None:
        of_days = "" if old_whole else f" in {_days(before, table)}"
        comparison = f"{grain} before: {formats.write(old, unit)}{of_days}{', ' if change else ''}{change}"
    error = row["active_users_relative_error"] if name == "active_users" else None
    as_held = row[f"{table}_days"] == row["days_held"] and not row[f"{table}_incomplete"]
    days = "" if as_held else _days(row, table)
    return Cell(
        name, label, formats.write(value, unit), change=change, comparison=comparison, days=days,
        error=formats.percent(error) if error else "",
    )  # fmt: skip


def cells(names: Iterable[str], row: Row, before: Row, grain: Grain) -> list[Cell]:
    """Write several figures of a period."""
    return [cell(name, row, before, grain) for name in names]


def change_of(value: Number | None, before: Number | None, unit: Unit) -> str:
    """Write the change of a figure of a breakdown; empty when either is absent."""
    return "" if value is None or before is None else formats.change(value, before, unit)


def is_whole(row: Row, table: str) -> bool:
    """Whether a period was rolled up and the figures of a rollup table are of all its days, none of them incomplete."""
    if row["days_expected"] is None or row[f"{table}_incomplete"]:
        return False
    return bool(row[f"{table}_days"] == row["days_expected"])


def _days(row: Row, table: str) -> str:
    incomplete = row[f"{table}_incomplete"]
    return f"{row[f'{table}_days']} of {row['days_expected']} days{f', {incomplete} incomplete' if incomplete else ''}"


def _why_absent(name: str, table: str, row: Row, grain: Grain) -> str:
    if row["days_expected"] is None:
        return f"this {grain} was not rolled up"
    if not row[f"{table}_days"]:
        return f"no day of this {grain} tells of {'ratings' if table == 'feedback' else table}"
    if name == "uptime_overall":
        return "no time up or down is known"
    return DEFINITIONS[name].undefined.removesuffix(" in the day") or "the warehouse holds no such figure"


# ----------------------------------------------------------------------------------------------------- what lacks
@dataclass(frozen=True)
class Gap:
    """Days in a row that lack the same for the same reason."""

    first: date
    last: date
    subjects: str
    state: str
    reason: str


def gaps(completeness: Sequence[Row], until: date) -> list[Gap]:
    """Return what is not complete on the days up to ``until``, from rows of completeness.sql; the oldest first."""
    by_day = {
        day: _lacks(list(rows)) for day, rows in groupby(sorted(completeness, key=_day), key=_day) if day <= until
    }
    found: list[Gap] = []
    for _, days in groupby(by_day, key=lambda day: by_day[day]):
        same = list(days)
        found += [Gap(same[0], same[-1], *one) for one in by_day[same[0]]]
    return found


def _day(row: Row) -> date:
    day: date = row["day"]
    return day


def _lacks(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """What one day lacks: subjects, state and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["state"] != "complete":
            found.setdefault((row["state"] or "missing", row["reason"] or _never(row)), []).append(row["subject"])
    return [(words(", ".join(subjects)), *key) for key, subjects in found.items()]


def _never(row: Row) -> str:
    is_before = row["first_day"] is None or row["day"] < row["first_day"]
    return "before the first day with metrics" if is_before else NOT_COMPUTED
