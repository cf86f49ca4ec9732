"""Whole partitions past their retention: detached, archived, dropped; and which rows are left to be deleted one by one.

A partition is recorded before it is detached, and every step can be repeated:

1. ``DETACH PARTITION … CONCURRENTLY`` (PostgreSQL 14 and newer), or DETACH with a short lock before; one that was
   interrupted is finalised;
2. a constraint that no row can meet, not validated: from here on nothing is added to the partition or updated in it;
3. all of its rows are archived and verified, and their number compared with the partition's;
4. it is dropped.

A partition with rows under a legal hold is not detached; one that comes under a hold after that is attached again. Its
other rows are deleted one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.maintenance.pruning import holds, manifests, moving, rows, settling, sources
from include.maintenance.pruning.archive_files import ArchiveDamaged
from include.maintenance.pruning.rows import Place
from include.maintenance.pruning.sources import Source
from include.maintenance.pruning.work import Waits, Work
from include.outcome import MaintenanceFailed
from include.platform import database
from include.platform.database import Table
from include.warehouse import archives
from include.warehouse.archives import Archive, Partition
from include.warehouse.statements import statements

if TYPE_CHECKING:
    from psycopg import sql

    from include.warehouse.legal_holds import LegalHold

_STATEMENTS = statements(__file__)
_CONCURRENTLY_SINCE = 140_000


@dataclass(frozen=True)
class Found:
    """A partition with rows past their retention; ``past`` when all of them are, ``rows`` is the planner's estimate.

    An ``endless`` one, up to MAXVALUE or infinity or the default partition, is never past as a whole.
    """

    table: Table
    bound: str
    pending: bool
    owned: bool
    rows: int
    past: bool
    endless: bool


@dataclass
class Route:
    """What goes as whole partitions and what row by row. ``reason`` says why not more goes as partitions."""

    by_rows: list[Source]
    partitions: list[Found] = field(default_factory=list)
    open: list[Partition] = field(default_factory=list)
    reason: str = ""
    waiting: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """What the plan says of it; nothing for a table without partitions."""
        found: dict[str, Any] = {}
        if self.partitions or self.open:
            found["partitions"] = [one.table.name for one in self.partitions] + [one.partition for one in self.open]
            found["rows_of_partitions_estimated"] = sum(one.rows for one in self.partitions)
        if self.waiting:
            found["partitions_not_past_as_a_whole"] = self.waiting
        return found | ({"not_by_partitions": self.reason} if self.reason else {})


def is_of(archive: Archive, on_their_way: list[Partition]) -> bool:
    """Whether an archive belongs to a partition that is on its way out."""
    return archive.relation in {one.partition for one in on_their_way}


# -------------------------------------------------------------------------------------------------------- route
def route(work: Work, cut_off: datetime, held: tuple[LegalHold, ...]) -> Route:
    """Decide what goes as whole partitions. Nothing is changed."""
    source = work.source
    with database.errors_named(f"pruning of {source.name}"):
        values = {"oid": source.table.oid, "time": source.time_column, "cut_off": cut_off}
        row = work.platform.execute(_STATEMENTS["partitioned"], values).fetchone()
        if row is None:
            return Route([source])
        by_time, has_default, owned, owner = row
        on_their_way = archives.open_partitions(work.warehouse, source.name)
        reason = ""
        if not by_time:
            reason = f"{source.name} is not partitioned by ranges of {source.time_column} alone"
        elif has_default and _concurrently(work):
            reason = f"{source.name} has a default partition, with which PostgreSQL detaches none concurrently"
        elif not owned:
            reason = f"only the owner of {source.name} may detach partitions; GRANT {owner} to the maintaining role"
        if reason:
            return Route([source], open=on_their_way, reason=reason)
        found = [Found(Table(*row[:4]), *row[4:]) for row in work.platform.execute(_STATEMENTS["partitions"], values)]
        if not all(one.owned for one in found):
            return Route([source], open=on_their_way, reason=f"a partition of {source.name} has another owner")
        return _sorted_out(work, found, on_their_way, cut_off, held)


def _sorted_out(
    work: Work, found: list[Found], on_their_way: list[Partition], cut_off: datetime, held: tuple[LegalHold, ...]
) -> Route:
    chosen, waiting, kept = Route([], open=on_their_way), [], []
    known = {one.partition for one in on_their_way}
    for one in found:
        if one.table.name in known:
            continue
        if one.pending:
            chosen.partitions.append(one)
        elif one.endless:
            kept.append(one)
        elif not one.past:
            waiting.append(one)
        elif _is_so(work, "infinite", one.table, held) or (held and _is_so(work, "held", one.table, held)):
            kept.append(one)
        else:
            chosen.partitions.append(one)
    if work.rule.whole_partitions:
        chosen.waiting = [one.table.name for one in waiting]
    else:
        kept += waiting
    if any(one.past for one in kept):
        names = ", ".join(one.table.name for one in kept if one.past)
        chosen.reason = f"{names} has rows under a legal hold or without a finite time and stays"
    chosen.by_rows = [work.source.on(one.table, cut_off) for one in kept]
    return chosen


def _concurrently(work: Work) -> bool:
    return database.server_version(work.platform) >= _CONCURRENTLY_SINCE


def _is_so(work: Work, statement: str, table: Table, held: tuple[LegalHold, ...]) -> bool:
    row = work.platform.execute(_composed(work, statement, table, held), {}).fetchone()
    return bool(row and row[0])


def _composed(work: Work, statement: str, table: Table, held: tuple[LegalHold, ...] = ()) -> sql.Composed:
    from psycopg import sql

    source = work.source
    is_held = holds.condition(held, source.time_column, source.time_type, source.key_column, source.key_type)
    return sql.SQL(_STATEMENTS[statement]).format(
        table=table.identifier, time=sql.Identifier(source.time_column), held=is_held
    )


# --------------------------------------------------------------------------------------------------------- move
def move_all(work: Work, chosen: Route) -> int:
    """Detach, archive and drop the partitions; return how many rows they had.

    Raises MaintenanceFailed when one cannot be detached or dropped now; it is recorded, and the next attempt goes on.
    One that waits for a person is told in ``work.failures`` and keeps no other from its turn.
    """
    moved = 0
    for one in chosen.partitions:
        if one.pending and not one.past:  # somebody else's, interrupted: it blocks every other one
            _detach(work, one.table)
            continue
        archives.record_detaching(work.warehouse, work.source.name, one.table.name, one.bound)
    for record in archives.open_partitions(work.warehouse, work.source.name):
        if work.out_of_time():
            break
        try:
            moved += _move(work, record)
        except Waits as error:
            work.failures.append(str(error))
    return moved


def _move(work: Work, record: Partition) -> int:
    name = record.partition
    for archive in archives.of_relation(work.warehouse, name, "written", "withdrawing"):
        (settling.take_back if archive.state == "written" else moving.withdraw)(work, archive)
    with database.errors_named(f"pruning of {name}"):
        oid, attached, pending = _state(work, name)
        if oid is None:
            return _gone(work, record)
        if attached and not pending and not _still_past(work, record):
            archives.change_partition(work.warehouse, record.source_table, name, "kept")
            return 0
        table = database.table_of(work.platform, name)
        if pending:
            _detach(work, table)
            attached = False
        if _is_held(work, table, work.holds()):
            return _keep(work, record, table, attached)
    if attached:
        _detach(work, table)
    _freeze(work, table)
    count = _archive(work, table)
    if count is None:
        return 0
    archives.change_partition(work.warehouse, work.source.name, name, "archived", count)
    with database.errors_named(f"pruning of {name}"):
        if not _drop(work, table):
            return _keep(work, record, table, attached=False)
    return _gone(work, Partition(work.source.name, name, record.bound, "archived", count))


def _is_held(work: Work, table: Table, held: tuple[LegalHold, ...]) -> bool:
    """Whether rows of a partition are under a hold. Raises Waits where it lacks the column that a hold names."""
    import psycopg

    try:
        return bool(held) and _is_so(work, "held", table, held)
    except psycopg.errors.UndefinedColumn as error:
        raise Waits(
            f"the partition {table.name} waits detached and cannot be asked about a legal hold on {work.source.name} "
            f"({error.diag.message_primary}); all of it is kept, detached: make it fit, and run it again"
        ) from None


def _still_past(work: Work, record: Partition) -> bool:
    """Whether a partition that an earlier attempt could not detach has the same bound and is past as a whole today."""
    values = {"oid": work.source.table.oid, "cut_off": work.source.cut_off}
    found = [Found(Table(*row[:4]), *row[4:]) for row in work.platform.execute(_STATEMENTS["partitions"], values)]
    return any((one.table.name, one.bound, one.past) == (record.partition, record.bound, True) for one in found)


def _state(work: Work, name: str) -> tuple[int | None, bool, bool]:
    values = {"name": name, "parent": work.source.table.oid}
    row = work.platform.execute(_STATEMENTS["state"], values).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


def _detach(work: Work, table: Table) -> None:
    """Detach a partition, or finish what was begun. It is out of the table when this returns."""
    from psycopg import errors, sql

    parent = work.source.table.identifier
    _, attached, pending = _state(work, table.name)
    if not attached:
        return
    how = "FINALIZE" if pending else "CONCURRENTLY" if _concurrently(work) else ""
    statement = sql.SQL("ALTER TABLE {} DETACH PARTITION {} {}").format(parent, table.identifier, sql.SQL(how))
    with database.errors_named(f"detaching of {table.name}"):
        try:
            work.platform.execute(statement)
        except (errors.LockNotAvailable, errors.QueryCanceled):
            _, attached, pending = _state(work, table.name)
            gone = "its rows are out of the table's queries already, nothing is lost"
            state = gone if pending else "nothing was changed"
            raise MaintenanceFailed(
                f"the partition {table.name} could not be detached: another session uses {work.source.name} for longer "
                f"than maintenance waits; {state}, the next attempt goes on from there"
            ) from None


def _freeze(work: Work, table: Table) -> None:
    """Let nothing be added to a detached partition or changed in it."""
    from psycopg import sql

    with database.errors_named(f"archiving of {table.name}"):
        row = work.platform.execute(_STATEMENTS["frozen"], {"oid": table.oid}).fetchone()
        if row and not row[0]:
            statement = "ALTER TABLE {} ADD CONSTRAINT being_archived CHECK (false) NOT VALID"
            work.platform.execute(sql.SQL(statement).format(table.identifier))


def _archive(work: Work, table: Table) -> int | None:
    """Archive the rows of a detached partition, from where an earlier attempt ended; return how many there are.

    Returns None when the time was up before the last of them.
    """
    with database.errors_named(f"archiving of {table.name}"):
        source = sources.of_partition(work.platform, work.source, table)
    found = settling.archived_earlier(work, source)
    count = sum(one.row_count for one in found)
    after = _end_of(work, max(found, key=lambda one: one.chain_number or 0)) if found else None
    for chunk in moving.chunks(work, source, False, after):
        if work.out_of_time():
            return None
        count += moving.archive(work, chunk).row_count
    with database.errors_named(f"archiving of {table.name}"):
        row = work.platform.execute(_composed(work, "count", table)).fetchone()
    if row != (count,):
        raise Waits(
            f"the partition {table.name} has {row[0] if row else 0} rows but its archives have {count}; it was "
            f"not dropped, compare them, and then {settling.BEGIN_ANEW}"
        )
    return count


def _manifest(work: Work, archive: Archive) -> dict[str, Any]:
    try:
        return manifests.recorded(work.store, archive)
    except ArchiveDamaged as error:
        raise Waits(
            f"{error}; bring it back from a copy and run again, the partition {archive.relation} waits for it"
        ) from None


def _end_of(work: Work, archive: Archive) -> Place:
    """The place of an archive's last row, from its manifest."""
    manifest = _manifest(work, archive)
    return Place(manifest["last_time"], manifest["last_key"])


