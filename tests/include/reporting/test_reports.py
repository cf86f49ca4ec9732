"""The daily reports, compared with texts worked out by hand."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from include.outcome import ConfigurationError
from include.reporting import reports
from include.reporting.figures import DEFINITIONS
from include.warehouse import reports as stored
from include.window import day_window, last_finished_day, week_window
from tests.include.reporting.report_rows import (
    ACTIVITY,
    DAY,
    HEALTH,
    WINDOW,
    insert_day,
    insert_incident,
    insert_weeks,
    line,
    one,
    set_subject,
)

# Four earlier Saturdays. Their medians: active users 1220, error rate 0.28 %, average response 1.15 s, 95th percentile
# 2.8 s, transactions created 85 and their value $2.15M, overall uptime 100 %.
WEEKS = [
    {
        "down": {"overall": 0},
        "traffic": {"errors": 50, "response_seconds_sum": 20000, "response_p95_seconds": 2.5},
        "users": {"active_users": 1200},
        "transactions": {"created": (80, "2000000")},
    },
    {
        "down": {"overall": 0},
        "traffic": {"errors": 52, "response_seconds_sum": 22000, "response_p95_seconds": 2.7},
        "users": {"active_users": 1210},
        "transactions": {"created": (90, "2200000")},
    },
    {
        "down": {"overall": 0},
        "traffic": {"errors": 60, "response_seconds_sum": 24000, "response_p95_seconds": 2.9},
        "users": {"active_users": 1240},
        "transactions": {"created": (84, "2100000")},
    },
    {
        "down": {"overall": 86.4},
        "traffic": {"errors": 80, "response_seconds_sum": 26000, "response_p95_seconds": 3.1},
        "users": {"active_users": 1230},
        "transactions": {"created": (86, "2400000")},
    },
]


HEALTH_TEXT = """\
## Daily System Health Report - 2026-10-03

**Verdict: OK** - All figures are within their targets.

Window: Saturday, 24 h in UTC

### Uptime
- Overall Uptime: 99.95% (same weekday: 100%, -0.05 pp)
- Frontend Uptime: 99.98% (same weekday: 99.98%, no change)
- API Uptime: 99.92% (same weekday: 99.92%, no change)
- Database Uptime: 100% (same weekday: 100%, no change)

### Performance
- Average Response Time: 1.2s (same weekday: 1.2s, +4.3%)
- 95th Percentile: 2.8s (same weekday: 2.8s, no change)
- Error Rate: 0.3% (same weekday: 0.28%, +0.02 pp)
- Active Users: 1,247 (same weekday: 1,220, +2.2%)

### Transactions
- Total Transactions: 89 (same weekday: 85, +4.7%)
- Successful: 87 (same weekday: 87, no change)
- Failed: 2 (same weekday: 2, no change)
- Total Value: $2.3M (same weekday: $2.2M, +7.0%)

### Issues
- Minor: 3 support tickets (same weekday: 3, no change)
- None critical
- Tickets Past Target: 0 (same weekday: 0, no change)
- Unknown Uptime: 0 s (same weekday: 0 s, no change)
- Broken Log Lines: 0 (same weekday: 0, no change)
- Errors in Application Log: 9 (same weekday: 9, no change)
  - 9 x TimeoutError at /api/fees
- Errors in Error Log: 0 (same weekday: 0, no change)

### Uptime by Component
| Component | Uptime | Up | Down | Maintenance | Unknown | Outages |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| overall | 99.95% (-0.05 pp) | 23 h 59 min 17 s (-43 s) | 43 s (+43 s) | 0 s | 0 s | 1 (+1) |
| api | 99.92% | 23 h 58 min 51 s | 1 min 9 s | 0 s | 0 s | 1 |
| cache | 100% | 24 h | 0 s | 0 s | 0 s | 0 |
| chain | 99.95% | 23 h 59 min 17 s | 43 s | 0 s | 0 s | 1 |
| database | 100% | 24 h | 0 s | 0 s | 0 s | 0 |
| frontend | 99.98% | 23 h 59 min 43 s | 17 s | 0 s | 0 s | 1 |

