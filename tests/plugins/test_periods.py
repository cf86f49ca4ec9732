"""The pages of weeks and months, against rollups of days whose figures were worked out by hand."""

from __future__ import annotations

import html
from datetime import date, timedelta

import psycopg
import pytest
from fastapi.testclient import TestClient

from include.reporting import rollups
from include.window import Grain, Window, month_window, week_window
from plugins.operations_board import periods
from plugins.operations_board.presentation import ABSENT
from tests.include.reporting.test_rollups import write_day
from tests.plugins import period_rows, rows
from tests.plugins.conftest import NOW, text_of
from tests.plugins.test_pages import links_of

pytestmark = pytest.mark.airflow

MONDAY = date(2026, 9, 21)
"""First day of 2026-W39, the last whole week before ``NOW``."""


def days(first: date, count: int = 7) -> list[date]:
    return [first + timedelta(days=number) for number in range(count)]


def roll_up(*weeks: tuple[date, int, int]) -> None:
    """Write days of each week (its Monday, their number, the factor of their figures) and roll it up."""
    for monday, count, factor in weeks:
        for day in days(monday, count):
            write_day(day, factor)
        rollups.compute(week_window(monday, "UTC"), "test")


def three_weeks() -> None:
    """W38 and W39, of which the second has twice the figures, and W40, of which six days are over."""
    roll_up((MONDAY - timedelta(weeks=1), 7, 1), (MONDAY, 7, 2), (MONDAY + timedelta(weeks=1), 6, 2))


def said(browser: TestClient, path: str) -> str:
    answer = browser.get(path)
    assert answer.status_code == 200, answer.text
    return html.unescape(text_of(answer.text)).replace(ABSENT, "-")


# ----------------------------------------------------------------------------------------------------- side by side
def test_weeks_stand_beside_each_other_each_with_its_change(browser: TestClient, warehouse: psycopg.Connection) -> None:
    three_weeks()
    page = said(browser, "periods")
    assert "2026-W40 28 Sep to 4 Oct 2026-W39 21 to 27 Sep 2026-W38 14 to 20 Sep Days held" in page
    assert "Days held 6 of 7 days so far 7 of 7 7 of 7 Platform" in page
    # 20 s down a day and then 10 s: 1 - 140 / 604,800 = 0.99977 and 1 - 70 / 604,800 = 0.99988.
    assert "Uptime 99.98% no change 99.98% -0.01 pp 99.99% Requests" in page
    # 8 requests a day on 6 and 7 days, and 4 on 7; a total of six days is compared with nothing.
    assert "Requests 48 56 +100.0% 28 Error rate 25% no change 25% no change 25% Average response 0.10s" in page
    assert "Active users 10 ± 0.81% 10 ± 0.81% no change 10 ± 0.81% Registrations 36 42 +100.0% 21" in page
    assert "Created 12 14 +7 7 Completed 0 0 no change 0 Disputed 0 0 no change 0 Failed 0" in page
    assert "Value created $0.12 $0.14 +100.0% $0.07 Revenue $1.20 $1.40 +100.0% $0.70" in page
    assert "Tickets created 12 14 +7 7 Tickets resolved 12 14 +7 7" in page
    assert "Average rating 3.00 of 5 no change 3.00 of 5 no change 3.00 of 5" in page
    assert "No month has been rolled up yet. The DAG monthly_metrics" in page


def test_months_stand_beside_each_other_and_the_oldest_is_compared_too(
    browser: TestClient, warehouse: psycopg.Connection
) -> None:
    month = month_window(date(2026, 9, 30), "UTC")
    for _ in range(13):  # one more than is shown
        period_rows.roll_up(warehouse, month, held=len(month.days))
        month = periods.preceding(month)
    page = said(browser, "periods")
    # October has begun, its first days are due and it was not rolled up; then eleven months back to November 2025.
    assert "2026-10 2026-09 2026-08" in page
    assert "2025-12 2025-11 Days held not rolled up 30 of 30 31 of 31" in page
    assert f"Requests - this month was not rolled up {' '.join(['140,000 no change'] * 11)} Error rate" in page
    assert "No week has been rolled up yet. The DAG weekly_metrics does it every night" in page
    assert "not known, not zero" in page


