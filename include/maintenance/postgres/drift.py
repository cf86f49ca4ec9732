"""Finds what was defined otherwise a month ago: schema, grants, roles, extensions, settings, rules of access.

The runs of each week and month take a snapshot of the platform's database (``take``); the wraparound forecast and the
search for tables to partition use it too.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from include.masking import MASK
from include.outcome import Outcome
from include.platform import database, definitions
from include.settings import settings
from include.warehouse import findings, snapshots
from include.warehouse.findings import Finding
from include.warehouse.snapshots import Change, Snapshot

CHECK = "definition_drift"
_LISTED = 100  # changes that a finding names; it counts all
_DURABILITY = ("fsync", "full_page_writes", "data_checksums")
_POWERS = ("SUPERUSER", "BYPASSRLS", "REPLICATION")
_REMEDY = (
    "-- Compare each change with the releases and change requests since {since}; undo what nobody ordered.\n"
    "-- The definitions before and after stand in the evidence, all of them in ops.platform_definition "
    "(snapshots {before} and {after})."
)


def take(run_id: str, due: datetime) -> dict[str, Any]:
    """Take the run's snapshot of the platform's database; a run that has one keeps it.

    ``due`` (aware) is when the run was due: it says which month the snapshot is of. Returns small facts. Raises
    ConfigurationError or SourceUnavailable.
    """
    found = snapshots.of_run(run_id)
    if found is None:
        month = f"{due.astimezone(ZoneInfo(settings().platform.timezone)):%Y-%m}"
        with database.maintenance_session("snapshot of the platform's definitions") as connection:
            everything = definitions.read(connection)
        facts = everything.facts | {"run_id": run_id, "month": month}
        found = snapshots.record(facts, everything.tables, everything.definitions)
    return {"snapshot": found.platform_snapshot_id, "month": found.month, "unreadable": sorted(found.unreadable)}


def check(run_id: str) -> dict[str, Any]:
    """Compare the run's snapshot with the first one of the month before and write a finding for each kind.

    The first snapshot of all is a baseline: not applicable, neither ok nor changed. Later ones of the first month are
    compared with the baseline. Raises ConfigurationError when the run has no snapshot, or SourceUnavailable.
    """
    with findings.unknown_recorded(run_id, CHECK, "the check"):
        after = snapshots.required(run_id)
        before = snapshots.to_compare_with(after)
        return findings.replace(run_id, CHECK, _baseline(after) if before is None else _compared(before, after))


def _baseline(after: Snapshot) -> list[Finding]:
    counts = snapshots.number_of_definitions(after)
    found = [_unreadable(kind, grant, None) for kind, grant in _unreadable_kinds(after).items()]
    baseline = Finding(
        "baseline",
        Outcome.NOT_APPLICABLE,
        f"baseline of {after.month} recorded: {sum(counts.values())} definitions; there is nothing to compare with yet",
        {"definitions": counts, "taken_at": after.taken_at},
    )
    return [baseline, *found]


def _compared(before: Snapshot, after: Snapshot) -> list[Finding]:
    by_kind: dict[str, list[Change]] = {}
    for change in filter(None, map(_as_stored_now, snapshots.changes(before, after))):
        by_kind.setdefault(change.kind, []).append(change)
    counts, unreadable = snapshots.number_of_definitions(after), _unreadable_kinds(after)
    found = []
    for kind in definitions.KINDS:
        if kind in unreadable:
            found.append(_unreadable(kind, unreadable[kind], before))
        elif kind in before.unreadable:
            found.append(
                Finding(
                    kind,
                    Outcome.NOT_APPLICABLE,
                    f"{kind}: baseline of {after.month} recorded; it could not be read in {before.month}",
                    {"definitions": counts.get(kind, 0)},
                )
            )
        else:
            found.append(_kind(kind, by_kind.get(kind, []), counts.get(kind, 0), before, after))
    return found


def _as_stored_now(change: Change) -> Change | None:
    """The change with what an earlier version stored unmasked, or without hashes, masked; None when that is all."""
    if change.before is None:
        return change
    was = definitions.without_secrets(change.kind, change.name, change.before)
    if change.after is not None and was == change.after:
        return None
    without_hash = re.sub(r" \(hash [0-9a-f]+\)$", "", change.after or "")
    if MASK in was and was == change.before and was == without_hash:
        return None
    return replace(change, before=was)


def _kind(kind: str, changes: list[Change], count: int, before: Snapshot, after: Snapshot) -> Finding:
    since = f"{before.taken_at:%Y-%m-%d}"
    evidence: dict[str, Any] = {"definitions": count, "compared_with": before.taken_at}
    if not changes:
        return Finding(kind, Outcome.OK, f"{kind}: unchanged since {since}", evidence)
    added = [change for change in changes if change.before is None]
    removed = [change for change in changes if change.after is None]
    changed = [change for change in changes if change.before is not None and change.after is not None]
    dangers = [danger for change in changes if (danger := _danger(change))]
    listed = {
        "added": [{"name": one.name, "after": one.after} for one in added[:_LISTED]],
        "removed": [{"name": one.name, "before": one.before} for one in removed[:_LISTED]],
        "changed": [{"name": one.name, "before": one.before, "after": one.after} for one in changed[:_LISTED]],
    }
    evidence |= {"added_count": len(added), "removed_count": len(removed), "changed_count": len(changed)} | listed
    summary = f"{kind} since {since}: {len(added)} added, {len(removed)} removed, {len(changed)} changed"
    if dangers:
        summary += f"; {'; '.join(dangers[:3])}"
    remedy = _REMEDY.format(since=since, before=before.platform_snapshot_id, after=after.platform_snapshot_id)
    return Finding(kind, Outcome.CRITICAL if dangers else Outcome.WARNING, summary, evidence, remedy)


def _danger(change: Change) -> str | None:
    """Say what makes a change more than a matter of review: new powers, open doors, durability given up."""
    after, before = change.after or "", change.before or ""
    if change.kind == "role":
        gained = [power for power in _POWERS if power in after.split(", ") and power not in before.split(", ")]
        return f"{change.name} has become {' and '.join(gained)}" if gained else None
    if change.kind == "setting" and change.name in _DURABILITY and after == "off":
        return f"{change.name} is off: a crash can lose or corrupt data"
    if change.kind == "access_rule" and " trust" in f" {after}" and not after.startswith("local"):
        return f"{change.name} of pg_hba.conf lets connections in without a password"
    return None


def _unreadable_kinds(snapshot: Snapshot) -> dict[str, str]:
    return {kind: grant for kind, grant in snapshot.unreadable.items() if kind in definitions.KINDS}


def _unreadable(kind: str, grant: str, before: Snapshot | None) -> Finding:
    evidence = {"compared_with": before.taken_at} if before else {}
    return Finding(
        kind, Outcome.UNKNOWN, f"{kind}: the role of {database.MAINTENANCE} may not read it", evidence, grant
    )
