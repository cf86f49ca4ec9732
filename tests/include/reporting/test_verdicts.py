"""The verdict of a report by each of its rules."""

from __future__ import annotations

import psycopg
import pytest

from include.reporting import reports
from tests.include.reporting.report_rows import (
    DAY,
    HEALTH,
    WINDOW,
    insert_day,
    insert_incident,
    line,
    one,
)


@pytest.mark.parametrize(
    ("change", "verdict", "headline"),
    [
        ({"traffic": {"errors": 200}}, "ok", "All figures are within their targets."),  # exactly 1 %
        ({"traffic": {"errors": 240}}, "warning", "Error Rate 1.2% is above the target of 1%."),
        ({"traffic": {"errors": 1002}}, "critical", "Error Rate 5.01% is above the alert limit of 5%."),
        (
            {"traffic": {"response_seconds_sum": 42000}},
            "warning",
            "Average Response Time 2.1s is above the target of 2.0s.",
        ),
        (
            {"traffic": {"response_p95_seconds": 3.2}},
            "warning",
            "95th Percentile 3.2s is above the alert limit of 3.0s.",
        ),
        ({"down": {"overall": 172.8}}, "warning", "Overall Uptime 99.8% is below the target of 99.9%."),
        (
            {"down": {"overall": 2678.4}},  # 3.1 % of the day; 0.1 % of 30 days are 3 % of one
            "critical",
            "Overall Uptime 96.9%: down for 44 min 38 s, longer than the target of 99.9% allows in 30 days.",
        ),
        ({"down": {"overall": 2592}}, "warning", "Overall Uptime 97% is below the target of 99.9%."),  # exactly 3 %
        # 8 minutes down of the 4 hours that are known are 3.3 % of them, and still 8 minutes.
        (
            {"down": {"overall": 480, "frontend": 0, "api": 0, "chain": 0}, "unknown": 72000},
            "warning",
            "Overall Uptime 96.67% is below the target of 99.9% (1 more below).",
        ),
        ({"down": {"chain": 864}}, "warning", "Chain Uptime 99% is below the target of 99.9%."),
        (
            {"down": {"cache": 7200}},
            "critical",
            "Cache Uptime 91.67%: down for 2 h, longer than the target of 99.9% allows in 30 days.",
        ),
        # So near to the limit that two decimals, or one, would show the limit itself.
        ({"down": {"overall": 88}}, "warning", "Overall Uptime 99.898% is below the target of 99.9%."),
        (
            {"traffic": {"response_seconds_sum": 40600}},
            "warning",
            "Average Response Time 2.03s is above the target of 2.0s.",
        ),
        ({"traffic": {"errors": 1001}}, "critical", "Error Rate 5.005% is above the alert limit of 5%."),
        ({"unknown": 865}, "unknown", "The state of the platform is not known for 14 min 25 s."),
        (
            {"support": {"high": (1, 1, 0, 0, 0, 2)}},
            "warning",
            "2 support tickets were not answered within the target.",
        ),
        (
            {"traffic": {"errors": 240}, "down": {"overall": 172.8}},
            "warning",
            "Overall Uptime 99.8% is below the target of 99.9% (1 more below).",
        ),
    ],
)
def test_verdicts(warehouse: psycopg.Connection, change: dict, verdict: str, headline: str) -> None:
    insert_day(warehouse, DAY, **change)
    reports.render_day(WINDOW, "run")
    health = one(warehouse, HEALTH)
    assert (health.verdict, health.headline) == (verdict, headline)
    assert f"**Verdict: {verdict.upper()}** - {headline}" in health.markdown


def test_the_lines_of_figures_show_that_they_miss_their_limits(warehouse: psycopg.Connection) -> None:
    """88 s down of 86,400 are 99.898 %, 1001 of 20000 requests 5.005 %; 40600 s of them 2.03 s each."""
    figures = {"errors": 1001, "response_seconds_sum": 40600, "response_p95_seconds": 3.004}
    insert_day(warehouse, DAY, down={"overall": 88, "chain": 88}, traffic=figures)
    reports.render_day(WINDOW, "run")
    health = one(warehouse, HEALTH)
    assert [line(health, label) for label in ("Overall", "Average", "95th", "Error Rate", "Chain")] == [
        "- Overall Uptime: 99.898% (no comparison yet) - WARNING",
        "- Average Response Time: 2.03s (no comparison yet) - WARNING",
        "- 95th Percentile: 3.004s (no comparison yet) - WARNING",
        "- Error Rate: 5.005% (no comparison yet) - CRITICAL",
        "- Chain Uptime: 99.898% (no comparison yet) - WARNING",
    ]
    assert "\n| overall | 99.898% |" in health.markdown
    assert "\n| chain | 99.898% |" in health.markdown
    assert "Cache Uptime" not in health.markdown, "what is within its target stands in the table alone"


def test_incidents_of_the_day_are_critical(warehouse: psycopg.Connection) -> None:
    insert_day(warehouse, DAY)
    over = {"state": "resolved"}
    insert_incident(warehouse, 1, detected_at="2026-10-01T00:00:00Z", resolved_at="2026-10-02T23:59:00Z", **over)
    insert_incident(warehouse, 2, detected_at="2026-10-04T00:00:00Z")
    insert_incident(warehouse, 3, **{"class": "P2"})
    insert_incident(warehouse, 4, state="cancelled")
    reports.render_day(WINDOW, "run")
    assert "- None critical\n" in one(warehouse, HEALTH).markdown
    insert_incident(warehouse, 5, detected_at="2026-10-01T08:00:00Z")
    insert_incident(
        warehouse, 6, **{"class": "P0"}, title="Platform is down", resolved_at="2026-10-03T03:00:00Z", **over
    )
    assert reports.render_day(WINDOW, "run") == [HEALTH]
    health = one(warehouse, HEALTH)
    assert (
        "- Critical: 2 incidents\n"
        "  - INC-2026-006 P0: Platform is down"
        " (affected: api; detected 2026-10-03 02:14 UTC; resolved 2026-10-03 03:00 UTC)\n"
        "  - INC-2026-005 P1: Probe of api failed"
        " (affected: api; detected 2026-10-01 08:00 UTC; open at the end of the day)\n"
    ) in health.markdown
    assert health.headline == "2 critical incidents: INC-2026-006 (P0) Platform is down."
    # What happens to an incident after the day does not change the day's report.
    warehouse.execute(
        "UPDATE ops.incident SET state = 'resolved', resolved_at = '2026-10-05' WHERE incident_id = 'INC-2026-005'"
    )
    assert reports.render_day(WINDOW, "run") == []
