"""Weeks and months from days: by hand, with days that are missing, corrected or late, and against a recount."""

from __future__ import annotations

import json
import math
import random
import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from include.outcome import Completeness
from include.reporting import rollups
from include.reporting.distinct import REGISTERS
from include.warehouse import metrics, migrate
from include.warehouse.metrics import SUBJECT_TABLES, TableRows
from include.window import Grain, day_window, month_window, week_window
from tests.include.reporting.md5_sketch import by_md5

MONDAY = date(2026, 9, 7)
WEEK = week_window(MONDAY, "UTC")
HOUR = datetime(2026, 9, 7, tzinfo=UTC)
ROLLUPS = ("uptime", "traffic", "error", "users", "transactions", "revenue", "support", "feedback")


def rows_of_day(day: date, subject: str, factor: int, viewers: range, seconds: list[float]) -> dict[str, TableRows]:
    """Figures that are multiples of ``factor``; users as a sketch of ``viewers``; a histogram of ``seconds``."""
    seconds = seconds * factor
    if subject == "uptime":
        columns = ("component", "up_seconds", "down_seconds", "maintenance_seconds", "unknown_seconds", "outages")
        return {"daily_uptime": TableRows(columns, [("overall", 86400 - 10 * factor, 10 * factor, 0, 0, factor)])}
    if subject == "traffic":
        buckets: dict[int, int] = {}
        for value in seconds:
            bucket = math.ceil(math.log(value) / math.log(1.01 / 0.99))
            buckets[bucket] = buckets.get(bucket, 0) + 1
        figures = (len(seconds), factor, 2 * factor, Decimal(str(round(sum(seconds), 6))), 100 * factor, 5, factor, 0)
        return {
            "daily_traffic": TableRows(
                ("requests", "errors", "client_errors", "response_seconds_sum", "bytes_sent", "lines_read",
                 "lines_broken", "lines_excluded"), [figures]),
            "hourly_latency": TableRows(
                ("hour_start", "method", "endpoint", "bucket", "requests"),
                [(HOUR, "GET", "/", bucket, count) for bucket, count in buckets.items()]),
            "daily_error": TableRows(("source", "kind", "endpoint", "errors"), [("access", "500", "/", factor)]),
        }  # fmt: skip
    if subject == "users":
        columns = ("active_users", "sessions", "page_views", "new_users", "verified_users", "pending_verification")
        return {
            "daily_users": TableRows(columns, [(len(viewers), factor, 2 * factor, 3 * factor, 2 * factor, factor)]),
            "daily_user_sketch": TableRows(("registers",), [(by_md5(map(str, viewers)),)]),
        }
    if subject == "transactions":
        return {
            "daily_transactions": TableRows(
                ("outcome", "transactions", "value_usd"), [("created", factor, Decimal(factor) / 100)]),
            "daily_revenue": TableRows(("kind", "fees", "amount_usd"), [("escrow", factor, Decimal(factor) / 10)]),
        }  # fmt: skip
    return {
        "daily_support": TableRows(
            ("priority", "created", "resolved", "first_responses", "response_seconds_sum", "within_target", "breached",
             "target_seconds"), [("high", factor, factor, factor, 60 * factor, factor, 0, 7200)]),
        "daily_feedback": TableRows(
            ("ratings", "rating_sum", "rating_1", "rating_2", "rating_3", "rating_4", "rating_5"),
            [(2 * factor, 6 * factor, factor, 0, 0, 0, factor)]),
    }  # fmt: skip


def write_day(
    day: date,
    factor: int = 1,
    *,
    subjects: tuple[str, ...] = tuple(SUBJECT_TABLES),
    viewers: range = range(10),
    seconds: tuple[float, ...] = (0.1,) * 4,
    missing: bool = False,
) -> None:
    for subject in subjects:
        metrics.replace_day(
            day,
            subject,
            {} if missing else rows_of_day(day, subject, factor, viewers, list(seconds)),
            state=Completeness.MISSING if missing else Completeness.COMPLETE,
            completeness=Decimal(0 if missing else 1),
            reason="no source" if missing else "",
            detail={},
            run_id="test",
        )


def period(warehouse: psycopg.Connection[Any], grain: str = "week") -> tuple[Any, ...] | None:
    return warehouse.execute(
        "SELECT period_start, period_key, days_expected, days_held, is_final FROM ops.rollup WHERE grain = %s", (grain,)
    ).fetchone()


