"""Writes ``ops.platform_snapshot`` and its tables: the platform's database at one moment, to compare with later."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from include.outcome import ConfigurationError
from include.warehouse import session
from include.warehouse.statements import columns, one_row, statements

SHORTEST_INTERVAL = timedelta(hours=20)
"""Between two readings that give a rate: below that it says more about the hour than about the month."""


@dataclass(frozen=True)
class Snapshot:
    """One moment of the platform's database; times are aware datetimes in UTC.

    ``next_transaction`` carries its epoch and only grows, ``next_multixact`` has 32 bits. ``unreadable`` holds each
    kind of definition that the role could not read, with the grant that would let it.
    """

    platform_snapshot_id: int
    run_id: str
    month: str
    taken_at: datetime
    database_name: str
    server_version: int
    system_identifier: int | None
    next_transaction: int
    next_multixact: int
    counters_since: datetime | None
    unreadable: dict[str, str]


@dataclass(frozen=True)
class TableSize:
    """Size and counters of a table; rows are None when the server never counted them."""

    table_name: str
    bytes: int
    estimated_rows: int | None
    rows_inserted: int
    rows_updated: int
    rows_deleted: int


@dataclass(frozen=True)
class Definition:
    """How one thing was defined."""

    kind: str
    name: str
    definition: str


@dataclass(frozen=True)
class Change:
    """A definition that differs between two snapshots; None where it does not exist."""

    kind: str
    name: str
    before: str | None
    after: str | None


_STATEMENTS = statements(__file__, columns(Snapshot, "s"))


def record(facts: dict[str, Any], tables: list[TableSize], definitions: list[Definition]) -> Snapshot:
    """Write a snapshot in one transaction; a run that has one keeps it. Returns the run's snapshot.

    ``facts`` are the columns of ``ops.platform_snapshot``. Raises as ``session.transaction`` does.
    """
    with session.transaction() as connection:
        row = connection.execute(
            _STATEMENTS["record"], facts | {"unreadable": json.dumps(facts["unreadable"])}
        ).fetchone()
        if row is not None:
            with (
                connection.cursor() as cursor,
                cursor.copy(
                    "COPY ops.platform_table (platform_snapshot_id, table_name, bytes, estimated_rows, rows_inserted,"
                    " rows_updated, rows_deleted) FROM STDIN"
                ) as copy,
            ):
                for table in tables:
                    copy.write_row((row[0], *vars(table).values()))
            with (
                connection.cursor() as cursor,
                cursor.copy(
                    "COPY ops.platform_definition (platform_snapshot_id, kind, name, definition) FROM STDIN"
                ) as copy,
            ):
                for definition in definitions:
                    copy.write_row((row[0], *vars(definition).values()))
    found = of_run(facts["run_id"])
    assert found is not None
    return found


def of_run(run_id: str) -> Snapshot | None:
    """Return the snapshot that a run has taken, or None. Raises as ``session.transaction`` does."""
    found = _snapshots("of_run", {"run_id": run_id})
    return found[0] if found else None


def required(run_id: str) -> Snapshot:
    """Return the snapshot that a run has taken. Raises ConfigurationError when it has none.

    Otherwise raises as ``session.transaction`` does.
    """
    if (found := of_run(run_id)) is None:
        raise ConfigurationError(f"the run {run_id} has no row in ops.platform_snapshot; clear its task take_snapshot")
    return found


def up_to(snapshot: Snapshot, days: int) -> list[Snapshot]:
    """Return the snapshots of the same database in the ``days`` up to this one, the oldest first, this one last.

    Raises as ``session.transaction`` does.
    """
    return _snapshots("up_to", {"id": snapshot.platform_snapshot_id, "days": days})


def to_compare_with(snapshot: Snapshot) -> Snapshot | None:
    """Return the first snapshot of the newest earlier month, else the first of this month before this one, else None.

    The first and not the last: there are weekly ones too, and a month's changes count from its beginning. Raises as
    ``session.transaction`` does.
    """
    found = _snapshots("to_compare_with", {"id": snapshot.platform_snapshot_id})
    return found[0] if found else None


def changes(before: Snapshot, after: Snapshot) -> list[Change]:
    """Return what was added, removed or changed between two snapshots, by kind and name.

    Raises as ``session.transaction`` does.
    """
    values = {"before": before.platform_snapshot_id, "after": after.platform_snapshot_id}
    with session.transaction() as connection:
        return [Change(*row) for row in connection.execute(_STATEMENTS["changes"], values)]


def number_of_definitions(snapshot: Snapshot) -> dict[str, int]:
    """Return how many definitions of each kind a snapshot holds. Raises as ``session.transaction`` does."""
    with session.transaction() as connection:
        found = connection.execute(_STATEMENTS["number_of_definitions"], {"id": snapshot.platform_snapshot_id})
        return {str(kind): int(count) for kind, count in found}


def table_sizes(snapshot: Snapshot) -> dict[str, TableSize]:
    """Return the tables of a snapshot by name. Raises as ``session.transaction`` does."""
    with session.transaction() as connection:
        found = connection.execute(_STATEMENTS["table_sizes"], {"id": snapshot.platform_snapshot_id})
        return {row[0]: TableSize(*row) for row in found}


def old(before: datetime) -> int:
    """Return how many snapshots were taken before a time (aware) and are not the newest of their database.

    Raises as ``session.transaction`` does.
    """
    return _counted("old", before)


def with_old_definitions(before: datetime) -> int:
    """Return how many snapshots of before a time (aware) hold definitions that none is compared with any more.

    Those of the two newest months of a database are compared. Raises as ``session.transaction`` does.
    """
    return _counted("old_definitions", before)


def forget(before: datetime, definitions_before: datetime) -> tuple[int, int]:
    """Remove what ``old`` and ``with_old_definitions`` count; return the numbers of snapshots and of definitions.

    Raises as ``session.transaction`` does.
    """
    with session.transaction() as connection:
        snapshots = connection.execute(_STATEMENTS["forget"], {"before": before}).rowcount
        definitions = connection.execute(_STATEMENTS["forget_definitions"], {"before": definitions_before}).rowcount
    return snapshots, definitions


def _counted(statement: str, before: datetime) -> int:
    with session.transaction() as connection:
        [count] = one_row(connection, _STATEMENTS[statement], {"before": before})
    return int(count)


def _snapshots(statement: str, values: dict[str, Any]) -> list[Snapshot]:
    with session.transaction() as connection:
        return [Snapshot(*row) for row in connection.execute(_STATEMENTS[statement], values)]
