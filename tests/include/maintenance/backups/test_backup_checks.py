"""What is checked of a backup before and after it is restored, without restoring one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from include.maintenance.backups import backup_checks
from include.maintenance.backups.backup_checks import Result
from include.platform.backup_facts import Facts, TableFacts
from include.platform.backup_restore import Restored
from include.platform.backups import Backup
from include.sections import BackupSource
from include.warehouse.drills import StageOutcome

if TYPE_CHECKING:
    from include.platform.scratch_server import ScratchServer


def test_a_week_without_backups_is_no_pass_because_the_last_one_is_fresh() -> None:
    now = datetime(2026, 10, 12, 4, 30, tzinfo=UTC)

    def at(*days: float) -> list[datetime]:
        return [now - timedelta(hours=2.5) - timedelta(days=one) for one in days]

    def judged(*days: float, every: float = 24) -> Result:
        rule = BackupSource(name="nightly", format="custom", files="*.dump", every_hours=every)
        newest = Backup("a.dump", "a.dump", 1, at(days[0])[0], "recorded facts", None)
        return backup_checks.age(rule, newest, at(*days), now)

    found = judged(0, 6.5)
    assert found.outcome is StageOutcome.FAILED
    assert found.reason == (
        "for 156.0 hours until 2026-10-12 02:00 UTC no backup of nightly was taken; one is due every 24 hours"
    )
    assert judged(0, 1, 3, 4, 5).reason.startswith("for 48.0 hours until 2026-10-11 02:00 UTC no backup")
    assert judged(0, 1, 2.05, 3, 4, 5, 6, 13, 20).outcome is StageOutcome.PASSED, "older ones are thinned out"
    assert judged(0, 1, 2.05, 3).detail["longest_recent_gap_hours"] == 25.2
    assert judged(0).detail["longest_recent_gap_hours"] is None, "the first one"
    assert judged(0, 14, every=168).outcome is StageOutcome.FAILED, "a weekly one was left out"
    assert judged(0, 7, 14, every=168).outcome is StageOutcome.PASSED


def test_the_age_of_a_backup_from_the_future_is_not_known() -> None:
    now = datetime(2026, 10, 12, 4, 30, tzinfo=UTC)
    rule = BackupSource(name="nightly", format="custom", files="*.dump", every_hours=24)

    def judged(ahead: timedelta) -> Result:
        newest = Backup("a.dump", "a.dump", 1, now + ahead, "recorded facts", None)
        return backup_checks.age(rule, newest, [newest.taken_at], now)

    assert judged(timedelta(minutes=4)).outcome is StageOutcome.PASSED
    found = judged(timedelta(hours=2))
    assert found.outcome is StageOutcome.UNKNOWN
    assert found.reason == (
        "the newest backup of nightly, a.dump, bears the time 2026-10-12 06:30 UTC, 120 minutes ahead of this "
        "machine's clock; set the clocks of both machines right, take a new one and put this one elsewhere"
    )


def test_no_loss_is_told_by_a_time_that_is_still_to_come() -> None:
    now = datetime.now(UTC)
    facts = Facts("a.dump", "custom", 180000, now + timedelta(hours=1), now, {}, [], {}, [])
    restored = Restored(cast("ScratchServer", None), "escrow")  # which is not asked
    seconds, basis = backup_checks.loss(restored, facts, {}, now, proven=True)
    assert seconds is None
    assert basis.startswith("the snapshot of the backup, all of whose rows came back bears the time")
    earlier = replace(facts, snapshot_at=now - timedelta(minutes=7))
    assert backup_checks.loss(restored, earlier, {}, now, proven=True)[0] == 420
    assert backup_checks.loss(restored, earlier, {}, now - timedelta(hours=1), proven=True)[0] == 0, "taken meanwhile"


def test_times_that_did_not_come_back_are_missed() -> None:
    at = datetime(2026, 10, 2, tzinfo=UTC)
    recorded = {"public.a": TableFacts(1, "2026-10-01T00:00:00.000000Z")}
    facts = Facts("a.dump", "custom", 180000, at, at, {}, [], recorded, [])
    came_back = {"public.a": TableFacts(1, None)}
    found = backup_checks.newest_rows(facts, came_back)
    assert found.outcome is StageOutcome.FAILED
    assert found.reason.endswith("public.a ends at None instead of 2026-10-01T00:00:00.000000Z")
    assert backup_checks.newest_rows(None, recorded).outcome is StageOutcome.UNKNOWN, "nothing was compared"
    bracketed = backup_checks.newest_rows(replace(facts, tables_before=recorded), came_back)
    assert bracketed.outcome is StageOutcome.FAILED


def test_a_time_is_held_against_its_target() -> None:
    def held(seconds: float | None, target: float | None = 7200) -> Result:
        missed = "{:.1f} hours are lost; the target is {:g}"
        return backup_checks.within(seconds, target, 3600, missed, unmeasured="no row came back", basis="snapshot")

    assert held(7200) == backup_checks.passed(seconds=7200, target_seconds=7200, basis="snapshot")
    missed = backup_checks.failed("2.5 hours are lost; the target is 2", seconds=9000, basis="snapshot")
    assert held(9000) == missed
    assert held(9000, None) == backup_checks.passed(seconds=9000, target_seconds=None, basis="snapshot")
    assert held(None) == backup_checks.unknown("no row came back")
