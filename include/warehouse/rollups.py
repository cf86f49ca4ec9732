"""Writes ``ops.rollup`` and the rollup tables: the figures of one week or month, summed from those of its days."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from include.warehouse import session
from include.warehouse.metrics import SUBJECT_TABLES
from include.warehouse.statements import statements
from include.window import Window

if TYPE_CHECKING:
    import psycopg

_STATEMENTS = statements(__file__)
_WRITES = [text for name, text in _STATEMENTS.items() if name.startswith("write_")]  # ops.rollup comes first


class Sketches(NamedTuple):
    """What cannot be summed: the period's latency histogram (bucket -> requests), its days' user sketches."""

    latency: dict[int, int]
    users: list[bytes]


class Estimates(NamedTuple):
    """What was made of the sketches: percentiles in seconds (absent without requests), distinct users."""

    response_p95_seconds: Decimal | None
    response_p99_seconds: Decimal | None
    active_users: int
    active_users_relative_error: Decimal


class Period(NamedTuple):
    """What the days of a period give now.

    ``days_held`` counts the days of which every subject is known; ``is_stale`` tells whether the stored rollup (if
    ``is_stored``) was made of other days' figures or was final when the period now is not, or the other way round.
    """

    period_start: date
    days_expected: int
    days_held: int
    holds_anything: bool
    is_over: bool
    is_final: bool
    input_hash: str
    is_stored: bool
    is_stale: bool


def stale_periods(grain: str, today: date) -> list[date]:
    """Return the first days of the stored periods of ``grain`` (week, month) that differ from what their days give.

    ``today`` is the current day in the platform's time zone. Raises as ``session.transaction`` does.
    """
    with session.transaction() as connection:
        return [one.period_start for one in _periods(connection, grain, None, today) if one.is_stored and one.is_stale]


def replace_period(window: Window, today: date, estimate: Callable[[Sketches], Estimates]) -> bool:
    """Replace all rollup rows of a week or month in one transaction; tell whether anything was written.

    Nothing is written when no day holds anything, or when the rollup was made of the same figures already.
    ``estimate`` turns the merged sketches of the same snapshot into figures. Raises as ``session.transaction`` does.
    """
    import psycopg

    grain = window.grain.value
    with session.transaction() as connection:
        # The lock is the session's, taken before the snapshot: the second of two runs must see what the first wrote.
        connection.autocommit = True
        connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (f"rollup {grain} {window.first_day}",))
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with connection.transaction():
            found = _periods(connection, grain, window, today)
            if not found or not found[0].holds_anything or not found[0].is_stale:
                return False
            _write(connection, window, found[0], estimate)
            return True


def _periods(connection: psycopg.Connection[Any], grain: str, window: Window | None, today: date) -> list[Period]:
    parameters = {
        "grain": grain,
        "period_start": window.first_day if window else None,
        "period_end": _day_after(window) if window else None,
        "today": today,
        "subjects": len(SUBJECT_TABLES),
    }
    return [Period(*row) for row in connection.execute(_STATEMENTS["periods"], parameters)]


def _write(
    connection: psycopg.Connection[Any], window: Window, period: Period, estimate: Callable[[Sketches], Estimates]
) -> None:
    bounds = {"period_start": window.first_day, "period_end": _day_after(window)}
    sketches = Sketches(
        dict(connection.execute(_STATEMENTS["latency"], bounds).fetchall()),
        [registers for (registers,) in connection.execute(_STATEMENTS["sketches"], bounds)],
    )
    held = dict(connection.execute(_STATEMENTS["held"], bounds).fetchall())
    parameters: dict[str, Any] = {
        **bounds,
        **period._asdict(),
        **estimate(sketches)._asdict(),
        "grain": window.grain.value,
        "period_key": window.key,
    }
    for subject in SUBJECT_TABLES:
        parameters[f"{subject}_held"] = held.get(subject, 0)
        parameters[f"{subject}_final"] = period.is_over and held.get(subject, 0) == period.days_expected
    connection.execute(_STATEMENTS["clear"], parameters)
    for text in _WRITES:
        connection.execute(text, parameters)


def _day_after(window: Window) -> date:
    return window.days[-1] + timedelta(days=1)
