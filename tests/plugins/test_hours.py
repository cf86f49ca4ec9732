"""The query of docs/operate.md that tells which endpoint was slow at an hour, as the warehouse's reader runs it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import psycopg

from include.settings import ROOT
from plugins.operations_board.warehouse import read


def query_under(heading: str) -> str:
    """The indented lines of a section of the page."""
    text = (ROOT / "docs" / "operate.md").read_text()
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return "\n".join(re.findall(r"^    (.+)$", section, re.M))


def hour(owner: psycopg.Connection, day: date, of_day: int, endpoint: str, requests: int, seconds: int) -> None:
    at = datetime(day.year, day.month, day.day, of_day, tzinfo=UTC)
    owner.execute(
        "INSERT INTO ops.hourly_traffic (day, hour_start, method, endpoint, requests, errors, client_errors,"
        " response_seconds_sum, bytes_sent) VALUES (%s, %s, 'GET', %s, %s, 1, 0, %s, 0)",
        (day, at, endpoint, requests, seconds),
    )


def test_the_query_tells_where_the_time_of_an_hour_went(warehouse: psycopg.Connection) -> None:
    day = date(2026, 10, 3)
    hour(warehouse, day, 3, "/slow", 10, 30)
    hour(warehouse, day, 3, "/often", 1000, 100)
    hour(warehouse, day, 3, "/new", 4, 1)
    hour(warehouse, day, 4, "/slow", 10, 900)  # another hour
    for back in range(1, 8):  # 2 requests of 1 s and 2 of 2 s each day: 1.5 s
        hour(warehouse, day - timedelta(days=back), 3, "/slow", 2, 2)
        hour(warehouse, day - timedelta(days=back), 5, "/slow", 2, 4)
    hour(warehouse, day - timedelta(days=8), 3, "/slow", 1, 99)  # longer ago
    query = query_under("Which endpoint was slow at three?")
    with read() as reader:
        found = [tuple(row.values()) for row in reader._connection.execute(query.encode())]
    assert found == [
        ("GET", "/often", 1000, 1, Decimal("0.100"), None),
        ("GET", "/slow", 10, 1, Decimal("3.000"), Decimal("1.500")),
        ("GET", "/new", 4, 1, Decimal("0.250"), None),
    ]
