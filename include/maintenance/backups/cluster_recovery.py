"""Starts a restored cluster: it recovers to the end of its backup, is looked at there, and replays the archived WAL.

The facts of a backup are about its end. Rows and schema that came later with the WAL are no differences, so they are
compared before the rest of the WAL is replayed.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

from include.maintenance.backups import backup_checks
from include.maintenance.backups.backup_checks import Result, passed, unknown
from include.outcome import MaintenanceFailed
from include.platform import backup_facts
from include.platform.backup_facts import Facts
from include.platform.backup_restore import AtBackup, Restored
from include.platform.backups import Backup
from include.platform.scratch_server import ScratchServer
from include.sections import BackupSource
from include.settings import settings

if TYPE_CHECKING:
    from collections.abc import Mapping

_TO_THE_END_OF_THE_BACKUP = {
    "recovery_target": "immediate",
    "recovery_target_action": "pause",
    "hot_standby": "on",
}


def start(
    server: ScratchServer, backup: Backup, rule: BackupSource, given: Mapping[str, str], *, durable: bool = False
) -> tuple[Restored, Result]:
    """Start a restored cluster with the settings it recovers with; return its database to check, and the stage.

    ``durable`` as ``ScratchServer.start`` takes it.

    With recorded facts and WAL to replay it is started twice, first to be compared at the end of the backup: what the
    stage took for that stands in ``compared_seconds``. The stage is unknown when the cluster could not stop there.
    Raises MaintenanceFailed (it did not start, or the database did not come back) or ConfigurationError.
    """
    facts = backup.facts
    server.superuser = facts.roles[0] if facts and facts.roles else rule.superuser
    wait = max(60.0, 2 * 60 * settings().backups.recovery_time_minutes)
    at_backup, seconds, first_end, stopped = None, 0.0, None, True
    if given and facts is not None:
        server.start({**given, **_TO_THE_END_OF_THE_BACKUP}, durable=durable, ready_within_seconds=wait)
        first_end, stopped = _replayed(server)
        if stopped:
            begun = time.monotonic()
            at_backup = _look(server, facts)
            server.stop()
            seconds = time.monotonic() - begun
    if not server.running:
        server.start(given, durable=durable, ready_within_seconds=wait)
    wanted, names = _databases(server, facts)
    last_end = _replayed(server)[0] if given else None
    restored = Restored(server, wanted, names, at_backup=at_backup, replayed_to=last_end or first_end)
    detail = {"database": wanted, "databases": names, "removed_settings": server.removed_settings}
    if not stopped:
        return restored, unknown(
            "the cluster could not be read where its backup ends, because a transaction with many savepoints was open "
            "then, so the WAL after it was not replayed; take another backup",
            **detail,
        )
    if at_backup is None:
        return restored, passed(**detail)
    return restored, passed(**detail, replayed_to=restored.replayed_to, compared_seconds=round(seconds, 3))


def _databases(server: ScratchServer, facts: Facts | None) -> tuple[str, list[str]]:
    """The database to check, by default the largest, and all that came back. Raises MaintenanceFailed."""
    with server.connect("template1") as connection:
        rows = connection.execute(
            "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate"
            " ORDER BY pg_database_size(oid) DESC"
        ).fetchall()
    names = [name for (name,) in rows]
    wanted = str(facts.database["datname"]) if facts else names[0]
    if wanted not in names:
        raise MaintenanceFailed(f"the database {wanted} did not come back; there are {', '.join(names)}")
    return wanted, names


def _look(server: ScratchServer, facts: Facts) -> AtBackup:
    """Read what is compared with the facts, of a cluster that waits at the end of its backup."""
    restored = Restored(server, _databases(server, facts)[0])
    jobs = settings().backups.jobs
    counts = backup_checks.count_tables(restored, facts.snapshot_at, jobs, logged_only=True)  # others cannot be read
    with server.connect(restored.database) as connection:
        return AtBackup(counts, backup_facts.read_catalog(connection))


def _replayed(server: ScratchServer) -> tuple[datetime | None, bool]:
    """When the last transaction that was replayed ended (None when there was none), and whether recovery goes on."""
    with server.connect("template1") as connection:
        row = connection.execute("SELECT pg_last_xact_replay_timestamp(), pg_is_in_recovery()").fetchone()
    assert row is not None
    return row[0], row[1]