def one(warehouse: psycopg.Connection[Any], table: str, columns: str) -> tuple[Any, ...] | None:
    return warehouse.execute(f"SELECT {columns} FROM ops.rollup_{table}").fetchone()


def everything(warehouse: psycopg.Connection[Any]) -> list[Any]:
    return [
        sorted(warehouse.execute(f"SELECT t::text FROM ops.{name} t").fetchall())
        for name in ("rollup", *(f"rollup_{table}" for table in ROLLUPS))
    ]


def test_a_whole_week_is_the_sum_of_its_days(warehouse: psycopg.Connection[Any]) -> None:
    for number in range(-1, 8):  # a day more on either side, which must not count
        viewers = range(1000 * number, 1000 * number + 3000)  # each day shares two thirds with the next
        write_day(MONDAY + timedelta(days=number), number + 1 if 0 <= number < 7 else 1000, viewers=viewers)
    warehouse.execute("UPDATE ops.daily_traffic SET upgrades = errors")
    assert rollups.compute(WEEK, "test") == ["2026-W37"]
    assert period(warehouse) == (MONDAY, "2026-W37", 7, 7, True)
    total = 1 + 2 + 3 + 4 + 5 + 6 + 7  # 28
    held = "days_expected, days_held, is_final, "
    whole = (7, 7, True)
    assert one(warehouse, "uptime", held + "component, up_seconds, down_seconds, unknown_seconds, outages, uptime") == (
        *whole, "overall", 7 * 86400 - 10 * total, 10 * total, 0, total, Decimal("0.99953704"),  # 1 - 280 / 604800
    )  # fmt: skip
    assert one(warehouse, "traffic", held + "requests, errors, client_errors, response_seconds_sum, bytes_sent,"
               " lines_broken, error_rate, upgrades, response_average_seconds") == (
        *whole, 4 * total, total, 2 * total, Decimal("11.2"), 100 * total, total, Decimal("0.25"), total,
        Decimal("0.133333"))  # fmt: skip
    assert one(warehouse, "error", held + "source, kind, endpoint, errors") == (*whole, "access", "500", "/", total)
    assert one(warehouse, "transactions", held + "outcome, transactions, value_usd") == (
        *whole, "created", total, Decimal("0.28"))  # fmt: skip
    assert one(warehouse, "revenue", held + "kind, fees, amount_usd") == (*whole, "escrow", total, Decimal("2.8"))
    assert one(warehouse, "support", held + "priority, created, resolved, first_responses, response_seconds_sum,"
               " within_target, breached") == (*whole, "high", total, total, total, 60 * total, total, 0)  # fmt: skip
    assert one(warehouse, "feedback", held + "ratings, rating_sum, rating_1, rating_5, rating_average") == (
        *whole, 2 * total, 6 * total, total, total, 3)  # fmt: skip
    assert one(warehouse, "users", held + "sessions, page_views, new_users, verified_users, pending_verification") == (
        *whole, total, 2 * total, 3 * total, 2 * total, total)  # fmt: skip


def test_distinct_users_are_no_sum_of_days(warehouse: psycopg.Connection[Any]) -> None:
    for number in range(7):
        write_day(MONDAY + timedelta(days=number), viewers=range(1000 * number, 1000 * number + 3000))
    for number in (-1, 7):  # other weeks' users
        write_day(MONDAY + timedelta(days=number), viewers=range(50_000, 60_000))
    rollups.compute(WEEK, "test")
    found = one(warehouse, "users", "active_users, active_users_relative_error")
    assert found is not None
    assert abs(found[0] - 9000) < 4 * 0.008125 * 9000  # 0 to 8999, and not 21,000
    assert found[1] == Decimal("0.00813")
    assert round(1.04 / math.sqrt(REGISTERS), 5) == float(found[1])


def test_percentiles_are_those_of_all_requests_together(warehouse: psycopg.Connection[Any]) -> None:
    dice = random.Random(2)
    every: list[float] = []
    for number in range(7):
        seconds = [dice.lognormvariate(number - 3, 0.5) for _ in range(200 * (number + 1))]
        every += seconds
        write_day(MONDAY + timedelta(days=number), seconds=tuple(seconds))
    for number in (-1, 7):  # other weeks' requests
        write_day(MONDAY + timedelta(days=number), seconds=(900.0,) * 500)
    rollups.compute(WEEK, "test")
    every.sort()
    found = one(warehouse, "traffic", "response_p95_seconds, response_p99_seconds, requests")
    assert found is not None
    assert found[2] == len(every)
    for value, q in ((found[0], 0.95), (found[1], 0.99)):
        exact = every[math.floor(q * (len(every) - 1))]
        assert abs(float(value) - exact) <= 0.0101 * exact


