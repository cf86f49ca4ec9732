"""The figures of whole days of the demo platform equal a recount in plain Python over its raw tables and logs."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from include.reporting import support, traffic, transactions, uptime, users
from include.window import Window, day_window
from tests.conftest import Platform
from tests.include.reporting.traffic_recount import recount

DAYS = [date(2026, 10, 3), date(2026, 10, 8)]


class Raw:
    """Every row of the platform's own tables, as dictionaries, whatever their day."""

    def __init__(self, url: str, window: Window) -> None:
        self.start, self.end = window.start, window.end
        with psycopg.connect(url, options="-c timezone=UTC") as connection:
            for table in ("users", "sessions", "page_views", "transactions", "fees", "support_tickets", "feedback"):
                cursor = connection.execute(f"SELECT * FROM public.{table}")
                names = [column.name for column in cursor.description or ()]
                setattr(self, table, [dict(zip(names, row, strict=True)) for row in cursor])

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def within(self, moment: datetime | None) -> bool:
        return moment is not None and self.start <= moment < self.end


@pytest.fixture(params=DAYS, ids=str)
def day(request: pytest.FixtureRequest, platform: Platform) -> date:
    """A day whose figures the collection has computed."""
    found: date = request.param
    for subject in (users, transactions, support, uptime, traffic):
        subject.compute(day_window(found, "UTC"), "recount")
    return found


@pytest.fixture
def raw(day: date, platform: Platform, databases: Databases) -> Raw:
    return Raw(databases.url(platform.escrow, "escrow_owner"), day_window(day, "UTC"))


@pytest.fixture
def ours(day: date, platform: Platform, databases: Databases) -> Any:
    with psycopg.connect(databases.url(platform.warehouse, "warehouse_reader")) as connection:
        yield lambda query: connection.execute(query, {"day": day}).fetchall()


def test_users(raw: Raw, ours: Any) -> None:
    seen = {view["user_id"] for view in raw.page_views if raw.within(view["viewed_at"]) and view["user_id"] is not None}
    new = [user for user in raw.users if raw.within(user["registered_at"])]
    verified = [user for user in new if user["verified_at"] is not None and user["verified_at"] < raw.end]
    assert len(seen) > 500, "the day has users to count"
    assert ours(
        "SELECT active_users, sessions, page_views, new_users, verified_users, pending_verification "
        "FROM ops.daily_users WHERE day = %(day)s"
    ) == [
        (
            len(seen),
            sum(raw.within(session["started_at"]) for session in raw.sessions),
            sum(raw.within(view["viewed_at"]) for view in raw.page_views),
            len(new),
            len(verified),
            len(new) - len(verified),
        )
    ]


def test_transactions_and_revenue(raw: Raw, ours: Any) -> None:
    stored = {row[0]: row[1:] for row in ours(
        "SELECT outcome, transactions, value_usd FROM ops.daily_transactions WHERE day = %(day)s")}  # fmt: skip
    for outcome in ("created", "completed", "disputed", "cancelled", "failed"):
        reached = [each for each in raw.transactions if raw.within(each[f"{outcome}_at"])]
        assert stored[outcome] == (len(reached), sum((each["amount_usd"] for each in reached), Decimal(0))), outcome
    assert stored["created"][0] > 40
    fees = [fee for fee in raw.fees if raw.within(fee["charged_at"])]
    by_kind = {
        kind: [fee["amount_usd"] for fee in fees if fee["kind"] == kind] for kind in {fee["kind"] for fee in fees}
    }
    assert ours("SELECT kind, fees, amount_usd FROM ops.daily_revenue WHERE day = %(day)s ORDER BY kind") == [
        (kind, len(amounts), sum(amounts)) for kind, amounts in sorted(by_kind.items())
    ]


