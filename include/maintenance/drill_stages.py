"""Runs the stages of a drill one after the other: each is timed and recorded as what it was."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.maintenance.backup_checks import Result
from include.outcome import ConfigurationError, MaintenanceFailed, recordable
from include.platform.backup_restore import Restored
from include.settings import settings
from include.warehouse import drills
from include.warehouse.drills import Drill, DrillOutcome, Stage, StageOutcome

if TYPE_CHECKING:
    from include.maintenance.backup_sources import Origin
    from include.platform.backups import Backup
    from include.platform.scratch_place import ScratchPlace


class _Ended(Exception):
    """A stage ended as something else than passed, and the drill goes on."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.reason)
        self.result = result


@dataclass
class Stages:
    """The stages of one drill. ``unknown`` names those that could not be checked, each with its reason.

    What was measured already (``rpo_seconds``, ``rto_seconds``, ``facts``) is recorded with the drill when it fails.
    """

    drill: Drill
    rpo_seconds: float | None = None
    rto_seconds: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Time one stage and record it; the block fills in its detail, or gives a check's result to ``accept``.

        MaintenanceFailed within makes the stage and the drill failed and passes on. Any other error means that it
        could not be checked: the stage is unknown, and ``drills.failures_recorded`` around it says that the drill
        could not run.
        """
        detail: dict[str, Any] = {}
        begun = time.monotonic()

        def record(outcome: StageOutcome, reason: str = "") -> None:
            self.seconds[name] = round(time.monotonic() - begun, 3)
            drills.record(self.drill, Stage(name, outcome, self.seconds[name], reason, detail))

        try:
            yield detail
        except _Ended as ended:
            if ended.result.outcome is StageOutcome.UNKNOWN:
                self.unknown[name] = ended.result.reason
            record(ended.result.outcome, ended.result.reason)
        except MaintenanceFailed as error:
            record(StageOutcome.FAILED, str(error))
            self.finish(DrillOutcome.FAILED, f"{name}: {error}")
            raise
        except Exception as error:
            record(StageOutcome.UNKNOWN, recordable(error))
            raise
        else:
            record(StageOutcome.PASSED)

    def finish(self, outcome: DrillOutcome, reason: str = "", accepted_unknown: Sequence[str] = ()) -> Drill:
        """Record how the drill ended, with what was measured. Raises as ``drills.finish`` does."""
        return drills.finish(
            self.drill, outcome, reason, rpo_seconds=self.rpo_seconds, rto_seconds=self.rto_seconds, detail=self.facts,
            accepted_unknown=accepted_unknown,
        )  # fmt: skip

    def restore(self, origin: Origin, backup: Backup, place: ScratchPlace, *, copies: int = 1) -> Restored:
        """Bring a backup back, in stages; return the restored database. Raises as ``stage`` does.

        First there must be room for ``copies`` of it, or the drill cannot run.
        """
        with self.stage("space") as detail:
            needed, basis = origin.bytes_needed(backup)
            detail |= {"free_bytes": place.free_bytes, "needed_bytes": needed and needed * copies, "basis": basis}
            if needed is not None and place.free_bytes < needed * copies:
                raise ConfigurationError(
                    f"the scratch folder's disk has {place.free_bytes / 1e9:.2f} GB free and the drill needs about "
                    f"{needed * copies / 1e9:.2f} GB; free space or set backups.scratch_folder to a larger disk"
                )
        session = origin.open(backup, place, settings().backups.jobs)
        for name, step in [*session.before(), ("restore", session.restore)]:
            with self.stage(name) as detail:
                accept(detail, step())
        return session.restored


def accept(detail: dict[str, Any], result: Result) -> None:
    """Take over what a check found, within a stage; the block ends here unless the check passed.

    Raises MaintenanceFailed when it found a fault; an unknown or inapplicable check ends the stage as that.
    """
    detail |= result.detail
    if result.outcome is StageOutcome.FAILED:
        raise MaintenanceFailed(result.reason)
    if result.outcome is not StageOutcome.PASSED:
        raise _Ended(result)
