"""Removes what operations itself leaves behind: folders of killed tasks on this worker, old findings and snapshots."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from include.outcome import MaintenanceFailed
from include.platform import scratch_place
from include.settings import settings
from include.warehouse import actions, findings, session, snapshots

KIND = "remove_leftovers"
RESOURCE = "what operations leaves behind"


def clean(run_id: str, dry_run: bool, now: datetime | None = None) -> dict[str, Any]:
    """Remove findings and snapshots that are older than ``maintenance.leftovers`` tells, counted from ``now`` (aware).

    The folders that killed drills and tasks left here go first. Returns the act's summary. Raises ConfigurationError
    (a wrong clock), SourceUnavailable or MaintenanceFailed.
    """
    kept = settings().maintenance.leftovers
    action = actions.plan(KIND, RESOURCE, run_id, dry_run=dry_run, plan={})
    if action.done:
        return action.summary()
    with actions.failures_recorded(action):
        now = now or session.present()
        of_findings = now - timedelta(days=kept.findings_keep_days)
        of_snapshots = now - timedelta(days=kept.snapshots_keep_days)
        of_definitions = now - timedelta(days=kept.definitions_keep_days)

        def left() -> dict[str, int]:
            return {
                "findings": findings.old(of_findings),
                "snapshots": snapshots.old(of_snapshots),
                "snapshots_with_definitions": snapshots.with_old_definitions(of_definitions),
            }

        before = left()
        action = actions.plan(KIND, RESOURCE, run_id, dry_run=dry_run, plan=before | {"findings_before": of_findings})
        if dry_run:
            return action.summary()
        folders = [*scratch_place.sweep(), *scratch_place.sweep_temporary()]
        if not folders and not any(before.values()):
            return actions.nothing_to_do(action, "nothing is left and no record is too old").summary()
        action = actions.applying(action)
        removed = findings.forget(of_findings)
        taken, definitions = snapshots.forget(of_snapshots, of_definitions)
        after = left()
        if any(after.values()):
            raise MaintenanceFailed(f"old records are still there: {after}")
        applied = {"findings": removed, "snapshots": taken, "definitions": definitions, "folders": folders}
        return actions.prove(action, after, applied).summary()
