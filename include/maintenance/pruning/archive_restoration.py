"""Restores archives to a scratch server and compares what came back with what was recorded when they were written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.maintenance.pruning import archive_files, manifests, restore
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import database, folders
from include.platform.scratch_server import ScratchServer

if TYPE_CHECKING:
    from include.warehouse.archives import Archive

SCHEMA = "gold_escrow_archives"
"""Schema of the scratch database that archives are restored to, one table for each: columns may have changed."""


@dataclass(frozen=True)
class Restoration:
    """How the restoration of one archive went: ``problem`` is empty when it came back exactly.

    ``unknown`` tells that the problem says nothing of the archive: it could not be tried. ``as_text`` are the types
    that the database lacks, whose values were compared as text.
    """

    archive: Archive
    seconds: float
    problem: str = ""
    unknown: bool = False
    as_text: tuple[str, ...] = ()


def restore_all(
    server: ScratchServer,
    name: str,
    archives: Sequence[Archive],
    *,
    keep: bool = True,
    unknown_as_text: bool = False,
) -> Iterator[Restoration]:
    """Restore archives to the database ``name`` of a scratch server, one after the other, and compare each.

    Unless they are to be kept, a table is dropped when it was compared. ``unknown_as_text`` as ``restore.into`` takes
    it, for a database that is not the platform's. Raises SourceUnavailable when the storage cannot be reached.
    """
    from psycopg import sql

    with server.connect(name) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
        for number, archive in enumerate(archives, start=1):
            target = f"{SCHEMA}.archive_{number}"
            begun = time.monotonic()
            problem, unknown, as_text = "", False, ()
            try:
                with _errors_named(archive):
                    if archive.manifest_sha256 is None:
                        raise ConfigurationError(
                            f"{archive.archive_id} was written before archives had manifests; restore it with that "
                            "release"
                        )
                    manifests.recorded(folders.open_folder(archive_files.CONNECTION), archive)
                    done = restore.into(connection, archive, target, unknown_as_text=unknown_as_text)
                    as_text = tuple(done.get("as_text", ()))
            except MaintenanceFailed as error:
                problem = str(error)
            except ConfigurationError as error:
                problem, unknown = str(error), True
            yield Restoration(archive, round(time.monotonic() - begun, 3), problem, unknown, as_text)
            if not keep:
                connection.execute(f"DROP TABLE IF EXISTS {target}".encode())


@contextmanager
def _errors_named(archive: Archive) -> Iterator[None]:
    with database.errors_named(f"restore of {archive.archive_id} to a scratch server", "the scratch server"):
        yield


def summary(found: Sequence[Restoration]) -> dict[str, Any]:
    """Return the numbers of files and rows that came back exactly, and the seconds that all took."""
    back = [one for one in found if not one.problem]
    return {
        "files": len(back),
        "rows": sum(one.archive.row_count for one in back),
        "seconds": round(sum(one.seconds for one in found), 3),
    }
