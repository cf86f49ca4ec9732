"""Writes ``ops.archive`` and ``ops.detached_partition``: what left a table, into which file, how far.

All raise as ``session.errors_named`` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.outcome import MaintenanceFailed
from include.warehouse.session import errors_named
from include.warehouse.statements import columns, one_row, statements

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True)
class Archive:
    """One archive file. ``location`` is its name within the archive folder; times are aware datetimes in UTC."""

    archive_id: str
    source_table: str
    location: str
    row_count: int
    content_hash: str
    file_sha256: str
    first_created_at: datetime
    last_created_at: datetime
    state: str = "written"
    relation: str | None = None
    replaces: str | None = None
    chain_number: int | None = None
    manifest_sha256: str | None = None

    @property
    def manifest(self) -> str:
        """Name of its manifest within the archive folder."""
        return f"{self.location}.manifest.json"


@dataclass(frozen=True)
class Partition:
    """A partition that was recorded before it was detached; ``bound`` is its bound as SQL."""

    source_table: str
    partition: str
    bound: str
    state: str
    rows_archived: int | None


_STATEMENTS = statements(__file__, columns(Archive))


@errors_named()
def record_written(connection: psycopg.Connection[Any], archive: Archive) -> None:
    """Record an archive whose file is about to take its place."""
    connection.execute(_STATEMENTS["record_written"], vars(archive))


@errors_named()
def record_verified(connection: psycopg.Connection[Any], archive_id: str, number: int, manifest_sha256: str) -> None:
    """Record that the file was read back and equals the source rows, and its manifest's place in the chain."""
    _change(connection, "record_verified", archive_id, number=number, manifest=manifest_sha256)


@errors_named()
def record_deleted(connection: psycopg.Connection[Any], archive_id: str) -> None:
    """Record that the source rows are gone."""
    _change(connection, "record_deleted", archive_id)


@errors_named()
def record_replaced(connection: psycopg.Connection[Any], archive_id: str, replaced_id: str) -> None:
    """Record in one step that an archive's rows are gone and that the one it replaces does not count any more."""
    _change(connection, "record_replaced", archive_id, rows=2, replaced=replaced_id)


@errors_named()
def record_withdrawing(connection: psycopg.Connection[Any], archive_id: str) -> None:
    """Record that a verified archive does not count any more: its rows stay in their table, its file goes."""
    _change(connection, "record_withdrawing", archive_id)


@errors_named()
def record_withdrawn(connection: psycopg.Connection[Any], archive_id: str) -> None:
    """Record that the file of a withdrawn archive is gone; its manifest stays, as a link of the chain."""
    _change(connection, "record_withdrawn", archive_id)


@errors_named()
def forget(connection: psycopg.Connection[Any], archive_id: str) -> None:
    """Remove an archive that was not verified yet."""
    _change(connection, "forget", archive_id)


def _change(connection: psycopg.Connection[Any], statement: str, archive_id: str, rows: int = 1, **values: Any) -> None:
    """Raise MaintenanceFailed unless the statement changed exactly that many archives."""
    changed = connection.execute(_STATEMENTS[statement], {"id": archive_id} | values).rowcount
    if changed != rows:
        raise MaintenanceFailed(
            f"{archive_id} of ops.archive is not in a state that '{statement}' could change: somebody else changed it, "
            "or the warehouse was set back meanwhile; run again, which settles it"
        )


@errors_named()
def get(connection: psycopg.Connection[Any], archive_id: str) -> Archive | None:
    """Return one archive, or None."""
    row = connection.execute(_STATEMENTS["get"], {"id": archive_id}).fetchone()
    return Archive(*row) if row else None


@errors_named()
def unfinished(connection: psycopg.Connection[Any], source_table: str) -> list[Archive]:
    """Return the archives of a table that an earlier attempt did not finish, the oldest first."""
    return [Archive(*row) for row in connection.execute(_STATEMENTS["unfinished"], {"table": source_table})]


@errors_named()
def of_relation(connection: psycopg.Connection[Any], relation: str, *states: str) -> list[Archive]:
    """Return the archives of a table or partition that are in one of the states, the oldest first."""
    values = {"relation": relation, "states": list(states)}
    return [Archive(*row) for row in connection.execute(_STATEMENTS["of_relation"], values)]


@errors_named()
def chain(connection: psycopg.Connection[Any], source_table: str) -> list[Archive]:
    """Return the archives of a table that have a manifest, in the order of the chain."""
    return [Archive(*row) for row in connection.execute(_STATEMENTS["chain"], {"table": source_table})]


@errors_named()
def chain_end(connection: psycopg.Connection[Any], source_table: str) -> tuple[int, str | None]:
    """Return the number and SHA-256 of a table's newest manifest; (0, None) when it has none."""
    row = connection.execute(_STATEMENTS["chain_end"], {"table": source_table}).fetchone()
    return (row[0], row[1]) if row else (0, None)


@errors_named()
def deleted_since(connection: psycopg.Connection[Any], source_table: str, since: datetime) -> tuple[int, int]:
    """Return the number of archives, and of their rows, that were deleted from a table since an aware datetime."""
    count, rows = one_row(connection, _STATEMENTS["deleted_since"], {"table": source_table, "since": since})
    return count, rows


@errors_named()
def unproven(connection: psycopg.Connection[Any], source_table: str, before: datetime) -> tuple[int, int]:
    """Return the number of archives, and of their rows, that were deleted since the last proven act on a table.

    ``before`` is an aware datetime: what was deleted since then is not among them.
    """
    count, rows = one_row(connection, _STATEMENTS["unproven"], {"table": source_table, "before": before})
    return count, rows


# -------------------------------------------------------------------------------------------------- partitions
@errors_named()
def record_detaching(connection: psycopg.Connection[Any], source_table: str, partition: str, bound: str) -> None:
    """Record that a partition is about to be detached. Recording it again changes nothing."""
    values = {"table": source_table, "partition": partition, "bound": bound}
    connection.execute(_STATEMENTS["record_detaching"], values)


@errors_named()
def change_partition(
    connection: psycopg.Connection[Any], source_table: str, partition: str, state: str, rows: int | None = None
) -> None:
    """Record the next state of a recorded partition: archived, dropped or kept."""
    values = {"table": source_table, "partition": partition, "state": state, "rows": rows}
    connection.execute(_STATEMENTS["change_partition"], values)


@errors_named()
def open_partitions(connection: psycopg.Connection[Any], source_table: str) -> list[Partition]:
    """Return the partitions of a table that are on their way out, the oldest first."""
    return [Partition(*row) for row in connection.execute(_STATEMENTS["open_partitions"], {"table": source_table})]


@errors_named()
def restorable(connection: psycopg.Connection[Any], before: datetime) -> list[Archive]:
    """Return the archives made before an aware datetime whose rows are in no table any more, the oldest first."""
    return [Archive(*row) for row in connection.execute(_STATEMENTS["restorable"], {"before": before})]
