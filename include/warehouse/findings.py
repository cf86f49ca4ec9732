"""Writes ``ops.finding``: what a check that changes nothing found, with its numbers, remedy and age.

A check reports all that it found in a run at once, so that a repeated task leaves the same rows. A finding stays open
from run to run until a run of its check settles it; a run that could not look settles nothing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from include.outcome import Outcome, SourceUnavailable, failure_told, recordable, worst
from include.warehouse import session
from include.warehouse.facts import json_text
from include.warehouse.statements import one_row, statements

_log = logging.getLogger(__name__)
_STATEMENTS = statements(__file__)
_LOCK_SEED = 7_041_779  # any constant that no other user of advisory locks has: prune.py has its own


@dataclass(frozen=True)
class Finding:
    """What a check found on one resource.

    ``summary`` is one sentence. ``evidence`` and ``estimated_gain`` hold numbers with their units in the names
    (``size_bytes``, ``seconds_per_week``); without an estimate the gain is None. ``remedy`` is SQL or a command that
    a person can apply as it stands; it never holds a secret.
    """

    resource: str
    outcome: Outcome
    summary: str
    evidence: dict[str, Any] = field(default_factory=dict)
    remedy: str = ""
    estimated_gain: dict[str, Any] | None = None


def replace(run_id: str, check: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """Write everything that a check found in a run, in place of what the run's earlier attempts wrote.

    One transaction. Returns small facts: the check, its worst outcome and the number of findings of each outcome.
    A check that finds no fault says so with an ``ok`` finding: no findings at all, or two of one resource, are a
    ValueError. Raises ConfigurationError and SourceUnavailable as ``session.transaction`` does.
    """
    resources = [one.resource for one in findings]
    if not findings:
        raise ValueError(f"{check} reports nothing: a check says at least that all is ok, or that it is unknown")
    if twice := [resource for resource, count in Counter(resources).items() if count > 1]:
        raise ValueError(f"{check} reports {twice[0]} more than once")
    values = {
        "run_id": run_id,
        "check": check,
        "seed": _LOCK_SEED,
        "resources": resources,
        "outcomes": [one.outcome.value for one in findings],
        "summaries": [one.summary for one in findings],
        "evidence": [_numbers(one.evidence) for one in findings],
        "remedies": [one.remedy for one in findings],
        "gains": [None if one.estimated_gain is None else _numbers(one.estimated_gain) for one in findings],
    }
    with session.transaction() as connection:
        for statement in ("lock", "remove", "replace"):
            connection.execute(_STATEMENTS[statement], values)
    outcomes = [one.outcome for one in findings]
    return {"check": check, "outcome": worst(outcomes).value} | {
        outcome.value: count for outcome, count in Counter(outcomes).items()
    }


def of_run(run_id: str, check: str) -> list[Finding]:
    """Return what a check found in one run, by resource. Raises as ``session.transaction`` does."""
    with session.transaction() as connection:
        found = connection.execute(_STATEMENTS["of_run"], {"run_id": run_id, "check": check}).fetchall()
    return [Finding(row[0], Outcome(row[1]), *row[2:]) for row in found]


def last_seen(check: str) -> dict[str, dict[str, Any]]:
    """Return the evidence of the newest finding on each resource of a check, of whatever run it is.

    Raises as ``session.transaction`` does.
    """
    with session.transaction() as connection:
        return dict(connection.execute(_STATEMENTS["last_seen"], {"check": check}).fetchall())


def old(before: datetime) -> int:
    """Return how many findings were found before a time (aware) and not by the latest run of their check.

    Raises as ``session.transaction`` does.
    """
    with session.transaction() as connection:
        [count] = one_row(connection, _STATEMENTS["old"], {"before": before})
    return int(count)


def forget(before: datetime) -> int:
    """Remove the findings that ``old`` counts; return how many. Raises as ``session.transaction`` does."""
    with session.transaction() as connection:
        return connection.execute(_STATEMENTS["forget"], {"before": before}).rowcount


def unknown_recorded(run_id: str, check: str, resource: str) -> AbstractContextManager[None]:
    """Record whatever is raised within as the check's unknown outcome, and let it pass on: no look is no pass."""

    def record(reason: str) -> None:
        replace(run_id, check, [Finding(resource, Outcome.UNKNOWN, f"It could not be checked: {reason}")])

    return failure_told(record)


def each_in_turn(run_id: str, checks: Mapping[str, Callable[[], dict[str, Any]]]) -> list[dict[str, Any]]:
    """Make checks of a run, given by their names, one after the other; return what each returned.

    One that fails keeps none of the others from its turn. In the end the first error is raised; all are logged. What is
    no ``Exception``, as the time limit of the task, ends them all: those that had no turn are recorded as unknown.
    """
    done, failures, waiting = [], [], list(checks)
    for name, check in checks.items():
        waiting.remove(name)
        try:
            done.append(check())
        except Exception as error:
            _log.exception("the check %s could not be made", name)
            failures.append(error)
        except BaseException as error:
            told = f"It was not its turn yet: {recordable(error)}"
            with suppress(SourceUnavailable):
                for other in waiting:
                    replace(run_id, other, [Finding("the check", Outcome.UNKNOWN, told)])
            raise
    if failures:
        raise failures[0]
    return done


def _numbers(value: dict[str, Any]) -> str:
    return json_text(value, fraction=float)  # fractions are shares and estimates, which people compare and sum up
