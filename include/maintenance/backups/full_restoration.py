"""Restores everything to an empty place: the database, what was archived from it, roles and configuration.

It is timed against the targets of recovery and compared with earlier restorations. Deeper checks of the backup itself
are the weekly verification's; here counts that everything came back, and how long that takes: on a server that makes
everything durable, as the one that would replace production does.
"""

from __future__ import annotations

import statistics
import time
from datetime import datetime
from typing import Any

from include import connections
from include.maintenance.backups import (
    backup_catalog,
    backup_checks,
    backup_sources,
    backup_verification,
    drill_stages,
    estate,
)
from include.maintenance.backups.backup_checks import Result, failed, not_applicable, passed, unknown
from include.maintenance.backups.drill_stages import Stages
from include.maintenance.pruning import archive_restoration
from include.maintenance.pruning.archive_restoration import Restoration
from include.outcome import ConfigurationError
from include.platform import backups
from include.platform.backup_facts import TableFacts
from include.platform.backup_restore import Restored
from include.platform.backups import Backup
from include.platform.scratch_place import ScratchPlace, scratch_place
from include.settings import settings
from include.warehouse import archives, drills
from include.warehouse.drills import Drill, DrillOutcome

KIND = "full_restoration"
_RECOVERY = ("fetch", "wal", "server", "restore", "analyze", "globals", "configuration")
"""Stages that bring back what the platform needs to work again; the others check it. Of the archives a recovery brings
back what somebody asks for, while here there are more of them every night: their time is told beside it."""

_SLOWER = 2.0  # times the median of earlier restorations from which it is remarked upon

sources = backup_verification.sources
"""The same sources are rehearsed with."""


def rehearse(
    source: str, run_id: str, due: datetime, *, most_archives: int = 100_000, dry_run: bool = False
) -> dict[str, Any]:
    """Restore everything of a backup source to a scratch place, check it and record the drill; return small facts.

    ``due`` (aware) is when the run was due: archives made later are left out, so that a repeated task restores the
    same. At most ``most_archives`` archive files are restored, the newest first, and no further ones are begun after
    ``restoration.archives_minutes``. With ``dry_run`` it only says what would be restored.
    Raises MaintenanceFailed (something did not come back, or a target was missed), ConfigurationError or
    SourceUnavailable (it could not run, which is no pass).
    """
    rule = backups.source_of(source)
    origin = backup_sources.origin_of(rule)
    if dry_run:

        def planned() -> dict[str, Any]:
            newest = origin.newest()[0]
            return {"backup": newest.name, "bytes": newest.bytes, "archives": min(len(_archives(due)), most_archives)}

        return drill_stages.dry_run(KIND, source, run_id, planned)
    drill = drill_stages.begin_recovery(KIND, source, run_id)
    if drill.done:
        return drill.summary()
    with drills.failures_recorded(drill), scratch_place(f"{KIND} of {source}, run {run_id}") as place:
        stages = Stages(drill)
        backup = stages.find_backup(origin)
        restored = stages.restore(origin, backup, place, durable=True)
        try:
            counts = _bring_back(stages, restored, backup, place, due, most_archives)
        finally:
            restored.server.stop("immediate")
        proven = not {"row_counts", "newest_rows"} & set(stages.unknown)
        lost = backup_checks.loss(restored, backup.facts, counts, drill.started_at, proven=proven)
        accepted = backup_checks.acceptable(rule, backup.facts)
        return _conclude(stages, backup, place, lost, accepted)


def _bring_back(
    stages: Stages, restored: Restored, backup: Backup, place: ScratchPlace, due: datetime, most_archives: int
) -> dict[str, TableFacts]:
    """All that follows the restoration of the database; return the rows that were counted."""
    facts = backup.facts
    counts: dict[str, TableFacts] = {}

    def counted() -> Result:
        at = backup_checks.reach(restored, backup)
        counts.update(backup_checks.count_tables(restored, at, settings().backups.jobs))
        return backup_checks.row_counts(facts, restored.comparable(counts))

    wanted = _archives(due)
    checks: list[backup_sources.Step] = [
        ("analyze", lambda: backup_checks.analyze(restored)),
        ("globals", lambda: estate.restore_globals(restored.server, place.folder)),
        ("catalog", lambda: backup_catalog.check(restored, facts)),
        ("row_counts", counted),
        ("newest_rows", lambda: backup_checks.newest_rows(facts, restored.comparable(counts))),
        ("query", lambda: backup_checks.query(restored)),
        ("archives", lambda: _restore_archives(restored, wanted, most_archives)),
        ("configuration", lambda: estate.restore_configuration(place.folder)),
        ("server_configuration", lambda: estate.server_configuration(restored)),
    ]
    for name, check in checks:
        stages.require(name, check, place)
    return counts


