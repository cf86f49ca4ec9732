"""A cluster of a test module's own, with all that a server may hold old rows by; a platform with small indexes."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from demo.databases import Databases
from demo.processes import Processes
from demo.servers import Postgres
from include.maintenance.postgres import index_review
from include.settings import settings
from tests.old_postgres import OldPostgres, skip_where_absent


@pytest.fixture(scope="module", params=[Postgres, OldPostgres], ids=["postgresql18", "postgresql15"])
def own_cluster(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """It allows logical slots and prepared transactions; the platform's database is ``escrow``."""
    if request.param is OldPostgres:
        skip_where_absent()
    folder = Path(tempfile.mkdtemp(prefix="gold-escrow-slots-"))
    folder.chmod(0o755)
    processes = Processes(folder / "processes.json")
    try:
        postgres = request.param(processes, folder / "postgres").start()
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as superuser:
            superuser.execute("ALTER SYSTEM SET max_prepared_transactions = 5")
            superuser.execute("ALTER SYSTEM SET wal_level = 'logical'")
            superuser.execute("ALTER SYSTEM SET min_wal_size = '32MB'")
            superuser.execute("ALTER SYSTEM SET max_wal_size = '32MB'")
        postgres.stop()
        databases = Databases(postgres.start(), folder)
        databases.create_roles()
        databases.create("escrow", "escrow_owner")
        yield databases
    finally:
        processes.stop_all()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def reviewed(any_platform: psycopg.Connection, environment: pytest.MonkeyPatch) -> psycopg.Connection:
    """The platform's database, of which the smallest index is reviewed as well."""
    environment.setenv("OPERATIONS__MAINTENANCE__INDEX_REVIEW__UNUSED_MINIMUM_BYTES", "0")
    settings.cache_clear()
    return any_platform


@pytest.fixture
def old_statistics(reviewed: psycopg.Connection, environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The server's statistics are said to have begun 400 days ago."""
    environment.setitem(
        index_review._STATEMENTS,
        "statistics_since",
        "SELECT date_trunc('hour', clock_timestamp()) - interval '400 days'",
    )
    return environment
