"""Runs the stages of a drill one after the other: each is timed and recorded as what it was."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.maintenance.backups.backup_checks import Result, failed
from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable, recordable
from include.platform.backup_restore import Restored
from include.settings import settings
from include.warehouse import actions, drills
from include.warehouse.drills import Drill, DrillOutcome, Stage, StageOutcome

if TYPE_CHECKING:
    from include.maintenance.backups.backup_sources import Origin
    from include.platform.backups import Backup
    from include.platform.scratch_place import ScratchPlace

_DISK_FULL = "No space left on device"


def dry_run(kind: str, resource: str, run_id: str, look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Record what a drill would do, as ``look`` finds it, or that it could not; return it with the recorded act.

    Raises what ``look`` raises.
    """
    planned = actions.plan(kind, resource, run_id, dry_run=True, plan={})
    with actions.failures_recorded(planned):
        plan = look()
    return actions.plan(kind, resource, run_id, dry_run=True, plan=plan).summary() | plan


def begin_recovery(kind: str, resource: str, run_id: str) -> Drill:
    """Record that a drill begins which is held against the targets of recovery, as ``drills.begin`` does."""
    targets = settings().backups
    return drills.begin(
        kind, resource, run_id,
        rpo_target_seconds=targets.recovery_point_hours * 3600, rto_target_seconds=targets.recovery_time_minutes * 60,
    )  # fmt: skip


def room_for(what: str, needed_bytes: int, place: ScratchPlace) -> int:
    """Return the free bytes of a place. Raises ConfigurationError when that is less than ``what`` needs."""
    free = place.free_bytes
    if free < needed_bytes:
        raise ConfigurationError(
            f"the scratch folder's disk has {free / 1e9:.2f} GB free, and {what} needs about "
            f"{needed_bytes / 1e9:.2f} GB; free space or set backups.scratch_folder to a larger disk"
        )
    return free


@dataclass
class Stages:
    """The stages of one drill. ``unknown`` names those that could not be checked, each with its reason.

    ``found`` are the stages so far, with the monotonic time at which each ``ended``. What was measured already
    (``rpo_seconds``, ``rto_seconds``, ``facts``) is recorded with the drill when it fails.
    """

    drill: Drill
    rpo_seconds: float | None = None
    rto_seconds: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    found: dict[str, Stage] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Time one stage and record it; the block fills in its detail.

        MaintenanceFailed within makes the stage and the drill failed and passes on. Anything else that is raised,
        the time limit of the task too, means that it could not be checked: the stage is unknown, and
        ``drills.failures_recorded`` around it says that the drill could not run.
        """
        detail: dict[str, Any] = {}
        begun = time.monotonic()
        try:
            yield detail
        except MaintenanceFailed as error:
            self._record(name, begun, Result(StageOutcome.FAILED, str(error), detail))
            self.finish(DrillOutcome.FAILED, f"{name}: {error}")
            raise
        except GeneratorExit:
            raise
        except BaseException as error:
            self._record(name, begun, Result(StageOutcome.UNKNOWN, recordable(error), detail))
            raise
        self._record(name, begun, Result(StageOutcome.PASSED, detail=detail))

    def check(self, name: str, check: Callable[[], Result], place: ScratchPlace) -> Result:
        """Make a check in a place, time it and record what it found; several may run at once.

        Raises what the check raises, other than the faults that it finds (``errors_named``); it is unknown then.
        """
        begun = time.monotonic()
        try:
            result = errors_named(check, place)
        except BaseException as error:
            self._record(name, begun, Result(StageOutcome.UNKNOWN, recordable(error)))
            raise
        self._record(name, begun, result)
        return result

    def require(self, name: str, check: Callable[[], Result], place: ScratchPlace) -> None:
        """Make a check that must find no fault. Raises MaintenanceFailed when it does, which fails the drill."""
        result = self.check(name, check, place)
        if result.outcome is StageOutcome.FAILED:
            self.finish(DrillOutcome.FAILED, f"{name}: {result.reason}")
            raise MaintenanceFailed(result.reason)

    def _record(self, name: str, begun: float, result: Result) -> None:
        seconds = time.monotonic() - begun if result.seconds is None else result.seconds
        stage = Stage(name, result.outcome, round(seconds, 3), result.reason, result.detail)
        drills.record(self.drill, stage)
        self.found[name], self.ended[name] = stage, time.monotonic()
        if result.outcome is StageOutcome.UNKNOWN:
            self.unknown[name] = result.reason

    def finish(self, outcome: DrillOutcome, reason: str = "", accepted_unknown: Sequence[str] = ()) -> Drill:
        """Record how the drill ended, with what was measured. Raises as ``drills.finish`` does."""
        return drills.finish(
            self.drill, outcome, reason, rpo_seconds=self.rpo_seconds, rto_seconds=self.rto_seconds, detail=self.facts,
            accepted_unknown=accepted_unknown,
        )  # fmt: skip

    def find_backup(self, origin: Origin) -> Backup:
        """Return the newest backup, in a stage that records its name, size and time. Raises as ``origin.newest``."""
        with self.stage("find_backup") as detail:
            backup, _ = origin.newest()
            detail |= {"backup": backup.name, "bytes": backup.bytes, "taken_at": backup.taken_at.isoformat()}
        return backup

    def restore(
        self, origin: Origin, backup: Backup, place: ScratchPlace, *, copies: int = 1, durable: bool = False
    ) -> Restored:
        """Bring a backup back, in stages; return the restored database. Raises as ``require`` does.

        First there must be room for ``copies`` of it, or the drill cannot run. ``durable`` as ``ScratchServer.start``
        takes it.
        """
        with self.stage("space") as detail:
            needed, basis = origin.bytes_needed(backup)
            needed = needed and needed * copies
            detail |= {"free_bytes": place.free_bytes, "needed_bytes": needed, "basis": basis}
            if needed is not None:
                room_for("the drill", needed, place)
        session = origin.open(backup, place, settings().backups.jobs, durable=durable)
        for name, step in [*session.before(), ("restore", session.restore)]:
            self.require(name, step, place)
        return session.restored


def errors_named(check: Callable[[], Result], place: ScratchPlace) -> Result:
    """Make a check; a fault that the database reports is the check's finding, a full disk or lost server is not.

    Raises ConfigurationError (the disk is full, or a file may not be read) or SourceUnavailable (the server was lost).
    """
    import psycopg

    try:
        result = check()
    except MaintenanceFailed as error:
        result = failed(str(error))
    except psycopg.errors.DiskFull:
        raise place.full() from None
    except PermissionError as error:
        if error.filename is None:
            raise
        raise ConfigurationError(
            f"{error.filename} cannot be read by the account of the worker; give that account or its group the right"
            " to read it"
        ) from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise place.full() from None
    except psycopg.Error as error:
        place.raise_if_full()
        if error.sqlstate is None:
            raise SourceUnavailable("the scratch server was lost") from None
        result = failed(f"the restored database reports: {error.diag.message_primary}")
    if result.outcome is StageOutcome.FAILED:
        place.raise_if_full()
        if _DISK_FULL in result.reason:  # what filled it may be rolled back by now
            raise place.full()
    return result
