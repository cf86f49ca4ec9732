"""Writes ``ops.drill`` and ``ops.drill_stage``: emergencies that were rehearsed, what they took and what they found.

A drill begins, records each stage when it ends, and is finished. A task that was killed leaves a drill ``running``;
its next attempt begins the same row again, and keeps what became of the earlier ones in its ``detail``
(``earlier_attempts``). A drill that could not check something never passes. Each drill is an act of maintenance too:
its row of ``ops.maintenance_action`` is written with it, proven by what was measured when it passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from include.masking import mask_sentence
from include.outcome import ConfigurationError, MaintenanceFailed, failure_told
from include.warehouse import actions, session
from include.warehouse.facts import jsonb
from include.warehouse.statements import columns, one_row, statements


class DrillOutcome(StrEnum):
    """How a drill ended. One that could not check everything ``COULD_NOT_RUN``, which is no pass."""

    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    COULD_NOT_RUN = "could_not_run"


class StageOutcome(StrEnum):
    """What one stage found. ``UNKNOWN`` means that it could not be checked; it never counts as passed."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True)
class Stage:
    """One step of a drill. ``seconds`` is None for one that was not begun; ``detail`` holds JSON-able numbers."""

    name: str
    outcome: StageOutcome
    seconds: float | None = None
    reason: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Drill:
    """One drill; times are aware datetimes of the warehouse's clock, losses and durations are in seconds."""

    drill_id: int
    kind: str
    resource: str
    run_id: str
    outcome: DrillOutcome
    attempts: int
    rpo_seconds: float | None
    rto_seconds: float | None
    rpo_target_seconds: float | None
    rto_target_seconds: float | None
    reason: str
    detail: dict[str, Any]
    started_at: datetime
    finished_at: datetime | None

    @property
    def done(self) -> bool:
        """Whether it has passed already and must not be repeated."""
        return self.outcome is DrillOutcome.PASSED

    def summary(self) -> dict[str, Any]:
        """The drill as small JSON-able facts."""
        facts = {"drill": self.drill_id, "kind": self.kind, "resource": self.resource, "outcome": self.outcome.value}
        measured = {"rpo_seconds": self.rpo_seconds, "rto_seconds": self.rto_seconds}
        facts |= {name: value for name, value in measured.items() if value is not None}
        return facts | ({"reason": self.reason} if self.reason else {})


_STATEMENTS = statements(__file__, columns(Drill))
STAGES = _STATEMENTS["stages_of"]
"""SQL: the stages of the drill ``id`` in the order in which they ended; its columns are the fields of ``Stage``."""


def begin(
    kind: str,
    resource: str,
    run_id: str,
    *,
    rpo_target_seconds: float | None = None,
    rto_target_seconds: float | None = None,
) -> Drill:
    """Record that a drill begins; a repeated task begins its own row again and forgets its stages.

    How each earlier attempt ended, and why, stays in the detail under ``earlier_attempts``, the oldest first.
    One that has passed already is returned as it is (``done``). Raises ConfigurationError or SourceUnavailable.
    """
    if kind not in actions.DRILLS:
        raise ConfigurationError(f"'{kind}' is not a kind of drill; use one of {', '.join(actions.DRILLS)}")
    key = {"kind": kind, "resource": resource, "run_id": run_id}
    targets = {"rpo_target_seconds": rpo_target_seconds, "rto_target_seconds": rto_target_seconds}
    with session.transaction() as connection:
        row = connection.execute(_STATEMENTS["begin"], key | targets).fetchone()
        if row is None:  # it has passed
            return _drill(one_row(connection, _STATEMENTS["find"], key))
        connection.execute(_STATEMENTS["forget_stages"], {"id": row[0]})
        act = {"key": actions.key_of(run_id, kind, resource), "plan": jsonb(targets)}
        connection.execute(_STATEMENTS["act_begins"], key | act)
    return _drill(row)


