"""What the pages say, against rows whose meaning was worked out by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from urllib.parse import urljoin, urlsplit

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from include.outcome import Outcome
from include.settings import ROOT
from include.warehouse import drills, findings
from plugins.operations_board import attention
from tests.plugins import rows, upkeep_rows
from tests.plugins.conftest import NOW, hosted, text_of

pytestmark = pytest.mark.airflow

HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def links_of(html: str) -> set[str]:
    return {link.replace("&amp;", "&") for link in re.findall(r'(?:href|src)="([^"]*)"', html)}


# ------------------------------------------------------------------------------------------------------ overview
def test_the_overview_says_what_is_wrong_since_when_and_what_to_do(browser: TestClient, morning: date) -> None:
    said = text_of(browser.get("").text)
    assert morning == date(2026, 10, 3)
    # The P1 was detected 47 minutes before 03:12; its response is due an hour after that (guide).
    assert "critical 1 thing is wrong for 47 min since Sun 4 Oct, 02:25 UTC" in said
    assert "INC-2026-005 platform_watch: task probe_components failed" in said
    assert "respond by Sun 4 Oct, 03:25 UTC (in 13 min). Affected: platform_watch." in said
    assert "Prune of public.audit_logs failed" in said
    assert "1,871 of 1,902 rows; nothing was deleted. See what was planned and done" in said
    assert "API is not well" in said
    assert "the latest probe: 3.412 seconds, status: 200, attempts: 2." in said
    assert "System health of Sat 3 Oct 2026: Error rate 1.34% is above the target of 1%" in said


def test_the_overview_shows_the_latest_of_everything(browser: TestClient, morning: date) -> None:
    page = browser.get("").text
    said = text_of(page)
    assert "Overall Uptime 99.41%" in said
    assert "2.3 hours" in said
    assert "12 \u00d7" in said
    assert "INC-2026-003" not in said  # closed
    assert "Renamed to access.log-20261003 with all its 40,122 lines, 3.2 MB" in said
    assert "1 more action : 1 proven" in said  # 13 actions, of which twelve are shown
    assert said.index("✕ failed") < said.index("✓ proven")
    assert "Newest day with metrics: Sat 3 Oct 2026" in said
    assert "! partial, 92.3 %" in said
    assert page.count('class="cell ok"') == 33  # 7 days of 5 subjects, one of them partial and one missing
    assert page.count('class="cell unknown"') == 1
    # 25 probes a minute apart, the newest 20 s old, were slow; before that the API was up.
    assert "API ! slow for 24 min, 3.412 s" in said
    assert "Frontend ✓ up for at least 2 h 59 min" in said


def test_a_quiet_morning_is_ok_and_says_so(browser: TestClient, warehouse: psycopg.Connection) -> None:
    quiet(warehouse)
    said = text_of(browser.get("").text)
    assert "ok Nothing needs attention" in said
    assert "What to do next" not in said
    assert "No incident is open." in said
    assert "No maintenance was recorded in the last 7 days." in said


def quiet(owner: psycopg.Connection, now: datetime = NOW) -> None:
    for kind in (rows.HEALTH, rows.ACTIVITY):
        start = rows.midnight(now) - timedelta(days=1)
        rows.report(owner, kind, start, kind, "ok", "All figures are within their targets.", rows.ACTIVITY_FIGURES)
    rows.observations(owner, now, minutes=20)
    owner.execute("UPDATE ops.observation SET outcome = 'ok'")
    rows.subjects(owner, now)
    upkeep_rows.all_well(owner, now)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("DELETE FROM ops.observation", "unknown 1 thing is not known"),
        ("UPDATE ops.observation SET observed_at = observed_at - interval '190 s'", "Nobody watches any component"),
        ("DELETE FROM ops.observation WHERE resource = 'chain'", "The state of Chain is not known"),
        (
            "UPDATE ops.observation SET outcome = 'critical' WHERE resource = 'database' AND"
            " observed_at > timestamptz '2026-10-04 03:05Z'",
            "critical 1 thing is wrong for 6 min since Sun 4 Oct, 03:05 UTC",
        ),
        ("UPDATE ops.observation SET outcome = 'unknown' WHERE resource = 'cache'", "Cache could not be checked"),
        ("DELETE FROM ops.report", "System health and User activity of Sat 3 Oct 2026: no report; there is none"),
        ("DELETE FROM ops.report WHERE kind = 'daily_user_activity'", "User activity of Sat 3 Oct 2026: no report"),
        ("UPDATE ops.report SET verdict = 'unknown', headline = 'No uptime.'", "of Sat 3 Oct 2026: No uptime."),
        ("DELETE FROM ops.daily_subject WHERE subject = 'users' AND day = '2026-10-03'", "not complete: users missing"),
        ("DELETE FROM ops.daily_subject WHERE day = '2026-10-03'", "unknown 1 thing is not known"),
        (
            "UPDATE ops.daily_subject SET state = 'missing', reason = 'platform_db was away' WHERE day = '2026-10-03'",
            "platform_db was away. Run daily_metrics for the day again",
        ),
        (
            "INSERT INTO ops.signal (idempotency_key, kind, occurred_at, received_at, fingerprint, class, title)"
            " VALUES ('k', 'task_failed', '2026-10-04 02:00Z', '2026-10-04 03:01Z', 'f', 'P1', 't')",
            "critical 1 thing is wrong for 11 min since Sun 4 Oct, 03:01 UTC",
        ),
        (
            "INSERT INTO ops.maintenance_action (idempotency_key, kind, resource, run_id, dry_run, state, plan,"
            " planned_at, applied_at) VALUES ('k', 'prune', 't', 'r', false, 'applying', '{}',"
            " '2026-10-04 02:00Z', '2026-10-04 02:01Z')",
            "Prune of t began and never ended",
        ),
    ],
)  # fmt: skip
def test_what_is_not_known_or_not_well_is_never_ok(
    browser: TestClient, warehouse: psycopg.Connection, change: str, expected: str
) -> None:
    quiet(warehouse)
    warehouse.execute(change.encode())
    said = text_of(browser.get("").text)
    assert expected in said
    assert "Nothing needs attention" not in said


_BACKFILL = "airflow backfill create --dag-id daily_metrics --from-date {} --to-date {} --reprocess-behavior completed"


@pytest.mark.parametrize(
    ("gone", "title", "command"),
    [
        ("= '2026-09-30'", "No metrics of 1 day: Wed 30 Sep 2026", _BACKFILL.format("2026-09-30", "2026-09-30")),
        (
            "IN ('2026-09-28', '2026-09-30', '2026-10-01')",
            "No metrics of 3 days: Mon 28 Sep 2026, Wed 30 Sep 2026, Thu 1 Oct 2026",
            _BACKFILL.format("2026-09-28", "2026-10-01"),
        ),
        ("= '2026-09-26'", "", ""),  # longer ago than the board shows days
        ("< '2026-10-02'", "", ""),  # before the first day
        ("= '2026-09-29' AND subject <> 'uptime'", "", ""),  # its failed run is an incident
    ],
)
def test_days_that_an_outage_left_out_are_named_with_the_command_that_computes_them(
    browser: TestClient, warehouse: psycopg.Connection, gone: str, title: str, command: str
) -> None:
    quiet(warehouse)
    warehouse.execute(f"DELETE FROM ops.daily_subject WHERE day {gone}".encode())
    said = text_of(browser.get("").text)
    assert ("Nothing needs attention" in said) == (not title)
    assert ("No metrics of" in said) == bool(title)
    assert title in said
    assert command in said


@pytest.mark.parametrize(
    ("kind", "minutes", "ended"),
    [
        ("vacuum", 71, True), ("vacuum", 719, True), ("vacuum", 721, False),
        ("analyze", 719, True), ("analyze", 721, False), ("reindex", 599, True), ("reindex", 601, False),
        ("rotate_logs", 59, True), ("rotate_logs", 61, False),
    ],
)  # fmt: skip
def test_an_act_may_take_as_long_as_its_task(
    browser: TestClient, warehouse: psycopg.Connection, kind: str, minutes: int, ended: bool
) -> None:
    quiet(warehouse)
    warehouse.execute(
        "INSERT INTO ops.maintenance_action (idempotency_key, kind, resource, run_id, dry_run, state, plan, planned_at,"
        " applied_at) VALUES ('k', %(kind)s, 't', 'r', false, 'applying', '{}', %(at)s, %(at)s)",
        {"kind": kind, "at": NOW - timedelta(minutes=minutes)},
    )
    said = text_of(browser.get("").text)
    assert ("Nothing needs attention" in said) == ended
    assert ("of t began and never ended" in said) != ended


def test_the_longest_an_act_applies_is_its_tasks_timeout() -> None:
    shape = json.loads((ROOT / "tests" / "dags" / "shape.json").read_text())
    given = {
        name: timedelta(seconds=task["timeout_seconds"])
        for dag in ("daily_maintenance", "weekly_maintenance", "monthly_maintenance")
        for name, task in shape[dag]["tasks"].items()
        if name != "ask_for_approval"  # waits for a person; it acts on nothing
    }
    vacuum, reindex = given.pop("maintain_table"), given.pop("rebuild_index")
    assert {"vacuum": vacuum, "analyze": vacuum, "reindex": reindex} == attention.LONG_APPLYING
    assert max(given.values()) == attention.SHORT_APPLYING


def test_an_empty_warehouse_is_unknown(browser: TestClient, warehouse: psycopg.Connection) -> None:
    said = text_of(browser.get("").text)
    assert "unknown 3 things are not known" in said  # the watch, the reports and the metrics
    assert "Never seen" in said
    assert "No report has been written yet." in said
    assert "Newest day with metrics: none" in said
    assert text_of(browser.get("incidents").text).count("There has been no incident.") == 1
    assert text_of(browser.get("maintenance").text).count("No maintenance was recorded yet.") == 1
    assert "before the first report" in text_of(browser.get("reports?month=2026-10").text)


def test_yesterday_is_not_late_shortly_after_midnight(
    token: Callable[[str | None], str], application: FastAPI, warehouse: psycopg.Connection
) -> None:
    from plugins.operations_board.application import create_application

    soon = datetime(2026, 10, 5, 0, 40, tzinfo=UTC)  # due at 01:10: ten minutes for late lines and an hour
    quiet(warehouse)
    warehouse.execute("UPDATE ops.observation SET observed_at = observed_at + (%s - %s)", (soon, NOW))
    cookies = {"_token": token("viewer")}
    for at, expected in (
        (soon, "Nothing needs attention"),
        (soon.replace(hour=1, minute=11), "of Sun 4 Oct 2026: no report"),
    ):
        client = TestClient(hosted(create_application(partial(datetime.fromtimestamp, at.timestamp(), UTC))), base_url="http://127.0.0.1/operations-board/",
                            cookies=cookies)  # fmt: skip
        assert expected in text_of(client.get("").text)
        archive = text_of(client.get("reports?month=2026-10").text)
        assert ("not due yet" in archive) == (at == soon)


def test_an_overdue_response_says_by_how_much(browser: TestClient, warehouse: psycopg.Connection) -> None:
    quiet(warehouse)
    rows.incident(
        warehouse, "INC-2026-001", "P0", "detected", "Platform down", "platform", NOW - timedelta(minutes=40), 1
    )
    said = text_of(browser.get("").text)
    assert "overdue by 25 min" in said  # P0: within 15 minutes (guide)


def test_the_page_reloads_itself_only_when_asked(browser: TestClient, morning: date) -> None:
    assert "http-equiv" not in browser.get("").text
    assert '<meta http-equiv="refresh" content="60">' in browser.get("?refresh=60").text


# ------------------------------------------------------------------------------------------------------- archive
def test_the_archive_shows_each_day_and_what_is_missing(browser: TestClient, morning: date) -> None:
    said = text_of(browser.get("reports?month=2026-09").text)
    # Reports reach back 34 days to 31 August; 11 days back is 23 September, 10 days back the 24th.
    assert "3 reports are missing in this month." in said
    assert "23 Sep, Wed missing System health missing User activity" in said
    assert "24 Sep, Thu ok System health" in said
    assert "28 Sep, Mon critical System health" in said
    assert "19 Sep, Sat ok System health , Sat 19 Sep 2026" in said
    august = text_of(browser.get("reports?month=2026-08").text)
    assert august.count("before the first report") == 30
    assert "ok System health , Mon 31 Aug 2026" in august


def test_the_archive_filters_by_kind(browser: TestClient, morning: date) -> None:
    page = browser.get("reports?month=2026-09&kind=daily_user_activity").text
    assert "2 reports are missing in this month." in page
    assert "reports/daily_user_activity/2026-09-19" in page
    assert "reports/daily_system_health/2026-09" not in page


def test_the_archive_opens_with_the_month_of_the_last_finished_day(browser: TestClient, morning: date) -> None:
    page = browser.get("reports").text
    assert "Reports of October 2026" in page
    assert "month=2026-09&amp;kind=all" in page
    assert "month=2026-11" not in page
    assert "month=2026-07" not in browser.get("reports?month=2026-08").text


def test_a_report_opens_with_its_neighbours_and_its_document(browser: TestClient, morning: date) -> None:
    page = browser.get("reports/daily_user_activity/2026-09-25")
    assert "reports/daily_user_activity/2026-09-22" in page.text  # the 23rd and 24th are missing
    assert "reports/daily_user_activity/2026-09-26" in page.text
    frame = browser.get("reports/daily_user_activity/2026-09-25/document")
    assert frame.text == rows.document("Daily User Activity Report - 2026-09-25", "Activity is as on other days.")
    assert frame.headers["content-security-policy"].endswith("; sandbox")
    assert "script" not in frame.headers["content-security-policy"]
    markdown = browser.get("reports/daily_user_activity/2026-09-25/markdown")
    assert markdown.headers["content-type"] == "text/plain; charset=utf-8"
    assert markdown.text.startswith("## Daily User Activity Report - 2026-09-25")


# ----------------------------------------------------------------------------------------------- details and lists
def test_an_incident_shows_its_timeline(browser: TestClient, morning: date) -> None:
    said = text_of(browser.get("incidents/INC-2026-003").text)
    assert (
        said.index("Detected: daily_metrics") < said.index("Taken by the engineer") < said.index("The source is back")
    )
    assert "SourceUnavailable: platform_db" in said
    assert "Resolved Fri 25 Sep, 04:47 UTC" in said


def test_an_action_shows_plan_applied_and_proof(browser: TestClient, warehouse: psycopg.Connection) -> None:
    done = rows.action(
        warehouse, "prune", "public.audit_logs", "run", NOW - timedelta(hours=1), "proven",
        {"rows_older": 1893, "cut_off": "2026-07-05", "limits": {"keep_days": 90}},
        proof={"rows_before": 170411, "rows_after": 168518, "before": {"size_bytes": 81920},
               "after": {"size_bytes": 4096}, "archives": ["a.parquet", "b.parquet"], "verified": True},
        applied={"rows_deleted": 1893},
    )  # fmt: skip
    said = text_of(browser.get(f"maintenance/{done}").text)
    assert "Rows 170,411 168,518" in said
    assert "Size bytes 81,920 (81.9 kB) 4,096" in said
    assert "Archives a.parquet, b.parquet" in said
    assert "Verified yes" in said
    assert "Limits / Keep days 90" in said
    assert "Rows deleted 1,893" in said
    assert "Took 12 s" in said


def test_what_failed_before_it_began_again_did_not_take_since_an_earlier_attempt(
    browser: TestClient, warehouse: psycopg.Connection
) -> None:
    failed = rows.action(warehouse, "prune", "t", "run", NOW - timedelta(hours=7), "failed", {}, reason="it is locked")
    warehouse.execute("UPDATE ops.maintenance_action SET applied_at = planned_at, finished_at = %s", (NOW,))
    said = text_of(browser.get(f"maintenance/{failed}").text)
    assert "Took \u2013" in said


def test_lists_are_paged_and_filtered(browser: TestClient, warehouse: psycopg.Connection) -> None:
    for number in range(1, 56):
        at = NOW - timedelta(days=60 - number)
        state = "detected" if number in (3, 7) else "closed"
        rows.incident(warehouse, f"INC-2026-{number:03}", "P2", state, f"title {number}", "x", at, 1)
        rows.action(warehouse, "vacuum", f"t{number}", "r", at, "failed" if number == 9 else "planned", {}, reason="r")
    first, second = (text_of(browser.get(f"incidents?page={page}").text) for page in (1, 2))
    assert "55 incidents" in first
    assert "Page 1 of 2" in first
    assert first.index("INC-2026-007") < first.index("INC-2026-003") < first.index("INC-2026-055")  # open ones first
    assert "INC-2026-001" in second
    assert "INC-2026-001" not in first
    assert "2 incidents" in text_of(browser.get("incidents?state=open").text)
    assert "53 incidents" in text_of(browser.get("incidents?state=closed").text)
    assert "1 action " in text_of(browser.get("maintenance?state=failed").text)
    assert browser.get("incidents?page=3").status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("incidents/INC-2026-999", 404, "There is no incident INC-2026-999."),
        ("incidents/%00", 404, "There is no incident"),
        ("incidents/<script>alert(1)</script>", 404, "The board has no such page."),
        ("incidents/<b>x", 404, "There is no incident &lt;b&gt;x."),
        ("incidents/" + "x" * 41, 422, "a value that it cannot have"),
        ("maintenance/999999", 404, "There is no maintenance action 999999."),
        ("maintenance/99999999999999999999", 422, "a value that it cannot have"),
        ("maintenance/0", 422, "a value that it cannot have"),
        ("findings/999999", 404, "There is no finding 999999."),
        ("findings/0", 422, "a value that it cannot have"),
        ("findings?outcome=bad", 422, "a value that it cannot have"),
        ("findings?check=%00", 422, "a value that it cannot have"),
        ("findings?check=<script>", 404, "There is no check &lt;script&gt;, or it has never looked."),
        ("findings?page=9", 404, "The list has no page 9."),
        ("drills/999999", 404, "There is no drill 999999."),
        ("drills/99999999999999999999", 422, "a value that it cannot have"),
        ("drills?page=9", 404, "The list has no page 9."),
        ("reports/daily_system_health/2026-09-23", 404, "There is no System health report of Wed 23 Sep 2026."),
        ("reports/daily_system_health/2026-09-23/document", 404, "There is no System health report"),
        ("reports/daily_system_health/2026-09-23/markdown", 404, "There is no System health report"),
        ("reports/daily_system_health/2026-02-30", 422, "is not a day of the calendar."),
        ("reports/daily_system_health/1790000000", 422, "is not a day."),
        ("reports/weekly/2026-09-23", 422, "gives &#39;kind&#39; a value that it cannot have"),
        ("reports?month=2026-13", 422, "is not a month"),
        ("reports?month=0000-01", 422, "is not a month"),
        ("reports?month=0001-01", 422, "is not a month"),
        ("reports?month=9999-12", 422, "is not a month"),
        ("reports?kind=x", 422, "a value that it cannot have"),
        ("periods/week/2026-W60", 422, "&#39;2026-W60&#39; is not a week."),
        ("periods/month/2026-13", 422, "Write it as 2026-10."),
        ("periods/month/<script>", 422, "is not a month."),
        ("periods/day/2026-10-03", 422, "gives &#39;grain&#39; a value that it cannot have"),
        ("periods/week/2026-W41", 404, "Week 2026-W41 has not begun."),
        ("periods/week/%00", 422, "is not a week."),
        ("incidents?page=0", 422, "a value that it cannot have"),
        ("incidents?state=x", 422, "a value that it cannot have"),
        ("maintenance?page=99999999999", 422, "a value that it cannot have"),
        ("?refresh=1", 422, "a value that it cannot have"),
        ("no/such/page", 404, "The board has no such page."),
    ],
)
def test_bad_input_gets_one_sentence(browser: TestClient, morning: date, path: str, status: int, sentence: str) -> None:
    answer = browser.get(path)
    assert (answer.status_code, sentence in answer.text) == (status, True), answer.text
    assert "<script>" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("month", ["1000-01", "9999-11"])
def test_months_at_the_ends_of_the_calendar_are_shown(browser: TestClient, morning: date, month: str) -> None:
    answer = browser.get(f"reports?month={month}")
    assert answer.status_code == 200
    links = set(re.findall(r"month=([0-9]{4}-[0-9]{2})", answer.text)) - {month}
    assert links == ({"1000-02"} if month == "1000-01" else {"9999-10"}), "none leads to a month without days"


def test_markup_in_the_warehouse_stays_text(browser: TestClient, warehouse: psycopg.Connection) -> None:
    evil = "<img src=x onerror=alert(1)>"
    rows.incident(warehouse, "INC-2026-001", "P1", "detected", evil, evil, NOW - timedelta(minutes=5), 2)
    done = rows.action(warehouse, evil, evil, evil, NOW, "failed", {evil: evil}, reason=evil)
    rows.report(warehouse, rows.HEALTH, rows.midnight(NOW) - timedelta(days=1), evil, "warning", evil,
                [rows.figure("error_rate", evil, evil, evil)], missing=(evil,))  # fmt: skip
    bad = findings.Finding(evil, Outcome.WARNING, evil, {evil: evil}, evil, {evil: evil})
    upkeep_rows.found(warehouse, NOW, evil, bad)
    stage = drills.Stage(evil, drills.StageOutcome.FAILED, 1, evil, {evil: evil})
    tried = upkeep_rows.drill(warehouse, "failover", evil, NOW, [stage], drills.DrillOutcome.FAILED, evil)
    pages = ["", "incidents", "incidents/INC-2026-001", "maintenance", f"maintenance/{done}", "reports"]
    pages += ["findings", f"findings/{upkeep_rows.finding_id(warehouse, evil, evil)}", "drills", f"drills/{tried}"]
    for path in [*pages, "reports/daily_system_health/2026-10-03"]:
        answer = browser.get(path)
        assert answer.status_code == 200
        assert "<img src=x" not in answer.text, path


# ------------------------------------------------------------------------------------- headers, links, base paths
def test_every_answer_is_locked_down(browser: TestClient, anonymous: TestClient, morning: date) -> None:
    for client, path in [
        (browser, ""),
        (browser, "incidents"),
        (browser, "no/such"),
        (browser, "?refresh=x"),
        (anonymous, ""),
    ]:
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert HEADERS.items() <= dict(answer.headers).items()
        assert "frame-ancestors 'self'" in policy
        assert "script-src" not in policy
        assert "unsafe" not in policy
        assert "style=" not in answer.text  # the policy allows the one style sheet only


@pytest.fixture(params=["", "/company/airflow"])
def based(
    request: pytest.FixtureRequest, application: FastAPI, token: Callable[[str | None], str]
) -> Iterator[TestClient]:
    """A browser that sees Airflow under a base path."""
    address = f"http://127.0.0.1{request.param}/operations-board/"
    with TestClient(
        hosted(application, request.param), base_url=address, cookies={"_token": token("viewer")}
    ) as client:
        yield client


def test_every_link_leads_to_a_page_under_any_base_path(based: TestClient, morning: date) -> None:
    start = str(based.base_url)
    waiting, seen = {start}, set()
    while waiting:
        address = waiting.pop()
        seen.add(address)
        answer = based.get(address)
        assert answer.status_code == 200, address
        if "/document" in address or "/markdown" in address:
            continue
        for link in links_of(answer.text):
            target = urljoin(address, link).partition("#")[0]
            if link.startswith("data:"):
                continue
            assert not link.startswith(("/", "http"))
            assert target.startswith(start), (address, link)
            # One report of each verdict is enough; the others differ in their day alone.
            day = re.search(r"\d{4}-\d{2}-\d{2}", urlsplit(target).path)
            number = re.search(r"/(?:findings|drills)/(\d+)$", target)
            many = number is not None and int(number[1]) > 6  # as with these: the first of them are enough
            many |= "/periods/" in target and not target.endswith(("2026-W40", "2026-W39", "2026-10", "2026-09"))
            if target not in seen and not many and (not day or day[0] in ("2026-10-03", "2026-09-28")):
                waiting.add(target)
    assert len(seen) > 25
    assert based.get("no/such/page").text.count('href="../../incidents"') == 1