def _drop(work: Work, table: Table) -> bool:
    """Drop an archived partition. False where rows of it have come under a legal hold; nothing is changed then."""
    import psycopg
    from psycopg import sql

    found = [_manifest(work, one) for one in archives.of_relation(work.warehouse, table.name, "verified")]
    try:
        with work.platform.transaction():
            work.platform.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table.identifier))
            held: tuple[LegalHold, ...] | None = None
            while held != (held := work.holds()):  # another may come while the rows are looked at
                if _is_held(work, table, held):
                    return False
            for manifest in found:
                rows.check_columns(work.platform, table, [column["name"] for column in manifest["columns"]])
            work.platform.execute(sql.SQL("DROP TABLE {}").format(table.identifier))
            return True
    except psycopg.errors.DependentObjectsStillExist as error:
        raise MaintenanceFailed(
            f"the partition {table.name} is archived but other objects depend on it ({error.diag.message_detail}); "
            "drop those first"
        ) from None


def _gone(work: Work, record: Partition) -> int:
    """Record that a partition is no more."""
    if record.state == "archived":
        count = 0
        for archive in archives.of_relation(work.warehouse, record.partition, "verified"):
            archives.record_deleted(work.warehouse, archive.archive_id)
            count += archive.row_count
        archives.change_partition(work.warehouse, record.source_table, record.partition, "dropped")
        return count
    for archive in archives.of_relation(work.warehouse, record.partition, "verified"):
        archives.record_deleted(work.warehouse, archive.archive_id)  # what was archived of it is kept
    archives.change_partition(work.warehouse, record.source_table, record.partition, "kept")
    raise MaintenanceFailed(
        f"the partition {record.partition} of {record.source_table} vanished before all of it was archived; somebody "
        "else dropped or renamed it"
    )


