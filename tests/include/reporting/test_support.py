"""Support and feedback of a day: targets by hand at every edge, a recount over random tickets, unknown priorities."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from include.outcome import Completeness, ConfigurationError
from include.reporting import report_inputs, support
from include.reporting.figures import figure
from include.settings import settings
from include.warehouse import metrics, session
from include.window import day_window
from tests.include.reporting.contract_tables import contract, fill

# From 18:30 UTC of the 9th to 18:30 UTC of the 10th.
DAY = date(2026, 9, 10)
WINDOW = day_window(DAY, "Asia/Kolkata")
FIRST = datetime(2026, 9, 9, 18, 30, tzinfo=UTC)
AFTER = datetime(2026, 9, 10, 18, 30, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
TARGETS = {"high": 2 * HOUR, "medium": 24 * HOUR, "low": 48 * HOUR}


@pytest.fixture
def platform(
    databases: Databases, warehouse: psycopg.Connection[Any], environment: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection[Any]]:
    with contract(databases, environment) as owner:
        yield owner


def by_priority(warehouse: psycopg.Connection[Any], day: date = DAY) -> dict[str, tuple[Any, ...]]:
    """Created, resolved, first responses, their seconds, within target, breached."""
    found = warehouse.execute(
        "SELECT priority, created, resolved, first_responses, response_seconds_sum, within_target, breached"
        " FROM ops.daily_support WHERE day = %s",
        (day,),
    )
    return {row[0]: row[1:] for row in found}


def feedback(warehouse: psycopg.Connection[Any]) -> tuple[Any, ...] | None:
    return warehouse.execute(
        "SELECT ratings, rating_sum, rating_1, rating_2, rating_3, rating_4, rating_5, rating_average"
        " FROM ops.daily_feedback WHERE day = %s",
        (DAY,),
    ).fetchone()


def state(day: date = DAY) -> metrics.SubjectState:
    return metrics.subject_states([day])[day]["support"]


def test_the_edges_of_day_and_target(warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]) -> None:
    before, last = FIRST - INSTANT, AFTER - INSTANT
    fill(platform, "support_tickets", [
        # high: the target is 2 hours
        (1, "high", FIRST, FIRST + 2 * HOUR, last),  # answered at the last instant allowed: within, not breached
        (2, "high", FIRST, FIRST + 2 * HOUR + INSTANT, AFTER),  # an instant too late: breached
        (3, "high", FIRST - 2 * HOUR, None, None),  # due at the first instant of the day: breached in it
        (4, "high", FIRST - 2 * HOUR - INSTANT, None, None),  # due before: breached the day before
        (5, "high", AFTER - 2 * HOUR, None, None),  # due when the day is over: breached the day after
        (6, "high", AFTER - 2 * HOUR - INSTANT, AFTER, None),  # due at the last instant, answered later: breached
        # medium: 24 hours; answered before the day, resolved in it
        (7, "medium", before - HOUR, before, FIRST),
        (8, "medium", AFTER, AFTER, AFTER),
        # low: 48 hours; nothing of it lies in the day
        (9, "low", before, AFTER, None),
    ])  # fmt: skip
    assert support.compute(WINDOW, "test") is True
    assert by_priority(warehouse) == {
        "high": (4, 1, 2, Decimal("14400.000"), 1, 3),
        "medium": (0, 1, 0, 0, 0, 0),
        "low": (0, 0, 0, 0, 0, 0),
    }
    targets = warehouse.execute("SELECT priority, target_seconds FROM ops.daily_support").fetchall()
    assert dict(targets) == {"high": 7200, "medium": 86400, "low": 172800}
    assert (state().state, state().reason) == (Completeness.COMPLETE, "")


def test_a_target_across_a_clock_change_counts_real_hours(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    # Clocks go back an hour in the night of the 25th; 24 hours after 18:00 (16:00 UTC) it is 17:00 there.
    day = date(2026, 10, 25)
    created = datetime(2026, 10, 24, 16, 0, tzinfo=UTC)
    fill(platform, "support_tickets", [(1, "medium", created, created + timedelta(hours=24, minutes=30), None)])
    support.compute(day_window(day, "Europe/Berlin"), "test")
    assert by_priority(warehouse, day)["medium"] == (0, 0, 1, Decimal(88200), 0, 1)


def test_feedback(warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]) -> None:
    fill(platform, "feedback", [
        (1, FIRST, 5), (2, AFTER - INSTANT, 4), (3, FIRST, 4), (4, FIRST, 1), (5, FIRST - INSTANT, 1), (6, AFTER, 1),
    ])  # fmt: skip
    support.compute(WINDOW, "test")
    assert feedback(warehouse) == (4, 14, 1, 0, 0, 2, 1, Decimal("3.5"))


def test_an_empty_day_has_all_three_priorities(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    fill(platform, "users", [(1, FIRST, None)])  # the platform was there: nobody has asked or rated anything yet
    support.compute(WINDOW, "test")
    assert by_priority(warehouse) == dict.fromkeys(TARGETS, (0, 0, 0, 0, 0, 0))
    assert (state().state, state().reason) == (Completeness.COMPLETE, "")
    assert feedback(warehouse) == (0, 0, 0, 0, 0, 0, 0, None)
    assert support.compute(WINDOW, "again") is False


def test_before_the_first_rating_tickets_are_told_and_ratings_are_absent(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    fill(platform, "support_tickets", [(1, "high", FIRST, None, None)])
    fill(platform, "feedback", [(1, AFTER, 5)])
    support.compute(WINDOW, "test")
    assert by_priority(warehouse)["high"][0] == 1
    assert feedback(warehouse) is None
    assert (state().state, state().completeness) == (Completeness.PARTIAL, Decimal("0.5"))
    with session.transaction() as connection:
        inputs = report_inputs.read(connection, WINDOW, settings())
    for name in ("ratings", "rating_average"):
        assert figure(name, name, inputs.day, inputs.history, 4).reason == state().reason


def test_before_the_first_ticket_support_is_absent(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    fill(platform, "support_tickets", [(1, "high", AFTER, None, None)])
    fill(platform, "feedback", [(1, FIRST, 5)])
    support.compute(WINDOW, "test")
    assert (by_priority(warehouse), feedback(warehouse)) == ({}, None)
    assert state().state is Completeness.MISSING


def test_unknown_priorities_and_ratings_are_named_and_counted_nowhere(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    fill(platform, "support_tickets", [
        (1, "urgent", FIRST, FIRST + HOUR, FIRST + HOUR),  # one ticket, whatever happened to it
        (2, "urgent", FIRST, None, None), (3, None, FIRST, None, None), (4, "high", FIRST, FIRST, None),
    ])  # fmt: skip
    fill(platform, "feedback", [(1, FIRST, 9), (2, FIRST, None), (3, FIRST, 3), (4, FIRST, 3)])
    support.compute(WINDOW, "test")
    assert by_priority(warehouse)["high"] == (1, 0, 1, 0, 1, 0)
    assert feedback(warehouse) == (2, 6, 0, 0, 2, 0, 0, 3)
    found = state()
    assert found.state is Completeness.PARTIAL
    assert found.completeness == Decimal("0.375")  # 1 of 4 tickets and 2 of 4 ratings
    assert "3 tickets have a priority that is not high, medium or low (urgent: 2, (none): 1)" in found.reason
    assert "2 ratings are not 1 to 5" in found.reason
    assert found.detail["tickets_of_unknown_priority"] == {"urgent": 2, "(none)": 1}


def test_targets_come_from_the_configuration(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any], environment: pytest.MonkeyPatch
) -> None:
    fill(platform, "support_tickets", [(1, "high", FIRST, FIRST + 3 * HOUR, None)])
    environment.setenv("OPERATIONS__SUPPORT__RESPONSE_HOURS__HIGH", "4")
    settings.cache_clear()
    support.compute(WINDOW, "test")
    assert by_priority(warehouse)["high"] == (1, 0, 1, 10800, 1, 0)
    settings.cache_clear()


def test_a_target_yet_to_pass_today_is_not_breached(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    now = datetime.now(UTC)
    window = day_window(now.date(), "UTC")
    fill(platform, "support_tickets", [
        (1, "high", now - 2 * HOUR + timedelta(minutes=1), None, None),  # due in a minute
        (2, "high", now - 2 * HOUR - timedelta(seconds=1), None, None),  # due a second ago
    ])  # fmt: skip
    support.compute(window, "test")
    due_today = now - timedelta(seconds=1) >= window.start
    assert by_priority(warehouse, now.date())["high"][5] == (1 if due_today else 0)
    assert "was not over" in state(now.date()).reason


def test_random_tickets_agree_with_a_recount(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    dice = random.Random(11)
    rows = []
    for number in range(4000):
        created = FIRST + timedelta(seconds=dice.randint(-260_000, 100_000))
        answered = created + timedelta(seconds=dice.randint(0, 200_000)) if dice.random() < 0.7 else None
        resolved = answered + timedelta(seconds=dice.randint(0, 90_000)) if answered and dice.random() < 0.7 else None
        rows.append((number, dice.choice(list(TARGETS)), created, answered, resolved))
    fill(platform, "support_tickets", list(rows))
    support.compute(WINDOW, "test")

    def within(at: datetime | None) -> bool:
        return at is not None and FIRST <= at < AFTER

    for priority, target in TARGETS.items():
        mine = [row[2:] for row in rows if row[1] == priority]
        waits = [answered - created for created, answered, _ in mine if answered is not None and within(answered)]
        assert by_priority(warehouse)[priority] == (
            sum(within(created) for created, _, _ in mine),
            sum(within(resolved) for _, _, resolved in mine),
            len(waits),
            Decimal(sum(int(wait.total_seconds()) for wait in waits)),
            sum(wait <= target for wait in waits),
            sum(within(created + target) and (answered is None or answered > created + target)
                for created, answered, _ in mine),
        )  # fmt: skip


def test_a_missing_column_is_named(warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]) -> None:
    platform.execute("ALTER TABLE operations.support_tickets DROP resolved_at")
    with pytest.raises(ConfigurationError, match="resolved_at"):
        support.compute(WINDOW, "test")
    assert by_priority(warehouse) == {}
