"""Restores archives to a scratch server and compares what came back with what was recorded when they were written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.maintenance.pruning import archive_files, manifests, restore
from include.maintenance.pruning.restore import AsText
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import database, folders
from include.platform.scratch_server import ScratchServer

if TYPE_CHECKING:
    import psycopg

    from include.warehouse.archives import Archive

SCHEMA = "gold_escrow_archives"
"""Schema of the scratch database that archives are restored to, one table for each: columns may have changed."""


@dataclass(frozen=True)
class Restoration:
    """How the restoration of one archive went: ``problem`` is empty when it came back exactly.

    ``unknown`` tells that the problem says nothing of the archive: it could not be tried. ``as_text`` are the types
    whose values were compared as text: the database lacks them, or they refuse what they once took.
    """

    archive: Archive
    seconds: float
    problem: str = ""
    unknown: bool = False
    as_text: tuple[str, ...] = ()


def restore_all(server: ScratchServer, name: str, archives: Sequence[Archive]) -> Iterator[Restoration]:
    """Restore archives to the database ``name`` of a scratch server, one after the other, and compare each.

    The table is dropped when it was compared: the disk needs room for one at a time. Types of long ago are no fault of
    an archive: what they would refuse is compared as text. Raises SourceUnavailable when the storage cannot be reached.
    """
    from psycopg import sql

    with server.connect(name) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
        for number, archive in enumerate(archives, start=1):
            target = f"{SCHEMA}.archive_{number}"
            begun = time.monotonic()
            problem, unknown = "", False
            as_text: tuple[str, ...] = ()
            try:
                with _errors_named(archive):
                    if archive.manifest_sha256 is None:
                        raise ConfigurationError(
                            f"{archive.archive_id} was written before archives had manifests; restore it with that "
                            "release"
                        )
                    manifests.recorded(folders.open_folder(archive_files.CONNECTION), archive)
                    as_text = _restore(connection, archive, target)
            except MaintenanceFailed as error:
                problem = str(error)
            except ConfigurationError as error:
                problem, unknown = str(error), True
            seconds = round(time.monotonic() - begun, 3)
            connection.execute(f"DROP TABLE IF EXISTS {target}".encode())
            yield Restoration(archive, seconds, problem, unknown, as_text)


def _restore(connection: psycopg.Connection[Any], archive: Archive, target: str) -> tuple[str, ...]:
    """Restore an archive with the types that there are, or else as text; return the types that became text."""
    import psycopg

    try:
        done = restore.into(connection, archive, target, AsText.UNKNOWN)
    except (psycopg.OperationalError, archive_files.ArchiveDamaged):  # types have no part in that
        raise
    except (psycopg.Error, MaintenanceFailed):  # a type refuses a value, or writes it otherwise
        done = restore.into(connection, archive, target, AsText.OWN)
    return tuple(done.get("as_text", ()))


@contextmanager
def _errors_named(archive: Archive) -> Iterator[None]:
    import psycopg

    what = f"restore of {archive.archive_id} to a scratch server"
    with database.errors_named(what, "the scratch server"):
        try:
            yield
        except psycopg.DataError as error:
            raise MaintenanceFailed(f"{what}: {error.diag.message_primary}") from None


def summary(found: Sequence[Restoration]) -> dict[str, Any]:
    """Return the numbers of files and rows that came back exactly, and the seconds that all took."""
    back = [one for one in found if not one.problem]
    return {
        "files": len(back),
        "rows": sum(one.archive.row_count for one in back),
        "seconds": round(sum(one.seconds for one in found), 3),
    }
