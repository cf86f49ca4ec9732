"""Users of a day: worked out by hand at the edges of the day, and recounted over random events."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from include.outcome import Completeness, ConfigurationError, SourceUnavailable
from include.reporting import users
from include.warehouse import metrics
from include.window import day_window
from tests.include.reporting.contract_tables import contract, fill
from tests.include.reporting.md5_sketch import by_md5

# The day of the change to winter time: 25 hours, from 22:00 UTC of the 24th to 23:00 UTC of the 25th.
DAY = date(2025, 10, 26)
WINDOW = day_window(DAY, "Europe/Berlin")
FIRST = datetime(2025, 10, 25, 22, 0, tzinfo=UTC)
AFTER = datetime(2025, 10, 26, 23, 0, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


@pytest.fixture
def platform(
    databases: Databases, warehouse: psycopg.Connection[Any], environment: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection[Any]]:
    with contract(databases, environment) as owner:
        yield owner


def figures(warehouse: psycopg.Connection[Any], day: date = DAY) -> tuple[Any, ...] | None:
    """Active users, sessions, page views, new, verified, pending."""
    return warehouse.execute(
        "SELECT active_users, sessions, page_views, new_users, verified_users, pending_verification"
        " FROM ops.daily_users WHERE day = %s",
        (day,),
    ).fetchone()


def registers(warehouse: psycopg.Connection[Any], day: date = DAY) -> bytes:
    found = warehouse.execute("SELECT registers FROM ops.daily_user_sketch WHERE day = %s", (day,)).fetchone()
    assert found is not None
    return bytes(found[0])


def test_the_window_is_the_one_of_the_comment() -> None:
    assert (WINDOW.start, WINDOW.end) == (FIRST, AFTER)


def test_the_edges_of_the_day(warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]) -> None:
    fill(platform, "users", [
        (1, FIRST, FIRST),  # the first instant belongs to the day
        (2, AFTER - INSTANT, AFTER - INSTANT),
        (3, FIRST + INSTANT, AFTER),  # verified when the day was over: pending for ever
        (4, FIRST, None),
        (5, FIRST - INSTANT, FIRST),  # registered the day before
        (6, AFTER, AFTER),  # the day after
    ])  # fmt: skip
    fill(platform, "sessions", [(1, 1, FIRST), (2, None, AFTER - INSTANT), (3, 1, FIRST - INSTANT), (4, 1, AFTER)])
    fill(platform, "page_views", [
        (1, FIRST, "/"), (1, FIRST, "/"), (2, AFTER - INSTANT, "/"), (None, FIRST, "/"),
        (7, FIRST - INSTANT, "/"), (8, AFTER, "/"),
    ])  # fmt: skip
    assert users.compute(WINDOW, "test") is True
    assert figures(warehouse) == (2, 2, 4, 4, 2, 2)
    assert registers(warehouse) == by_md5(["1", "2"])
    state = metrics.subject_states([DAY])[DAY]["users"]
    assert (state.state, state.completeness, state.reason) == (Completeness.COMPLETE, Decimal(1), "")
    assert state.detail == {"page_views_without_user": 1, "rules": {"timezone": "Europe/Berlin"}}


def state() -> metrics.SubjectState:
    return metrics.subject_states([DAY])[DAY]["users"]


def begin(platform: psycopg.Connection[Any], at: datetime, *tables: str) -> None:
    """Let the source's tables (all three without names) hold nothing but a row at an instant."""
    rows = {"users": (1, at, None), "sessions": (1, 1, at), "page_views": (1, at, "/")}
    for table in tables or rows:
        platform.execute(f"TRUNCATE operations.{table}".encode())
        fill(platform, table, [rows[table]])


def test_an_empty_day_is_zero_and_known(warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]) -> None:
    begin(platform, FIRST - INSTANT)
    users.compute(WINDOW, "test")
    assert figures(warehouse) == (0, 0, 0, 0, 0, 0)
    assert registers(warehouse) == bytes(16384)
    assert (state().state, state().completeness) == (Completeness.COMPLETE, Decimal(1))