def test_a_week_that_lacks_days_is_marked_and_the_next_one_not_compared(
    browser: TestClient, warehouse: psycopg.Connection
) -> None:
    roll_up((MONDAY - timedelta(weeks=1), 6, 1), (MONDAY, 7, 2))
    page = browser.get("periods").text
    assert '<span class="badge warning">6 of 7 days</span>' in page
    # W40 was not rolled up, although three of its days are due.
    assert "Requests - this week was not rolled up 56 24 Error rate" in said(browser, "periods")
    one = said(browser, "periods/week/2026-W39")
    assert "Requests 56 week before: 24 in 6 of 7 days Error rate" in one
    lacking = said(browser, "periods/week/2026-W38")
    assert "Requests 24 no comparison yet" in lacking
    assert "Not all figures are of the whole week: 6 of 7 days are held, and what is missing is named" in lacking
    assert (
        "Sun 20 Sep 2026 ? missing Uptime, traffic, users, transactions, support The metrics of this day were"
        in lacking
    )


def lose_a_part(warehouse: psycopg.Connection, day: date, subject: str) -> None:
    warehouse.execute(
        "UPDATE ops.daily_subject SET state = 'partial', completeness = 0.08333, reason = 'no line from 02:00 to 24:00'"
        " WHERE day = %s AND subject = %s",
        (day, subject),
    )


def test_a_week_with_an_incomplete_day_is_marked_and_its_totals_are_not_compared(
    browser: TestClient, warehouse: psycopg.Connection
) -> None:
    for day in days(MONDAY - timedelta(weeks=1), 14):
        write_day(day)
    lose_a_part(warehouse, MONDAY + timedelta(days=2), "traffic")
    # The watch was away for most of six days: what it saw was up.
    warehouse.execute(
        "UPDATE ops.daily_uptime SET up_seconds = 14400, down_seconds = 0, unknown_seconds = 72000"
        " WHERE day BETWEEN %s AND %s",
        (MONDAY, MONDAY + timedelta(days=5)),
    )
    for monday in (MONDAY - timedelta(weeks=1), MONDAY):
        rollups.compute(week_window(monday, "UTC"), "test")
    page = said(browser, "periods")
    assert "Days held not rolled up 7 of 7 days, 1 incomplete 7 of 7 Platform" in page
    assert "Requests - this week was not rolled up 28 in 7 of 7 days, 1 incomplete 28 Error rate" in page
    assert "25% no change in 7 of 7 days, 1 incomplete 25% Average" in page, "a share is compared all the same"
    assert "in 7 of 7 days, 6 incomplete 99.99% Requests" in page
    assert "Registrations - this week was not rolled up 21 no change 21" in page, (
        "that no line tells is no matter of users"
    )
    one = said(browser, "periods/week/2026-W39")
    assert "Week 2026-W39 21 to 27 Sep · 7 of 7 days, 1 incomplete" in one
    assert (
        "Not all figures are of the whole week: 7 of 7 days are held, 1 of them incomplete, and what is missing" in one
    )
    assert "Wed 23 Sep 2026" in one
    assert "No line from 02:00 to 24:00" in one
    assert "Requests 28 in 7 of 7 days, 1 incomplete week before: 28 Error rate" in one
    assert "7 of 7, 6 incomplete" in one
    assert "/ 500 access 7 -" in one, "nor are its errors"


@pytest.mark.parametrize(("absent", "change"), [(None, "+14"), (0, "-"), (6, "-"), (7, "-"), (-1, "+14"), (14, "+14")])
def test_errors_are_not_compared_with_days_without_their_log(
    browser: TestClient, warehouse: psycopg.Connection, absent: int | None, change: str
) -> None:
    """``absent`` is the day, counted from the Monday of the week before, on which there was no application log."""
    first = MONDAY - timedelta(weeks=1)
    for day in days(first, 14):
        write_day(day)
        if day >= MONDAY:
            warehouse.execute("INSERT INTO ops.daily_error VALUES (%s, 'application', 'E', '/fees', 2)", (day,))
    for day in days(first + timedelta(days=absent), 1) if absent is not None else []:
        write_day(day)
        detail = "UPDATE ops.daily_subject SET detail = %s WHERE subject = 'traffic' AND day = %s"
        warehouse.execute(detail, ('{"absent_logs": ["application"]}', day))
    for monday in (first, MONDAY):
        rollups.compute(week_window(monday, "UTC"), "test")
    page = said(browser, "periods/week/2026-W39")
    errors = 12 if absent == 7 else 14  # write_day has replaced what was logged
    assert f"/fees E application {errors} {change}" in page
    assert "/ 500 access 7 no change" in page


