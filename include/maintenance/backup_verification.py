"""Verifies the newest backup of a source by restoring it: every check is a recorded stage of a drill (``ops.drill``).

A drill passes only when every check passed. A check that could not be made leaves it ``could_not_run``. Nothing of the
platform is changed; the scratch server is removed whatever happens.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from include.maintenance import backup_checks, backup_control, backup_sources
from include.maintenance.backup_checks import Result, failed, not_applicable, passed, unknown
from include.maintenance.backup_control import Control
from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable
from include.platform import backups
from include.platform.backup_facts import TableFacts
from include.platform.backup_restore import Restored
from include.platform.backups import Backup
from include.platform.scratch_place import ScratchPlace, scratch_place
from include.settings import BackupSource, settings
from include.warehouse import drills
from include.warehouse.drills import Drill, DrillOutcome, Stage, StageOutcome

KIND = "backup_verification"
_FACTS = ("checksums", "catalog", "row_counts", "negative_control")
"""Stages that need recorded facts; without ``facts_required`` they may be unknown."""


_DISK_FULL = "No space left on device"


class _Stop(Exception):
    """A stage failed without which the following ones mean nothing; it is recorded already."""


@dataclass
class Verification:
    """One attempt: its drill, the backup that is looked at, and what was found so far."""

    drill: Drill
    rule: BackupSource
    place: ScratchPlace
    jobs: int
    backup: Backup | None = None
    restored: Restored | None = None
    counts: dict[str, TableFacts] = field(default_factory=dict)
    stages: dict[str, Stage] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    checking_since: float = 0.0

    def stage(self, name: str, check: Callable[[], Result], *, stop: bool = False) -> Result:
        """Make a check, measure it and record what it found; ``stop`` ends the drill unless it passed."""
        begun = time.monotonic()
        error: Exception | None = None
        try:
            result = _with_errors_named(check, self.place)
        except (ConfigurationError, SourceUnavailable) as caught:
            result, error = unknown(str(caught)), caught
        seconds = time.monotonic() - begun if result.seconds is None else result.seconds
        stage = Stage(name, result.outcome, round(seconds, 3), result.reason, result.detail)
        drills.record(self.drill, stage)
        self.stages[name] = stage
        self.ended[name] = time.monotonic()
        if error is not None:
            raise error
        if stop and result.outcome is StageOutcome.FAILED:
            raise _Stop
        return result

    @property
    def recovery_seconds(self) -> float | None:
        """Seconds from the begin of the restoration until the data could be used; None when it was not reached.

        The foreign keys and the statistics of the planner come back while the checks run: until both are there.
        """
        needed = [self.stages.get(name) for name in ("restore", "analyze")] + [
            self.stages[name] for name in ("foreign_keys",) if name in self.stages
        ]
        if any(stage is None or stage.outcome is not StageOutcome.PASSED for stage in needed):
            return None
        before = sum(self.stages[name].seconds or 0.0 for name in ("fetch", "server", "restore") if name in self.stages)
        usable = max(self.ended[name] for name in ("analyze", "foreign_keys") if name in self.ended)
        return round(before + usable - self.checking_since, 3)


def sources(only: str | None = None) -> list[str]:
    """Return the names of the backup sources to verify. Raises ConfigurationError when there are none."""
    if only is not None:
        return [backups.source_of(only).name]
    found = [rule.name for rule in settings().backups.sources]
    if not found:
        raise ConfigurationError("backups.sources names no source, so no backup can be verified; add one")
    return found


def verify(source: str, run_id: str, *, jobs: int | None = None) -> dict[str, Any]:
    """Verify the newest backup of a source (``backups.sources``) and record the drill; return small facts of it.

    A run that has verified it already returns that. ``jobs`` replaces the configured number of parallel jobs. Raises
    MaintenanceFailed when the backup did not stand the test, ConfigurationError when it could not be tested and a
    person must act, SourceUnavailable when trying again may help.
    """
    rule = backups.source_of(source)
    targets = settings().backups
    drill = drills.begin(
        KIND,
        rule.name,
        run_id,
        rpo_target_seconds=targets.recovery_point_hours * 3600,
        rto_target_seconds=targets.recovery_time_minutes * 60,
    )
    if drill.done:
        return drill.summary()
    with drills.failures_recorded(drill):
        with scratch_place(f"{KIND} of {rule.name}, run {run_id}") as place:
            attempt = Verification(drill, rule, place, jobs or targets.jobs)
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
    attempt.stage("catalog", lambda: backup_checks.catalog(restored, backup.facts))
    attempt.stage("constraints", lambda: backup_checks.constraints(restored))
    attempt.stage("newest_rows", lambda: backup_checks.newest_rows(backup.facts, attempt.counts))
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
    facts, at = attempt.backup.facts, attempt.backup.taken_at
    left = max(1, attempt.jobs - len(later))  # the longest one alone must not slow down what is still to be restored

    def counted() -> Result:
        attempt.counts = backup_checks.count_tables(restored, facts.snapshot_at if facts else at, 1)
        return backup_checks.row_counts(facts, attempt.counts)

    # ANALYZE would wait for the locks of the foreign keys: it comes after them, and the checks beside both.
    usable: list[backup_sources.Step] = [*later, ("analyze", lambda: _analyze(restored))]
    checks: list[backup_sources.Step] = [
        ("amcheck", lambda: backup_checks.amcheck(restored, left)),
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
    free = attempt.place.free_bytes
    if needed is None:
        return not_applicable(basis)
    if free < needed:
        raise ConfigurationError(
            f"the scratch folder's disk has {free / 1e9:.2f} GB free, and the restoration of {attempt.backup.name} "
            f"needs about {needed / 1e9:.2f} GB; free space or set backups.scratch_folder to a larger disk"
        )
    return passed(free_bytes=free, needed_bytes=needed, basis=basis)


def _analyze(restored: Restored) -> Result:
    with restored.server.connect(restored.database) as connection:
        connection.execute("ANALYZE")
    return passed()


def _controls(attempt: Verification, session: backup_sources.Session, found: list[Control]) -> Result:
    assert attempt.backup is not None
    assert attempt.restored is not None
    found = [*found, backup_control.row_control(attempt.restored, attempt.backup.facts), *session.last_controls()]
    return backup_control.verdict(found)


def _recovery_point(attempt: Verification) -> Result:
    """Seconds of work that would be lost now: since the snapshot if all its rows came back, else the newest row."""
    seconds, basis = recovery_point(attempt)
    if seconds is None:
        return unknown("no moment is known up to which everything came back")
    target = attempt.drill.rpo_target_seconds
    if target is not None and seconds > target:
        return failed(
            f"{seconds / 3600:.1f} hours of work would be lost; the target is {target / 3600:g} hours", basis=basis
        )
    return passed(seconds=seconds, basis=basis)


def recovery_point(attempt: Verification) -> tuple[float | None, str]:
    """Return the measured loss in seconds and what it was measured by."""
    assert attempt.backup is not None
    proven = all(
        (stage := attempt.stages.get(name)) is not None and stage.outcome is StageOutcome.PASSED
        for name in ("row_counts", "newest_rows")
    )
    newest = [one.newest for one in attempt.counts.values() if one.newest]
    if attempt.backup.facts is not None and proven:
        at, basis = attempt.backup.facts.snapshot_at, "snapshot of the backup, all of whose rows came back"
    elif newest:
        at, basis = datetime.fromisoformat(max(newest)), "newest row that came back"
    else:
        return None, ""
    if newest:
        at = max(at, datetime.fromisoformat(max(newest)))
    return max((attempt.drill.started_at - at) / timedelta(seconds=1), 0.0), basis


def _recovery_time(attempt: Verification) -> Result:
    seconds, target = attempt.recovery_seconds, attempt.drill.rto_target_seconds
    if seconds is None:
        return unknown("the restoration did not reach the point where the data can be used")
    if target is not None and seconds > target:
        return failed(f"the restoration took {seconds / 60:.1f} minutes; the target is {target / 60:g} minutes")
    return passed(seconds=seconds)


def _conclude(attempt: Verification) -> Drill:
    """Record the end of the drill from its stages."""
    bad = [stage for stage in attempt.stages.values() if stage.outcome is StageOutcome.FAILED]
    accepted = () if attempt.rule.facts_required else _FACTS
    open_ones = [stage for stage in attempt.stages.values() if stage.outcome is StageOutcome.UNKNOWN]
    doubtful = [stage for stage in open_ones if stage.name not in accepted]
    if bad:
        outcome, told = DrillOutcome.FAILED, bad
    elif doubtful:
        outcome, told = DrillOutcome.COULD_NOT_RUN, doubtful
    else:
        outcome, told = DrillOutcome.PASSED, open_ones
    loss = recovery_point(attempt)[0] if attempt.counts else None
    backup = attempt.backup
    detail = {"attempt": attempt.drill.attempts} | (
        {"backup": backup.name, "bytes": backup.bytes, "taken_at": backup.taken_at} if backup else {}
    )
    return drills.finish(
        attempt.drill,
        outcome,
        "; ".join(f"{stage.name}: {stage.reason}" for stage in told),
        rpo_seconds=loss,
        rto_seconds=attempt.recovery_seconds,
        detail=detail,
        accepted_unknown=accepted,
    )


def _with_errors_named(check: Callable[[], Result], place: ScratchPlace) -> Result:
    """Make a check; a fault that the database reports is the check's finding, a full disk or lost server is not."""
    import psycopg

    try:
        result = check()
        if result.outcome is StageOutcome.FAILED:
            place.raise_if_full()
            if _DISK_FULL in result.reason:  # what filled it may be rolled back by now
                raise place.full()
        return result
    except MaintenanceFailed as error:
        place.raise_if_full()
        return failed(str(error))
    except psycopg.errors.DiskFull:
        raise place.full() from None
    except psycopg.Error as error:
        place.raise_if_full()
        if error.sqlstate is None:
            raise SourceUnavailable("the scratch server was lost") from None
        return failed(f"the restored database reports: {error.diag.message_primary}")
