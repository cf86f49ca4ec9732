"""What the tests of the index review share."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from demo.databases import Databases
from demo.processes import Processes
from demo.servers import Postgres
from include.maintenance.postgres import index_review
from include.warehouse import findings
from include.warehouse.findings import Finding
from tests.run_folder import server_folder


def review(run_id: str = "r1") -> list[dict[str, Any]]:
    return index_review.review(run_id)


def findings_of(check: str, run_id: str) -> dict[str, Finding]:
    return {one.resource: one for one in findings.of_run(run_id, check)}


def age(warehouse: psycopg.Connection, run_id: str, days: float, *, statistics: float = 400) -> None:
    """Make a reading older, as if it had been taken then from statistics of that age."""
    warehouse.execute(
        "UPDATE ops.index_usage SET taken_at = now() - make_interval(secs => %s * 86400),"
        " statistics_since = now() - make_interval(secs => %s * 86400) WHERE run_id = %s",
        (days, statistics, run_id),
    )


@contextmanager
def primary_and_standby() -> Iterator[tuple[Databases, Postgres]]:
    """A primary of its own with the database ``escrow``, and a standby named "second" that streams from it."""
    folder, place = server_folder("replica"), server_folder("standby")
    processes = Processes(folder / "processes.json")
    try:
        primary = Postgres(processes, folder / "postgres").start()
        databases = Databases(primary, folder)
        databases.create_roles()
        databases.create("escrow", "escrow_owner")
        standby = Postgres(processes, folder / "standby")
        standby.password_file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(primary.password_file, standby.password_file)
        user, group = primary._ids()
        if user is not None and group is not None:
            os.chown(place, user, group)
        standby.data = place / "data"
        subprocess.run(
            [primary.binaries / "pg_basebackup", "-D", standby.data, "-R", "-c", "fast", "--no-sync",
             "-d", primary.url("postgres") + "?application_name=second"],
            check=True, user=user, group=group, extra_groups=[] if user is not None else None,
        )  # fmt: skip
        standby.start()
        yield databases, standby
    finally:
        processes.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(place, ignore_errors=True)


def wait_until_replayed(primary: psycopg.Connection, replica: psycopg.Connection) -> None:
    """Wait until a replica has all that its primary has written so far."""
    position = primary.execute("SELECT pg_current_wal_lsn()").fetchone()
    deadline = time.monotonic() + 20
    while replica.execute("SELECT pg_last_wal_replay_lsn() >= %s", position).fetchone() != (True,):
        assert time.monotonic() < deadline
        time.sleep(0.1)
