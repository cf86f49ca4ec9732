"""The pages of drills, and what the overview makes of drills."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import psycopg
import pytest
from fastapi.testclient import TestClient

from include.settings import ROOT
from include.warehouse import drills
from include.warehouse.actions import DRILLS
from include.warehouse.drills import DrillOutcome, Stage, StageOutcome
from plugins.operations_board import upkeep
from plugins.operations_board.drill_pages import bars, with_shares
from plugins.operations_board.presentation import ABSENT, short_duration
from tests.plugins import upkeep_rows
from tests.plugins.conftest import NOW, text_of
from tests.plugins.test_pages import quiet
from tests.plugins.upkeep_rows import drill, passed

pytestmark = pytest.mark.airflow

FULL_DISK = Stage("restore", StageOutcome.UNKNOWN, 4.2, "the disk is full", {"free_bytes": 12})


def test_the_newest_drill_of_each_kind_stands_against_its_targets(
    browser: TestClient, warehouse: psycopg.Connection
) -> None:
    upkeep_rows.some_drills(warehouse, NOW)
    said = text_of(browser.get("drills").text)
    # 83,520 s are 23 h 12 min of 26 h; 700 s and 4.3 s are 11 min of 1 h.
    verified = said[said.index("Backup verification of nightly") : said.index("Failover of nightly")]
    assert "✓ passed" in verified
    assert "Data lost (recovery point) 23 h 12 min target 26 h" in verified
    assert "Time until usable (recovery time) 11 min target 1 h" in verified
    failover = said[said.index("Failover of nightly, synchronous off") : said.index("Full restoration of nightly")]
    assert "? could not run" in failover
    assert "✓" not in failover
    assert "passed last 31 d ago" in failover  # it ended 12 s after it began 32 days ago
    assert "Data lost (recovery point) not measured target 5 s" in failover
    assert "15 drills" in said


def test_a_drill_shows_its_stages_and_the_trend(browser: TestClient, warehouse: psycopg.Connection) -> None:
    upkeep_rows.some_drills(warehouse, NOW)
    newest = warehouse.execute(
        "SELECT drill_id FROM ops.drill WHERE kind = 'backup_verification' ORDER BY started_at DESC"
    ).fetchall()
    page = browser.get(f"drills/{newest[0][0]}").text
    said = text_of(page)
    names = ["Find backup", "Checksums", "Restore", "Catalog", "Row counts", "Amcheck", "Negative control"]
    assert [said.index(f"{name} {sign}") for name, sign in zip(names, "✓✓✓✓✓•✓", strict=True)] == sorted(
        said.index(f"{name} {sign}") for name, sign in zip(names, "✓✓✓✓✓•✓", strict=True)
    )
    assert "Amcheck • not applicable not begun The extension amcheck is not in the backup" in said
    assert "Restore ✓ passed 11 min" in said
    assert re.findall(r'class="done" width="([\d.]+)%"', page)[:3] == ["0.5", "100.0", "0.1"]  # 3.4 of 700 s are 0.5 %
    assert "Rows 28,112,904" in said
    trend = said.partition("Trend")[2]
    assert re.findall(r"[✓✕?] (passed|failed|could not run)", trend) == [
        "passed", "passed", "passed", "could not run", "passed", "passed", "failed", "passed", "passed", "passed",
    ]  # fmt: skip
    assert page.count('<svg class="chart"') == 2
    assert page.count('class="none critical"') == page.count('class="none unknown"') == 2  # no figure, no bar


def test_a_drill_that_could_not_run_says_what_is_not_known(browser: TestClient, warehouse: psycopg.Connection) -> None:
    number = drill(
        warehouse, "failover", "nightly", NOW - timedelta(hours=1), [passed("find_backup", 0.1), FULL_DISK],
        DrillOutcome.COULD_NOT_RUN, "the disk is full",
    )  # fmt: skip
    page = browser.get(f"drills/{number}").text
    said = text_of(page)
    assert "? could not run Failover of nightly The disk is full" in said
    assert "so nothing is known of it. Mend the reason and clear the task of monthly_disaster_recovery." in said
    assert "Restore ? unknown 4.2 s The disk is full" in said
    assert "<details open>" in page


def test_a_pass_at_the_second_attempt_tells_of_the_first(browser: TestClient, warehouse: psycopg.Connection) -> None:
    first = drills.begin("backup_verification", "nightly", "r1")
    drills.finish(first, DrillOutcome.FAILED, "public.users has 4 rows less")
    second = drills.begin("backup_verification", "nightly", "r1")
    drills.record(second, passed("restore", 1.0))
    drills.finish(second, DrillOutcome.PASSED)
    said = text_of(browser.get(f"drills/{second.drill_id}").text)
    assert "✓ passed Backup verification of nightly" in said
    assert "Attempt 1 of this run before it: failed: public.users has 4 rows less" in said


def test_without_any_drill_nothing_is_called_passed(browser: TestClient, warehouse: psycopg.Connection) -> None:
    page = browser.get("drills").text
    said = text_of(page)
    for kind in ("Backup verification", "Full restoration", "Failover"):
        assert f"? never run {kind} of nightly" in said
    assert "No drill has been tried yet, so it is not known whether the backups can be used." in said
    assert "✓" not in page


# ------------------------------------------------------------------------------------------------------ overview
@pytest.mark.parametrize(
    ("days", "outcome", "expected"),
    [
        (0.2, DrillOutcome.PASSED, "ok Nothing needs attention"),
        (0.2, DrillOutcome.FAILED, "warning 1 thing is to look at for 4 h 47 min"),
        (0.2, DrillOutcome.COULD_NOT_RUN, "unknown 1 thing is not known for 4 h 47 min"),
        (0.2, None, "ok Nothing needs attention"),  # it runs, and the one of last week passed
        (0.6, None, "unknown 1 thing is not known for 14 h 24 min"),  # it runs longer than it may
    ],
)
def test_the_newest_drill_decides(
    browser: TestClient, warehouse: psycopg.Connection, days: float, outcome: DrillOutcome | None, expected: str
) -> None:
    quiet(warehouse)
    stages = [passed("find_backup", 1)] if outcome in (None, DrillOutcome.PASSED) else [FULL_DISK]
    reason = "" if outcome in (None, DrillOutcome.PASSED) else "the disk is full"
    drill(warehouse, "backup_verification", "nightly", NOW - timedelta(days=days), stages, outcome, reason)
    said = text_of(browser.get("").text)
    assert expected in said
    if reason:
        assert "The disk is full. It passed last 5 d ago. Mend that and clear the task of weekly_backup" in said
    if days > 0.5:
        assert "? could not run Backup verification of nightly began and never ended" in said


@pytest.mark.parametrize(("days", "overdue"), [(13.9, False), (14.1, True)])
def test_a_weekly_drill_is_overdue_after_two_weeks(
    browser: TestClient, warehouse: psycopg.Connection, days: float, overdue: bool
) -> None:
    quiet(warehouse)
    warehouse.execute(
        "UPDATE ops.drill SET started_at = %(at)s, finished_at = %(at)s WHERE kind = 'backup_verification'",
        {"at": NOW - timedelta(days=days)},
    )
    said = text_of(browser.get("").text)
    assert ("unknown 1 thing is not known for 14 d" in said) == overdue
    assert ("Backup verification of nightly has not passed for 2 weeks" in said) == overdue
    assert ("? overdue Backup verification nightly" in said) == overdue  # in the section of drills
    assert ("Nothing needs attention" in said) != overdue


def test_a_source_that_is_not_configured_any_more_is_not_expected(
    browser: TestClient, warehouse: psycopg.Connection
) -> None:
    quiet(warehouse)
    drill(warehouse, "backup_verification", "retired", NOW - timedelta(days=90), [passed("restore", 1)])
    failed = DrillOutcome.COULD_NOT_RUN
    drill(warehouse, "full_restoration", "retired", NOW - timedelta(1), [FULL_DISK], failed, "the disk is full")
    drill(warehouse, "failover", "retired, synchronous off", NOW - timedelta(days=1), [passed("promote", 1)], None)
    assert "Nothing needs attention" in text_of(browser.get("").text)


def test_a_sample_of_the_archives_is_expected_of_no_source(browser: TestClient, warehouse: psycopg.Connection) -> None:
    quiet(warehouse)
    at, resource = NOW - timedelta(hours=5), "sample of the archives"
    drill(warehouse, "archive_restoration", resource, at, [FULL_DISK], DrillOutcome.FAILED, "the disk is full")
    assert "Archive restoration of sample of the archives failed" in text_of(browser.get("").text)


def test_another_way_of_committing_that_was_tried_once_is_not_overdue(
    browser: TestClient, warehouse: psycopg.Connection
) -> None:
    quiet(warehouse)  # with synchronous off the failover passed 20 days ago
    drill(warehouse, "failover", "nightly, synchronous on", NOW - timedelta(days=63), [passed("promote", 1)])
    assert "Nothing needs attention" in text_of(browser.get("").text)
    # While the scheduled one runs as well.
    drill(warehouse, "failover", "nightly, synchronous off", NOW - timedelta(minutes=9), [passed("promote", 1)], None)
    assert "Nothing needs attention" in text_of(browser.get("").text)
    warehouse.execute("DELETE FROM ops.drill WHERE resource = 'nightly, synchronous off'")
    assert "Failover of nightly, synchronous on has not passed for 2 months" in text_of(browser.get("").text)


def test_drills_that_were_never_tried_are_one_line(browser: TestClient, warehouse: psycopg.Connection) -> None:
    quiet(warehouse)
    warehouse.execute("DELETE FROM ops.drill")
    said = text_of(browser.get("").text)
    assert "unknown 1 thing is not known" in said
    assert "Never tried of nightly: backup verification, full restoration, failover" in said
    assert "Trigger weekly_backup_verification and monthly_disaster_recovery" in said


def test_a_missed_target_is_marked(browser: TestClient, warehouse: psycopg.Connection) -> None:
    stages = [Stage("recovery_time", StageOutcome.FAILED, 0, "it took too long")]
    drill(
        warehouse, "full_restoration", "nightly", NOW, stages, DrillOutcome.FAILED, "it took too long", rpo=60, rto=3601
    )
    said = text_of(browser.get("drills").text)
    assert "1 h target 1 h ✕ misses target" in said
    assert "1 min target 26 h ✕" not in said


# ------------------------------------------------------------------------------------------------------- drawing
def test_bars_stand_in_proportion_and_a_far_target_is_not_drawn() -> None:
    def row(number: int, seconds: float | None, target: float | None) -> dict[str, object]:
        return {"drill_id": number, "outcome": "passed", "rto_seconds": seconds, "rto_target_seconds": target}

    chart = bars([row(3, 50, 100), row(2, None, 100), row(1, 25, 100)], "rto", this=3)
    assert chart is not None
    # 100 s, the target, and 5 % above it fill the 60 units: 25 s are 14.29 of them.
    assert [bar.height for bar in chart.bars] == [14.29, None, 28.57]
    assert [bar.drill_id for bar in chart.bars] == [1, 2, 3]
    assert chart.target_y == 2.86
    far = bars([row(2, 50, 500), row(1, 25, 500)], "rto")
    assert far is not None
    assert (far.target_y, far.target_seconds) == (None, 500)
    assert bars([row(2, None, 1), row(1, 5, 1)], "rto") is None  # one figure is no trend
    zero = bars([row(2, 0, None), row(1, 0, None)], "rto")
    assert zero is not None
    assert [bar.height for bar in zero.bars] == [1.0, 1.0]


def test_shares_of_stages() -> None:
    assert [row["percent"] for row in with_shares([{"seconds": 5}, {"seconds": None}, {"seconds": 20}])] == [
        25,
        None,
        100,
    ]
    assert with_shares([{"seconds": 0}])[0]["percent"] is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.042, "0.042 s"), (1.92, "1.92 s"), (12.34, "12.3 s"), (59.99, "60 s"), (3600, "1 h"),
     (83_520, "23 h 12 min"), (93_600, "26 h"), (400_000, "4 d"), (None, ABSENT)],
)  # fmt: skip
def test_durations_are_written_for_people(seconds: float | None, text: str) -> None:
    assert short_duration(seconds) == text


def test_every_kind_of_drill_has_its_dag_and_the_longest_run_is_its_deadline() -> None:
    shape = json.loads((ROOT / "tests" / "dags" / "shape.json").read_text())
    assert set(upkeep.DAGS) == set(DRILLS)
    assert {kind: shape[dag]["file"].split("/")[1] for kind, dag in upkeep.DAGS.items()} == {
        kind: "weekly" if interval == timedelta(days=7) else "monthly" for kind, interval in upkeep.INTERVALS.items()
    }
    deadlines = {seconds for dag in upkeep.DAGS.values() for seconds in shape[dag]["deadline_seconds"]}
    assert max(deadlines) == upkeep.LONG_RUNNING.total_seconds()