In brackets: the change against the same weekday's median, where there is one.

### Traffic
- Requests: 20,000 (same weekday: 20,000, no change)
- Server Errors (5xx): 60 (same weekday: 56, +7.1%)
- Client Errors (4xx): 400 (same weekday: 400, no change)
- 99th Percentile: 4.1s (same weekday: 4.1s, no change)
- Data Sent: 1.5 MB (same weekday: 1.5 MB, no change)
- Log Lines Read: 20,310 (same weekday: 20,310, no change)

### Errors by Kind and Endpoint
| Kind | Endpoint | Log | Errors |
| --- | --- | --- | ---: |
| 502 | /api/escrow/{id} | access | 40 |
| 500 | /api/fees | access | 20 |
| TimeoutError | /api/fees | application | 9 |
"""


ACTIVITY_TEXT = """\
## Daily User Activity Report - 2026-10-03

**Verdict: OK** - All figures are within their targets.

Window: Saturday, 24 h in UTC

### Registrations
- New Users: 23 (same weekday: 23, no change)
- Verified Users: 18 (same weekday: 18, no change)
- Pending Verification: 5 (same weekday: 5, no change)

### Activity
- Active Users: 1,247 (same weekday: 1,220, +2.2%)
- Sessions: 3,456 (same weekday: 3,456, no change)
- Page Views: 12,789 (same weekday: 12,789, no change)

### Transactions
- Created: 89 (same weekday: 85, +4.7%)
- Completed: 87 (same weekday: 87, no change)
- Disputed: 2 (same weekday: 2, no change)
- Cancelled: 0 (same weekday: 0, no change)

### Support
- Tickets Created: 3 (same weekday: 3, no change)
- Tickets Resolved: 2 (same weekday: 2, no change)
- Average Response Time: 2.3 hours (same weekday: 2.3 hours, no change)

### Transaction Value
- Failed Transactions: 2 (same weekday: 2, no change)
- Value Created: $2.3M (same weekday: $2.2M, +7.0%)
- Value Completed: $2.2M (same weekday: $2.2M, no change)
- Value Disputed: $40,000.00 (same weekday: $40,000.00, no change)
- Value Cancelled: $0.00 (same weekday: $0.00, no change)
- Value Failed: $10,000.10 (same weekday: $10,000.10, no change)

### Revenue
- Revenue: $22,400.25 (same weekday: $22,400.25, no change)
- Fees and Refunds: 88 (same weekday: 88, no change)

| Fee | Number | Amount |
| --- | ---: | ---: |
| escrow | 87 | $22,500.50 |
| refund | 1 | -$100.25 |

### Support by Priority (Targets: 2 h / 24 h / 48 h)
- Tickets Past Target: 0 (same weekday: 0, no change)

| Priority | Target | Created | Resolved | Answered | Within Target | Past Target | Average Response |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| high | 2 h | 1 | 1 | 1 | 1 | 0 | 2.0 hours |
| medium | 24 h | 2 | 1 | 1 | 1 | 0 | 2.6 hours |
| low | 48 h | 0 | 0 | 0 | 0 | 0 | none answered |

