"""Makes log lines, and reads the day's traffic from the warehouse."""

import random
import uuid
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.platform import log_catalogue
from include.reporting import traffic
from include.window import day_window

DAY = date(2026, 10, 3)
Warehouse = psycopg.Connection


@pytest.fixture(name="logs")
def log_folder(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The platform's log folder; the catalogue is the test's own."""
    own = tmp_path / "catalogue"
    own.mkdir(mode=0o700)
    monkeypatch.setattr(log_catalogue, "_folder", lambda: own)
    return tmp_path / "platform_logs"


def line(
    moment: datetime,
    request: str = "GET / HTTP/1.1",
    status: int = 200,
    size: int = 512,
    seconds: str = "0.120",
    offset: int = 0,
    agent: str = "Mozilla/5.0",
) -> str:
    local = moment.astimezone(timezone(timedelta(minutes=offset)))
    return f'203.0.113.7 - - [{local:%d/%b/%Y:%H:%M:%S %z}] "{request}" {status} {size} "-" "{agent}" {seconds}\n'


def at(hour: float, day: date = DAY, zone: str = "UTC") -> datetime:
    """A moment of a day, in hours since its beginning."""
    return day_window(day, zone).start + timedelta(hours=hour)


def full_day(day: date = DAY, zone: str = "UTC", per_hour: int = 1, **options: Any) -> list[str]:
    hours = int(day_window(day, zone).seconds / 3600)
    return [line(at(h + n / per_hour, day, zone), **options) for h in range(hours) for n in range(per_hour)]


def run(day: date = DAY, zone: str = "UTC") -> list[date]:
    return traffic.compute(day_window(day, zone), "test")


def rows(warehouse: Warehouse, table: str, day: date = DAY, columns: str = "*") -> list[tuple[Any, ...]]:
    return warehouse.execute(f"SELECT {columns} FROM ops.{table} WHERE day = %s", (day,)).fetchall()


def subject(warehouse: Warehouse, day: date = DAY) -> Any:
    found = rows(warehouse, "daily_subject", day, "state, completeness, reason, detail")
    return found[0] if found else None


def count(warehouse: Warehouse, day: date = DAY, column: str = "lines_read") -> Any:
    found = rows(warehouse, "daily_traffic", day, column)
    return found[0][0] if found else None


def everything(warehouse: Warehouse) -> list[Any]:
    return [
        sorted(warehouse.execute(f"SELECT t::text FROM ops.{table} t").fetchall())
        for table in ("daily_subject", "daily_traffic", "hourly_traffic", "hourly_latency", "daily_error")
    ]


def random_lines(day: date, zone: str, number: int, seed: int) -> list[str]:
    """Lines of a day and a few of its neighbours, in no order, in several offsets."""
    pick = random.Random(seed)
    window = day_window(day, zone)
    made = []
    for _ in range(number):
        moment = window.start + timedelta(seconds=pick.uniform(-600, window.seconds + 600))
        target = pick.choice(
            [
                "/", "/api/transactions", "/api/transactions/{n}", "/api/v2/users/{n}/7?token=abc&x=1",
                "/0x{h}/deadbeef",
                "/files/{u}", "/a//b/{n}/", "/health", "/metrics/", "/health/live", "/été/{n}", "/decade/cafe/v1",
                "http://other.example/{n}", "*", "/w/{w}", "/?q=/1/2",
            ]
        ).format(
            n=pick.randrange(10**6), h=f"{pick.getrandbits(64):x}", u=uuid.UUID(int=pick.getrandbits(128)),
            w=f"word-{pick.randrange(30)}",
        )  # fmt: skip
        method = pick.choice(["GET"] * 5 + ["POST", "PUT", "BREW", "get"])
        request = pick.choice([f"{method} {target} HTTP/1.1"] * 20 + ["", "-", "\\x16\\x03\\x01"])
        seconds = f"{pick.choice([0, pick.lognormvariate(-2, 1.3)]):.3f}"
        made.append(
            line(
                moment, request, pick.choice([200, 200, 200, 101, 301, 404, 429, 500, 502, 503]),
                pick.choice([0, pick.randrange(10**7)]), seconds, offset=pick.choice([0, 60, 330, -210]),
                agent=pick.choice(["Mozilla/5.0"] * 9 + ["gold-escrow-operations"]),
            )
        )  # fmt: skip
        if pick.random() < 0.01:
            made.append(pick.choice(["garbage\n", made[-1][:60] + "\n", '{"json": true}\n', made[-1][:-1] + "x\n"]))
    return made
