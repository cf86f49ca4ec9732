"""Rows that the platform's database gets late: which days are read again, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from include.outcome import SourceUnavailable
from include.reporting import subject, support, transactions, users
from include.settings import settings
from include.window import Window, day_window
from tests.include.reporting.contract_tables import contract, fill

NEWEST = date(2025, 10, 31)
ZONE = "Europe/Berlin"  # in the week before NEWEST the 26th has 25 hours
BEFORE = [NEWEST - timedelta(days=n) for n in range(1, 10)]
"""The days before the newest one, the latest first."""


@pytest.fixture
def platform(
    databases: Databases, warehouse: psycopg.Connection[Any], environment: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection[Any]]:
    environment.setattr(subject, "last_finished_day", lambda *_: NEWEST)  # whatever the day and hour of the test
    with contract(databases, environment) as owner:
        for number, day in enumerate((NEWEST - timedelta(days=20), *BEFORE, NEWEST)):
            happen(owner, day, number)
        yield owner


def at(day: date, hour: int = 12) -> datetime:
    return day_window(day, ZONE).start + timedelta(hours=hour)


def happen(platform: psycopg.Connection[Any], day: date, number: int, hour: int = 12) -> None:
    """Let one thing of each kind happen on a day."""
    when = at(day, hour)
    fill(platform, "users", [(number, when, when)])
    fill(platform, "sessions", [(number, number, when)])
    fill(platform, "page_views", [(number, when, "/")])
    fill(platform, "transactions", [(number, when, when, None, None, None, "10", None)])
    fill(platform, "fees", [(number, "escrow", when, "0.15")])
    fill(platform, "support_tickets", [(number, "high", when, when, when)])
    fill(platform, "feedback", [(number, when, 5)])


COMPUTES: dict[str, Callable[[Window, str], bool]] = {
    "users": users.compute, "transactions": transactions.compute, "support": support.compute,
}  # fmt: skip


def compute(day: date, run_id: str, *names: str) -> set[str]:
    """Compute the subjects of a day, and return the other days that changed."""
    window = day_window(day, ZONE)
    found = [subject.with_late_rows(name, COMPUTES[name])(window, run_id) for name in names or COMPUTES]
    return {each for days in found for each in days}


def rows(warehouse: psycopg.Connection[Any], day: date) -> tuple[Any, ...] | None:
    return warehouse.execute(
        "SELECT new_users, page_views, transactions, fees, created, ratings FROM ops.daily_users"
        " JOIN ops.daily_transactions USING (day) JOIN ops.daily_revenue USING (day) JOIN ops.daily_support USING (day)"
        " JOIN ops.daily_feedback USING (day) WHERE day = %s AND outcome = 'completed' AND priority = 'high'",
        (day,),
    ).fetchone()


def test_rows_that_come_after_their_day_was_read_are_counted(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    for day in BEFORE:
        assert compute(day, f"first of {day}") == set(), "the run of an older day looks no further back"
    happen(platform, BEFORE[0], 100, hour=23)
    happen(platform, BEFORE[6], 101)
    happen(platform, BEFORE[7], 102)  # the eighth day before is out of reach
    assert compute(NEWEST, "night") == {BEFORE[0].isoformat(), BEFORE[6].isoformat()}
    assert [rows(warehouse, day) for day in (NEWEST, *BEFORE[:8])] == [
        (1,) * 6, (2,) * 6, *[(1,) * 6] * 5, (2,) * 6, (1,) * 6
    ]  # fmt: skip
    assert compute(NEWEST, "again") == set(), "the same rows give the same content, sketches too"
    changed = warehouse.execute(
        "SELECT DISTINCT day, subject FROM ops.metric_write WHERE changed AND run_id = 'night' ORDER BY 1, 2"
    ).fetchall()
    assert changed == [(day, name) for day in (BEFORE[6], BEFORE[0], NEWEST) for name in sorted(COMPUTES)]


def test_only_days_that_were_computed_are_looked_at_again(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    compute(BEFORE[1], "first", "users")
    happen(platform, BEFORE[1], 100)
    assert compute(NEWEST, "night") == {BEFORE[1].isoformat()}
    written = "SELECT day, subject FROM ops.daily_subject WHERE day < %s"
    assert warehouse.execute(written, (NEWEST,)).fetchall() == [(BEFORE[1], "users")]


def test_how_far_it_looks_back_is_configured(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any], environment: pytest.MonkeyPatch
) -> None:
    for day in BEFORE[:2]:
        compute(day, f"first of {day}", "transactions")
        happen(platform, day, 100)
    for days, found in ((0, set()), (1, {BEFORE[0].isoformat()}), (2, {BEFORE[1].isoformat()})):
        environment.setenv("OPERATIONS__REPORTS__LATE_ROWS_DAYS", f"{days}")
        settings.cache_clear()
        assert compute(NEWEST, f"{days} days", "transactions") == found


def test_a_source_that_has_lost_a_day_since_makes_it_no_poorer(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    for day in BEFORE[:3]:
        compute(day, f"first of {day}")
    for table, time in (("page_views", "viewed_at"), ("fees", "charged_at"), ("feedback", "given_at")):
        platform.execute(f"DELETE FROM operations.{table} WHERE {time} < %s".encode(), (at(BEFORE[0]),))
    assert compute(NEWEST, "night") == set()
    assert [rows(warehouse, day) for day in BEFORE[:3]] == [(1,) * 6] * 3


def test_a_run_that_broke_off_tells_what_it_changed_when_it_is_repeated(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any], environment: pytest.MonkeyPatch
) -> None:
    for day in BEFORE[:2]:
        compute(day, f"first of {day}", "users")
        happen(platform, day, 100)
    calls: list[Window] = []

    def breaks_off(window: Window, run_id: str) -> bool:
        calls.append(window)
        if len(calls) == 3:
            raise SourceUnavailable("the platform's database is away")
        return users.compute(window, run_id)

    with pytest.raises(SourceUnavailable):
        subject.with_late_rows("users", breaks_off)(day_window(NEWEST, ZONE), "night")
    assert compute(NEWEST, "night", "users") == {day.isoformat() for day in BEFORE[:2]}
    environment.setattr(subject, "last_finished_day", lambda *_: NEWEST + timedelta(days=1))
    assert compute(NEWEST, "night", "users") == {day.isoformat() for day in BEFORE[:2]}, "the next day as well"
    assert compute(NEWEST, "another night", "users") == set()