def test_an_unchanged_period_is_not_written_again(warehouse: psycopg.Connection[Any]) -> None:
    for number in range(7):
        write_day(MONDAY + timedelta(days=number))
    assert rollups.compute(WEEK, "first") == ["2026-W37"]
    before = everything(warehouse)
    written_by = "SELECT xmin::text FROM ops.rollup"
    transaction = warehouse.execute(written_by).fetchall()
    write_day(MONDAY)  # the same content
    assert rollups.compute(WEEK, "second") == []
    assert everything(warehouse) == before
    assert warehouse.execute(written_by).fetchall() == transaction


def test_a_period_without_a_day_writes_nothing(warehouse: psycopg.Connection[Any]) -> None:
    write_day(MONDAY - timedelta(days=1))
    write_day(MONDAY + timedelta(days=7))
    assert rollups.compute(WEEK, "test") == []
    write_day(MONDAY, missing=True)
    assert rollups.compute(WEEK, "test") == []
    assert period(warehouse) is None


def test_missing_days_and_subjects_are_counted_per_subject(warehouse: psycopg.Connection[Any]) -> None:
    write_day(MONDAY)
    write_day(MONDAY + timedelta(days=1), subjects=("users", "support"))
    write_day(MONDAY + timedelta(days=2), subjects=("users",), missing=True)
    rollups.compute(WEEK, "test")
    assert period(warehouse) == (MONDAY, "2026-W37", 7, 1, False)  # one day is held with all its subjects
    for table, days in (("users", 2), ("support", 2), ("feedback", 2), ("traffic", 1), ("error", 1), ("uptime", 1)):
        assert one(warehouse, table, "days_expected, days_held, is_final") == (7, days, False), table


def begin_late(warehouse: psycopg.Connection[Any], day: date) -> None:
    """Leave of a day what a source tells whose fees and ratings begin after it, and whose api is not watched yet."""
    for subject, view, table in (("transactions", "fees", "revenue"), ("support", "feedback", "feedback")):
        warehouse.execute(
            "UPDATE ops.daily_subject SET state = 'partial', completeness = 0.5, detail = %s"
            " WHERE day = %s AND subject = %s",
            (json.dumps({"views_that_begin_later": [view]}), day, subject),
        )
        warehouse.execute(f"DELETE FROM ops.daily_{table} WHERE day = %s", (day,))
    warehouse.execute("DELETE FROM ops.daily_uptime WHERE day = %s AND component = 'api'", (day,))


def late_week(warehouse: psycopg.Connection[Any]) -> None:
    """A week whose first three days are told without fees, ratings and the api; on its Friday no fee was charged."""
    for number in range(7):
        day = MONDAY + timedelta(days=number)
        write_day(day)
        warehouse.execute("INSERT INTO ops.daily_uptime VALUES (%s, 'api', 86400, 0, 0, 0, 0)", (day,))
        if number < 3:
            begin_late(warehouse, day)
        if number == 4:
            warehouse.execute("DELETE FROM ops.daily_revenue WHERE day = %s", (day,))


HELD = {
    "revenue": [(7, 4, False)],
    "feedback": [(7, 4, False)],
    "uptime WHERE component = 'api'": [(7, 4, False)],
    "uptime WHERE component = 'overall'": [(7, 7, True)],
    "transactions": [(7, 7, True)],
    "support": [(7, 7, True)],
}


def held(warehouse: psycopg.Connection[Any]) -> dict[str, list[Any]]:
    return {
        table: warehouse.execute(f"SELECT days_expected, days_held, is_final FROM ops.rollup_{table}").fetchall()
        for table in HELD
    }


def test_each_row_counts_the_days_that_tell_of_it(warehouse: psycopg.Connection[Any]) -> None:
    late_week(warehouse)
    rollups.compute(WEEK, "test")
    assert period(warehouse) == (MONDAY, "2026-W37", 7, 7, True)
    assert held(warehouse) == HELD
    assert one(warehouse, "revenue", "fees, amount_usd") == (3, Decimal("0.30"))  # of Thursday, Saturday and Sunday


