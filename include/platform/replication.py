"""Streaming replication between scratch servers: a standby built, promoted, and an old primary brought back.

Nothing here can reach a server that is not in a scratch place: every function takes scratch servers.
"""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Literal

from include.outcome import MaintenanceFailed
from include.platform.programs import last_line
from include.platform.scratch_server import ScratchServer, new_server

if TYPE_CHECKING:
    from psycopg.abc import Query

Synchronous = Literal["off", "on", "remote_apply"]
"""What a commit waits for: nothing of the standby, its WAL on the standby's disk, or its being visible there."""

PRIMARY_SETTINGS: dict[str, str] = {
    "wal_level": "replica",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "wal_log_hints": "on",  # pg_rewind needs it, or data checksums
    "full_page_writes": "on",  # and this
    "wal_keep_size": "1GB",  # and the WAL back to where the two servers parted
    "hot_standby": "on",
    "fsync": "off",  # the processes are killed, not the machine
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "autovacuum": "off",
    "wal_receiver_timeout": "10s",
    "wal_retrieve_retry_interval": "100ms",
}
"""Settings of the servers of a failover drill: those of a primary whose standby may take over and be rewound to."""

_STREAMS_WITHIN = 60  # seconds


def build_standby(primary: ScratchServer) -> ScratchServer:
    """Copy a running primary with pg_basebackup and return the copy, not started yet.

    Its tablespaces lie in the same place. Raises MaintenanceFailed with what pg_basebackup said.
    """
    standby = new_server(primary.place, "standby", primary.major)
    standby.superuser = primary.superuser
    with primary.connect() as connection:
        tablespaces = connection.execute(
            "SELECT oid::text, pg_tablespace_location(oid) FROM pg_tablespace WHERE pg_tablespace_location(oid) <> ''"
        ).fetchall()
    mapped = [f"--tablespace-mapping={place}={standby.folder / 'tablespaces' / oid}" for oid, place in tablespaces]
    done = standby.run(
        "pg_basebackup", f"--pgdata={standby.data}", "--wal-method=stream", "--checkpoint=fast", "--no-password",
        *mapped, environment=primary.environment,
    )  # fmt: skip
    if done.returncode != 0:
        raise MaintenanceFailed(f"the standby cannot be copied: pg_basebackup failed: {last_line(done.stderr)}")
    return standby


def follow(standby: ScratchServer, primary: ScratchServer) -> None:
    """Start a server as the standby of another one. Raises MaintenanceFailed when it does not start."""
    (standby.data / "standby.signal").touch(mode=0o600)
    source = f"{primary.conninfo()} application_name={standby.name}"
    standby.start(PRIMARY_SETTINGS | {"primary_conninfo": source}, durable=True)


def wait_until_streaming(primary: ScratchServer, standby: ScratchServer) -> int:
    """Wait until the standby streams and has replayed all there is; return the bytes that it was behind at first.

    Raises MaintenanceFailed after 60 s, with what the standby's log says.
    """
    behind: int | None = None
    deadline = time.monotonic() + _STREAMS_WITHIN
    with primary.connect() as connection:
        while time.monotonic() < deadline:
            row = connection.execute(
                "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint FROM pg_stat_replication"
                " WHERE application_name = %s AND state = 'streaming'",
                (standby.name,),
            ).fetchone()
            if row and row[0] is not None:
                behind = row[0] if behind is None else behind
                if row[0] <= 0:
                    return behind
            time.sleep(0.02)
    raise MaintenanceFailed(f"{standby.name} does not stream within {_STREAMS_WITHIN} s: {standby.last_error()}")


def set_synchronous(primary: ScratchServer, standby: ScratchServer, wanted: Synchronous) -> None:
    """Make commits wait for the standby, and wait until they do. Raises MaintenanceFailed when that takes 30 s."""
    if wanted == "off":
        return
    with primary.connect() as connection:
        connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '\"{standby.name}\"'")
        connection.execute("SELECT pg_reload_conf()")
        wait_until(primary, "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'", "a synchronous standby")


def promote(standby: ScratchServer) -> None:
    """Make a standby the primary, and wait until it writes. Raises MaintenanceFailed when it does not within 60 s."""
    with standby.connect() as connection:
        row = connection.execute("SELECT pg_promote(true, 60)").fetchone()
    if row != (True,):
        raise MaintenanceFailed(f"{standby.name} was not promoted within 60 s: {standby.last_error()}")


def write_alone(server: ScratchServer, database: str, statement: str) -> None:
    """Recover a killed server on its own, without connections, and run one statement in it.

    That is what an old primary does that comes back and does not know of the new one. Raises MaintenanceFailed.
    """
    done = subprocess.run(
        [
            str(server.binaries / "postgres"), "--single", "-F", "-D", str(server.data),
            "-c", f"config_file={server.folder / 'server.conf'}", "-c", "synchronous_standby_names=", database,
        ],
        input=statement.replace("\n", " ") + "\n", capture_output=True, text=True, errors="replace", check=False,
        cwd=server.folder, env={"PATH": "/usr/bin:/bin"}, **server.place.identity,
    )  # fmt: skip
    problems = [line for line in done.stderr.splitlines() if any(word in line for word in ("ERROR", "FATAL", "PANIC"))]
    if done.returncode != 0 or problems:
        raise MaintenanceFailed(f"{server.name} cannot be recovered after it was killed: {(problems or ['?'])[0]}")


def rewind(old: ScratchServer, primary: ScratchServer) -> bool:
    """Bring a stopped old primary's data back to where the new primary's history begins; tell whether it had to be.

    The rewinding is tried without changes first: a failed one leaves the target unusable. Raises MaintenanceFailed.
    """
    with primary.connect() as connection:
        connection.execute("CHECKPOINT")  # writes the new timeline to the control file, which pg_rewind reads
    source = primary.conninfo()
    arguments = [f"--target-pgdata={old.data}", f"--source-server={source}", "--no-ensure-shutdown"]
    for more in (["--dry-run"], []):
        done = old.run("pg_rewind", *arguments, *more)
        if done.returncode != 0:
            raise MaintenanceFailed(f"pg_rewind of {old.name} failed: {last_line(done.stderr)}")
    return "no rewind required" not in done.stdout + done.stderr


def wait_until(server: ScratchServer, query: Query, what: str, *, database: str = "postgres") -> None:
    """Wait until a query gives a row. Raises MaintenanceFailed, naming ``what``, after 30 s."""
    deadline = time.monotonic() + 30
    with server.connect(database) as connection:
        while time.monotonic() < deadline:
            if connection.execute(query).fetchone():
                return
            time.sleep(0.02)
    raise MaintenanceFailed(f"{server.name}: {what} was waited for in vain: {server.last_error()}")