def test_support_and_feedback(raw: Raw, ours: Any) -> None:
    stored = {row[0]: row[1:] for row in ours(
        "SELECT priority, created, resolved, first_responses, response_seconds_sum, within_target, breached "
        "FROM ops.daily_support WHERE day = %(day)s")}  # fmt: skip
    for priority, hours in {"high": 2, "medium": 24, "low": 48}.items():
        tickets = [ticket for ticket in raw.support_tickets if ticket["priority"] == priority]
        answered = [ticket for ticket in tickets if raw.within(ticket["first_response_at"])]
        seconds = sum(
            (Decimal((t["first_response_at"] - t["created_at"]) // timedelta(microseconds=1)) for t in answered),
            Decimal(0),
        ) / 1_000_000  # fmt: skip
        target = timedelta(hours=hours)
        late = [
            ticket
            for ticket in tickets
            if raw.within(ticket["created_at"] + target)
            and (ticket["first_response_at"] is None or ticket["first_response_at"] > ticket["created_at"] + target)
        ]
        assert stored[priority] == (
            sum(raw.within(ticket["created_at"]) for ticket in tickets),
            sum(raw.within(ticket["resolved_at"]) for ticket in tickets),
            len(answered),
            seconds.quantize(Decimal("0.001")),
            sum(ticket["first_response_at"] - ticket["created_at"] <= target for ticket in answered),
            len(late),
        ), priority
    ratings = [each["rating"] for each in raw.feedback if raw.within(each["given_at"])]
    assert ours(
        "SELECT ratings, rating_sum, rating_1, rating_2, rating_3, rating_4, rating_5 "
        "FROM ops.daily_feedback WHERE day = %(day)s"
    ) == [(len(ratings), sum(ratings), *(ratings.count(stars) for stars in range(1, 6)))]


def test_traffic_and_percentiles(day: date, platform: Platform, ours: Any) -> None:
    files: list[Path] = sorted(platform.logs.glob("access.log*"))
    counted = recount(files, day, "UTC")
    assert ours(
        "SELECT requests, errors, client_errors, response_seconds_sum, bytes_sent, lines_read, lines_broken, "
        "lines_excluded FROM ops.daily_traffic WHERE day = %(day)s"
    ) == [counted["daily_traffic"]]
    hourly = ours(
        "SELECT hour_start, method, endpoint, requests, errors, client_errors, response_seconds_sum, bytes_sent "
        "FROM ops.hourly_traffic WHERE day = %(day)s"
    )
    assert {(row[0].astimezone(UTC), *row[1:]) for row in hourly} == counted["hourly_traffic"]
    seconds = counted["seconds"]
    [(p95, p99)] = ours("SELECT response_p95_seconds, response_p99_seconds FROM ops.daily_traffic WHERE day = %(day)s")
    for share, found in ((0.95, p95), (0.99, p99)):
        exact = seconds[math.floor(share * (len(seconds) - 1))]
        assert abs(found - exact) <= exact * Decimal("0.01"), share


def test_uptime_by_the_second(day: date, platform: Platform, databases: Databases, ours: Any) -> None:
    """The state of every second, from the raw observations: the last one holds for at most 150 s."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    with psycopg.connect(databases.url(platform.warehouse, "warehouse_reader")) as connection:
        seen = connection.execute(
            "SELECT observed_at, outcome FROM ops.observation WHERE resource = 'api' AND signal = 'probe' "
            "AND observed_at >= %s AND observed_at < %s ORDER BY observed_at",
            (start - timedelta(minutes=10), start + timedelta(days=1)),
        ).fetchall()
        windows = connection.execute(
            "SELECT starts_at, ends_at FROM ops.maintenance_window WHERE component IN ('api', '*')"
        ).fetchall()
    counts = {"up": 0, "down": 0, "maintenance": 0, "unknown": 0}
    place = -1
    for second in range(86_400):
        # The middle of the second: observations are made on whole seconds.
        now = start + timedelta(seconds=second, milliseconds=500)
        while place + 1 < len(seen) and seen[place + 1][0] <= now:
            place += 1
        if any(begin <= now < end for begin, end in windows):
            counts["maintenance"] += 1
        elif place < 0 or (now - seen[place][0]).total_seconds() >= 150 or seen[place][1] == "unknown":
            counts["unknown"] += 1
        else:
            counts["down" if seen[place][1] == "critical" else "up"] += 1
    [row] = ours(
        "SELECT up_seconds, down_seconds, maintenance_seconds, unknown_seconds FROM ops.daily_uptime "
        "WHERE day = %(day)s AND component = 'api'"
    )
    assert sum(row) == 86_400
    for found, counted in zip(row, counts.values(), strict=True):
        assert abs(found - counted) <= 2, (row, counts)
