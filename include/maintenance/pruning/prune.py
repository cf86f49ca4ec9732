"""Moves rows past their retention out of a table: archived, verified, deleted. Guide, "Database Maintenance".

Whole partitions of a table that is partitioned by time are detached, archived and dropped (partitions.py); other rows
are archived and deleted in batches (moving.py). An attempt first settles what an earlier one left (settling.py), so
that a kill at any instant loses nothing and leaves nothing twice. Rows under a legal hold stay (holds.py).
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include import connections
from include.maintenance.pruning import archive_files, backlog, moving, partitions, rows, settling, sources
from include.maintenance.pruning.pace import Batches, PausedTooLong, Throttle
from include.maintenance.pruning.work import Work
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import database, folders
from include.warehouse import actions, archives, session

if TYPE_CHECKING:
    import psycopg

    from include.maintenance.pruning.partitions import Route
    from include.maintenance_sections import Prune
    from include.warehouse.legal_holds import LegalHold

_LOCK_SEED = 7_041_778  # any constant that no other user of advisory locks has: findings.py has its own


class _Busy(MaintenanceFailed):
    """Another run prunes the table just now."""


def prune(rule: Prune, run_id: str, dry_run: bool, now: datetime | None = None) -> dict[str, Any]:
    """Archive and delete the rows of a table that are older than ``rule.keep_days`` times 24 hours before ``now``.

    ``now`` is an aware datetime, by default the present. Returns the action's summary with ``rows`` and ``archives``.
    After ``rule.longest_minutes``, or when deletion has to pause too long, no further archive is begun: the act is
    postponed, and the next run goes on. Whether the table keeps up is reported (backlog.py). Whatever fails is recorded
    as the act's failure, unless the warehouse itself is away. Raises ConfigurationError (a wrong clock, a missing
    privilege, column or unique key, rows of other tables that would go too), MaintenanceFailed (a damaged archive, a
    lock) or SourceUnavailable.
    """
    facts: dict[str, Any] = {"keep_days": rule.keep_days, "batch_rows": rule.batch_rows}
    with session.kept_open(), backlog.reported(rule.table, run_id, dry_run):
        earlier = actions.find("prune", rule.table, run_id)
        if earlier and earlier.done:
            return _summary(earlier)
        try:
            with _alone(rule.table) as warehouse:
                action = actions.plan("prune", rule.table, run_id, dry_run=dry_run, plan=facts)
                if action.done:
                    return _summary(action)
                with actions.failures_recorded(action):
                    cut_off = (now or session.present()).astimezone(UTC) - timedelta(days=rule.keep_days)
                    facts |= {"cut_off": cut_off.isoformat()}
                    with _attempt(rule, cut_off, warehouse) as work:
                        return _summary(_act_or_postpone(work, action, facts))
        except _Busy as error:
            earlier = actions.find("prune", rule.table, run_id)
            own = earlier is not None and earlier.state in ("planned", "applying", "proven")
            if not own:  # or else the other run is this one, started twice
                actions.fail(actions.plan("prune", rule.table, run_id, dry_run=dry_run, plan=facts), str(error))
            raise


def _act_or_postpone(work: Work, action: actions.Action, facts: dict[str, Any]) -> actions.Action:
    try:
        return _act(work, action, facts)
    except PausedTooLong as error:
        if work.failures:
            raise MaintenanceFailed("; ".join([*work.failures, str(error)])) from None
        planned = actions.find(action.kind, action.resource, action.run_id)  # as it is by now
        return _postponed(work, planned or action, str(error), {"paused_too_long": True})


def _act(work: Work, action: actions.Action, facts: dict[str, Any]) -> actions.Action:
    """Settle what is left, plan the rest in full, and do it."""
    resource, cut_off = action.resource, work.source.cut_off
    assert cut_off is not None
    left = archives.unfinished(work.warehouse, resource)
    on_their_way = archives.open_partitions(work.warehouse, resource)
    if not action.dry_run:
        settling.settle(work, [one for one in left if not partitions.is_of(one, on_their_way)])
    held = work.holds()
    route = partitions.route(work, cut_off, held)
    older = _older(work, route, held)
    plan = older | facts
    plan |= {"unfinished_archives": len(left), "legal_holds": [hold.legal_hold_id for hold in held]}
    plan |= route.facts()
    action = actions.plan("prune", resource, action.run_id, dry_run=action.dry_run, plan=plan)
    if action.dry_run:
        return action
    unproven = archives.unproven(work.warehouse, resource, action.planned_at)  # by runs before, and settled just now
    # action.plan is that of the attempt that began: what it deleted is proven by the attempt that ends.
    if not (_has_work(action.plan) or _has_work(plan) or unproven[0]):
        return actions.nothing_to_do(action, _told(work, _nothing(work.rule, older, route)))
    return _apply(work, actions.applying(action), route, unproven)


@contextmanager
def _alone(table: str) -> Iterator[psycopg.Connection[Any]]:
    """Open the warehouse; one attempt at a time works on a table."""
    with connections.postgres("warehouse", autocommit=True) as warehouse:
        # Rows are deleted because the warehouse knows their archive: a crash must not make it forget that.
        warehouse.execute("SET synchronous_commit = on")
        lock = warehouse.execute(
            "SELECT pg_try_advisory_lock(hashtextextended(%s, %s))", (table, _LOCK_SEED)
        ).fetchone()
        if lock != (True,):
            raise _Busy(f"another run prunes {table} just now; try again when it has ended")
        yield warehouse


@contextmanager
def _attempt(
    rule: Prune, cut_off: datetime | None = None, warehouse: psycopg.Connection[Any] | None = None
) -> Iterator[Work]:
    """Open everything; ``warehouse`` is what ``_alone`` gave, by default it is asked here."""
    import psycopg

    with (
        nullcontext(warehouse) if warehouse else _alone(rule.table) as locked,
        _reader_coming() as reader,
        database.maintenance_session() as platform,
    ):
        source = sources.look_up(platform, rule.table, rule.time_column, rule.key_column, cut_off or datetime.now(UTC))
        _check_encoding(platform.info.parameter_status("server_encoding"), source.name)
        with _scratch_folder(platform, source.name) as folder:
            work = Work(
                rule,
                platform,
                reader.result(),
                locked,
                source,
                folders.open_folder(archive_files.CONNECTION),
                folder,
                Throttle(platform, source.table.oid, source.name, rule),
                Batches(rule.batch_rows),
                Batches(rule.batch_rows),
                ends_at=time.monotonic() + rule.longest_minutes * 60,
            )
            try:
                platform.execute("SET synchronous_commit = on")  # whatever the server's own setting is
                yield work
            except psycopg.DataError as error:
                raise ConfigurationError(
                    f"pruning of {source.name}: {error.diag.message_primary}; correct the legal hold or the row that "
                    "it speaks of"
                ) from None


@contextmanager
def _reader_coming() -> Iterator[Future[psycopg.Connection[Any]]]:
    """Open the connection that reads in another thread: it takes as long as looking the table up.

    Its result raises as ``database.maintenance_session`` does.
    """

    def reader() -> psycopg.Connection[Any]:
        connection = opened.enter_context(database.maintenance_session())
        rows.keep_memory(connection)
        return connection

    with ExitStack() as opened, ThreadPoolExecutor(1, "open") as thread:
        yield thread.submit(reader)


@contextmanager
def _scratch_folder(platform: psycopg.Connection[Any], table: str) -> Iterator[Path]:
    """A folder for the files in work. What killed attempts on the same table left goes first; the lock is held."""
    where = f"{platform.info.host}:{platform.info.port}/{platform.info.dbname} {table}"
    prefix = f"gold-escrow-archive-{hashlib.sha256(where.encode()).hexdigest()[:16]}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        yield Path(folder)


def _check_encoding(encoding: str | None, table: str) -> None:
    if encoding == "SQL_ASCII":
        raise ConfigurationError(
            f"the database of {table} has the encoding SQL_ASCII, whose texts cannot be archived exactly; convert it"
        )


def _older(work: Work, route: Route, held: tuple[LegalHold, ...]) -> dict[str, Any]:
    """What is past its retention in the tables that rows are deleted from one by one."""
    found = [rows.count(work.platform, source, held) for source in route.by_rows]
    return {
        "rows_older": sum(one["rows_older"] for one in found),
        "rows_older_is_exact": all(one["rows_older_is_exact"] for one in found),
        "rows_held": sum(one["rows_held"] for one in found),
        "rows_held_is_exact": all(one["rows_held_is_exact"] for one in found),
        "rows_free": sum(one["rows_free"] for one in found),
        "oldest": min((one["oldest"] for one in found if one["oldest"]), default=None),
        "newest": max((one["newest"] for one in found if one["newest"]), default=None),
    }


def _has_work(plan: dict[str, Any]) -> bool:
    return bool(plan.get("rows_free") or plan.get("partitions"))


def _nothing(rule: Prune, older: dict[str, Any], route: Route) -> str:
    if older["rows_held"]:
        many = str(older["rows_held"]) if older["rows_held_is_exact"] else f"more than {rows.COUNT_LIMIT}"
        return f"the {many} rows older than {rule.keep_days} days are all under a legal hold"
    if route.waiting:
        names = ", ".join(route.waiting)
        return f"rows older than {rule.keep_days} days, if any, wait until their partition is past as a whole: {names}"
    return f"no row is older than {rule.keep_days} days"


def _told(work: Work, reason: str) -> str:
    """A reason, and which partitions were gone whose archives were settled."""
    gone = f"{', '.join(sorted(set(work.gone)))} was gone: what had been archived of it is kept" if work.gone else ""
    return "; ".join(part for part in (reason, gone) if part)


def _apply(work: Work, action: actions.Action, route: Route, unproven: tuple[int, int]) -> actions.Action:
    """Move the partitions and the rows, and prove that they are gone from the table and in archives.

    ``unproven`` are the archives and their rows that went by runs before this one without a proof.
    """
    with database.errors_named(f"pruning of {action.resource}"):
        work.throttle.check()
        began = rows.snapshot(work.platform)
    moved = partitions.move_all(work, route)
    work.rows_expected = action.plan["rows_older"]
    for source in route.by_rows:
        moving.move(work, source)
    if work.ended_early and not work.failures:
        minutes = f"the {work.rule.longest_minutes:g} minutes of maintenance.prune.longest_minutes were over"
        return _postponed(work, action, minutes, {})
    held = work.holds()
    after = _older(work, route, held)
    with database.errors_named(f"pruning of {action.resource}"):  # also where there are too many to be counted
        left = after["rows_older"] > 0 and any(
            rows.read(work.platform, source, None, 1, held, began) for source in route.by_rows
        )
    files, archived = archives.deleted_since(work.warehouse, action.resource, action.planned_at)
    still = after["rows_free"]
    proof = {
        "rows_older_before": action.plan["rows_older"],
        "rows_older_before_is_exact": action.plan["rows_older_is_exact"],
        "rows_older_after": after["rows_older"],
        "rows_held": after["rows_held"],
        "rows_held_is_exact": after["rows_held_is_exact"],
        "rows_archived": archived,
        "rows_of_partitions": moved,
        "rows_changed_meanwhile": work.counts.stayed,
        "rows_deleted_by_others_meanwhile": work.counts.vanished,
        "archives": files,
        "transactions": sum(one.transactions for one in work.batches),
        "longest_transaction_milliseconds": round(max(one.longest_milliseconds for one in work.batches), 1),
    } | work.throttle.facts()
    if unproven[0]:
        proof |= {"archives_of_unproven_runs": unproven[0], "rows_of_unproven_runs": unproven[1]}
    arrived = _arrived(action, proof, moved)
    if arrived is not None:
        proof["rows_arrived_meanwhile"] = max(0, arrived)
    if failure := _failure(work, action.resource, left, arrived, still):
        actions.fail(action, failure, proof)
        raise MaintenanceFailed(failure)
    reason = f"{still} rows past their retention arrived meanwhile and wait for the next run" if still else ""
    return actions.prove(action, proof, _applied(work, files, archived), _told(work, reason))


def _failure(work: Work, table: str, left: bool, arrived: int | None, still: int) -> str:
    """Why an act is not proven; empty when it is."""
    if work.failures:
        return "; ".join(work.failures)
    if left:
        return f"rows of {table} past their retention from before this run are still there"
    if arrived is not None and arrived < 0:
        return f"{-arrived} rows of {table} past their retention vanished without being archived here"
    if arrived is not None and still > arrived:
        return f"{still} rows of {table} past their retention are still there"
    return ""


def _postponed(work: Work, action: actions.Action, why: str, more: dict[str, Any]) -> actions.Action:
    """Leave the rest to the next run: what is archived and deleted stays so. ``more`` is recorded of it as well."""
    assert work.source.cut_off is not None
    files, archived = archives.deleted_since(work.warehouse, action.resource, action.planned_at)
    held = work.holds()
    route = partitions.route(work, work.source.cut_off, held)
    after = _older(work, route, held)
    left = {
        "rows_older_after": after["rows_older"],
        "rows_older_after_is_exact": after["rows_older_is_exact"],
        "rows_held": after["rows_held"],
        "rows_of_partitions_left_estimated": route.facts().get("rows_of_partitions_estimated", 0),
    }
    reason = f"{why} with {archived} rows archived and deleted; the next run goes on from there"
    return actions.postpone(action, reason, _applied(work, files, archived) | left | more)


def _applied(work: Work, files: int, archived: int) -> dict[str, Any]:
    return {"rows_deleted": archived, "rows_deleted_by_this_attempt": work.counts.deleted, "archives": files}


def _arrived(action: actions.Action, proof: dict[str, Any], moved: int) -> int | None:
    """How many rows past their retention came meanwhile; negative when some are missing; None without an exact count.

    Whole partitions are not counted beforehand: their rows are those of their archives.
    """
    if not action.plan["rows_older_is_exact"] or action.plan.get("partitions"):
        return None
    return int(proof["rows_archived"] - moved + proof["rows_older_after"] - action.plan["rows_older"])


def _summary(action: actions.Action) -> dict[str, Any]:
    applied = action.applied or {}
    return action.summary() | {"rows": applied.get("rows_deleted", 0), "archives": applied.get("archives", 0)}