### Feedback Ratings
- Ratings: 10 (same weekday: 10, no change)
- Average Rating: 4.20 of 5 (same weekday: 4.20 of 5, no change)
- 5 Stars: 5 (same weekday: 5, no change)
- 4 Stars: 3 (same weekday: 3, no change)
- 3 Stars: 1 (same weekday: 1, no change)
- 2 Stars: 1 (same weekday: 1, no change)
- 1 Star: 0 (same weekday: 0, no change)
"""


def test_both_reports_equal_the_texts_worked_out_by_hand(warehouse: psycopg.Connection) -> None:
    insert_day(warehouse, DAY)
    insert_weeks(warehouse, DAY, WEEKS)
    assert reports.render_day(WINDOW, "run") == [HEALTH, ACTIVITY]
    health, activity = one(warehouse, HEALTH), one(warehouse, ACTIVITY)
    assert health.markdown == HEALTH_TEXT
    assert activity.markdown == ACTIVITY_TEXT
    assert (health.verdict, health.completeness, health.missing) == ("ok", Decimal(1), [])
    assert (health.title, health.window_start, health.window_end) == (
        "Daily System Health Report - 2026-10-03",
        WINDOW.start,
        WINDOW.end,
    )
    value = next(each for each in health.figures if each["name"] == "value_created")
    assert (value["value"], value["comparison"], value["change"]) == ("2300000.4", "2150000", "150000.4")
    assert {each["name"]: each["outcome"] for each in health.figures}["error_rate"] == "ok"


def test_every_figure_stands_in_a_report(warehouse: psycopg.Connection) -> None:
    insert_day(warehouse, DAY)
    reports.render_day(WINDOW, "run")
    shown = {each["name"] for report in stored.of_day(warehouse, WINDOW.key) for each in report.figures}
    assert shown == {*DEFINITIONS, "critical_incidents"}


def test_tables_and_incidents_are_compared_with_the_same_weekday(warehouse: psycopg.Connection) -> None:
    """Medians of the two weeks: chain 99.5 %, 502 of the escrows 30 and TimeoutError none, escrow fees $15,000, refunds
    none, two tickets of high priority, half an incident."""
    insert_day(warehouse, DAY, down={"chain": 864})
    fees = ("escrow", 60, "15000")
    escrows = ("access", "502", "/api/escrow/{id}", 30)
    insert_weeks(
        warehouse,
        DAY,
        [
            {"down": {"chain": 0}, "revenue": (fees,), "errors": (escrows,), "support": {"high": (2, 0, 0, 0, 0, 0)}},
            {"down": {"chain": 864}, "revenue": (fees,), "errors": (escrows,), "support": {"high": (2, 0, 0, 0, 0, 0)}},
        ],
    )
    insert_incident(warehouse, 1, detected_at="2026-09-19T10:00:00Z", resolved_at="2026-09-19T11:00:00Z")
    reports.render_day(WINDOW, "run")
    health, activity = one(warehouse, HEALTH), one(warehouse, ACTIVITY)
    rows = {row.split(" | ")[0]: row for row in (health.markdown + activity.markdown).splitlines() if "|" in row}
    down, up = "14 min 24 s (+7 min 12 s)", "23 h 45 min 36 s (-7 min 12 s)"
    assert rows["| chain"] == f"| chain | 99% (-0.50 pp) | {up} | {down} | 0 s | 0 s | 1 (+0.5) |"
    assert rows["| database"] == "| database | 100% | 24 h | 0 s | 0 s | 0 s | 0 |"
    assert rows["| 502"] == "| 502 | /api/escrow/{id} | access | 40 (+33.3%) |"
    assert rows["| TimeoutError"] == "| TimeoutError | /api/fees | application | 9 (+9) |"
    assert rows["| escrow"] == "| escrow | 87 (+45.0%) | $22,500.50 (+50.0%) |"
    assert rows["| refund"] == "| refund | 1 (+1) | -$100.25 (-$100.25) |"
    assert rows["| high"].startswith("| high | 2 h | 1 (-1) | 1 (+1) | ")
    assert "- None critical (same weekday: 0.5, -0.5)\n" in health.markdown
    # A day whose source was not all there is compared with nothing: one week is too few.
    for subject in ("uptime", "traffic", "transactions", "support"):
        set_subject(warehouse, DAY - timedelta(weeks=2), subject, "partial", 0.5, "half a day")
    reports.render_day(WINDOW, "run")
    assert "In brackets" not in one(warehouse, HEALTH).markdown + one(warehouse, ACTIVITY).markdown
    assert "- None critical\n" in one(warehouse, HEALTH).markdown


def test_the_guides_sample_is_repeated_word_by_word(warehouse: psycopg.Connection) -> None:
    """Without what we add in brackets, the guide's lines stand as in the guide."""
    insert_day(warehouse, DAY)
    reports.render_day(WINDOW, "run")
    text = re.sub(r" \(no comparison yet\)", "", one(warehouse, HEALTH).markdown)
    for expected in (
        "### Performance\n- Average Response Time: 1.2s\n- 95th Percentile: 2.8s\n- Error Rate: 0.3%\n",
        "### Uptime\n- Overall Uptime: 99.95%\n- Frontend Uptime: 99.98%\n"
        "- API Uptime: 99.92%\n- Database Uptime: 100%\n",
        "### Transactions\n- Total Transactions: 89\n- Successful: 87\n- Failed: 2\n- Total Value: $2.3M\n",
        "### Issues\n- Minor: 3 support tickets\n- None critical\n",
    ):
        assert expected in text


