"""The pages of findings, and what the overview makes of findings."""

from __future__ import annotations

import re
from datetime import timedelta

import psycopg
import pytest
from fastapi.testclient import TestClient

from include.outcome import Outcome
from include.warehouse.findings import Finding
from tests.plugins import rows, upkeep_rows
from tests.plugins.conftest import NOW, text_of
from tests.plugins.test_pages import quiet
from tests.plugins.upkeep_rows import AIRFLOW, PARTITION, SLOT, UNUSED, finding_id, found

pytestmark = pytest.mark.airflow


def test_open_findings_come_the_worst_first_each_with_sentence_age_gain_and_remedy(
    browser: TestClient, warehouse: psycopg.Connection
) -> None:
    upkeep_rows.some_findings(warehouse, NOW)
    said = text_of(browser.get("findings").text)
    assert "Open 6 Critical 1 Warning 3 Unknown 2 Ok 13 Not applicable 1 All 20" in said.replace(" ", " ")
    order = ["analytics_export", "public.idx_sessions_user_agent", "public.audit_logs", "idx_disputes", "Slow queries"]
    assert [said.index(name) for name in order] == sorted(said.index(name) for name in order)
    # Found on 19 September, 26 September and 3 October: 15 days before 4 October, 03:12.
    assert "public.idx_sessions_user_agent open for 2 weeks , checked 23 h ago" in said
    assert "public.idx_disputes_opened_by new , found 23 h ago" in said
    assert "No server has scanned it since 2026-06-02, for 124 days; it only slows writes." in said
    assert "Estimated gain: 73.4 MB of space" in said
    assert "Size bytes 73,400,320 (73.4 MB)" in said  # evidence
    assert "Scans / Primary 0" in said
    assert "DROP INDEX CONCURRENTLY public.idx_sessions_user_agent;" in said
    assert "1,812 days left" not in said  # what is ok is counted only
    assert "Wraparound 0 0 0 12 0" in said


def test_findings_are_narrowed_by_outcome_and_check(browser: TestClient, warehouse: psycopg.Connection) -> None:
    upkeep_rows.some_findings(warehouse, NOW)
    only = text_of(browser.get("findings?outcome=unknown").text)
    assert "2 findings" in only
    assert "analytics_export" not in only
    check = text_of(browser.get("findings?outcome=all&check=wraparound").text)
    assert "12 findings" in check
    assert "Open 0 Critical 0 Warning 0 Unknown 0 Ok 12 Not applicable 0 All 12" in check
    assert "No finding is open. 12 resources were found ok." in text_of(browser.get("findings?check=wraparound").text)


def test_a_remedy_is_copied_as_it_stands_however_long(browser: TestClient, warehouse: psycopg.Connection) -> None:
    found(warehouse, NOW, "tables_to_partition", PARTITION)
    for path in ("findings", f"findings/{finding_id(warehouse, 'tables_to_partition', 'public.audit_logs')}"):
        page = browser.get(path).text
        block = re.search(r'<pre class="remedy[^>]*><code>(.*?)</code></pre>', page, re.S)
        assert block
        assert block[1].replace("&#39;", "'") == PARTITION.remedy  # line by line, none cut off


def test_a_finding_shows_its_history_and_where_it_ended(browser: TestClient, warehouse: psycopg.Connection) -> None:
    other = Finding("public.idx_other", Outcome.WARNING, "No server has scanned it.")
    unsure = Finding("public.idx_third", Outcome.UNKNOWN, "Its statistics are too new.")
    days = [NOW - timedelta(days=7 * back) for back in range(6, -1, -1)]
    found(warehouse, days[0], "unused_indexes", other)
    found(warehouse, days[1], "unused_indexes", UNUSED)
    found(warehouse, days[2], "unused_indexes", UNUSED, other)
    found(warehouse, days[3], "unused_indexes", unsure)  # not named: unknown, for the run could not see everything
    found(warehouse, days[4], "unused_indexes", UNUSED)
    found(warehouse, days[5], "unused_indexes", other)  # not named: gone
    found(warehouse, days[6], "unused_indexes", other)
    newest = finding_id(warehouse, "unused_indexes", UNUSED.resource)
    said = text_of(browser.get(f"findings/{newest}").text)
    history = said.partition("What the check said of it in other runs")[2]
    assert re.findall(r"[!?•] (warning|unknown|not found any more)", history) == [
        "not found any more", "warning", "unknown", "warning", "warning",
    ]  # fmt: skip
    assert "This is not the latest word. The latest run of the check ( Sun 4 Oct, 03:12 UTC ) does not name it" in said
    assert "Open since Sun 30 Aug, 03:12 UTC" in said  # 35 days before: the run that was unsure settled nothing
    older = text_of(browser.get(f"findings/{finding_id(warehouse, 'unused_indexes', other.resource, back=1)}").text)
    assert "This is not the latest word. The latest run of the check ( Sun 4 Oct, 03:12 UTC ) says ! warning" in older
    latest = text_of(browser.get(f"findings/{finding_id(warehouse, 'unused_indexes', other.resource)}").text)
    assert "latest word" not in latest
    assert "The check has no remedy ready; judge by the evidence." in latest