def test_stored_rollups_that_counted_too_many_days_are_corrected(warehouse: psycopg.Connection[Any]) -> None:
    late_week(warehouse)
    rollups.compute(WEEK, "test")
    migrate.downgrade("0013")
    for table in HELD:
        warehouse.execute(f"UPDATE ops.rollup_{table.split()[0]} SET days_held = 7, is_final = true")
    migrate.upgrade()
    assert held(warehouse) == HELD
    assert rollups.compute(WEEK, "test") == ["2026-W37"], "what was stored does not know which days are incomplete"
    assert held(warehouse) == HELD
    assert one(warehouse, "feedback", "days_incomplete") == (0,)
    assert one(warehouse, "transactions", "days_incomplete") == (3,)


def lose(warehouse: psycopg.Connection[Any], number: int, subject: str, completeness: str) -> None:
    """Let only a share of a subject's source be there on a day of the week, 0 to 6."""
    warehouse.execute(
        "UPDATE ops.daily_subject SET state = 'partial', completeness = %s WHERE day = %s AND subject = %s",
        (completeness, MONDAY + timedelta(days=number), subject),
    )


def test_each_row_counts_its_days_that_are_incomplete(warehouse: psycopg.Connection[Any]) -> None:
    for number in range(7):
        day = MONDAY + timedelta(days=number)
        write_day(day)
        unknown = 864 if number == 6 else 72_000  # of 86,400 seconds; 864 are just enough to be known
        warehouse.execute(
            "INSERT INTO ops.daily_uptime VALUES (%s, 'api', %s, 0, 0, %s, 0)", (day, 86400 - unknown, unknown)
        )
    lose(warehouse, 2, "traffic", "0.08333")
    lose(warehouse, 3, "traffic", "0.98999")
    lose(warehouse, 3, "transactions", "0.5")
    lose(warehouse, 4, "users", "0.99")
    saturday = MONDAY + timedelta(days=5)  # incomplete too, but not held with all its subjects
    warehouse.execute("DELETE FROM ops.daily_subject WHERE day = %s AND subject = 'support'", (saturday,))
    lose(warehouse, 5, "users", "0.5")
    rollups.compute(WEEK, "test")
    assert warehouse.execute("SELECT days_held, days_incomplete FROM ops.rollup").fetchall() == [(6, 2)]
    for table, days in (("traffic", 2), ("error", 2), ("transactions", 1), ("revenue", 1), ("users", 1), ("support", 0),
                        ("feedback", 0), ("uptime WHERE component = 'api'", 6),
                        ("uptime WHERE component = 'overall'", 0)):  # fmt: skip
        assert warehouse.execute(f"SELECT days_incomplete FROM ops.rollup_{table}").fetchall() == [(days,)], table


def test_errors_of_a_log_are_of_the_days_that_have_it(warehouse: psycopg.Connection[Any]) -> None:
    for number in range(7):
        day = MONDAY + timedelta(days=number)
        write_day(day)
        warehouse.execute("INSERT INTO ops.daily_error VALUES (%s, 'error', 'no memory', '-', 3)", (day,))
        if number < 3:
            absent = "UPDATE ops.daily_subject SET detail = %s WHERE subject = 'traffic' AND day = %s"
            warehouse.execute(absent, (json.dumps({"absent_logs": ["application"]}), day))
        else:
            warehouse.execute("INSERT INTO ops.daily_error VALUES (%s, 'application', 'E', '/', 2)", (day,))
    lose(warehouse, 2, "traffic", "0.5")
    rollups.compute(WEEK, "test")
    columns = "source, days_expected, days_held, days_incomplete, is_final, errors"
    assert warehouse.execute(f"SELECT {columns} FROM ops.rollup_error ORDER BY source").fetchall() == [
        ("access", 7, 7, 1, True, 7), ("application", 7, 4, 0, False, 8), ("error", 7, 7, 1, True, 21),
    ]  # fmt: skip


def test_sums_of_money_are_exact(warehouse: psycopg.Connection[Any]) -> None:
    fees = {"daily_revenue": TableRows(("kind", "fees", "amount_usd"), [("escrow", 1, Decimal("4.995"))])}
    for number in range(7):
        metrics.replace_day(
            MONDAY + timedelta(days=number), "transactions", fees,
            state=Completeness.COMPLETE, completeness=Decimal(1), reason="", detail={}, run_id="test",
        )  # fmt: skip
    rollups.compute(WEEK, "test")
    assert one(warehouse, "revenue", "amount_usd") == (Decimal("34.965"),)  # and not 7 x 5.00


