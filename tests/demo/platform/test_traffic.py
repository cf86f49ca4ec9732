"""The live traffic has the volumes of the guide, and moves on what waits as often and as late as the history does."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest

from demo.platform import activity
from demo.platform.traffic import VOLUMES, Visitors, next_step, ticket_step

NOW = datetime(2026, 10, 5, 12, tzinfo=UTC)


@pytest.fixture
def visitors() -> Visitors:
    return Visitors("http://127.0.0.1:9", seed=3)


def test_an_average_day_of_a_week_has_the_guides_volumes(visitors: Visitors) -> None:
    begun = sum(visitors.per_second(NOW + timedelta(hours=hour)) * 3600 for hour in range(7 * 24)) / 7
    assert begun == pytest.approx(sum(VOLUMES.values()), rel=0.001)
    assert VOLUMES == {"visit": 3456, "trade": 89, "register": 23, "rate": 12, "complain": 3}


def test_visits_make_the_guides_page_views_and_active_users(visitors: Visitors) -> None:
    came = [visitors.newcomer(date(2026, 10, 5)) for _ in range(activity.SESSIONS)]
    assert sum(one.views for one in came) == pytest.approx(activity.PAGE_VIEWS, rel=0.05)
    assert len({one.user for one in came if one.user}) == pytest.approx(activity.ACTIVE_USERS, rel=0.05)
    assert all(one.views > 1 for one in came if one.user), "a user is seen logged in"


def _transaction(number: int, **ago: timedelta) -> dict[str, object]:
    times = {name: (NOW - ago[name]).isoformat() if name in ago else None for name in ("created", "funded", "disputed")}
    return {"transaction_id": number} | {f"{name}_at": time for name, time in times.items()}


def test_transactions_end_as_in_the_history() -> None:
    days = timedelta(days=30)
    numbers = range(1, 4001)
    first = Counter(str(next_step(_transaction(number, created=days), NOW)) for number in numbers)
    assert first["('cancel', {})"] / 4000 == pytest.approx(0.015, abs=0.006)
    assert first["('fund', {'paid_usd': '0'})"] / 4000 == pytest.approx(0.02, abs=0.007)
    then = Counter(step[0] for n in numbers if (step := next_step(_transaction(n, created=days, funded=days), NOW)))
    assert then["dispute"] / 4000 == pytest.approx(0.025, abs=0.008)
    assert then["dispute"] + then["release"] == 4000
    disputed = [n for n in numbers if next_step(_transaction(n, created=days, funded=days), NOW) == ("dispute", {})]
    ends = Counter(
        step[0]
        for number in disputed
        if (step := next_step(_transaction(number, created=days, funded=days, disputed=days), NOW))
    )
    assert ends["refund"] / len(disputed) == pytest.approx(0.4, abs=0.15)


def test_what_has_just_begun_waits() -> None:
    moment, hours = timedelta(seconds=30), timedelta(hours=20)
    assert next_step(_transaction(1, created=moment), NOW) is None
    assert next_step(_transaction(1, created=moment, funded=moment), NOW) is None
    assert next_step(_transaction(1, created=moment, funded=moment, disputed=moment), NOW) is None
    due = sum(bool(next_step(_transaction(n, created=hours, funded=hours), NOW)) for n in range(1, 1001))
    assert due / 1000 == pytest.approx(0.5, abs=0.06), "half are paid out within 20 hours"


def test_tickets_are_answered_and_nearly_all_resolved() -> None:
    def ticket(number: int, hours: float, answered: float | None = None) -> dict[str, object]:
        times = [None if ago is None else (NOW - timedelta(hours=ago)).isoformat() for ago in (hours, answered)]
        return {"ticket_id": number, "priority": "medium", "created_at": times[0], "first_response_at": times[1]}

    numbers = range(1, 1001)
    assert {ticket_step(ticket(number, 0.01), NOW) for number in numbers} == {None}
    within = sum(ticket_step(ticket(number, 2.1), NOW) == "answer" for number in numbers)
    assert 0.5 < within / 1000 < 0.75, "2.1 hours are the mean"
    assert {ticket_step(ticket(number, 999), NOW) for number in numbers} == {"answer"}
    resolved = sum(ticket_step(ticket(number, 999, 999), NOW) == "resolve" for number in numbers)
    assert resolved / 1000 == pytest.approx(0.97, abs=0.02)
