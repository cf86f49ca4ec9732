"""Writes the signals of failed tasks, failed runs and missed deadlines: the callbacks of every operations DAG.

``raise_failures`` is for a task that fails its run for others. All read what Airflow hands them and import nothing of
it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NoReturn

from include.outcome import IncidentClass, MaintenanceFailed

_log = logging.getLogger(__name__)


class Tier(StrEnum):
    """How bad it is when a DAG fails, and so the class of the incident that its failure opens."""

    CRITICAL = "critical"
    IMPORTANT = "important"
    STANDARD = "standard"

    @property
    def incident_class(self) -> IncidentClass:
        """Class of the incident: P1, P2 or P3. No DAG opens a P0: that is the platform itself being down."""
        return {
            Tier.CRITICAL: IncidentClass.P1,
            Tier.IMPORTANT: IncidentClass.P2,
            Tier.STANDARD: IncidentClass.P3,
        }[self]

    @property
    def priority(self) -> int:
        """Airflow's priority of the DAG's tasks when more of them could start than may: the highest starts first."""
        return {Tier.CRITICAL: 100, Tier.IMPORTANT: 10, Tier.STANDARD: 1}[self]


def _never_raises(callback: Callable[..., None]) -> Callable[..., None]:
    """Let a callback never hide the failure that it reports: where it fails itself, that becomes a signal."""

    @functools.wraps(callback)
    def guarded(*given: Any, **named: Any) -> None:
        try:
            callback(*given, **named)
        except Exception as error:
            _log.exception("the callback %s failed", callback.__name__)
            with suppress(Exception):
                _record(
                    "dag_failed",
                    tags=[],
                    dag_id="unknown",
                    run_id=datetime.now(UTC).isoformat(),  # as no run can be named, each is a signal of its own
                    title="A DAG failed or is late, and which one could not be read: the logs of Airflow say more",
                    detail={"error": f"{callback.__name__}: {type(error).__name__}: {error}"},
                )

    return guarded


@_never_raises
def task_failed(context: Any) -> None:
    """Write the signal of a task that failed for good. Never raises."""
    instance = context["task_instance"]
    error = context.get("exception")
    text = f"{type(error).__name__}: {error}" if error else "no error text; the process may have been lost"
    _record(
        "task_failed",
        tags=list(context["dag"].tags),
        dag_id=instance.dag_id,
        run_id=instance.run_id,
        title=f"{instance.dag_id}: task {instance.task_id} failed",
        task_id=instance.task_id,
        map_index=instance.map_index,
        try_number=instance.try_number,
        detail={"error": text} | _where(instance),
    )


@_never_raises
def run_failed(context: Any) -> None:
    """Write the signal of a run that failed, whatever ended its tasks. Never raises.

    Airflow names the task that failed last, or that waits for ever, and no more than the DAG and the run's id when that
    task is not in the DAG any more. A task whose process was killed may have no other signal. A run that was cleared
    and failed again is another signal: the number of its clearing tells, or else the hour.
    """
    dag, run, instance = context["dag"], context.get("dag_run"), context.get("ti")
    _record(
        "dag_failed",
        tags=list(dag.tags),
        dag_id=dag.dag_id,
        run_id=run.run_id if run else context["run_id"],
        title=f"{dag.dag_id}: run failed" + (f" at task {instance.task_id}" if instance else ""),
        try_number=getattr(run, "clear_number", None) or 0,
        attempt="" if run else f"{datetime.now(UTC):%Y-%m-%dT%H}",
        detail={
            "error": str(context.get("reason") or ""),
            "partition_key": getattr(run, "partition_key", None),
            **({"task": instance.task_id, **_where(instance)} if instance else {}),
        },
    )


def _where(instance: Any) -> dict[str, Any]:
    """Say which of its copies a task was, if it is mapped, and where its log is."""
    mapped = {"map_index": instance.map_index} if instance.map_index >= 0 else {}
    return {**mapped, "log_url": getattr(instance, "log_url", None)}


def raise_failures(instance: Any) -> NoReturn:
    """Fail a task with the names of the tasks of its run that have failed before it; ``instance`` is the task's own.

    A task whose process was killed tells nothing itself. A copy of a mapped task has its number at the end. Raises
    MaintenanceFailed.
    """
    states = instance.get_task_states(dag_id=instance.dag_id, run_ids=[instance.run_id]).get(instance.run_id, {})
    failed = sorted(name for name, state in states.items() if state == "failed")
    raise MaintenanceFailed(
        f"{', '.join(failed) or 'a task'} failed; the log of each says what and why, and just ends where it was killed"
    )


@_never_raises
def deadline_missed(context: Any = None, tier: str = Tier.IMPORTANT.value, **_: Any) -> None:
    """Write the signal of a run that was not finished in time. Airflow gives the run as a plain dict. Never raises.

    Airflow forgets the deadline of a run that succeeds, but not of one that fails: that has its signal already.
    """
    run = (context or {}).get("dag_run") or {}
    if run.get("state") in ("failed", "success"):
        return
    _record(
        "deadline_missed",
        tags=[f"tier:{tier}"],
        dag_id=str(run.get("dag_id", "unknown")),
        run_id=str(run.get("dag_run_id") or run.get("run_id") or "unknown"),
        title=f"{run.get('dag_id', 'a DAG')}: run not finished by its deadline",
    )


def _record(
    kind: str,
    *,
    tags: list[str],
    dag_id: str,
    run_id: str,
    title: str,
    task_id: str = "",
    map_index: int = -1,
    try_number: int = 0,
    attempt: str = "",
    detail: dict[str, Any] | None = None,
) -> None:
    from include.incidents import signals

    tiers = [tag.removeprefix("tier:") for tag in tags if tag.startswith("tier:")]
    tier = Tier(tiers[0]) if tiers else Tier.IMPORTANT
    signals.record(
        signals.Signal(
            idempotency_key=f"airflow:{dag_id}:{run_id}:{task_id}:{map_index}:{attempt or try_number}:{kind}",
            kind=kind,
            occurred_at=datetime.now(UTC),
            fingerprint=f"airflow:{dag_id}",
            incident_class=tier.incident_class,
            title=title,
            detail={"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "try_number": try_number} | (detail or {}),
        )
    )