def test_a_subject_can_be_final_before_its_period(warehouse: psycopg.Connection[Any]) -> None:
    for number in range(7):
        write_day(MONDAY + timedelta(days=number), subjects=("users",))
    rollups.compute(WEEK, "test")
    assert period(warehouse) == (MONDAY, "2026-W37", 7, 0, False)
    assert one(warehouse, "users", "days_held, is_final") == (7, True)
    assert one(warehouse, "traffic", "days_held") is None  # absent, not zero


def test_more_days_and_corrected_days_refresh_the_period(warehouse: psycopg.Connection[Any]) -> None:
    for number in range(6):
        write_day(MONDAY + timedelta(days=number))
    rollups.compute(WEEK, "test")
    assert period(warehouse) == (MONDAY, "2026-W37", 7, 6, False)
    write_day(MONDAY + timedelta(days=6))
    assert rollups.compute(WEEK, "test") == ["2026-W37"]
    assert period(warehouse) == (MONDAY, "2026-W37", 7, 7, True)
    write_day(MONDAY, 100)
    assert rollups.compute(WEEK, "test") == ["2026-W37"]
    assert one(warehouse, "transactions", "transactions") == (106,)


def test_other_periods_that_went_stale_are_refreshed_too(warehouse: psycopg.Connection[Any]) -> None:
    earlier, later = MONDAY - timedelta(days=21), MONDAY + timedelta(days=7)
    for day in (earlier, MONDAY, later):
        write_day(day)
        rollups.compute(week_window(day, "UTC"), "test")
    rollups.compute(month_window(MONDAY, "UTC"), "test")
    write_day(earlier, 50, subjects=("traffic",))  # late lines changed an earlier day
    write_day(MONDAY + timedelta(days=1))
    write_day(MONDAY - timedelta(days=7))  # a week that was never rolled up: its own run is about it
    assert rollups.compute(WEEK, "test") == ["2026-W37", "2026-W34"]
    errors = warehouse.execute("SELECT period_start, errors FROM ops.rollup_error WHERE grain = 'week'").fetchall()
    assert dict(errors) == {earlier: 50, MONDAY: 2, later: 1}
    assert rollups.compute(WEEK, "test") == []
    assert rollups.compute(month_window(MONDAY, "UTC"), "test") == ["2026-09"]


def test_the_present_week_is_not_final_though_all_its_days_are_held(warehouse: psycopg.Connection[Any]) -> None:
    today = datetime.now(UTC).date()
    week = week_window(today, "UTC")
    for day in week.days:
        write_day(day)
    rollups.compute(week, "test")
    found = period(warehouse)
    assert found is not None
    assert found[2:] == (7, 7, False)
    # Once it is over the same days are final: what was stored is stale though no day has changed.
    warehouse.execute("UPDATE ops.rollup SET is_final = true")
    assert rollups.compute(week, "test") == [week.key]


@pytest.mark.parametrize(
    ("day", "key", "start", "days"),
    [
        (date(2026, 2, 28), "2026-02", date(2026, 2, 1), 28),
        (date(2024, 2, 10), "2024-02", date(2024, 2, 1), 29),
        (date(2026, 3, 29), "2026-03", date(2026, 3, 1), 31),  # with a change of clocks in it
    ],
)
def test_months_have_their_own_length(
    warehouse: psycopg.Connection[Any], day: date, key: str, start: date, days: int
) -> None:
    for number in range(-1, days + 1):
        write_day(start + timedelta(days=number), subjects=("transactions",))
    window = month_window(day, "Europe/Berlin")
    assert rollups.compute(window, "test") == [key]
    assert period(warehouse, "month") == (start, key, days, 0, False)
    assert one(warehouse, "transactions", "days_held, is_final, transactions") == (days, True, days)


def test_a_week_across_new_year(warehouse: psycopg.Connection[Any]) -> None:
    write_day(date(2026, 1, 1))
    assert rollups.compute(week_window(date(2026, 1, 1), "UTC"), "test") == ["2026-W01"]
    found = period(warehouse)
    assert found is not None
    assert found[0] == date(2025, 12, 29)


