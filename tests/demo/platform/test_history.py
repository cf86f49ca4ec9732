"""The generated history: the guide's volumes, the same rows from the same seed, logs that agree with the rows."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from demo.platform import database, history, observations, rhythm

FIRST, DAYS = date(2026, 10, 5), 28
ACCESS = re.compile(
    r'^(\S+) - (\S+) \[([^\]]+)\] "([A-Z]+) (\S+) HTTP/1\.1" (\d{3}) (\d+) "([^"]*)" "([^"]*)" (\d+\.\d{3})$'
)
ERROR = re.compile(
    r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[error\] \d+#\d+: \*\d+ .+, client: \S+, server: _, "
    r'request: "[A-Z]+ \S+ HTTP/1\.1", upstream: "[^"]+", host: "[^"]+"$'
)


class Generated:
    """A platform with a history."""

    def __init__(self, url: str, logs: Path, counts: dict[str, int]) -> None:
        self.url, self.logs, self.counts = url, logs, counts

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, options="-c timezone=UTC") as connection:
            return connection.execute(query.encode()).fetchall()

    def lines(self, log: str) -> list[str]:
        found: list[str] = []
        for path in sorted(self.logs.glob(f"{log}*")):
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            found += content.decode().removesuffix("\n").split("\n")
        return found


@pytest.fixture(scope="module")
def platform(
    new_escrow: Callable[[], str], databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Generated:
    url, logs = databases.url(new_escrow(), "escrow_owner"), tmp_path_factory.mktemp("logs")
    return Generated(url, logs, history.generate(url, None, logs, first_day=FIRST, days=DAYS))


def average(platform: Generated, what: str, table: str, time: str, where: str = "true") -> float:
    query = f"SELECT {what} FROM {table} WHERE {where} AND {time} >= '{FIRST}' GROUP BY {time}::date"
    found = [float(value) for (value,) in platform.rows(query)]
    assert len(found) == DAYS
    return sum(found) / DAYS


@pytest.mark.parametrize(
    ("what", "table", "time", "where", "expected", "tolerance"),
    [
        ("count(DISTINCT user_id)", "page_views", "viewed_at", "true", 1247, 0.04),
        ("count(*)", "sessions", "started_at", "true", 3456, 0.04),
        ("count(*)", "page_views", "viewed_at", "true", 12789, 0.04),
        ("count(*)", "transactions", "created_at", "true", 89, 0.04),
        ("sum(amount_usd)", "transactions", "created_at", "true", 2_300_000, 0.15),
        ("count(*)", "transactions", "completed_at", "completed_at IS NOT NULL", 85, 0.1),
        ("count(*)", "users", "registered_at", "true", 23, 0.15),
    ],
)
def test_an_average_day_has_the_guides_volumes(
    platform: Generated, what: str, table: str, time: str, where: str, expected: float, tolerance: float
) -> None:
    assert average(platform, what, table, time, where) == pytest.approx(expected, rel=tolerance)


def test_other_volumes(platform: Generated) -> None:
    ((new, verified),) = platform.rows(
        f"""SELECT count(*), count(*) FILTER (WHERE verified_at::date = registered_at::date)
            FROM users WHERE registered_at >= '{FIRST}'"""
    )
    assert verified / new == pytest.approx(18 / 23, abs=0.06)
    ((tickets, hours),) = platform.rows(
        "SELECT count(*), avg(extract(epoch FROM first_response_at - created_at)) / 3600 FROM support_tickets"
    )
    assert tickets / DAYS == pytest.approx(3, rel=0.3)
    assert float(hours) == pytest.approx(2.3, rel=0.4)
    ((disputed, refunded, cancelled, failed, failed_logins),) = platform.rows(
        """SELECT count(disputed_at), count(refunded_at), count(cancelled_at), count(failed_at),
                  (SELECT count(*) FROM authentication_events WHERE kind = 'login' AND NOT succeeded)
           FROM transactions"""
    )
    assert min(disputed, refunded, cancelled, failed, failed_logins) > 5


def test_weekdays_and_growth(platform: Generated) -> None:
    days = dict(platform.rows("SELECT viewed_at::date, count(*) FROM page_views GROUP BY 1"))
    week = [sum(days[FIRST + timedelta(days=7 * number + day)] for day in range(7)) for number in range(4)]
    assert week == sorted(week)
    assert days[date(2026, 10, 18)] < 0.8 * days[date(2026, 10, 14)]  # a Sunday and the Wednesday before
    hours = dict(platform.rows("SELECT extract(hour FROM viewed_at)::int, count(*) FROM page_views GROUP BY 1"))
    assert hours[14] > 5 * hours[3]


def test_rows_agree_with_each_other(platform: Generated) -> None:
    end = FIRST + timedelta(days=DAYS)
    for table, column in (
        ("page_views", "viewed_at"), ("transactions", "completed_at"), ("fees", "charged_at"),
        ("users", "verified_at"), ("support_tickets", "resolved_at"), ("audit_logs", "created_at"),
    ):  # fmt: skip
        assert platform.rows(f"SELECT count(*) FROM {table} WHERE {column} >= '{end}'") == [(0,)]
    ((wrong,),) = platform.rows(
        """SELECT count(*) FROM transactions LEFT JOIN fees USING (transaction_id)
           WHERE kind = 'escrow' AND (completed_at IS DISTINCT FROM charged_at
                 OR fees.amount_usd <> trunc(transactions.amount_usd * 0.015, 2))"""
    )
    assert wrong == 0
    completed, fees = platform.rows(
        "SELECT count(completed_at) FROM transactions UNION ALL SELECT count(*) FROM fees WHERE kind = 'escrow'"
    )
    assert completed == fees
    ((early,),) = platform.rows(
        "SELECT count(*) FROM page_views JOIN users USING (user_id) WHERE viewed_at < registered_at"
    )
    assert early == 0
    ((outside,),) = platform.rows(
        """SELECT count(*) FROM page_views JOIN sessions USING (session_id)
           WHERE viewed_at < started_at OR viewed_at > ended_at
              OR page_views.user_id IS DISTINCT FROM sessions.user_id"""
    )
    assert outside == 0
    ((without,),) = platform.rows(
        "SELECT count(*) FROM sessions WHERE NOT EXISTS (SELECT FROM page_views WHERE session_id = sessions.session_id)"
    )
    assert without == 0


def test_constraints_and_indexes_are_back_and_numbers_go_on(platform: Generated) -> None:
    assert platform.rows("SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated") == [(9,)]
    assert platform.rows("SELECT count(*) FROM pg_indexes WHERE indexname = 'page_views_viewed_at'") == [(1,)]
    ((highest, following),) = platform.rows(
        "SELECT max(user_id), nextval(pg_get_serial_sequence('users', 'user_id')) FROM users"
    )
    assert following == highest + 1


def test_audit_logs_are_old_enough_to_prune(platform: Generated) -> None:
    last = FIRST + timedelta(days=DAYS - 1)
    ((oldest, old, days),) = platform.rows(
        f"""SELECT min(created_at)::date, count(*) FILTER (WHERE created_at < '{last}'::date - 90),
                   count(DISTINCT created_at::date) FROM audit_logs"""
    )
    assert oldest == last - timedelta(days=130)
    assert old > 40 * 200
    assert days == 131


def test_the_access_log_agrees_with_the_database(platform: Generated) -> None:
    lines = platform.lines("access.log")
    assert len(lines) == platform.counts["access_lines"]
    parsed = [match.groups() for line in lines if (match := ACCESS.match(line))]
    assert 10 < len(lines) - len(parsed) < 3 * DAYS
    pages = ("/", "/dashboard", "/transactions", "/pricing", "/account", "/help", "/login", "/register")
    gets = Counter(
        (when[:11], path)
        for _, _, when, method, path, status, *_ in parsed
        if method == "GET" and status == "200" and not path.startswith("/api") and path != "/health"
    )
    rows = platform.rows("SELECT viewed_at::date, path, count(*) FROM page_views GROUP BY 1, 2")
    views = Counter({(f"{day:%d/%b/%Y}", path): number for day, path, number in rows})
    assert gets == views
    assert {path for _, path in views if not path.startswith("/transactions/")} <= set(pages)
    posts = Counter(path for _, _, _, method, path, status, *_ in parsed if method == "POST" and status < "300")
    ((created, disputed),) = platform.rows(
        f"""SELECT count(*) FILTER (WHERE created_at >= '{FIRST}'), count(*) FILTER (WHERE disputed_at >= '{FIRST}')
            FROM transactions"""
    )
    assert posts["/api/transactions"] == created
    assert sum(number for path, number in posts.items() if path.endswith("/dispute")) == disputed


def test_response_times_and_errors_are_the_guides(platform: Generated) -> None:
    parsed = [match.groups() for line in platform.lines("access.log") if (match := ACCESS.match(line))]
    counted = [(float(found[9]), int(found[5])) for found in parsed if found[4] != "/health"]
    seconds = sorted(value for value, _ in counted)
    assert sum(seconds) / len(seconds) == pytest.approx(1.2, rel=0.05)
    assert seconds[int(len(seconds) * 0.95)] == pytest.approx(2.8, rel=0.05)
    assert sum(status >= 500 for _, status in counted) / len(counted) == pytest.approx(0.003, abs=0.0012)
    assert {status for _, status in counted} >= {200, 201, 304, 401, 404, 500, 502, 503, 504}
    probes = [found for found in parsed if found[4] == "/health"]
    assert {found[8] for found in probes} == {"gold-escrow-operations"}
    assert len(probes) == DAYS * 1440 - 47


def test_problem_logs_can_be_read(platform: Generated) -> None:
    entries = [json.loads(line) for line in platform.lines("application.log")]
    for entry in entries:
        assert datetime.fromisoformat(entry["time"]).tzinfo is not None
        assert {"level", "logger", "message", "path"} <= set(entry)
        assert ("exception" in entry) == (entry["level"] == "ERROR")
    assert {entry["level"] for entry in entries} == {"INFO", "WARNING", "ERROR"}
    lines = platform.lines("error.log")
    assert len(lines) > DAYS
    assert all(ERROR.match(line) for line in lines)


def test_log_files_are_rotated_at_midnight(platform: Generated) -> None:
    last = FIRST + timedelta(days=DAYS - 1)
    names = {path.name for path in platform.logs.iterdir()}
    older = [FIRST + timedelta(days=number) for number in range(DAYS - 1)]
    assert names == {
        "access.log",
        *(f"{log}-{last:%Y%m%d}" for log in ("access.log", "application.log", "error.log")),
        *(f"{log}-{day:%Y%m%d}.gz" for log in ("access.log", "application.log", "error.log") for day in older),
    }
    # The last four lines of a day were written after the rotation: they begin the next file.
    yesterday = (platform.logs / f"access.log-{last:%Y%m%d}").read_text().splitlines()
    days = [match[3][:11] for line in yesterday[:6] if (match := ACCESS.match(line))]
    assert days == ["31/Oct/2026"] * 4 + ["01/Nov/2026"] * 2
    live = (platform.logs / "access.log").read_text().splitlines()
    assert len(live) == 4
    assert all("[01/Nov/2026:" in line for line in live)
    rotated = (platform.logs / f"access.log-{FIRST:%Y%m%d}.gz").stat().st_mtime
    assert datetime.fromtimestamp(rotated, UTC) == datetime(2026, 10, 6, tzinfo=UTC)


def digest(url: str) -> dict[str, str]:
    with psycopg.connect(url) as connection:
        found = {}
        for table in database.TABLES:
            query = f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} t"
            row = connection.execute(query.encode()).fetchone()
            found[table] = row[0] if row else ""
        return found


def test_the_same_seed_gives_the_same_rows_and_lines(
    new_escrow: Callable[[], str], databases: Databases, tmp_path: Path
) -> None:
    made = []
    for number, seed in enumerate((3, 3, 4)):
        url, logs = databases.url(new_escrow(), "escrow_owner"), tmp_path / str(number)
        history.generate(url, None, logs, first_day=FIRST, days=2, seed=seed)
        made.append((digest(url), {path.name: path.read_bytes() for path in logs.iterdir()}))
    assert made[0] == made[1]
    assert all(made[0][0][table] != made[2][0][table] for table in database.TABLES)
    assert made[0][1].keys() == made[2][1].keys()


def test_a_second_generation_adds_only_the_days_that_are_missing(
    new_escrow: Callable[[], str], databases: Databases, tmp_path: Path
) -> None:
    url = databases.url(new_escrow(), "escrow_owner")
    history.generate(url, None, tmp_path, first_day=FIRST, days=2)
    before, files = digest(url), {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again = history.generate(url, None, tmp_path, first_day=FIRST, days=2)
    assert set(again.values()) == {0}
    assert digest(url) == before
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    more = history.generate(url, None, tmp_path, first_day=FIRST, days=3)
    assert 8_000 < more["page_views"] < 16_000
    with psycopg.connect(url) as connection:
        days = connection.execute("SELECT count(DISTINCT viewed_at::date) FROM page_views").fetchone()
        assert days == (3,)


def test_observations_of_the_watch(
    warehouse: psycopg.Connection, new_escrow: Callable[[], str], databases: Databases, tmp_path: Path
) -> None:
    url = databases.url(new_escrow(), "escrow_owner")
    writer = databases.url(warehouse.info.dbname, "warehouse_writer")
    days = 12
    counts = history.generate(url, writer, tmp_path, first_day=FIRST, days=days)
    assert counts["observations"] == days * 5 * 1440 - 5 * 47
    rows = warehouse.execute(
        """SELECT resource, count(*), count(*) FILTER (WHERE outcome = 'ok' AND value > 0 AND unit = 'seconds'),
                  count(*) FILTER (WHERE outcome = 'critical'), max(value) FROM ops.observation
           WHERE signal = 'probe' AND evidence = '{}' GROUP BY 1 ORDER BY 1"""
    ).fetchall()
    assert [row[0] for row in rows] == ["api", "cache", "chain", "database", "frontend"]
    assert all(total == fine + failed and highest < 5 for _, total, fine, failed, highest in rows)
    planned = [outage for number in range(days) for outage in rhythm.outages(7, FIRST + timedelta(days=number))]
    assert planned
    for outage in planned:
        seen = warehouse.execute(
            """SELECT count(*) FROM ops.observation WHERE resource = %s AND outcome = 'critical'
               AND observed_at >= to_timestamp(%s / 1000.0) AND observed_at < to_timestamp(%s / 1000.0)""",
            (outage.component, outage.start, outage.end),
        ).fetchone()
        assert seen
        assert abs(seen[0] - (outage.end - outage.start) / rhythm.MINUTE) <= 1
    absence = [rhythm.moment(time) for time in observations.gap(FIRST, days)]
    unseen = warehouse.execute(
        "SELECT count(*) FROM ops.observation WHERE observed_at >= %s AND observed_at < %s", absence
    ).fetchone()
    assert unseen == (0,)
    windows = warehouse.execute("SELECT component, starts_at, ends_at FROM ops.maintenance_window").fetchall()
    assert windows == [("*", datetime(2026, 10, 11, 3, 0, tzinfo=UTC), datetime(2026, 10, 11, 3, 30, tzinfo=UTC))]
    assert history.generate(url, writer, tmp_path, first_day=FIRST, days=days)["observations"] == 0
    assert warehouse.execute("SELECT count(*) FROM ops.maintenance_window").fetchone() == (1,)


@pytest.mark.parametrize(("days", "scale"), [(0, 1), (1, 0), (-3, 1)])
def test_impossible_sizes_are_refused(days: int, scale: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        history.generate("postgresql://unused", None, tmp_path, first_day=FIRST, days=days, scale=scale)


def test_scale_multiplies_the_volumes(new_escrow: Callable[[], str], databases: Databases, tmp_path: Path) -> None:
    url = databases.url(new_escrow(), "escrow_owner")
    counts = history.generate(url, None, tmp_path, first_day=FIRST, days=1, scale=5)
    expected = 12_789 * 5 * rhythm.volume(FIRST, FIRST)
    assert counts["page_views"] == pytest.approx(expected, rel=0.07)