def record(drill: Drill, stage: Stage) -> None:
    """Record a stage that ended; recording it again replaces it. Stages may be recorded from several threads.

    Raises MaintenanceFailed when the drill is not running (any more) in this attempt.
    """
    values = {
        "id": drill.drill_id,
        "attempts": drill.attempts,
        "name": stage.name,
        "outcome": stage.outcome.value,
        "seconds": stage.seconds,
        "reason": mask_sentence(stage.reason),
        "detail": jsonb(stage.detail),
    }
    with session.transaction() as connection:
        if connection.execute(_STATEMENTS["lock"], values).fetchone() is None:
            raise _not_running(drill)
        connection.execute(_STATEMENTS["stage"], values)


def finish(
    drill: Drill,
    outcome: DrillOutcome,
    reason: str = "",
    *,
    rpo_seconds: float | None = None,
    rto_seconds: float | None = None,
    detail: dict[str, Any] | None = None,
    accepted_unknown: Sequence[str] = (),
) -> Drill:
    """Record how the drill ended; ``reason`` is needed unless it passed.

    ``PASSED`` needs a stage that passed, none that failed, and none unknown but those of ``accepted_unknown`` (names).
    Raises MaintenanceFailed when that does not hold, or when the drill is not running (any more) in this attempt.
    """
    values = {
        "id": drill.drill_id,
        "attempts": drill.attempts,
        "outcome": outcome.value,
        "reason": mask_sentence(reason),
        "rpo_seconds": rpo_seconds,
        "rto_seconds": rto_seconds,
        "detail": jsonb(detail or {}),
        "accepted": list(accepted_unknown),
    }
    with session.transaction() as connection:
        row = connection.execute(_STATEMENTS["finish"], values).fetchone()
        if row is None:
            raise _not_running(drill, " or has stages that did not pass")
        key = actions.key_of(drill.run_id, drill.kind, drill.resource)
        connection.execute(_STATEMENTS["act_ends"], {"id": drill.drill_id, "key": key})
    return _drill(row)


def failures_recorded(drill: Drill) -> AbstractContextManager[None]:
    """Record whatever is raised within as the drill's end (``could_not_run``), unless it has one; let it pass on."""
    return failure_told(lambda reason: finish(drill, DrillOutcome.COULD_NOT_RUN, reason), MaintenanceFailed)


def find(kind: str, resource: str, run_id: str) -> Drill | None:
    """Return the drill of a run, or None. Raises as ``session.transaction`` does."""
    with session.transaction() as connection:
        values = {"kind": kind, "resource": resource, "run_id": run_id}
        row = connection.execute(_STATEMENTS["find"], values).fetchone()
    return _drill(row) if row else None


def stages_of(drill: Drill) -> list[Stage]:
    """Return the recorded stages of a drill in the order in which they ended.

    Raises as ``session.transaction`` does.
    """
    with session.transaction() as connection:
        rows = connection.execute(STAGES, {"id": drill.drill_id}).fetchall()
    return [
        Stage(name, StageOutcome(outcome), _seconds(seconds), reason, detail)
        for name, outcome, seconds, reason, detail in rows
    ]


def finished(kind: str, resource: str) -> list[Drill]:
    """Return the newest 26 finished drills of a kind and resource, the newest first.

    Raises as ``session.transaction`` does.
    """
    with session.transaction() as connection:
        found = connection.execute(_STATEMENTS["finished"], {"kind": kind, "resource": resource})
        return [_drill(row) for row in found]


def _drill(row: tuple[Any, ...]) -> Drill:
    drill = Drill(*row)
    return replace(
        drill,
        outcome=DrillOutcome(drill.outcome),
        rpo_seconds=_seconds(drill.rpo_seconds),
        rto_seconds=_seconds(drill.rto_seconds),
        rpo_target_seconds=_seconds(drill.rpo_target_seconds),
        rto_target_seconds=_seconds(drill.rto_target_seconds),
    )


def _seconds(value: Decimal | float | None) -> float | None:
    return None if value is None else float(value)


def _not_running(drill: Drill, otherwise: str = "") -> MaintenanceFailed:
    return MaintenanceFailed(
        f"{drill.kind} of {drill.resource}: the row {drill.drill_id} of ops.drill is not running{otherwise}; "
        "another task may work on the same run"
    )