def test_a_view_that_never_had_a_row_is_zero(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    begin(platform, FIRST - INSTANT, "users")
    users.compute(WINDOW, "test")
    assert figures(warehouse) == (0, 0, 0, 0, 0, 0)
    assert state().state is Completeness.COMPLETE


def test_a_source_without_any_row_tells_nothing(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    users.compute(WINDOW, "test")
    assert figures(warehouse) is None
    assert state()[:4] == (
        Completeness.MISSING,
        Decimal(0),
        "the source holds nothing at all: no row in operations.page_views and operations.sessions and operations.users",
        {"rules": {"timezone": "Europe/Berlin"}},
    )


@pytest.mark.parametrize("expired", [("page_views", "sessions", "users"), ("page_views", "sessions"), ("sessions",)])
def test_a_day_before_the_source_begins_is_absent_and_known_figures_stay(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any], expired: tuple[str, ...]
) -> None:
    begin(platform, FIRST - INSTANT)
    begin(platform, AFTER, *expired)
    users.compute(WINDOW, "before anything was known")
    assert figures(warehouse) is None
    assert state().state is Completeness.MISSING
    assert state().reason.startswith("the source begins after the day 2025-10-26: operations.")
    assert "operations.sessions at 2025-10-26 23:00 UTC" in state().reason
    begin(platform, FIRST)
    users.compute(WINDOW, "while it was there")
    known = figures(warehouse), state()
    assert known[0] == (1, 1, 1, 1, 0, 1)
    assert known[1].state is Completeness.COMPLETE
    begin(platform, AFTER, *expired)
    assert users.compute(WINDOW, "after it was pruned") is False
    assert (figures(warehouse), state()) == known


def test_a_day_that_the_source_begins_within_is_partial(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    begin(platform, FIRST - INSTANT)
    begin(platform, FIRST + timedelta(hours=5), "page_views")  # 20 of 25 hours; sessions and users are whole
    users.compute(WINDOW, "test")
    assert figures(warehouse) == (1, 0, 1, 0, 0, 0)
    assert (state().state, state().completeness) == (Completeness.PARTIAL, Decimal("0.93333"))
    assert state().reason == (
        "the source begins within the day 2025-10-26: operations.page_views at 2025-10-26 03:00 UTC"
    )
    begin(platform, AFTER - timedelta(hours=1), "page_views")
    assert users.compute(WINDOW, "after it was pruned") is False
    assert state().completeness == Decimal("0.93333")


def test_a_time_without_an_end_in_the_past_is_no_beginning(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    begin(platform, FIRST)
    platform.execute("INSERT INTO operations.sessions VALUES (2, 1, '-infinity')")
    users.compute(WINDOW, "test")
    assert figures(warehouse) == (1, 1, 1, 1, 0, 1)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata"])
def test_random_events_agree_with_a_recount(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any], zone: str
) -> None:
    dice = random.Random(zone)
    window = day_window(DAY, zone)

    def moment() -> datetime:
        return window.start + timedelta(seconds=dice.randint(-40_000, 130_000))

    registered = [(n, at := moment(), at + timedelta(seconds=dice.randint(0, 90_000)) if dice.random() < 0.7 else None)
                  for n in range(600)]  # fmt: skip
    sessions = [(n, dice.choice([None, dice.randint(0, 600)]), moment()) for n in range(2000)]
    views = [(dice.choice([None, *range(400)]), moment(), "/") for _ in range(5000)]
    for table, rows in (("users", registered), ("sessions", sessions), ("page_views", views)):
        fill(platform, table, list(rows))
    users.compute(window, "test")

    viewers = [user for user, at, _ in views if window.start <= at < window.end]
    new = [verified for _, at, verified in registered if window.start <= at < window.end]
    verified = sum(at is not None and at < window.end for at in new)
    active = {user for user in viewers if user is not None}
    assert figures(warehouse) == (
        len(active),
        sum(window.start <= at < window.end for _, _, at in sessions),
        len(viewers),
        len(new),
        verified,
        len(new) - verified,
    )
    assert registers(warehouse) == by_md5(map(str, active))


@pytest.mark.parametrize("kind", ["uuid", "text"])
def test_an_identifier_may_be_of_any_type(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any], kind: str
) -> None:
    identifiers = [f"00000000-0000-0000-0000-{n:012d}" for n in range(50)]
    platform.execute(f"ALTER TABLE operations.page_views ALTER user_id TYPE {kind} USING NULL")
    fill(platform, "page_views", [(one, FIRST, "/") for one in identifiers * 2])
    users.compute(WINDOW, "test")
    assert figures(warehouse) == (50, 0, 100, 0, 0, 0)
    assert registers(warehouse) == by_md5(identifiers)


def test_a_rerun_gives_the_same_rows(warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]) -> None:
    fill(platform, "page_views", [(n % 30, FIRST, "/") for n in range(100)])
    assert [users.compute(WINDOW, "first"), users.compute(WINDOW, "second")] == [True, False]
    log = warehouse.execute("SELECT run_id, changed, content_hash FROM ops.metric_write ORDER BY 1").fetchall()
    assert [row[:2] for row in log] == [("first", True), ("second", False)]
    assert log[0][2] == log[1][2]


