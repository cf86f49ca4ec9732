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

    ``days_held`` counts the days of which every subject is known, ``days_begun`` those with some of them only.
    ``is_computed`` tells whether every subject of every day was computed, even if its source was missing;
    ``is_corrected`` whether the stored rollup (if ``is_stored``) held as many days and no further day is being computed
    (a day may lack a subject for good); ``is_stale`` whether it was made of other days' figures or was
    final when the period now is not, or the other way round.
    """

    period_start: date
    days_expected: int
    days_held: int
    days_begun: int
    holds_anything: bool
    is_computed: bool
    is_over: bool
    is_final: bool
    input_hash: str
    is_stored: bool
    is_corrected: bool
    is_stale: bool


def stale_periods(grain: str, today: date, *, stored_only: bool) -> list[date]:
    """Return the first days of the periods of ``grain`` (week, month) whose rollup is not what their days give.

    ``stored_only`` leaves those out that were never rolled up. ``today`` is the current day in the platform's time
    zone. Raises as ``session.transaction`` does.
    """
    with session.transaction() as connection:
        found = _periods(connection, grain, None, today)
    return [one.period_start for one in found if one.is_stale and (one.is_stored or not stored_only)]


def announce(window: Window, day: date, today: date, run_id: str, *, with_week: bool) -> bool:
    """Tell whether a run that has just computed ``day`` of a week or month is the one to have the period rolled up.

    That is so when the period's rollup is not what its days give now, and when all its days are computed, or it was
    rolled up with as many of them before (a correction), or the day is the last finished one, or a week of the period
    is due (``with_week``). Of several runs that find the same figures only one is told so, and that one again whenever
    it is repeated. Raises as ``session.transaction`` does.
    """
    with session.transaction() as connection:
        lock = f"rollup announcement {window.grain.value} {window.first_day}"
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (lock,))
        found = _periods(connection, window.grain.value, window, today)
        if not found or not found[0].holds_anything or not found[0].is_stale:
            return False
        is_newest = day == today - timedelta(days=1)
        if not (found[0].is_computed or found[0].is_corrected or is_newest or with_week):
            return False
        values = {
            "grain": window.grain.value,
            "period_start": window.first_day,
            "input_hash": found[0].input_hash,
            "run_id": run_id,
        }
        return connection.execute(_STATEMENTS["announce"], values).fetchone() is not None


def replace_period(window: Window, today: date, estimate: Callable[[Sketches], Estimates], *, enough: Decimal) -> bool:
    """Replace all rollup rows of a week or month in one transaction; tell whether anything was written.

    Nothing is written when no day holds anything, or when the rollup was made of the same figures already.
    ``estimate`` turns the merged sketches of the same snapshot into figures; a day of which less than the share
    ``enough`` (0 to 1) of its source was there is counted as incomplete. Raises as ``session.transaction`` does.
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
            _write(connection, window, found[0], estimate, enough)
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
    connection: psycopg.Connection[Any],
    window: Window,
    period: Period,
    estimate: Callable[[Sketches], Estimates],
    enough: Decimal,
) -> None:
    bounds = {"period_start": window.first_day, "period_end": _day_after(window), "enough": enough}
    sketches = Sketches(
        dict(connection.execute(_STATEMENTS["latency"], bounds).fetchall()),
        [registers for (registers,) in connection.execute(_STATEMENTS["sketches"], bounds)],
    )
    held = {figures: days for figures, *days in connection.execute(_STATEMENTS["held"], bounds)}
    parameters: dict[str, Any] = {
        **bounds,
        **period._asdict(),
        **estimate(sketches)._asdict(),
        "grain": window.grain.value,
        "period_key": window.key,
        "subjects": len(SUBJECT_TABLES),
    }
    for figures in (*SUBJECT_TABLES, "fees", "feedback", "application", "error"):
        days, incomplete = held.get(figures, (0, 0))
        parameters[f"{figures}_held"], parameters[f"{figures}_incomplete"] = days, incomplete
        parameters[f"{figures}_final"] = period.is_over and days == period.days_expected
    connection.execute(_STATEMENTS["clear"], parameters)
    for text in _WRITES:
        connection.execute(text, parameters)


def _day_after(window: Window) -> date:
    return window.days[-1] + timedelta(days=1)
