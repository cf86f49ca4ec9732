"""Writes ``ops.maintenance_action``: one row per maintenance act, from its plan to its proof.

The row is written before and after the change, each time at once, so that a killed task leaves the truth behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from include.masking import mask_sentence
from include.outcome import ConfigurationError, MaintenanceFailed, failure_told
from include.warehouse import session
from include.warehouse.facts import jsonb
from include.warehouse.statements import columns, one_row, statements

DRILLS = ("backup_verification", "full_restoration", "failover", "archive_restoration")
"""Kinds of acts that are rehearsals: their rows follow those of ``ops.drill`` (drills.py)."""

KINDS = (
    *("analyze", "vacuum", "prune", "rotate_logs", "delete_logs", "cache_statistics", "reindex"),
    *("clean_airflow_database", "delete_airflow_logs", "remove_leftovers"),
    *DRILLS,
)
"""Every kind of act, as the comment of the column ``kind`` lists them."""


@dataclass(frozen=True)
class Action:
    """One maintenance act; ``planned_at`` is an aware datetime of the warehouse's clock."""

    maintenance_action_id: int
    kind: str
    resource: str
    run_id: str
    dry_run: bool
    state: str
    plan: dict[str, Any]
    applied: dict[str, Any] | None
    proof: dict[str, Any] | None
    reason: str
    planned_at: datetime

    @property
    def done(self) -> bool:
        """Whether the act is proven already and must not be repeated."""
        return self.state == "proven"

    def summary(self) -> dict[str, Any]:
        """The act as small JSON-able facts."""
        facts = {
            "action": self.maintenance_action_id,
            "kind": self.kind,
            "resource": self.resource,
            "state": self.state,
        }
        return facts | ({"reason": self.reason} if self.reason else {})


_STATEMENTS = statements(__file__, columns(Action))


def key_of(run_id: str, kind: str, resource: str) -> str:
    """Return the idempotency key: the same run acts once on the same resource in the same way."""
    return f"{run_id}|{kind}|{resource}"


def plan(kind: str, resource: str, run_id: str, *, dry_run: bool, plan: dict[str, Any]) -> Action:
    """Record what will change and how much; a repeated task continues its own row.

    An act that is proven already is returned as it is (``done``). Raises ConfigurationError or SourceUnavailable.
    """
    if kind not in KINDS:
        raise ConfigurationError(f"'{kind}' is not a kind of maintenance; use one of {', '.join(KINDS)}")
    values = {
        "key": key_of(run_id, kind, resource),
        "kind": kind,
        "resource": resource,
        "run_id": run_id,
        "dry_run": dry_run,
        "plan": jsonb(plan),
    }
    with session.transaction() as connection:
        return Action(*one_row(connection, _STATEMENTS["plan"], values))


def applying(action: Action) -> Action:
    """Record that the change of this attempt begins, whatever an earlier one has begun.

    Raises MaintenanceFailed on a dry run: it must stop after its plan.
    """
    if action.dry_run:
        raise MaintenanceFailed(f"{action.kind} of {action.resource} is a dry run and must not change anything")
    _change("applying", action, {})
    return replace(action, state="applying")


def prove(action: Action, proof: dict[str, Any], applied: dict[str, Any], reason: str = "") -> Action:
    """Record what was done and the measurements that prove it; ``reason`` tells what a reader should know of it."""
    _change("prove", action, {"proof": jsonb(proof), "applied": jsonb(applied), "reason": reason})
    return replace(action, state="proven", proof=proof, applied=applied, reason=reason)


def nothing_to_do(action: Action, reason: str) -> Action:
    """Record that nothing was to do, and why."""
    _change("nothing_to_do", action, {"reason": reason})
    return replace(action, state="nothing_to_do", reason=reason)


def postpone(action: Action, reason: str, applied: dict[str, Any] | None = None) -> Action:
    """Record that the act was put off to the next run, and why.

    ``applied`` tells what was done of one that had begun. Secrets in the reason are masked.
    """
    reason = mask_sentence(reason)
    _change("postpone", action, {"reason": reason, "applied": jsonb(applied) if applied is not None else None})
    return replace(action, state="postponed", reason=reason, applied=applied)


def fail(action: Action, reason: str, proof: dict[str, Any] | None = None) -> Action:
    """Record that the act failed or could not be checked, and why; secrets in the reason are masked."""
    reason = mask_sentence(reason)
    _change("fail", action, {"reason": reason, "proof": jsonb(proof) if proof is not None else None})
    return replace(action, state="failed", reason=reason, proof=proof)


def failures_recorded(action: Action) -> AbstractContextManager[None]:
    """Record whatever is raised within as the act's failure, and let it pass on."""
    return failure_told(lambda reason: fail(action, reason))


def find(kind: str, resource: str, run_id: str) -> Action | None:
    """Return the row of a run's act, or None. Raises as ``session.transaction`` does."""
    return _execute("find", {"key": key_of(run_id, kind, resource)})


def last_proven(kind: str, resource: str) -> Action | None:
    """Return the newest proven act of a kind on a resource, or None. Raises as ``session.transaction`` does."""
    return _execute("last_proven", {"kind": kind, "resource": resource})


def recent(kinds: Sequence[str], resources: Sequence[str], each: int = 5) -> list[Action]:
    """Return the newest acts of each kind on each resource that were no dry runs, the newest first.

    Raises as ``session.transaction`` does.
    """
    with session.transaction() as connection:
        values = {"kinds": list(kinds), "resources": list(resources), "each": each}
        return [Action(*row) for row in connection.execute(_STATEMENTS["recent"], values)]


def of_run(run_id: str, kinds: Sequence[str]) -> list[Action]:
    """Return the acts of a run, in the order in which they were planned first.

    Raises as ``session.transaction`` does.
    """
    with session.transaction() as connection:
        found = connection.execute(_STATEMENTS["of_run"], {"run_id": run_id, "kinds": list(kinds)})
        return [Action(*row) for row in found]


def begun(kind: str, resource: str, limit: int = 20) -> list[Action]:
    """Return the newest acts on a resource that began to change it, whatever became of them.

    Raises as ``session.transaction`` does.
    """
    with session.transaction() as connection:
        found = connection.execute(_STATEMENTS["begun"], {"kind": kind, "resource": resource, "limit": limit})
        return [Action(*row) for row in found]


def left_by(run_id: str) -> list[Action]:
    """Return the acts that an earlier attempt of a run began and did not prove, the oldest first.

    Raises as ``session.transaction`` does.
    """
    with session.transaction() as connection:
        return [Action(*row) for row in connection.execute(_STATEMENTS["left_by"], {"run_id": run_id})]


def _change(statement: str, action: Action, values: dict[str, Any]) -> None:
    with session.transaction() as connection:
        changed = connection.execute(_STATEMENTS[statement], {"id": action.maintenance_action_id} | values).rowcount
    if changed != 1:
        raise MaintenanceFailed(
            f"{action.kind} of {action.resource}: its row {action.maintenance_action_id} of ops.maintenance_action "
            f"is not in a state that can become '{statement}'; another task works on the same run"
        )


def _execute(statement: str, values: dict[str, Any]) -> Action | None:
    with session.transaction() as connection:
        row = connection.execute(_STATEMENTS[statement], values).fetchone()
    return Action(*row) if row else None