def _restore_archives(restored: Restored, wanted: list[archives.Archive], most: int) -> Result:
    """Restore each archive to a table of its own in the restored database, whose types it needs, and drop it again."""
    if not wanted:
        return not_applicable("nothing was archived yet")
    until = time.monotonic() + settings().restoration.archives_minutes * 60
    found: list[Restoration] = []
    for one in archive_restoration.restore_all(restored.server, restored.database, wanted[-most:][::-1]):
        found.append(one)
        if time.monotonic() > until:
            break
    detail = archive_restoration.summary(found) | {"archives": len(wanted)}
    if types := sorted({name for one in found for name in one.as_text}):
        detail["types_compared_as_text"] = types
    if damaged := [one.problem for one in found if one.problem and not one.unknown]:
        return failed(f"{len(damaged)} archives did not come back: {damaged[0]}", **detail)
    if untried := [one.problem for one in found if one.unknown]:
        return unknown(f"{len(untried)} archives could not be tried: {untried[0]}", **detail)
    if len(found) < len(wanted):
        told = f"only the newest {len(found)} of {len(wanted)} archives were restored: archives_minutes, most_archives"
        return passed(**detail, remark=told)
    return passed(**detail)


def _archives(due: datetime) -> list[archives.Archive]:
    with connections.postgres("warehouse", autocommit=True) as warehouse:
        return archives.restorable(warehouse, due)


def _conclude(
    stages: Stages, backup: Backup, place: ScratchPlace, lost: tuple[float | None, str], accepted: tuple[str, ...]
) -> dict[str, Any]:
    """Hold the figures against the targets and the earlier drills, and finish the drill.

    ``lost`` are the seconds of work that would be lost, and how that is known.
    """
    drill = stages.drill
    loss, basis = lost
    took = round(sum(stages.found[name].seconds or 0.0 for name in _RECOVERY if name in stages.found), 3)
    trend = _trend(drill, took)
    stages.rpo_seconds, stages.rto_seconds = loss, took
    stages.facts = {"backup": backup.name, "bytes": backup.bytes, "taken_at": backup.taken_at, "durable": True}
    stages.facts |= {"timed": list(_RECOVERY)} | trend
    missed = "{:.1f} hours of work would be lost; the target is {:g}"
    point = backup_checks.within(loss, drill.rpo_target_seconds, 3600, missed, unmeasured=basis, basis=basis)
    stages.require("recovery_point", lambda: point, place)
    missed = "{:.1f} minutes to bring everything back; the target is {:g}"
    duration = backup_checks.within(took, drill.rto_target_seconds, 60, missed)
    stages.require("recovery_time", lambda: duration, place)
    told = "; ".join(f"{name}: {reason}" for name, reason in stages.unknown.items())
    if set(stages.unknown) - set(accepted):
        stages.finish(DrillOutcome.COULD_NOT_RUN, told)
        raise ConfigurationError(f"the restoration of everything of {drill.resource} could not be checked: {told}")
    reason = "; ".join(part for part in (told, str(trend.get("remark", ""))) if part)
    return stages.finish(DrillOutcome.PASSED, reason, accepted).summary() | trend


def _trend(drill: Drill, took: float) -> dict[str, Any]:
    """Compare the time with the median of the earlier restorations that had passed, durable and of the same stages."""
    earlier = [
        one.rto_seconds
        for one in drills.finished(drill.kind, drill.resource)
        if one.outcome is DrillOutcome.PASSED
        and one.rto_seconds is not None
        and one.detail.get("durable")
        and one.detail.get("timed") == list(_RECOVERY)
    ]
    if not earlier:
        return {"earlier_drills": 0}
    middle = statistics.median(earlier)
    facts: dict[str, Any] = {"earlier_drills": len(earlier), "rto_median_before_seconds": middle}
    if middle > 0 and took > _SLOWER * middle:
        facts["remark"] = f"it took {took / middle:.1f} times the {middle:.1f} s that were usual before"
    return facts
