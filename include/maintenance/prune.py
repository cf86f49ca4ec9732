"""Moves rows past their retention out of a table: archive, verify, delete, in batches. Guide, "Database Maintenance".

Each batch goes through the same steps, and each step leaves enough behind for the next attempt:

1. the file is written locally and its row in ``ops.archive`` recorded (written), then it takes its place;
2. it is read back: bytes, number of rows and content must be those of the source rows (verified);
3. exactly these rows are deleted in one transaction, which commits only when their content is the archive's;
4. the archive is recorded as deleted.

An attempt first settles what an earlier one left. The only step between two systems is 3 to 4: an archive that is
verified and whose rows are gone was deleted by an attempt that ended right there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include import connections
from include.maintenance import archive_files, rows
from include.maintenance.archive_files import ArchiveDamaged, Content, Store
from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable
from include.platform import database
from include.warehouse import actions, archives
from include.warehouse.archives import Archive

if TYPE_CHECKING:
    import psycopg

    from include.maintenance.rows import Batch, Source
    from include.settings import Prune

_LOCK_SEED = 7_041_778  # any constant: keeps these locks apart from other users of advisory locks
_PASSES = 3


@dataclass
class _Work:
    """What one attempt works with."""

    platform: psycopg.Connection[Any]
    warehouse: psycopg.Connection[Any]
    source: Source
    store: Store
    folder: Path


def prune(rule: Prune, run_id: str, dry_run: bool, now: datetime | None = None) -> dict[str, Any]:
    """Archive and delete the rows of a table that are older than ``rule.keep_days`` times 24 hours before ``now``.

    ``now`` is an aware datetime, by default the present. Returns the action's summary with ``rows`` and ``archives``.
    Raises ConfigurationError (a missing privilege, column or unique key, rows of other tables that would go too),
    MaintenanceFailed (a damaged archive, a lock, rows that changed meanwhile) or SourceUnavailable.
    """
    cut_off = (now or datetime.now(UTC)).astimezone(UTC) - timedelta(days=rule.keep_days)
    with _attempt(rule) as work:
        resource = work.source.table.name
        if (earlier := actions.find("prune", resource, run_id)) and earlier.done:
            return _summary(earlier)
        left = archives.unfinished(work.warehouse, resource)
        if left and not dry_run:
            _settle(work, left, run_id)
        older = rows.count(work.platform, work.source, cut_off)
        plan = older | {
            "cut_off": cut_off.isoformat(),
            "keep_days": rule.keep_days,
            "batch_rows": rule.batch_rows,
            "unfinished_archives": len(left),
        }
        action = actions.plan("prune", resource, run_id, dry_run=dry_run, plan=plan)
        if dry_run:
            return _summary(action)
        if action.plan["rows_older"] == 0:
            return _summary(actions.nothing_to_do(action, f"no row is older than {rule.keep_days} days"))
        with actions.failures_recorded(action):
            action = actions.applying(action)
            return _summary(_apply(work, action, rule.batch_rows))


@contextmanager
def _attempt(rule: Prune) -> Iterator[_Work]:
    """Open everything; one attempt at a time works on a table."""
    with (
        database.maintenance_session() as platform,
        connections.postgres("warehouse", autocommit=True) as warehouse,
        tempfile.TemporaryDirectory(prefix="gold-escrow-archive-") as folder,
    ):
        source = rows.source_of(platform, rule.table, rule.time_column, rule.key_column)
        lock = warehouse.execute(
            "SELECT pg_try_advisory_lock(hashtextextended(%s, %s))", (source.table.name, _LOCK_SEED)
        ).fetchone()
        if lock != (True,):
            raise MaintenanceFailed(f"another run prunes {source.table.name} just now; try again when it has ended")
        yield _Work(platform, warehouse, source, archive_files.store(), Path(folder))


def _apply(work: _Work, action: actions.Action, batch_rows: int) -> actions.Action:
    cut_off = datetime.fromisoformat(action.plan["cut_off"])
    deleted, after = 0, {"rows_older": 0}
    for _ in range(_PASSES):  # rows that arrive with an old time stamp while this works are taken too
        while batch := rows.next_batch(work.platform, work.source, cut_off, batch_rows):
            deleted += _move(work, batch)
        after = rows.count(work.platform, work.source, cut_off)
        if after["rows_older"] == 0:
            break
    files, archived = archives.deleted_since(work.warehouse, action.resource, action.planned_at)
    arrived = archived + after["rows_older"] - action.plan["rows_older"]
    proof = {
        "rows_before": action.plan["rows"],
        "rows_after": after["rows"],
        "rows_older_before": action.plan["rows_older"],
        "rows_older_after": after["rows_older"],
        "rows_archived": archived,
        "rows_arrived_meanwhile": max(0, arrived),
        "archives": files,
    }
    if arrived < 0:
        reason = f"{-arrived} rows of {action.resource} past their retention vanished without being archived here"
    elif after["rows_older"] > arrived:
        reason = f"{after['rows_older']} rows of {action.resource} past their retention are still there"
    else:
        still = f"{after['rows_older']} rows past their retention arrived meanwhile and wait for the next run"
        applied = {"rows_deleted": archived, "rows_deleted_by_this_attempt": deleted, "archives": files}
        return actions.prove(action, proof, applied, still if after["rows_older"] else "")
    actions.fail(action, reason, proof)
    raise MaintenanceFailed(reason)


def _move(work: _Work, batch: Batch) -> int:
    """Take one batch through all steps; return the number of rows deleted."""
    source = work.source
    content_hash = archive_files.content_hash(batch.row_hashes)
    archive_id = (
        f"{source.table.name}/{batch.first:%Y%m%dT%H%M%S.%fZ}_{batch.last:%Y%m%dT%H%M%S.%fZ}_{content_hash[:16]}"
    )
    path = work.folder / "batch.parquet"
    about = {
        "source_table": source.table.name,
        "time_column": source.time_column,
        "key_column": source.key_column,
        "row_count": len(batch.rows),
        "content_hash": content_hash,
    }
    sha256 = archive_files.write(path, source.columns, batch.rows, about)
    location = f"{archive_id}.parquet"
    archive = Archive(
        archive_id, source.table.name, location, len(batch.rows), content_hash, sha256, batch.first, batch.last
    )
    archives.record_written(work.warehouse, archive)
    work.store.put(path, archive.location)
    content = _verified(work.store, archive, work.folder)
    archives.record_verified(work.warehouse, archive_id)
    return _delete(work, archive, content)


def _verified(store: Store, archive: Archive, folder: Path) -> Content:
    """Read an archive back from its place. Raises ArchiveDamaged unless it is exactly what was recorded."""
    path = folder / "read-back.parquet"
    store.fetch(archive.location, path, archive.file_sha256)
    content = archive_files.read(path)
    if len(content.rows) != archive.row_count or content.content_hash != archive.content_hash:
        raise ArchiveDamaged(f"the archive file {archive.location} does not hold the rows that were recorded")
    return content


def _delete(work: _Work, archive: Archive, content: Content) -> int:
    """Delete exactly the rows of a verified archive, or none."""
    with database.errors_named(f"pruning of {archive.source_table}"), work.platform.transaction():
        hashes = rows.delete(work.platform, work.source, content.values(work.source.key_column), archive)
        if len(hashes) != archive.row_count or archive_files.content_hash(hashes) != archive.content_hash:
            raise MaintenanceFailed(
                f"rows of {archive.source_table} changed while they were archived; none of the batch was deleted, "
                "the next attempt archives them anew"
            )
    archives.record_deleted(work.warehouse, archive.archive_id)
    return archive.row_count


def _settle(work: _Work, left: list[Archive], run_id: str) -> None:
    """Finish or take back what an earlier attempt left. A failure is recorded in this run's row."""
    try:
        for archive in left:
            _settle_one(work, archive)
    except (ConfigurationError, MaintenanceFailed, SourceUnavailable) as error:
        plan = {"unfinished_archives": len(left)}
        action = actions.plan("prune", work.source.table.name, run_id, dry_run=False, plan=plan)
        actions.fail(action, str(error))
        raise


