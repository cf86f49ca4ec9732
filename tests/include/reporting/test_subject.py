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


def lost_after(days: int) -> Callable[[Window, str], bool]:
    """The users of a day, from a database that is lost after so many days."""
    calls: list[Window] = []

    def computed(window: Window, run_id: str) -> bool:
        calls.append(window)
        if len(calls) > days:
            raise SourceUnavailable("the platform's database is away")
        return users.compute(window, run_id)

    return computed


def test_a_fault_while_looking_back_leaves_the_day_whole(
    warehouse: psycopg.Connection[Any],
    platform: psycopg.Connection[Any],
    environment: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for day in BEFORE[:4]:
        compute(day, f"first of {day}", "users")
        happen(platform, day, 100)
    window = day_window(NEWEST, ZONE)
    with pytest.raises(SourceUnavailable):
        subject.with_late_rows("users", lost_after(0))(window, "night")
    assert caplog.messages == []
    assert subject.with_late_rows("users", lost_after(2))(window, "night") == [BEFORE[0].isoformat()]
    assert caplog.messages == [
        "users: late rows of 2025-10-29 and of the days before it were not looked for; the next night looks again at"
        " those still within reports.late_rows_days, of older ones run daily_metrics by hand"
        " (the platform's database is away)"
    ]
    environment.setattr(subject, "last_finished_day", lambda *_: NEWEST + timedelta(days=1))
    again = subject.with_late_rows("users", users.compute)
    assert again(window, "night") == [BEFORE[0].isoformat()], "what the run has changed, also a day later"
    assert set(again(day_window(NEWEST + timedelta(days=1), ZONE), "next")) == {d.isoformat() for d in BEFORE[1:4]}


def test_looking_back_ends_in_time(
    warehouse: psycopg.Connection[Any],
    platform: psycopg.Connection[Any],
    environment: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    compute(BEFORE[0], "first", "users")
    happen(platform, BEFORE[0], 100)
    environment.setattr(subject, "_LOOK_BACK", timedelta(0))
    assert compute(NEWEST, "night", "users") == set()
    assert [message.rpartition(" (")[2] for message in caplog.messages] == ["the days after it took more than 0:00:00)"]
    environment.setattr(subject, "_LOOK_BACK", timedelta(minutes=10))
    assert compute(NEWEST, "night", "users") == {BEFORE[0].isoformat()}


def test_days_that_followed_other_rules_are_left_as_they_are(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any], environment: pytest.MonkeyPatch
) -> None:
    for day in BEFORE[:3]:
        compute(day, f"first of {day}")
        happen(platform, day, 100)
    warehouse.execute("UPDATE ops.daily_subject SET detail = detail - 'rules' WHERE day = %s", (BEFORE[1],))
    warehouse.execute(
        "UPDATE ops.daily_subject SET detail = jsonb_set(detail, '{rules, timezone}', '\"UTC\"') WHERE day = %s",
        (BEFORE[2],),
    )
    environment.setenv("OPERATIONS__SUPPORT__RESPONSE_HOURS__HIGH", "1")
    settings.cache_clear()
    assert compute(NEWEST, "night", "support") == set()
    assert compute(NEWEST, "night", "users", "transactions") == {BEFORE[0].isoformat()}
    targets = (
        "SELECT day, target_seconds FROM ops.daily_support WHERE priority = 'high' AND day >= %s ORDER BY day DESC"
    )
    assert warehouse.execute(targets, (BEFORE[0],)).fetchall() == [(NEWEST, 3600), (BEFORE[0], 7200)]