def test_a_day_that_is_not_over_is_partial(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    now = datetime.now(UTC)
    today = day_window(now.date(), "UTC")
    fill(platform, "sessions", [(1, 1, today.start)])
    users.compute(today, "test")
    state = metrics.subject_states([now.date()])[now.date()]["users"]
    assert state.state is Completeness.PARTIAL
    assert abs(float(state.completeness) - (now - today.start).total_seconds() / 86400) < 0.001
    assert "was not over" in state.reason
    found = figures(warehouse, now.date())
    assert found is not None
    assert found[1] == 1


def test_a_day_to_come_has_no_figures(warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]) -> None:
    day = datetime.now(UTC).date() + timedelta(days=2)
    users.compute(day_window(day, "UTC"), "test")
    assert figures(warehouse, day) is None
    state = metrics.subject_states([day])[day]["users"]
    assert (state.state, "had not begun" in state.reason) == (Completeness.MISSING, True)


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        ("DROP TABLE operations.page_views", "operations.page_views"),
        ("ALTER TABLE operations.users DROP verified_at", "verified_at"),
        ("REVOKE SELECT ON operations.sessions FROM operations_reader", "sessions"),
        ("DROP SCHEMA operations CASCADE", "operations.page_views"),
        ("ALTER TABLE operations.users ALTER registered_at TYPE text", "text"),
    ],
)
def test_a_contract_that_is_not_met_is_named_and_nothing_is_written(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any], break_it: str, named: str
) -> None:
    platform.execute(break_it)
    with pytest.raises(ConfigurationError, match=named) as caught:
        users.compute(WINDOW, "test")
    assert "\n" not in str(caught.value)
    assert warehouse.execute("SELECT count(*) FROM ops.daily_subject").fetchone() == (0,)


def test_a_source_that_is_down_can_be_tried_again(
    warehouse: psycopg.Connection[Any], environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB", "postgresql://nobody:secret-word@127.0.0.1:1/nothing")
    with pytest.raises(SourceUnavailable) as caught:
        users.compute(WINDOW, "test")
    assert "secret-word" not in str(caught.value)
    assert warehouse.execute("SELECT count(*) FROM ops.daily_subject").fetchone() == (0,)


def test_the_source_is_read_and_never_written(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    from include.platform import source

    platform.execute("GRANT INSERT ON operations.users TO operations_reader")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), source.snapshot("users") as connection:
        connection.execute("INSERT INTO operations.users VALUES (1)")