def test_without_any_check_nothing_is_called_ok(browser: TestClient, warehouse: psycopg.Connection) -> None:
    page = browser.get("findings").text
    assert "No check has looked yet, so nothing is known." in text_of(page)
    assert "✓" not in page
    rows.subjects(warehouse, NOW)
    assert "No check has looked yet" in text_of(browser.get("").text)


# ------------------------------------------------------------------------------------------------------ overview
@pytest.mark.parametrize(
    ("finding", "verdict", "line"),
    [
        (SLOT, "warning 1 thing is to look at for 3 d", "✕ new critical Replication: analytics_export"),
        (UNUSED, "warning 1 thing is to look at for 3 d", "! new warning Replication: public.idx_sessions"),
        (AIRFLOW, "unknown 1 thing is not known for 3 d", "? new unknown Replication: airflow_db"),
    ],
)
def test_an_open_finding_makes_the_verdict_at_most_a_warning(
    browser: TestClient, warehouse: psycopg.Connection, finding: Finding, verdict: str, line: str
) -> None:
    quiet(warehouse)
    found(warehouse, NOW - timedelta(days=3), "replication", finding)
    said = text_of(browser.get("").text)
    assert verdict in said
    assert line in said
    assert "The finding has the remedy ready to copy." in said


def test_findings_are_never_louder_than_an_open_incident(browser: TestClient, warehouse: psycopg.Connection) -> None:
    quiet(warehouse)
    found(warehouse, NOW - timedelta(days=21), "replication_slots", SLOT)
    rows.incident(warehouse, "INC-2026-009", "P3", "detected", "late", "daily_metrics", NOW - timedelta(minutes=6), 1)
    said = text_of(browser.get("").text)
    # The verdict counts and dates the incident alone; the finding stands after it although it is older and critical.
    assert "warning 1 thing is to look at for 6 min" in said
    assert said.index("INC-2026-009") < said.index("Found ahead of time") < said.index("analytics_export")


def test_many_findings_are_three_lines_and_a_number(browser: TestClient, warehouse: psycopg.Connection) -> None:
    quiet(warehouse)
    many = [Finding(f"public.i{n:02}", Outcome.WARNING, "It only slows writes.") for n in range(20)]
    found(warehouse, NOW - timedelta(days=2), "unused_indexes", *many, AIRFLOW)
    page = browser.get("").text
    said = text_of(page)
    assert "warning 20 things are to look at" in said
    assert "18 more findings" in said
    assert "Among them: 17 warning, 1 unknown." in said
    assert page.count("Unused indexes: ") == 3
    assert "! 20 warning ? 1 unknown Open findings of 2 checks." in said


def test_a_check_that_does_not_look_any_more_is_unknown(browser: TestClient, warehouse: psycopg.Connection) -> None:
    quiet(warehouse)
    fine = Finding("all", Outcome.OK, "All is well.")
    for days in (29, 22, 15):  # weekly, and then no more: 15 days are more than twice a week
        found(warehouse, NOW - timedelta(days=days), "index_health", fine)
    found(warehouse, NOW - timedelta(days=61), "archive_samples", fine)  # once, perhaps monthly: not yet
    said = text_of(browser.get("").text)
    assert "unknown 1 thing is not known for 15 d" in said
    assert "? overdue The check index health has not looked for 2 weeks" in said
    # Of the one of quiet(), which looked an hour ago, and these two; no word of "ok".
    assert "? overdue 1 of 3 checks did not look lately." in said
    assert "no finding is open" not in said
    listed = text_of(browser.get("findings").text)
    assert "Index health 0 0 0 1 0 ? overdue Sat 19 Sep, 03:12 UTC" in listed
    assert listed.count("overdue") == 1


@pytest.mark.parametrize(
    ("days", "item", "panel"),
    [
        (179, "The check wraparound has not looked for 5 months", "? overdue 1 of 2 checks did not look lately."),
        (181, "", "✓ no finding is open 1 check looked."),  # it was switched off on purpose, and the other one looks
    ],
)
def test_a_check_that_was_silent_for_half_a_year_is_not_expected_while_another_looks(
    browser: TestClient, warehouse: psycopg.Connection, days: int, item: str, panel: str
) -> None:
    quiet(warehouse)
    warehouse.execute("UPDATE ops.finding SET found_at = %s", (NOW - timedelta(days=days),))
    found(warehouse, NOW - timedelta(days=1), "index_health", Finding("all", Outcome.OK, "All is well."))
    said = text_of(browser.get("").text)
    assert item in said
    assert ("Nothing needs attention" in said) == (not item)
    assert panel in said


def test_checks_that_have_all_been_silent_for_half_a_year_are_unknown(
    browser: TestClient, warehouse: psycopg.Connection
) -> None:
    quiet(warehouse)
    for days, check in ((214, "index_health"), (200, "unused_indexes")):
        found(warehouse, NOW - timedelta(days=days), check, Finding("all", Outcome.OK, "All is well."))
    warehouse.execute("UPDATE ops.finding SET found_at = %s WHERE check_name = 'wraparound'", (NOW - timedelta(210),))
    said = text_of(browser.get("").text)
    assert "unknown 1 thing is not known for 200 d" in said
    assert "No check looks any more 200 d ago" in said
    assert "? overdue 3 of 3 checks did not look lately." in said
    assert "no finding is open" not in said
