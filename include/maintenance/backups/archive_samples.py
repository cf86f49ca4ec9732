"""Proves every month that archives can be restored: a sample of them is, on a scratch server, and compared.

The sample is drawn by the run's month: a repeated task takes the same files, another month takes others. The scratch
server is an empty one: values of types that only the platform has (enums, domains, those of extensions) are compared as
text, which is how they are archived. Whether they come back as what they are is tried by the full restoration, which
has the types: of the newest archives, as many as its time allows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from include import connections
from include.maintenance.backups.drill_stages import Stages
from include.maintenance.pruning import archive_restoration
from include.maintenance.pruning.archive_restoration import Restoration
from include.outcome import ConfigurationError, MaintenanceFailed, Outcome
from include.platform import postgres_binaries
from include.platform.database import in_comment
from include.platform.scratch_server import scratch_server
from include.settings import settings
from include.warehouse import actions, archives, drills, findings
from include.warehouse.archives import Archive
from include.warehouse.drills import DrillOutcome
from include.warehouse.findings import Finding

CHECK = "archive_samples"
KIND = "archive_restoration"
_RESOURCE = "sample of the archives"
_DATABASE = "postgres"


def sample(candidates: Sequence[Archive], month: str, number: int) -> list[Archive]:
    """Draw a sample that depends on the month (YYYY-MM) and the archives alone."""

    def drawn(archive: Archive) -> str:
        return hashlib.sha256(f"{month}|{archive.archive_id}".encode()).hexdigest()

    return sorted(candidates, key=drawn)[:number]


def check(run_id: str, due: datetime, number: int, *, dry_run: bool = False) -> dict[str, Any]:
    """Restore a sample of ``number`` archives that existed when the run was due (aware) and write the findings.

    The drill ``archive_restoration`` has its figures. With ``dry_run`` it only says which would be restored. Raises
    MaintenanceFailed when an archive did not come back exactly, ConfigurationError or SourceUnavailable when one could
    not be tried.
    """
    with (
        _unknown_recorded(run_id),
        connections.postgres("warehouse", autocommit=True) as warehouse,
    ):
        candidates = archives.restorable(warehouse, due)
    if not candidates:
        why = "nothing was archived yet"
        actions.nothing_to_do(actions.plan(KIND, _RESOURCE, run_id, dry_run=dry_run, plan={"archives": 0}), why)
        none = Finding("all archives", Outcome.NOT_APPLICABLE, why, {"archives": 0})
        return findings.replace(run_id, CHECK, [none])
    month = f"{due.astimezone(ZoneInfo(settings().platform.timezone)):%Y-%m}"
    chosen = sample(candidates, month, number)
    if dry_run:
        plan = {"archives": len(candidates), "sample": [one.location for one in chosen],
                "rows": sum(one.row_count for one in chosen)}  # fmt: skip
        return actions.plan(KIND, _RESOURCE, run_id, dry_run=True, plan=plan).summary() | plan
    drill = drills.begin(KIND, _RESOURCE, run_id)
    if drill.done:
        return drill.summary()
    found: list[Restoration] = []
    with drills.failures_recorded(drill):
        stages = Stages(drill)
        with ExitStack() as stack:
            with _unknown_recorded(run_id), stages.stage("server"):
                major = postgres_binaries.newest()[0]
                server = stack.enter_context(scratch_server(major, f"sample of the archives, run {run_id}"))
            with stages.stage("restore"):
                with _unknown_recorded(run_id):
                    found += archive_restoration.restore_all(server, _DATABASE, chosen)
                    result = findings.replace(run_id, CHECK, [*map(_finding, found), _rest(candidates, chosen)])
                stages.facts = archive_restoration.summary(found) | {"month": month, "archives": len(candidates)}
                stages.rto_seconds = stages.facts["seconds"]
                _raise_problems(found)
        stages.finish(DrillOutcome.PASSED)
    return result | stages.facts


def _unknown_recorded(run_id: str) -> AbstractContextManager[None]:
    return findings.unknown_recorded(run_id, CHECK, "the check")


def _finding(one: Restoration) -> Finding:
    archive = one.archive
    evidence = {
        "source_table": archive.source_table, "rows": archive.row_count, "seconds": one.seconds,
        "first_created_at": archive.first_created_at, "last_created_at": archive.last_created_at,
    }  # fmt: skip
    if one.as_text:
        evidence["types_compared_as_text"] = list(one.as_text)
    if not one.problem:
        told = f"{archive.row_count} rows were restored and are exactly those that were archived"
        return Finding(archive.archive_id, Outcome.OK, told, evidence)
    if one.unknown:
        return Finding(archive.archive_id, Outcome.UNKNOWN, f"it could not be tried: {one.problem}", evidence)
    remedy = (
        f"-- bring back {in_comment(archive.location)} and its manifest from a copy (SHA-256 {archive.file_sha256})"
    )
    return Finding(archive.archive_id, Outcome.CRITICAL, f"it cannot be restored: {one.problem}", evidence, remedy)


def _rest(candidates: Sequence[Archive], chosen: Sequence[Archive]) -> Finding:
    left = len(candidates) - len(chosen)
    if left == 0:
        return Finding("all other archives", Outcome.NOT_APPLICABLE, "every archive was restored", {"archives": 0})
    return Finding(
        "all other archives", Outcome.NOT_APPLICABLE, f"{left} archives were not drawn this month", {"archives": left}
    )


def _raise_problems(found: Sequence[Restoration]) -> None:
    damaged = [one for one in found if one.problem and not one.unknown]
    if damaged:
        raise MaintenanceFailed(f"{len(damaged)} of {len(found)} archives cannot be restored: {damaged[0].problem}")
    if untried := [one for one in found if one.unknown]:
        raise ConfigurationError(f"{len(untried)} of {len(found)} archives could not be tried: {untried[0].problem}")