def test_a_week_is_not_compared_with_an_incomplete_one(browser: TestClient, warehouse: psycopg.Connection) -> None:
    for day in days(MONDAY - timedelta(weeks=1), 14):
        write_day(day)
    lose_a_part(warehouse, MONDAY - timedelta(days=3), "transactions")
    warehouse.execute("DELETE FROM ops.daily_revenue")  # no fee was charged, of which an incomplete day tells less too
    for monday in (MONDAY - timedelta(weeks=1), MONDAY):
        rollups.compute(week_window(monday, "UTC"), "test")
    page = said(browser, "periods/week/2026-W39")
    assert "What is missing" not in page
    assert "Created 7 week before: 7 in 7 of 7 days, 1 incomplete Completed" in page
    assert "Revenue $0.00 week before: $0.00 in 7 of 7 days, 1 incomplete Fees and refunds" in page
    before = said(browser, "periods/week/2026-W38")
    assert "Created 7 in 7 of 7 days, 1 incomplete no comparison yet" in before


def test_verified_is_told_as_what_it_is(browser: TestClient, warehouse: psycopg.Connection) -> None:
    roll_up((MONDAY, 7, 1))
    page = said(browser, "periods/week/2026-W39")
    assert "Verified on the day of registration 14 no comparison yet Not verified on that day 7" in page


def test_there_is_nothing_before_the_first_rollup(browser: TestClient, warehouse: psycopg.Connection) -> None:
    page = said(browser, "periods")
    assert "No week has been rolled up yet." in page
    assert "No month has been rolled up yet." in page
    assert "Uptime" not in page


# --------------------------------------------------------------------------------------------------- one by itself
def test_a_week_has_all_its_figures(browser: TestClient, warehouse: psycopg.Connection) -> None:
    three_weeks()
    page = said(browser, "periods/week/2026-W39")
    assert "Week 2026-W39 21 to 27 Sep · 7 of 7 days" in page
    assert "What is missing" not in page
    assert "Overall 99.98% -0.01 pp 2 min 20 s 14 0 s 0 s 7 of 7" in page
    assert "Requests 56 week before: 28, +100.0%" in page
    assert "Server errors (5xx) 14 week before: 7, +7 Client errors (4xx) 28 week before: 14, +14" in page
    assert "1 of 1 kinds and endpoints Endpoint Kind Log Errors Change / 500 access 14 +7" in page
    assert "Active users 10 ± 0.81% week before: 10, no change Sessions 14 week before: 7, +7" in page
    assert "Value created $0.14 week before: $0.07, +100.0%" in page
    assert "Revenue $1.40 week before: $0.70, +100.0% Fees and refunds 14 week before: 7, +7" in page
    assert "Fee Number Amount escrow 14 $1.40" in page
    assert "High 14 14 14 14 0 1 min" in page
    assert "Average first answer 0.017 hours" in page  # a minute
    assert "Ratings 28 week before: 14, +14 5 stars 14 week before: 7, +7 4 stars 0 week before: 0, no change" in page


def test_a_week_that_goes_on_says_so(browser: TestClient, warehouse: psycopg.Connection) -> None:
    three_weeks()
    page = said(browser, "periods/week/2026-W40")
    assert "Week 2026-W40 28 Sep to 4 Oct · 6 of 7 days so far" in page
    assert "This week is not over. Its figures are of the days that are held so far" in page
    assert "What is missing" not in page  # its seventh day is not due
    assert "Requests 48 week before: 56 Error rate 25% week before: 25%, no change" in page


def test_what_lacks_is_absent_and_named(browser: TestClient, warehouse: psycopg.Connection) -> None:
    for day in days(MONDAY):
        write_day(day, subjects=("uptime", "users", "transactions", "support"))
        write_day(day, subjects=("traffic",), missing=True)
    later = "UPDATE ops.daily_subject SET detail = %s WHERE subject IN ('transactions', 'support')"
    warehouse.execute(later, ('{"views_that_begin_later": ["fees", "feedback"]}',))
    warehouse.execute("DELETE FROM ops.daily_revenue")
    warehouse.execute("DELETE FROM ops.daily_feedback")
    rollups.compute(week_window(MONDAY, "UTC"), "test")
    page = said(browser, "periods/week/2026-W39")
    assert "0 of 7 days" in page
    assert "Mon 21 Sep 2026 to Sun 27 Sep 2026 ? missing Traffic No source" in page
    assert "Requests - no day of this week tells of traffic Error rate - no day of this week tells of traffic" in page
    assert "Revenue - no day of this week tells of revenue" in page
    assert "Average rating - no day of this week tells of ratings" in page
    assert "Tickets created 7 in 7 of 7 days no comparison yet" in page
    together = said(browser, "periods")
    assert "Requests - this week was not rolled up - no day of this week tells of traffic Error rate" in together
    assert "Created - this week was not rolled up 7 in 7 of 7 days Completed" in together