def test_runs_at_the_same_time_write_the_period_once(warehouse: psycopg.Connection[Any]) -> None:
    write_day(MONDAY)
    written: list[list[str]] = []
    threads = [threading.Thread(target=lambda: written.append(rollups.compute(WEEK, "test"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written) == [[], [], [], [], [], ["2026-W37"]]


def test_the_run_that_completes_a_week_and_no_other_has_it_rolled_up(warehouse: psycopg.Connection[Any]) -> None:
    days = [MONDAY + timedelta(days=number) for number in range(7)]
    for number, day in enumerate(days[:6]):
        write_day(day)
        assert rollups.due({day}, "UTC", f"run of {number}")[Grain.WEEK] == set()
    write_day(days[6], missing=True)  # computed, though its sources were gone
    both = [rollups.due({day}, "UTC", f"run of {day}")[Grain.WEEK] for day in days[5:]]
    assert both == [{days[5]}, set()]
    assert rollups.due({days[5]}, "UTC", f"run of {days[5]}")[Grain.WEEK] == {days[5]}  # it was killed and is repeated
    assert rollups.compute(WEEK, "test") == ["2026-W37"]
    assert rollups.due({days[5]}, "UTC", f"run of {days[5]}")[Grain.WEEK] == set()  # nothing is left to do


def test_a_corrected_day_has_its_week_rolled_up_again(warehouse: psycopg.Connection[Any]) -> None:
    write_day(MONDAY)
    assert rollups.compute(WEEK, "by hand") == ["2026-W37"]
    assert rollups.due({MONDAY}, "UTC", "first")[Grain.WEEK] == set()
    write_day(MONDAY, 2)
    assert rollups.due({MONDAY}, "UTC", "second")[Grain.WEEK] == {MONDAY}
    assert rollups.due({MONDAY}, "UTC", "third")[Grain.WEEK] == set()
    write_day(MONDAY + timedelta(days=1))  # a further day is no correction: the week waits for its last
    assert rollups.due({MONDAY + timedelta(days=1)}, "UTC", "fourth")[Grain.WEEK] == set()
    # The month was never rolled up and is not complete.
    assert rollups.due({MONDAY}, "UTC", "second")[Grain.MONTH] == set()


def test_a_day_that_lacks_a_subject_for_good_holds_no_correction_up(warehouse: psycopg.Connection[Any]) -> None:
    tuesday, wednesday = MONDAY + timedelta(days=1), MONDAY + timedelta(days=2)
    write_day(MONDAY)
    write_day(tuesday)
    write_day(wednesday)
    warehouse.execute("DELETE FROM ops.daily_subject WHERE day = %s AND subject = 'uptime'", (tuesday,))
    assert rollups.compute(WEEK, "by hand") == ["2026-W37"]
    write_day(MONDAY, 2)
    assert rollups.due({MONDAY}, "UTC", "a correction")[Grain.WEEK] == {MONDAY}
    warehouse.execute("DELETE FROM ops.daily_subject WHERE day = %s AND subject = 'uptime'", (wednesday,))
    write_day(MONDAY, 3)
    assert rollups.due({MONDAY}, "UTC", "while another day is computed")[Grain.WEEK] == set()


def test_a_month_is_rolled_up_with_each_of_its_weeks(warehouse: psycopg.Connection[Any]) -> None:
    days = [MONDAY + timedelta(days=number) for number in range(7)]
    for day in days[:6]:
        write_day(day)
        assert rollups.due({day}, "UTC", "test") == {Grain.WEEK: set(), Grain.MONTH: set()}
    write_day(days[6])
    assert rollups.due({days[6]}, "UTC", "test") == {Grain.WEEK: {days[6]}, Grain.MONTH: {days[6]}}


def test_the_day_that_just_ended_has_its_period_and_forgotten_ones_rolled_up(
    warehouse: psycopg.Connection[Any],
) -> None:
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    write_day(MONDAY)
    write_day(yesterday)
    assert rollups.due({MONDAY}, "UTC", "a backfill")[Grain.MONTH] == set()
    assert rollups.due({MONDAY, yesterday}, "UTC", "the night")[Grain.MONTH] == {yesterday}
    window = month_window(yesterday, "UTC")
    assert rollups.compute(window, "the night") == [window.key, "2026-09"]


def test_of_several_days_of_a_week_the_newest_is_announced(warehouse: psycopg.Connection[Any]) -> None:
    days = {MONDAY + timedelta(days=number) for number in range(8)}
    for day in days:
        write_day(day)
    assert rollups.due(days, "UTC", "test")[Grain.WEEK] == {MONDAY + timedelta(days=6)}


def test_a_day_is_no_rollup() -> None:
    with pytest.raises(ValueError, match="a week or a month"):
        rollups.compute(day_window(MONDAY, "UTC"), "test")
