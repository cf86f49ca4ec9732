"""Verifies the newest backup of a source by restoring it: every check is a recorded stage of a drill (``ops.drill``).

A drill passes only when every check passed. A check that could not be made leaves it ``could_not_run``. Nothing of the
platform is changed; the scratch server is removed whatever happens. It makes nothing durable, so that its recovery time
is the least that there is: the monthly restoration of everything (``full_restoration``) measures the real one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from include.maintenance.backups import (
    backup_amcheck,
    backup_catalog,
    backup_checks,
    backup_constraints,
    backup_control,
    backup_sources,
    drill_stages,
)
from include.maintenance.backups.backup_checks import Result, not_applicable, passed
from include.maintenance.backups.backup_control import Control
from include.maintenance.backups.drill_stages import Stages
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import backups
from include.platform.backup_facts import TableFacts
from include.platform.backup_restore import Restored
from include.platform.backups import Backup
from include.platform.scratch_place import ScratchPlace, scratch_place
from include.sections import BackupSource
from include.settings import settings
from include.warehouse import drills
from include.warehouse.drills import Drill, DrillOutcome, StageOutcome

KIND = "backup_verification"


class _Stop(Exception):
    """A stage failed without which the following ones mean nothing; it is recorded already."""


@dataclass
class Verification:
    """One attempt: its stages, the backup that is looked at, and what was found so far."""

    stages: Stages
    rule: BackupSource
    place: ScratchPlace
    jobs: int
    backup: Backup | None = None
    restored: Restored | None = None
    counts: dict[str, TableFacts] = field(default_factory=dict)
    checking_since: float = 0.0

    def stage(self, name: str, check: Callable[[], Result], *, stop: bool = False) -> Result:
        """Make a check, measure it and record what it found; ``stop`` ends the drill unless it passed."""
        result = self.stages.check(name, check, self.place)
        if stop and result.outcome is StageOutcome.FAILED:
            raise _Stop
        return result

    @property
    def recovery_seconds(self) -> float | None:
        """Seconds from the begin of the restoration until the data could be used; None when it was not reached.

        The foreign keys and the statistics of the planner come back while the checks run: until both are there.
        """
        found, ended = self.stages.found, self.stages.ended
        needed = [found.get(name) for name in ("restore", "analyze")] + [
            found[name] for name in ("foreign_keys",) if name in found
        ]
        if any(stage is None or stage.outcome is not StageOutcome.PASSED for stage in needed):
            return None
        before = sum(found[name].seconds or 0.0 for name in ("fetch", "wal", "server", "restore") if name in found)
        usable = max(ended[name] for name in ("analyze", "foreign_keys") if name in ended)
        return round(before + usable - self.checking_since, 3)


def sources(only: str | None = None) -> list[str]:
    """Return the names of the backup sources to verify. Raises ConfigurationError when there are none."""
    if only is not None:
        return [backups.source_of(only).name]
    found = [rule.name for rule in settings().backups.sources]
    if not found:
        raise ConfigurationError("backups.sources names no source, so no backup can be verified; add one")
    return found


def verify(source: str, run_id: str, *, jobs: int | None = None, dry_run: bool = False) -> dict[str, Any]:
    """Verify the newest backup of a source (``backups.sources``) and record the drill; return small facts of it.

    A run that has verified it already returns that. ``jobs`` replaces the configured number of parallel jobs. With
    ``dry_run`` it only says which backup would be verified, and how many there are. Raises MaintenanceFailed when the
    backup did not stand the test, ConfigurationError when it could not be tested and a person must act,
    SourceUnavailable when trying again may help.
    """
    rule = backups.source_of(source)
    if dry_run:

        def planned() -> dict[str, Any]:
            newest, known = backup_sources.origin_of(rule).newest()
            return {"backup": newest.name, "backups": len(known), "bytes": newest.bytes}

        return drill_stages.dry_run(KIND, rule.name, run_id, planned)
    drill = drill_stages.begin_recovery(KIND, rule.name, run_id)
    if drill.done:
        return drill.summary()
    with drills.failures_recorded(drill):
        with scratch_place(f"{KIND} of {rule.name}, run {run_id}") as place:
            attempt = Verification(Stages(drill), rule, place, jobs or settings().backups.jobs)
            with suppress(_Stop):
                _examine(attempt)
        drill = _conclude(attempt)
    if drill.outcome is DrillOutcome.FAILED:
        raise MaintenanceFailed(f"the backup verification of {rule.name} failed: {drill.reason}")
    if drill.outcome is DrillOutcome.COULD_NOT_RUN:
        raise ConfigurationError(f"the backup of {rule.name} could not be verified: {drill.reason}")
    return drill.summary() | {"backup": drill.detail.get("backup")}


def _examine(attempt: Verification) -> None:
    """All stages in their order; those of the restored database run side by side."""
    origin = backup_sources.origin_of(attempt.rule)
    attempt.stage("age", lambda: _find(attempt, origin))
    if attempt.backup is None:
        raise _Stop
    backup, place, jobs = attempt.backup, attempt.place, attempt.jobs
    attempt.stage("space", lambda: _space(attempt, origin), stop=True)
    session = origin.open(backup, place, jobs)
    for name, check in session.before():
        attempt.stage(name, check, stop=True)
    with ThreadPoolExecutor(1) as aside:
        controls = aside.submit(session.file_controls)
        later: list[backup_sources.Step] = []
        attempt.stage("restore", lambda: _restore(session, later), stop=True)
        attempt.restored = restored = session.restored
        _side_by_side(attempt, restored, later)
        found = controls.result()
    attempt.stage("catalog", lambda: backup_catalog.check(restored, backup.facts))
    attempt.stage("constraints", lambda: backup_constraints.check(restored, backup.facts, jobs))
    compared = restored.comparable(attempt.counts)
    attempt.stage("newest_rows", lambda: backup_checks.newest_rows(backup.facts, compared))
    attempt.stage("negative_control", lambda: _controls(attempt, session, found))
    attempt.stage("recovery_point", lambda: _recovery_point(attempt))
    attempt.stage("recovery_time", lambda: _recovery_time(attempt))


def _restore(session: backup_sources.Session, later: list[backup_sources.Step]) -> Result:
    result, steps = session.restore_in_steps()
    later += steps
    return result


def _side_by_side(attempt: Verification, restored: Restored, later: list[backup_sources.Step]) -> None:
    """What is left to restore, and the checks that do not disturb it or each other."""
    assert attempt.backup is not None
    facts, at = attempt.backup.facts, backup_checks.reach(restored, attempt.backup)
    left = max(1, attempt.jobs - len(later))  # the longest one alone must not slow down what is still to be restored

    def counted() -> Result:
        attempt.counts = backup_checks.count_tables(restored, at, 1)
        return backup_checks.row_counts(facts, restored.comparable(attempt.counts))

    # ANALYZE would wait for the locks of the foreign keys: it comes after them, and the checks beside both.
    usable: list[backup_sources.Step] = [*later, ("analyze", lambda: backup_checks.analyze(restored))]
    amcheck: backup_sources.Step = ("amcheck", lambda: backup_amcheck.check(restored, left))
    # Of a whole cluster it takes locks that ANALYZE would wait for, which counts as recovery: it comes after that.
    if restored.databases:
        usable.append(amcheck)
    checks: list[backup_sources.Step] = [
        *([] if restored.databases else [amcheck]),
        ("row_counts", counted),
        ("sequences", lambda: backup_checks.sequences(restored)),
        ("query", lambda: backup_checks.query(restored)),
    ]
    attempt.checking_since = time.monotonic()
    with ThreadPoolExecutor(attempt.jobs) as pool:
        running = [pool.submit(lambda: [attempt.stage(name, check) for name, check in usable])]
        running += [pool.submit(lambda one=one: [attempt.stage(*one)]) for one in checks]  # type: ignore[misc]
    for one in running:
        one.result()


def _find(attempt: Verification, origin: backup_sources.Origin) -> Result:
    attempt.backup, earlier = origin.newest()
    return backup_checks.age(attempt.rule, attempt.backup, earlier, datetime.now(UTC))


def _space(attempt: Verification, origin: backup_sources.Origin) -> Result:
    assert attempt.backup is not None
    needed, basis = origin.bytes_needed(attempt.backup)
    if needed is None:
        return not_applicable(basis)
    free = drill_stages.room_for(f"the restoration of {attempt.backup.name}", needed, attempt.place)
    return passed(free_bytes=free, needed_bytes=needed, basis=basis)


def _controls(attempt: Verification, session: backup_sources.Session, found: list[Control]) -> Result:
    assert attempt.backup is not None
    assert attempt.restored is not None
    restored, facts = attempt.restored, attempt.backup.facts
    if facts is not None and restored.at_backup is not None:  # the rows are those of a later moment than the facts
        facts = replace(facts, tables=attempt.counts, tables_before=None)
    row = backup_control.row_control(restored, facts)
    return backup_control.verdict([*found, row, *session.last_controls()])


def _recovery_point(attempt: Verification) -> Result:
    """Seconds of work that would be lost now: since the snapshot if all its rows came back, else the newest row."""
    seconds, basis = recovery_point(attempt)
    told = "{:.1f} hours of work would be lost; the target is {:g} hours"
    target = attempt.stages.drill.rpo_target_seconds
    return backup_checks.within(seconds, target, 3600, told, unmeasured=basis, basis=basis)


def recovery_point(attempt: Verification) -> tuple[float | None, str]:
    """Return the measured loss in seconds and what it was measured by."""
    assert attempt.backup is not None
    assert attempt.restored is not None
    proven = all(
        (stage := attempt.stages.found.get(name)) is not None
        and stage.outcome in (StageOutcome.PASSED, StageOutcome.NOT_APPLICABLE)
        for name in ("row_counts", "newest_rows")
    )
    return backup_checks.loss(
        attempt.restored, attempt.backup.facts, attempt.counts, attempt.stages.drill.started_at, proven=proven
    )


def _recovery_time(attempt: Verification) -> Result:
    told = "the restoration took {:.1f} minutes, although nothing was made durable; the target is {:g} minutes"
    unmeasured = "the restoration did not reach the point where the data can be used"
    target = attempt.stages.drill.rto_target_seconds
    return backup_checks.within(attempt.recovery_seconds, target, 60, told, unmeasured=unmeasured, durable=False)


def _conclude(attempt: Verification) -> Drill:
    """Record the end of the drill from its stages."""
    found = attempt.stages.found.values()
    bad = [stage for stage in found if stage.outcome is StageOutcome.FAILED]
    facts = attempt.backup.facts if attempt.backup else None
    accepted = backup_checks.acceptable(attempt.rule, facts)
    open_ones = [stage for stage in found if stage.outcome is StageOutcome.UNKNOWN]
    doubtful = [stage for stage in open_ones if stage.name not in accepted]
    if bad:
        outcome, told = DrillOutcome.FAILED, bad
    elif doubtful:
        outcome, told = DrillOutcome.COULD_NOT_RUN, doubtful
    else:
        outcome, told = DrillOutcome.PASSED, open_ones
    loss = recovery_point(attempt)[0] if attempt.counts else None
    drill, backup = attempt.stages.drill, attempt.backup
    detail = {"attempt": drill.attempts, "durable": False} | (
        {"backup": backup.name, "bytes": backup.bytes, "taken_at": backup.taken_at} if backup else {}
    )
    return drills.finish(
        drill,
        outcome,
        "; ".join(f"{stage.name}: {stage.reason}" for stage in told),
        rpo_seconds=loss,
        rto_seconds=attempt.recovery_seconds,
        detail=detail,
        accepted_unknown=accepted,
    )
