"""What only the health report tells: components, critical days, errors of each log, broken lines, its charts."""

from __future__ import annotations

import json
from datetime import date, timedelta
from decimal import Decimal

import psycopg
import pytest

from include.reporting import report_inputs, reports, system_health
from include.settings import settings
from tests.include.reporting.report_rows import DAY, HEALTH, WINDOW, insert_day, line, one

ERRORS_HEADING = "Errors by Kind and Endpoint"


def test_nothing_is_called_uncritical_on_a_critical_day(warehouse: psycopg.Connection) -> None:
    """An outage of the platform opens no incident."""
    insert_day(warehouse, DAY, down={"chain": 86400})
    reports.render_day(WINDOW, "run")
    health = one(warehouse, HEALTH)
    assert line(health, "Chain Uptime") == "- Chain Uptime: 0% (no comparison yet) - CRITICAL"
    assert "- No P0 or P1 incident\n" in health.markdown
    assert "None critical" not in health.markdown + health.html


def test_a_component_that_was_not_watched_or_was_under_maintenance(warehouse: psycopg.Connection) -> None:
    insert_day(warehouse, DAY)
    state = "UPDATE ops.daily_uptime SET up_seconds = %s, down_seconds = 0, {} = %s WHERE component = 'chain'"
    warehouse.execute(state.format("unknown_seconds"), (79200, 7200))
    reports.render_day(WINDOW, "run")
    assert one(warehouse, HEALTH).verdict == "unknown"
    assert one(warehouse, HEALTH).headline == "Chain Uptime is not known for 2 h."
    warehouse.execute(state.format("unknown_seconds"), (0, 86400))
    reports.render_day(WINDOW, "run")
    assert one(warehouse, HEALTH).headline == "Chain Uptime is not available: no time up or down is known."
    warehouse.execute("UPDATE ops.daily_uptime SET unknown_seconds = 0 WHERE component = 'chain'")
    warehouse.execute(state.format("maintenance_seconds"), (0, 86400))
    reports.render_day(WINDOW, "run")
    health = one(warehouse, HEALTH)
    assert line(health, "Chain Uptime") == "- Chain Uptime: not available (it was under maintenance all day)"
    assert (health.verdict, health.missing) == ("ok", [])
    warehouse.execute("DELETE FROM ops.daily_uptime WHERE component = 'chain'")
    reports.render_day(WINDOW, "run")
    assert "Chain Uptime" not in one(warehouse, HEALTH).markdown, "this platform has none"


