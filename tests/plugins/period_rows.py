"""Hand-made rollups of weeks and months: what the board's tests and pictures show."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import psycopg

from include.window import Window, month_window, week_window

COMPONENTS = ("overall", "frontend", "api", "database", "cache", "chain")
ERRORS = (("access", "502", "/api/escrow/{id}", 40), ("application", "TimeoutError", "/api/fees", 9))


def some_periods(owner: psycopg.Connection, now: datetime) -> None:
    """Ten weeks and fourteen months up to ``now``; one week was never rolled up, the newest of both go on."""
    with owner.pipeline():  # some hundred rows, which each test of a morning inserts
        yesterday = (now - timedelta(days=1)).date()
        week, month = week_window(yesterday, "UTC"), month_window(yesterday, "UTC")
        for back in range(10):
            if back != 5:
                whole = (yesterday - week.first_day).days + 1 if back == 0 else 6 if back == 3 else 7
                roll_up(owner, week, held=whole, scale=Decimal(100 - back * 3 + back % 3 * 4), ratings=back != 2)
            week = week_window(week.first_day - timedelta(days=1), "UTC")
        for back in range(14):
            held = (yesterday - month.first_day).days + 1 if back == 0 else len(month.days)
            roll_up(owner, month, held=held, scale=Decimal(430 - back * 13 + back % 3 * 9))
            month = month_window(month.first_day - timedelta(days=1), "UTC")


def roll_up(
    owner: psycopg.Connection, window: Window, *, held: int, scale: Decimal = Decimal(100), ratings: bool = True
) -> None:
    """Insert a period of which ``held`` days are held; sums are in proportion to ``scale``, in percent of a week."""
    grain, first, expected = window.grain.value, window.first_day, len(window.days)
    share = scale / 100 * held / expected
    busy = scale / 100 * 7 / expected  # beside an ordinary week
    key = {"grain": grain, "period_start": first, "days_expected": expected, "days_held": held}
    final = {"is_final": held == expected}
    _insert(owner, "rollup", **key, **final, period_key=window.key, input_hash="h", days_begun=0)
    down = {component: 43 * number * share for number, component in enumerate(COMPONENTS)} | {"overall": 310 * share}
    for component, seconds in down.items():
        up = {"up_seconds": 86400 * held - seconds, "down_seconds": seconds, "outages": 1 if seconds else 0}
        _insert(owner, "rollup_uptime", **key, **final, component=component, **up, maintenance_seconds=3600,
                unknown_seconds=140)  # fmt: skip
    _insert(
        owner, "rollup_traffic", **key, **final, requests=round(140_000 * share), errors=round(420 * share * busy),
        client_errors=round(2800 * share), response_seconds_sum=168_000 * share * busy, response_p95_seconds="2.8",
        response_p99_seconds="4.1", bytes_sent=round(10_500_000 * share), lines_broken=0,
    )  # fmt: skip
    for source, kind, endpoint, errors in ERRORS:
        _insert(owner, "rollup_error", **key, **final, source=source, kind=kind, endpoint=endpoint, errors=errors)
    _insert(
        owner, "rollup_users", **key, **final, active_users=round(4310 * share), active_users_relative_error="0.00812",
        sessions=round(24_192 * share), page_views=round(89_523 * share), new_users=round(161 * share),
        verified_users=round(126 * share), pending_verification=round(35 * share),
    )  # fmt: skip
    for outcome, count, value in (
        ("created", 623, "16100002.80"), ("completed", 609, "15750000"), ("disputed", 14, "280000"),
        ("cancelled", 0, "0"), ("failed", 12, "70000.70"),
    ):  # fmt: skip
        _insert(owner, "rollup_transactions", **key, **final, outcome=outcome, transactions=round(count * share),
                value_usd=Decimal(value) * share)  # fmt: skip
    for kind, fees, amount in (("escrow", 609, "157503.50"), ("refund", 7, "-701.75")):
        _insert(owner, "rollup_revenue", **key, **final, kind=kind, fees=round(fees * share),
                amount_usd=Decimal(amount) * share)  # fmt: skip
    for priority, tickets in (("high", 7), ("medium", 14), ("low", 0)):
        _insert(owner, "rollup_support", **key, **final, priority=priority, created=tickets, resolved=tickets,
                first_responses=tickets, response_seconds_sum=tickets * 8280, within_target=tickets,
                breached=0)  # fmt: skip
    if ratings:
        stars = {f"rating_{star}": number for star, number in enumerate((0, 7, 7, 21, 35), 1)}
        _insert(owner, "rollup_feedback", **key, **final, ratings=70, rating_sum=294, **stars)


def _insert(owner: psycopg.Connection, table: str, **values: object) -> None:
    owner.execute(
        f"INSERT INTO ops.{table} ({', '.join(values)}) VALUES ({', '.join(['%s'] * len(values))})".encode(),
        list(values.values()),
    )
