"""The two looks at a database around a base backup of it, which is of no moment that a snapshot could have.

Between them tables may come, go and be changed as ever: nobody waits for a look longer than one table is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.platform import backup_facts
from include.platform.backup_facts import CountedTable, Facts, SnapshotFacts, TableFacts

if TYPE_CHECKING:
    import psycopg

_READ_AGAIN = 5  # times: one partition after another may be dropped just then


def look(
    connection: psycopg.Connection[Any], *, done: bool = False
) -> tuple[SnapshotFacts, dict[str, TableFacts], list[str]]:
    """Read the facts and count the rows that a base backup has: those of unlogged tables are not in it.

    Return also the names of tables that were gone before they were counted. A backup that is ``done`` is not lost for
    a setting that does not fit its tables any more: else that raises ConfigurationError. Raises psycopg.Error.
    """
    listed, seen = _read(connection, strict=not done)
    logged = [table for table in listed if not table.unlogged]
    counts = _count(connection, logged, seen.snapshot_at)
    return seen, counts, [table.name for table in logged if table.name not in counts]


def _read(connection: psycopg.Connection[Any], *, strict: bool) -> tuple[list[CountedTable], SnapshotFacts]:
    """Read what tables there are, and the schema; again when something was dropped while its definition was read."""
    from psycopg import errors

    def read() -> tuple[list[CountedTable], SnapshotFacts]:
        with connection.transaction():
            return backup_facts.tables_of(connection, strict=strict), backup_facts.read_snapshot(connection)

    for _ in range(_READ_AGAIN):
        with suppress(errors.InternalError_, errors.UndefinedTable):
            return read()
    return read()


def _count(
    connection: psycopg.Connection[Any], tables: Sequence[CountedTable], snapshot_at: datetime
) -> dict[str, TableFacts]:
    """Count each table in a transaction of its own, but those that are gone.

    The counters of before the first look and after the second tell what came and went, whenever it was counted. Of a
    table whose columns of times were changed since it was listed only the rows are counted.
    """
    from psycopg import errors

    changed = (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName, errors.CannotCoerce)
    found: dict[str, TableFacts] = {}
    for table in tables:
        for one in (table, replace(table, time_columns=())):
            with suppress(*changed), connection.transaction():
                found |= backup_facts.count(connection, [one], snapshot_at)
                break
    return found


def joined(facts: Facts, later: SnapshotFacts, counts: dict[str, TableFacts], uncounted: Iterable[str]) -> Facts:
    """Return the facts of the first look with what the second found, and what was changed between them."""
    first = {one[:2] for one in facts.catalog} - set(facts.changed_meanwhile) | set(facts.there_throughout)
    last = {one[:2] for one in later.catalog}
    changed = {one[:2] for one in set(facts.catalog) ^ set(later.catalog)} | set(facts.changed_meanwhile)
    changed |= {("table", name) for name in uncounted}
    return replace(
        facts, tables=counts, catalog=later.catalog, finished_at=datetime.now(UTC),
        kinds=list(backup_facts.ADDED_KINDS), changed_meanwhile=sorted(changed),
        there_throughout=sorted(changed & first & last),
    )  # fmt: skip