def _settle_one(work: _Work, archive: Archive) -> None:
    try:
        content = _verified(work.store, archive, work.folder)
    except ArchiveDamaged as error:
        if archive.state == "written":  # deletion begins only after "verified": all rows are in their table
            _take_back(work, archive)
            return
        raise MaintenanceFailed(
            f"{error}; it was verified earlier and its rows may be gone from {archive.source_table}: restore the file, "
            f"or if the rows are in the table remove {archive.archive_id} from ops.archive"
        ) from None
    hashes = rows.find(work.platform, work.source, content.values(work.source.key_column), archive)
    unchanged = archive_files.content_hash(hashes) == archive.content_hash
    if hashes and unchanged:
        archives.record_verified(work.warehouse, archive.archive_id)
        _delete(work, archive, content)
    elif not hashes or (archive.state == "verified" and len(hashes) < archive.row_count):
        # The rows are gone, or some were put back after that: what the archive holds is kept.
        archives.record_verified(work.warehouse, archive.archive_id)
        archives.record_deleted(work.warehouse, archive.archive_id)
    else:  # all are there but changed since, so nothing was deleted: they are archived anew
        _take_back(work, archive)


def _take_back(work: _Work, archive: Archive) -> None:
    # The file goes first: a row without its file is settled again, a file without its row would stay for ever.
    work.store.remove(archive.location)
    archives.forget(work.warehouse, archive.archive_id)


def _summary(action: actions.Action) -> dict[str, Any]:
    proof = action.proof or {}
    return action.summary() | {"rows": proof.get("rows_archived", 0), "archives": proof.get("archives", 0)}