def test_a_week_without_a_fee_or_a_rating_has_earned_nothing_and_no_mean(
    browser: TestClient, warehouse: psycopg.Connection
) -> None:
    for day in days(MONDAY):
        write_day(day)
    warehouse.execute("DELETE FROM ops.daily_revenue")
    warehouse.execute("UPDATE ops.daily_feedback SET (ratings, rating_sum, rating_1, rating_5) = (0, 0, 0, 0)")
    warehouse.execute("UPDATE ops.daily_uptime SET up_seconds = 0, down_seconds = 0, unknown_seconds = 86400")
    rollups.compute(week_window(MONDAY, "UTC"), "test")
    page = said(browser, "periods/week/2026-W39")
    assert "Revenue $0.00 no comparison yet Fees and refunds 0" in page
    assert "Average rating - no ratings were given Ratings 0" in page
    assert "Overall - no time up or down is known" in page
    assert "Uptime - this week was not rolled up - no time up or down is known" in said(browser, "periods")


def test_a_week_that_was_not_rolled_up_says_why(browser: TestClient, warehouse: psycopg.Connection) -> None:
    roll_up((MONDAY - timedelta(weeks=1), 7, 1))
    page = said(browser, "periods/week/2026-W39")
    assert (
        "This week was not rolled up, so nothing is known of it as a whole. It will be as soon as all its days" in page
    )
    assert "trigger weekly_metrics with one of its days" in page
    assert "Requests" not in page
    assert "It will be in the night after its first day." in said(browser, "periods/month/2026-10")


def test_days_that_came_after_the_rollup_are_told_of(browser: TestClient, warehouse: psycopg.Connection) -> None:
    roll_up((MONDAY, 6, 1))
    write_day(MONDAY + timedelta(days=6))
    page = said(browser, "periods/week/2026-W39")
    assert "The figures are of 6 of 7 days, but all days are computed by now." in page
    assert "What is missing" not in page


def test_a_period_leads_to_its_days_and_a_day_to_its_periods(browser: TestClient, morning: date) -> None:
    week = links_of(browser.get("periods/week/2026-W40").text)
    assert {f"../../reports/daily_system_health/{day}" for day in days(date(2026, 9, 28), 6)} <= week
    assert "../../periods/week/2026-W39" in week
    assert "../../periods/week/2026-W41" not in week
    month = browser.get("periods/month/2026-09").text
    assert "../../reports/daily_user_activity/2026-09-30" in links_of(month)
    assert "24 Sep, Thu ok System health , Thu 24 Sep 2026 All figures are within their targets. missing User" in (
        text_of(month)
    )
    day = links_of(browser.get("reports/daily_system_health/2026-10-03").text)
    assert {"../../periods/week/2026-W40", "../../periods/month/2026-10"} <= day
    # The first of ten weeks and 34 days of reports leads to none before it.
    assert "../../periods/week/2026-W30" not in links_of(browser.get("periods/week/2026-W31").text)


def test_markup_in_a_rollup_stays_text(browser: TestClient, warehouse: psycopg.Connection) -> None:
    period_rows.roll_up(warehouse, week_window(MONDAY, "UTC"), held=7)
    evil = "<img src=x onerror=alert(1)>"
    warehouse.execute("UPDATE ops.rollup_error SET endpoint = %s WHERE kind = '502'", (evil,))
    warehouse.execute("UPDATE ops.rollup_revenue SET kind = %s WHERE kind = 'refund'", (evil,))
    warehouse.execute("UPDATE ops.rollup_support SET priority = %s WHERE priority = 'low'", (evil,))
    warehouse.execute("UPDATE ops.rollup_uptime SET component = %s WHERE component = 'chain'", (evil,))
    answer = browser.get("periods/week/2026-W39")
    assert answer.status_code == 200
    assert "<img src=x" not in answer.text
    assert answer.text.count("&lt;img") + answer.text.count("&lt;Img") == 4


