"""Reports the tables whose pruning falls behind: an act that is postponed run after run is no failure of any of them.

Rows may come faster than they go, or something keeps deletion waiting: without a finding nobody would see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from include.maintenance import postponed
from include.outcome import ConfigurationError, Outcome, failure_told
from include.settings import settings
from include.warehouse import findings
from include.warehouse.actions import Action
from include.warehouse.findings import Finding

CHECK = "pruning_backlog"


@contextmanager
def reported(table: str, run_id: str, dry_run: bool) -> Iterator[None]:
    """Report how the pruning of a table ended, also what is raised within, which passes on; nothing of a dry run."""
    if dry_run:
        yield
        return
    with failure_told(lambda reason: report(table, run_id, reason), ConfigurationError):
        yield
    report(table, run_id)


def report(table: str, run_id: str, failure: str = "") -> dict[str, Any]:
    """Write the findings of every table that is pruned, each by its newest act; ``failure`` is what ended this one's.

    A run that prunes one table only leaves the backlog of the others as it is known. Raises ConfigurationError or
    SourceUnavailable.
    """
    tables = sorted({table, *(rule.table for rule in settings().maintenance.prune)})
    ended = postponed.ended("prune", tables)
    found = [_unknown(table, failure)] if failure else []
    for name in tables:
        acts = [act for act in ended if act.resource == name]
        if acts and not (failure and name == table):
            found.append(_finding(acts))
    return findings.replace(run_id, CHECK, found)


def _unknown(table: str, reason: str) -> Finding:
    return Finding(
        table, Outcome.UNKNOWN, f"{table}: how many rows are left is not known, its pruning failed: {reason}"
    )


def _finding(acts: Sequence[Action]) -> Finding:
    """Tell of a table's acts, the newest first, whether it keeps up."""
    act = acts[0]
    if act.state == "failed":
        return _unknown(act.resource, act.reason)
    if act.state != "postponed":
        said = act.reason or "every row past its retention is archived and deleted"
        return Finding(act.resource, Outcome.OK, f"{act.resource}: {said}")
    in_a_row, runs = postponed.in_a_row(acts)
    applied = act.applied or {}
    evidence = {
        "rows_left": applied.get("rows_older_after"),
        "rows_left_is_exact": applied.get("rows_older_after_is_exact"),
        "rows_held": applied.get("rows_held"),
        "rows_of_partitions_left_estimated": applied.get("rows_of_partitions_left_estimated"),
        "postponed_in_a_row": in_a_row,
    }
    summary = f"{act.resource}: its pruning was postponed by {runs}, now because {act.reason}"
    known = {name: value for name, value in evidence.items() if value is not None}
    return Finding(act.resource, Outcome.WARNING, summary, known, _remedy(act))


def _remedy(act: Action) -> str:
    if (act.applied or {}).get("paused_too_long"):
        return (
            "-- let the replica or autovacuum that it waits for get done (a slot that nobody needs: "
            "SELECT pg_drop_replication_slot('…')), or raise longest_pause_seconds in maintenance.prune"
        )
    return "-- raise longest_minutes in maintenance.prune, or run daily_maintenance more often"
