"""PostgreSQL 15 as Debian installs it, with the collection's roles, for tests of what differs between versions.

TESTS_OLD_POSTGRES names the programs of another version instead (postgres_versions.py).

Fixtures of tests/conftest.py: ``old_databases`` is this cluster, ``any_databases`` runs a test on it and on the
embedded one. Both skip where the programs are absent.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from demo.databases import Databases
from demo.processes import Processes
from demo.servers import Postgres
from tests.run_folder import server_folder

_NAMED = os.environ.get("TESTS_OLD_POSTGRES", "")
BINARIES = Path(_NAMED or "/usr/lib/postgresql/15/bin")


class OldPostgres(Postgres):
    """A cluster of PostgreSQL 15; everything else is as with the embedded one."""

    initial_settings = ()

    def _places(self, folder: Path) -> tuple[Path, Path]:
        return BINARIES, folder / "data"


def skip_where_absent() -> None:
    """Skip the test where the programs are absent, and fail it where TESTS_OLD_POSTGRES names them."""
    if (BINARIES / "postgres").exists():
        return
    if _NAMED:  # a run of nothing but skips would look like a pass
        pytest.fail(f"TESTS_OLD_POSTGRES names {BINARIES}, which has no program postgres; correct it")
    pytest.skip(f"PostgreSQL 15 is not installed here ({BINARIES}/postgres); install the package postgresql-15")


def flush_statistics(connection: psycopg.Connection) -> None:
    """Let what a session has done be seen in the server's statistics."""
    if connection.info.server_version >= 150_000:
        connection.execute("SELECT pg_stat_force_next_flush()")
        connection.execute("SELECT 1")
        return
    for _ in range(2):  # sessions tell their statistics, and readers see new ones, at most every half second
        time.sleep(0.6)
        connection.execute("SELECT 1")


def without_autovacuum(postgres: Postgres) -> None:
    """Tests count dead rows and ages: nobody else may vacuum meanwhile."""
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as superuser:
        superuser.execute("ALTER SYSTEM SET autovacuum = off")
        superuser.execute("SELECT pg_reload_conf()")


@contextmanager
def running_old_databases() -> Iterator[Databases]:
    """Start a cluster of PostgreSQL 15 in a temporary folder, and remove it at the end; see ``skip_where_absent``.

    Before PostgreSQL 17 only a table's owner may vacuum it: operations_maintainer is a member of escrow_owner here.
    """
    skip_where_absent()
    folder = server_folder("postgres-15")
    processes = Processes(folder / "processes.json")
    try:
        databases = Databases(OldPostgres(processes, folder / "postgres").start(), folder)
        databases.create_roles()
        without_autovacuum(databases.postgres)
        with psycopg.connect(databases.postgres.url("postgres"), autocommit=True) as connection:
            if connection.info.server_version < 170_000:
                connection.execute("GRANT escrow_owner TO operations_maintainer")
        yield databases
    finally:
        processes.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