# ------------------------------------------------------------------------------------------------- which there are
@pytest.mark.parametrize(
    ("grain", "key", "first_day"),
    [
        (Grain.WEEK, "2026-W01", date(2025, 12, 29)), (Grain.WEEK, "2026-W53", date(2026, 12, 28)),
        (Grain.WEEK, "2027-W53", None), (Grain.WEEK, "2026-W00", None), (Grain.WEEK, "2026-10", None),
        (Grain.WEEK, "0001-W01", None), (Grain.WEEK, "9999-W52", None), (Grain.WEEK, "2026-W4\u0660", None),
        (Grain.MONTH, "2026-02", date(2026, 2, 1)), (Grain.MONTH, "2026-13", None), (Grain.MONTH, "2026-W40", None),
        (Grain.MONTH, "0001-01", None), (Grain.MONTH, "9999-12", None),
    ],
)  # fmt: skip
def test_keys_are_read_as_they_are_written(grain: Grain, key: str, first_day: date | None) -> None:
    found = periods.of_key(grain, key, "Pacific/Auckland")
    assert (found and found.first_day) == first_day
    assert found is None or found.key == key


def test_the_newest_periods_are_shown_without_those_before_the_first() -> None:
    def keys(windows: list[Window]) -> list[str]:
        return [window.key for window in windows]

    bounds = {"first_day": date(2026, 9, 14), "last_day": date(2026, 9, 21)}
    expected = NOW.date() - timedelta(days=1)
    # With W37, which the oldest one shown is compared with.
    weeks = ["2026-W40", "2026-W39", "2026-W38", "2026-W37"]
    assert keys(periods.newest_first(Grain.WEEK, bounds, expected, "UTC")) == weeks
    assert keys(periods.newest_first(Grain.WEEK, bounds, date(2026, 9, 1), "UTC")) == weeks[1:]
    old = {"first_day": date(2020, 1, 6), "last_day": date(2026, 9, 21)}
    assert len(periods.newest_first(Grain.WEEK, old, expected, "UTC")) == 8 + 1
    assert len(periods.newest_first(Grain.MONTH, old | {"first_day": date(2020, 1, 1)}, expected, "UTC")) == 12 + 1
    assert periods.newest_first(Grain.WEEK, {"first_day": None, "last_day": None}, expected, "UTC") == []
    assert periods.span_of(week_window(date(2026, 1, 1), "UTC")) == "29 Dec to 4 Jan"


def test_days_that_lack_the_same_are_one_line() -> None:
    def row(day: int, subject: str, state: str | None, reason: str = "") -> dict[str, object]:
        return {"day": date(2026, 10, day), "subject": subject, "state": state, "reason": reason,
                "first_day": date(2026, 10, 2)}  # fmt: skip

    lacking = [
        row(1, "uptime", None), row(1, "traffic", None), row(2, "uptime", "complete"),
        row(2, "traffic", "partial", "a file is gone"), row(3, "uptime", "complete"),
        row(3, "traffic", "partial", "a file is gone"), row(4, "uptime", None), row(4, "traffic", "complete"),
        row(5, "uptime", None), row(5, "traffic", None),
    ]  # fmt: skip
    assert [(gap.first.day, gap.last.day, gap.subjects, gap.state, gap.reason)
            for gap in periods.gaps(lacking, date(2026, 10, 4))] == [
        (1, 1, "Uptime, traffic", "missing", "before the first day with metrics"),
        (2, 3, "Traffic", "partial", "a file is gone"),
        (4, 4, "Uptime", "missing", "the metrics of this day were not computed"),
    ]  # fmt: skip


def test_the_names_of_figures_are_those_of_the_reports(warehouse: psycopg.Connection) -> None:
    from include.reporting.figures import DEFINITIONS
    from plugins.operations_board.warehouse import read

    with read() as reader:
        [row] = reader.rows("periods", grain="week", first_days=[rows.midnight(NOW).date()])
    names = {name for table in periods.FIGURES.values() for name in table}
    assert names <= set(DEFINITIONS)
    assert names | {f"{table}_{what}" for table in periods.FIGURES for what in ("days", "incomplete")} <= set(row)
    assert {name for group in periods.KEY_FIGURES.values() for name in group} <= names
