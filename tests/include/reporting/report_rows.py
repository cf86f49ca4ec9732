"""Hand-made rows of the warehouse for the tests of the reports: the guide's own day, and changes to it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import psycopg

from include.warehouse import reports as stored
from include.window import day_window

DAY = date(2026, 10, 3)  # a Saturday
WINDOW = day_window(DAY, "UTC")
HEALTH, ACTIVITY = stored.KINDS

SUBJECTS = ("uptime", "traffic", "users", "transactions", "support")
TABLES = {
    "uptime": ("daily_uptime",),
    "traffic": ("daily_traffic", "daily_error"),
    "users": ("daily_users",),
    "transactions": ("daily_transactions", "daily_revenue"),
    "support": ("daily_support", "daily_feedback"),
}

# The guide's sample reports. 43.2 s down of 86,400 s are 99.95 %, and so on.
DOWN_SECONDS = {"overall": 43.2, "frontend": 17.28, "api": 69.12, "database": 0, "cache": 0, "chain": 43.2}
TRAFFIC = {
    "requests": 20000,
    "errors": 60,
    "client_errors": 400,
    "response_seconds_sum": 24000,
    "bytes_sent": 1500000,
    "response_p95_seconds": 2.8,
    "response_p99_seconds": 4.1,
    "lines_read": 20310,
    "lines_broken": 0,
}
ERRORS = (
    ("access", "502", "/api/escrow/{id}", 40),
    ("access", "500", "/api/fees", 20),
    ("application", "TimeoutError", "/api/fees", 9),
)
USERS = {
    "active_users": 1247,
    "sessions": 3456,
    "page_views": 12789,
    "new_users": 23,
    "verified_users": 18,
    "pending_verification": 5,
}
TRANSACTIONS = {
    "created": (89, "2300000.40"),
    "completed": (87, "2250000"),
    "disputed": (2, "40000"),
    "cancelled": (0, "0"),
    "failed": (2, "10000.10"),
}
REVENUE = (("escrow", 87, "22500.50"), ("refund", 1, "-100.25"))
SUPPORT = {"high": (1, 1, 1, 7200, 1, 0), "medium": (2, 1, 1, 9360, 1, 0), "low": (0, 0, 0, 0, 0, 0)}
TARGETS = {"high": 7200, "medium": 86400, "low": 172800}
RATINGS = (0, 1, 1, 3, 5)


def insert_day(
    connection: psycopg.Connection[Any],
    day: date,
    *,
    down: dict[str, float] | None = None,
    unknown: float = 0,
    traffic: dict[str, Any] | None = None,
    errors: tuple[tuple[str, str, str, int], ...] = ERRORS,
    users: dict[str, int] | None = None,
    transactions: dict[str, tuple[int, str]] | None = None,
    revenue: tuple[tuple[str, int, str], ...] = REVENUE,
    support: dict[str, tuple[int, ...]] | None = None,
    ratings: tuple[int, ...] = RATINGS,
    content_hash: str = "a",
) -> None:
    """Insert the guide's sample day, changed as asked."""
    with connection.transaction(), connection.cursor() as cursor:
        for component, seconds in (DOWN_SECONDS | (down or {})).items():
            cursor.execute(
                "INSERT INTO ops.daily_uptime VALUES (%s, %s, %s, %s, 0, %s, %s)",
                (day, component, 86400 - seconds - unknown, seconds, unknown, 1 if seconds else 0),
            )
        values = TRAFFIC | (traffic or {})
        cursor.execute(
            f"INSERT INTO ops.daily_traffic (day, lines_excluded, {', '.join(values)})"
            f" VALUES (%s, 300, {', '.join(['%s'] * len(values))})",
            (day, *values.values()),
        )
        cursor.executemany("INSERT INTO ops.daily_error VALUES (%s, %s, %s, %s, %s)", [(day, *each) for each in errors])
        cursor.execute(
            "INSERT INTO ops.daily_users VALUES (%s, %s, %s, %s, %s, %s, %s)", (day, *(USERS | (users or {})).values())
        )
        cursor.executemany(
            "INSERT INTO ops.daily_transactions VALUES (%s, %s, %s, %s)",
            [(day, outcome, *values) for outcome, values in (TRANSACTIONS | (transactions or {})).items()],
        )
        cursor.executemany("INSERT INTO ops.daily_revenue VALUES (%s, %s, %s, %s)", [(day, *each) for each in revenue])
        cursor.executemany(
            "INSERT INTO ops.daily_support VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [(day, priority, *each, TARGETS[priority]) for priority, each in (SUPPORT | (support or {})).items()],
        )
        cursor.execute(
            "INSERT INTO ops.daily_feedback VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            (day, sum(ratings), sum(stars * n for stars, n in enumerate(ratings, 1)), *ratings),
        )
        for subject in SUBJECTS:
            set_subject(connection, day, subject, content_hash=content_hash)


def set_subject(
    connection: psycopg.Connection[Any],
    day: date,
    subject: str,
    state: str = "complete",
    completeness: float = 1,
    reason: str = "",
    content_hash: str = "a",
) -> None:
    """Say what is known of a subject; a missing one loses its rows, as the metrics do it."""
    connection.execute(
        "INSERT INTO ops.daily_subject (day, subject, state, completeness, reason, content_hash)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (day, subject) DO UPDATE SET state = EXCLUDED.state,"
        " completeness = EXCLUDED.completeness, reason = EXCLUDED.reason, content_hash = EXCLUDED.content_hash",
        (day, subject, state, completeness, reason, content_hash),
    )
    if state == "missing":
        for table in TABLES[subject]:
            connection.execute(f"DELETE FROM ops.{table} WHERE day = %s", (day,))


def insert_weeks(connection: psycopg.Connection[Any], day: date, changes: list[dict[str, Any]]) -> None:
    """Insert the same weekday of the weeks before ``day``, newest first, each the sample day with its changes."""
    for week, change in enumerate(changes, 1):
        insert_day(connection, day - timedelta(weeks=week), **change)


def insert_incident(connection: psycopg.Connection[Any], number: int, **changes: Any) -> None:
    """Insert an incident."""
    values = {
        "incident_id": f"INC-2026-{number:03d}",
        "fingerprint": f"incident {number}",
        "class": "P1",
        "state": "detected",
        "title": "Probe of api failed",
        "affected": "api",
        "detected_at": "2026-10-03T02:14:00Z",
        "last_seen_at": "2026-10-30T00:00:00Z",
        "resolved_at": None,
    } | changes
    connection.execute(
        f"INSERT INTO ops.incident ({', '.join(values)}) VALUES ({', '.join(['%s'] * len(values))})",
        list(values.values()),
    )


def one(connection: psycopg.Connection[Any], kind: str, day: date = DAY) -> stored.StoredReport:
    """Return a stored report that is there."""
    return next(each for each in stored.of_day(connection, day.isoformat()) if each.kind == kind)


def line(report: stored.StoredReport, label: str) -> str:
    """Return the first line of a report whose label begins so."""
    return next(text for text in report.markdown.splitlines() if text.startswith(f"- {label}"))