def test_rendering_again_changes_no_byte_and_no_time(warehouse: psycopg.Connection) -> None:
    insert_day(warehouse, DAY)
    insert_weeks(warehouse, DAY, WEEKS)
    reports.render_day(WINDOW, "first")
    before = stored.of_day(warehouse, WINDOW.key)
    assert reports.render_day(WINDOW, "second") == []
    after = stored.of_day(warehouse, WINDOW.key)
    assert [(each.markdown, each.html, each.input_hash, each.rendered_at) for each in before] == [
        (each.markdown, each.html, each.input_hash, each.rendered_at) for each in after
    ]


def test_a_missing_subject_is_not_available_and_never_zero(warehouse: psycopg.Connection) -> None:
    insert_day(warehouse, DAY)
    insert_weeks(warehouse, DAY, WEEKS)
    set_subject(warehouse, DAY, "transactions", "missing", 0, "the platform database could not be reached")
    reports.render_day(WINDOW, "run")
    health, activity = one(warehouse, HEALTH), one(warehouse, ACTIVITY)
    because = "not available (the platform database could not be reached)"
    for label in ("Total Transactions", "Successful", "Failed", "Total Value"):
        assert line(health, label) == f"- {label}: {because}"
    assert line(activity, "Revenue") == f"- Revenue: {because}"
    assert health.missing == ["transactions_created", "transactions_completed", "transactions_failed", "value_created"]
    assert (health.verdict, health.completeness) == ("unknown", Decimal("0.8"))
    assert health.headline == ("The figures of transactions are missing: the platform database could not be reached.")
    assert "**Completeness: 80%** - transactions missing: the platform database could not be reached" in health.markdown
    assert activity.completeness == Decimal("0.66666")
    assert all(each["value"] is None for each in health.figures if each["name"] in health.missing)


def test_a_day_without_any_metrics_is_unknown(warehouse: psycopg.Connection) -> None:
    reports.render_day(WINDOW, "run")
    for report in stored.of_day(warehouse, WINDOW.key):
        assert (report.verdict, report.completeness) == ("unknown", Decimal(0))
        assert not re.search(r"^- (?!None critical)[^:]+: (?!not available)", report.markdown, re.M)
        assert "no data in these days" in report.html


def test_a_partial_subject_says_what_is_missing(warehouse: psycopg.Connection) -> None:
    insert_day(warehouse, DAY)
    set_subject(warehouse, DAY, "traffic", "partial", 0.91666, "no log lines from 03:00 to 05:00")
    reports.render_day(WINDOW, "run")
    health = one(warehouse, HEALTH)
    assert health.completeness == Decimal("0.98333")  # (4 + 0.91666) / 5 = 0.983332
    assert line(health, "Error Rate") == "- Error Rate: 0.3% (no comparison yet; incomplete)"
    assert health.verdict == "unknown"
    assert "**Completeness: 98.33%** - traffic partial (91.67%): no log lines from 03:00 to 05:00" in health.markdown
    assert one(warehouse, ACTIVITY).verdict == "ok"