def _attach(work: Work, record: Partition, table: Table) -> bool:
    """Attach a partition again. False where it does not fit any more: the act fails for it, after all others."""
    from psycopg import errors, sql

    try:
        with work.platform.transaction():
            work.platform.execute(
                sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS being_archived").format(table.identifier)
            )
            work.platform.execute(
                sql.SQL("ALTER TABLE {} ATTACH PARTITION {} {}").format(
                    work.source.table.identifier,
                    table.identifier,
                    sql.SQL(record.bound),
                )
            )
    except (errors.DatatypeMismatch, errors.InvalidObjectDefinition) as error:
        work.failures.append(
            f"the partition {table.name} has rows under a legal hold but cannot be attached to {work.source.name} "
            f"again ({error.diag.message_primary}); all of it is kept, detached: make it fit, and run it again"
        )
        return False
    return True


def _keep(work: Work, record: Partition, table: Table, attached: bool) -> int:
    """Attach a partition again that has come under a legal hold, and delete its other rows one by one."""
    if not attached and not _attach(work, record, table):
        return 0
    for archive in archives.of_relation(work.warehouse, table.name, "verified"):
        archives.record_withdrawing(work.warehouse, archive.archive_id)
        moving.withdraw(work, archive)
    archives.change_partition(work.warehouse, record.source_table, record.partition, "kept")
    before = archives.of_relation(work.warehouse, table.name, "deleted")
    moving.move_compared(work, work.source.on(table, work.source.cut_off))
    after = archives.of_relation(work.warehouse, table.name, "deleted")
    return sum(one.row_count for one in after) - sum(one.row_count for one in before)
