"""Writes ``ops.archive``: which rows were moved out of a table, into which file, and how far that went."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.outcome import ConfigurationError, SourceUnavailable

if TYPE_CHECKING:
    import psycopg

_COLUMNS = (
    "archive_id, source_table, location, row_count, content_hash, file_sha256, first_created_at, last_created_at, state"
)


@contextmanager
def _errors_named() -> Iterator[None]:
    import psycopg

    try:
        yield
    except psycopg.OperationalError:
        raise SourceUnavailable("the connection to the warehouse was lost") from None
    except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
        raise ConfigurationError("the warehouse lacks ops.archive or its grants; run the migrations") from None


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


@_errors_named()
def record_written(connection: psycopg.Connection[Any], archive: Archive) -> None:
    """Record an archive whose file is about to take its place. Recording the same one again changes nothing."""
    connection.execute(
        """
        INSERT INTO ops.archive (archive_id, source_table, location, row_count, content_hash, file_sha256,
                                 first_created_at, last_created_at, state)
        VALUES (%(archive_id)s, %(source_table)s, %(location)s, %(row_count)s, %(content_hash)s, %(file_sha256)s,
                %(first_created_at)s, %(last_created_at)s, 'written')
        ON CONFLICT (archive_id) DO UPDATE SET file_sha256 = excluded.file_sha256 WHERE archive.state = 'written'
        """,
        vars(archive),
    )


@_errors_named()
def record_verified(connection: psycopg.Connection[Any], archive_id: str) -> None:
    """Record that the file was read back and equals the source rows."""
    connection.execute(
        "UPDATE ops.archive SET state = 'verified' WHERE archive_id = %s AND state = 'written'", (archive_id,)
    )


@_errors_named()
def record_deleted(connection: psycopg.Connection[Any], archive_id: str) -> None:
    """Record that the source rows are gone."""
    connection.execute(
        "UPDATE ops.archive SET state = 'deleted', deleted_at = clock_timestamp()"
        " WHERE archive_id = %s AND state = 'verified'",
        (archive_id,),
    )


@_errors_named()
def forget(connection: psycopg.Connection[Any], archive_id: str) -> None:
    """Remove an archive whose rows were never deleted from their table; a deleted one stays."""
    connection.execute("DELETE FROM ops.archive WHERE archive_id = %s AND state <> 'deleted'", (archive_id,))


@_errors_named()
def get(connection: psycopg.Connection[Any], archive_id: str) -> Archive | None:
    """Return one archive, or None."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM ops.archive WHERE archive_id = %s",  # noqa: S608 - a constant
        (archive_id,),
    ).fetchone()
    return Archive(*row) if row else None


@_errors_named()
def unfinished(connection: psycopg.Connection[Any], source_table: str) -> list[Archive]:
    """Return the archives of a table whose rows may still be in it, the oldest first."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM ops.archive WHERE source_table = %s AND state <> 'deleted'"  # noqa: S608 - a constant
        " ORDER BY first_created_at, archive_id",
        (source_table,),
    )
    return [Archive(*row) for row in found]


@_errors_named()
def deleted_since(connection: psycopg.Connection[Any], source_table: str, since: datetime) -> tuple[int, int]:
    """Return the number of archives, and of their rows, that were deleted from a table since an aware datetime."""
    row = connection.execute(
        "SELECT count(*), coalesce(sum(row_count), 0)::bigint FROM ops.archive"
        " WHERE source_table = %s AND state = 'deleted' AND deleted_at >= %s",
        (source_table, since),
    ).fetchone()
    assert row is not None
    return row[0], row[1]