def test_fewer_than_two_comparable_days_are_no_comparison(warehouse: psycopg.Connection) -> None:
    insert_day(warehouse, DAY)
    insert_weeks(warehouse, DAY, WEEKS)
    for week in (2, 3, 4):
        set_subject(warehouse, DAY - timedelta(weeks=week), "users", "partial", 0.98, "half a day")
    reports.render_day(WINDOW, "run")
    assert line(one(warehouse, HEALTH), "Active Users") == "- Active Users: 1,247 (no comparison yet)"
    set_subject(warehouse, DAY - timedelta(weeks=4), "users", "partial", 0.995, "seven minutes", content_hash="b")
    assert reports.render_day(WINDOW, "run")[:2] == [HEALTH, ACTIVITY]
    # 1200 and 1230 now: the median of two days is their mean, 1215; 32 / 1215 = 2.63 %
    assert line(one(warehouse, HEALTH), "Active Users") == "- Active Users: 1,247 (same weekday: 1,215, +2.6%)"


def test_an_earlier_day_whose_own_inputs_changed_is_rendered_again(warehouse: psycopg.Connection) -> None:
    earlier, oldest = DAY - timedelta(days=1), DAY - timedelta(days=27)
    for day in (oldest, earlier, DAY):
        insert_day(warehouse, day)
        reports.render_day(day_window(day, "UTC"), "run")
    before = one(warehouse, ACTIVITY, earlier)
    assert reports.render_day(WINDOW, "run") == []
    # A day that was added in between is history for the others and makes none of them stale.
    insert_day(warehouse, DAY - timedelta(days=2))
    assert reports.render_day(WINDOW, "run") == [HEALTH, ACTIVITY]
    assert one(warehouse, ACTIVITY, earlier).html == before.html
    # The metrics of the earlier day were corrected. The day's own chart of new users shows it too, and the earlier day
    # is rendered with the history that has grown since.
    warehouse.execute("UPDATE ops.daily_users SET new_users = 30 WHERE day = %s", (earlier,))
    set_subject(warehouse, earlier, "users", content_hash="corrected")
    assert reports.render_day(WINDOW, "run") == [ACTIVITY, f"{earlier}/{HEALTH}", f"{earlier}/{ACTIVITY}"]
    assert line(one(warehouse, ACTIVITY, earlier), "New Users").startswith("- New Users: 30")
    assert one(warehouse, ACTIVITY, earlier).first_rendered_at == before.first_rendered_at
    assert reports.render_day(WINDOW, "run") == []


def test_the_newest_day_follows_its_history(warehouse: psycopg.Connection) -> None:
    """A backfill renders days in any order: the newest one must show what came after it was rendered first."""
    insert_day(warehouse, DAY)
    reports.render_day(WINDOW, "run")
    assert "no comparison yet" in line(one(warehouse, HEALTH), "Active Users")
    insert_weeks(warehouse, DAY, WEEKS)
    week_ago = DAY - timedelta(weeks=1)
    changed = reports.render_day(day_window(week_ago, "UTC"), "run")
    assert changed == [HEALTH, ACTIVITY, f"{DAY}/{HEALTH}", f"{DAY}/{ACTIVITY}"]
    assert "same weekday: 1,220" in line(one(warehouse, HEALTH), "Active Users")
    assert reports.render_day(day_window(week_ago, "UTC"), "run") == []