def test_a_component_the_platform_does_not_have_is_not_missing(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPERATIONS__PLATFORM__COMPONENTS", '["frontend", "database"]')
    environment.setenv("OPERATIONS__PLATFORM__USER_FACING_COMPONENTS", '["frontend"]')
    settings.cache_clear()
    insert_day(warehouse, DAY)
    reports.render_day(WINDOW, "run")
    health = one(warehouse, HEALTH)
    assert line(health, "API Uptime") == "- API Uptime: not available (not a component of this platform)"
    assert health.missing == []
    settings.cache_clear()


def test_errors_of_different_logs_are_not_added_up(warehouse: psycopg.Connection) -> None:
    """20 requests fail: each leaves a line in all three logs. A crawler asks for 30 pages that do not exist."""
    crawled = tuple(("access", "404", f"/old/{number:02d}", 100) for number in range(30))
    failed = (
        ("access", "500", "/api/fees", 20),
        ("application", "TimeoutError", "/api/fees", 20),
        ("error", "upstream timed out", "/api/fees", 20),
    )
    insert_day(warehouse, DAY, traffic={"errors": 20, "client_errors": 3000}, errors=crawled + failed)
    reports.render_day(WINDOW, "run")
    health = one(warehouse, HEALTH).markdown
    assert (
        "- Errors in Application Log: 20 (no comparison yet)\n"
        "  - 20 x TimeoutError at /api/fees\n"
        "- Errors in Error Log: 20 (no comparison yet)\n"
        "  - 20 x upstream timed out at /api/fees\n"
    ) in health
    assert "- Server Errors (5xx): 20 (no comparison yet)\n- Client Errors (4xx): 3,000 (no comparison yet)\n" in health
    # The table has the 20 most frequent kinds, which are the crawler's.
    assert health.count("| 404 | /old/") == 20
    assert "| 500 |" not in health
    assert "| TimeoutError |" not in health
    assert "13 more kinds stand in ops.daily_error." in health


def test_errors_of_a_log_that_there_is_not_are_not_zero(warehouse: psycopg.Connection) -> None:
    insert_day(warehouse, DAY, errors=())
    for week in (1, 2):
        insert_day(warehouse, DAY - timedelta(weeks=week))
    detail = "UPDATE ops.daily_subject SET detail = %s WHERE subject = 'traffic' AND day = %s"
    warehouse.execute(detail, (json.dumps({"absent_logs": ["error"]}), DAY - timedelta(weeks=1)))
    warehouse.execute(detail, (json.dumps({"absent_logs": ["application", "error"]}), DAY))
    reports.render_day(WINDOW, "run")
    health = one(warehouse, HEALTH)
    assert (health.verdict, health.completeness, health.missing) == ("ok", Decimal(1), [])
    for name, log in (("Application", "application"), ("Error", "error")):
        told = f"- Errors in {name} Log: not available (no readable {log} log of the day was found)"
        assert line(health, f"Errors in {name}") == told
    both = "No errors are known: the application log and the error log of the day could not be read."
    assert f"{ERRORS_HEADING}\n{both}\n" in health.markdown
    warehouse.execute(detail, (json.dumps({"absent_logs": ["application"]}), DAY))
    warehouse.execute("UPDATE ops.daily_subject SET content_hash = 'b' WHERE day = %s", (DAY,))
    reports.render_day(WINDOW, "run")
    compared = "- Errors in Error Log: 0 (no comparison yet)"
    assert line(one(warehouse, HEALTH), "Errors in Error") == compared, "a week ago it was not known"
    assert "No errors are known: the application log of the day could not be read." in one(warehouse, HEALTH).markdown
    warehouse.execute(detail, (json.dumps({}), DAY))
    reports.render_day(WINDOW, "run")
    assert f"{ERRORS_HEADING}\nNo errors were logged.\n" in one(warehouse, HEALTH).markdown


@pytest.mark.parametrize(("source", "absent", "told"), [
    ("application", ["application"], "12"),
    ("application", ["error"], "12 (+12)"),
    ("application", [], "12 (+12)"),
    ("access", ["application", "error"], "12 (+12)"),
])  # fmt: skip
def test_errors_are_not_compared_with_days_without_their_log(
    warehouse: psycopg.Connection, source: str, absent: list[str], told: str
) -> None:
    insert_day(warehouse, DAY, errors=((source, "TimeoutError", "/api/fees", 12),))
    for week in (1, 2):
        insert_day(warehouse, DAY - timedelta(weeks=week), errors=())
    detail = "UPDATE ops.daily_subject SET detail = %s WHERE subject = 'traffic' AND day < %s"
    warehouse.execute(detail, (json.dumps({"absent_logs": absent}), DAY))
    reports.render_day(WINDOW, "run")
    assert f"| TimeoutError | /api/fees | {source} | {told} |" in one(warehouse, HEALTH).markdown


def test_broken_lines_are_shown_without_what_would_be_markup(warehouse: psycopg.Connection) -> None:
    insert_day(warehouse, DAY, traffic={"lines_broken": 3})
    detail = {
        "broken_samples": ["GET /a?token=*** <b>", "x\u202ey"],
        "lines": {"application_broken": 2, "error_broken": 1},
    }
    warehouse.execute("UPDATE ops.daily_subject SET detail = %s WHERE subject = 'traffic'", (json.dumps(detail),))
    reports.render_day(WINDOW, "run")
    health = one(warehouse, HEALTH)
    assert (
        "- Broken Log Lines: 3 (no comparison yet)\n"
        "  - GET /a?token=\\*\\*\\* &lt;b&gt;\n"
        "  - x\ufffdy\n"
        "  - and 2 broken lines of the application log\n"
        "  - and 1 broken line of the error log\n"
    ) in health.markdown
    assert "GET /a?token=*** &lt;b&gt;" in health.html


def test_the_health_reports_charts_tell_of_four_weeks(warehouse: psycopg.Connection) -> None:
    insert_day(warehouse, DAY)
    insert_day(warehouse, DAY - timedelta(days=27), traffic={"errors": 2000})
    insert_day(warehouse, DAY - timedelta(days=28), traffic={"errors": 4000})
    charts = system_health.charts(report_inputs.read(warehouse, WINDOW, settings()))
    assert [chart.title for chart in charts] == ["Response time", "Error rate", "Transactions", "Active users"]
    [error_rate] = charts[1].series
    assert charts[1].days[0] == date(2026, 9, 6), "28 days with the report's own, 3 October"
    assert error_rate.values == (Decimal("0.1"), *[None] * 26, Decimal("0.003"))