def test_a_day_that_comes_late_or_is_corrected_reaches_the_days_compared_with_it(
    warehouse: psycopg.Connection, tmp_path: Path
) -> None:
    """A backfill in any order, and any correction, leaves every report with the medians of what is known now."""
    last = DAY + timedelta(weeks=4)
    days = [DAY + timedelta(days=n) for n in (1, 7, 8, 14, 28)]
    for day in (*days, last + timedelta(days=3)):
        insert_day(warehouse, day)
        reports.render_day(day_window(day, "UTC"), "run")
    before = {day: one(warehouse, ACTIVITY, day) for day in days}
    insert_day(warehouse, DAY, users={"active_users": 1001})
    # The 10th shows the day in its charts only: one day is too few for a median.
    later = [f"{DAY + timedelta(weeks=n)}/{kind}" for n in (1, 2, 4) for kind in (HEALTH, ACTIVITY)]
    assert reports.render_day(WINDOW, "run") == [HEALTH, ACTIVITY, *later]
    assert "same weekday: 1,124" in line(one(warehouse, HEALTH, DAY + timedelta(weeks=2)), "Active Users")
    for neighbour in (DAY + timedelta(days=1), DAY + timedelta(days=8)):
        assert one(warehouse, ACTIVITY, neighbour).html == before[neighbour].html
    delivered = [one(warehouse, kind, day) for kind in (HEALTH, ACTIVITY) for day in (*days, last)]
    assert all(each.delivered_at for each in delivered)
    assert all(
        (tmp_path / "reports" / each.period_key / f"{each.kind}.md").read_text() == each.markdown for each in delivered
    )
    assert reports.render_day(WINDOW, "again") == []
    # A correction of what only one of the reports uses, then an incident, which the other does not tell of.
    warehouse.execute("UPDATE ops.daily_feedback SET ratings = 20 WHERE day = %s", (DAY,))
    set_subject(warehouse, DAY, "support", content_hash="corrected")
    assert reports.render_day(WINDOW, "run") == [ACTIVITY, f"2026-10-17/{ACTIVITY}"]
    assert line(one(warehouse, ACTIVITY, DAY + timedelta(weeks=2)), "Ratings").startswith(
        "- Ratings: 10 (same weekday: 15"
    )
    insert_incident(warehouse, 1, resolved_at="2026-10-03T11:00:00Z", state="resolved")
    assert reports.render_day(WINDOW, "run") == [HEALTH, f"2026-10-17/{HEALTH}"]


def test_an_earlier_incident_makes_only_the_health_report_stale(warehouse: psycopg.Connection) -> None:
    earlier = DAY - timedelta(days=3)
    for day in (earlier, DAY):
        insert_day(warehouse, day)
        reports.render_day(day_window(day, "UTC"), "run")
    insert_incident(
        warehouse, 1, detected_at="2026-09-30T10:00:00Z", resolved_at="2026-09-30T11:00:00Z", state="resolved"
    )
    assert reports.render_day(WINDOW, "run") == [f"{earlier}/{HEALTH}"]
    assert one(warehouse, HEALTH, earlier).verdict == "critical"


def test_a_mean_of_nothing_is_absent_but_not_missing(warehouse: psycopg.Connection) -> None:
    none = (1, 0, 0, 0, 0, 0)
    insert_day(warehouse, DAY, support={"high": none, "medium": none}, ratings=(0, 0, 0, 0, 0))
    reports.render_day(WINDOW, "run")
    activity = one(warehouse, ACTIVITY)
    assert line(activity, "Average Response Time") == (
        "- Average Response Time: not available (no ticket was first answered in the day)"
    )
    assert line(activity, "Average Rating") == "- Average Rating: not available (no ratings were given)"
    assert (activity.missing, activity.verdict) == ([], "ok")


def test_a_week_is_refused(warehouse: psycopg.Connection) -> None:
    with pytest.raises(ConfigurationError, match="daily reports are about a day"):
        reports.render_day(week_window(DAY, "UTC"), "run")


@pytest.mark.parametrize("timezone", ["Pacific/Kiritimati", "UTC", "Pacific/Pago_Pago"])
@pytest.mark.parametrize("days", [1, 2, 300])
def test_a_day_that_is_not_over_has_no_report(warehouse: psycopg.Connection, timezone: str, days: int) -> None:
    """Today is refused, and tomorrow, and a day of next year, which would stand as the newest report until then."""
    last = last_finished_day(datetime.now(UTC), timezone)
    window = day_window(last + timedelta(days=days), timezone)
    sentence = (
        f"the day {window.key} is not over in {timezone}; the last finished day is {last}: pass that or an earlier one"
    )
    with pytest.raises(ConfigurationError) as refused:
        reports.render_day(window, "run")
    assert str(refused.value) == sentence
    assert stored.latest(warehouse) == []
    assert reports.render_day(day_window(last, timezone), "run") == [HEALTH, ACTIVITY]


def test_a_day_of_a_daylight_saving_change(warehouse: psycopg.Connection) -> None:
    reports.render_day(day_window(date(2026, 10, 25), "Europe/Berlin"), "run")
    assert "Window: Sunday, 25 h in Europe/Berlin" in one(warehouse, HEALTH, date(2026, 10, 25)).markdown
