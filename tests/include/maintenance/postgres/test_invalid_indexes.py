"""Invalid indexes are found with what mends them, and one that is being built is none, on PostgreSQL 18 and 15."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from demo.databases import Databases
from include.outcome import Outcome
from tests.include.maintenance.postgres.index_reviews import findings_of, review

WARNING, UNKNOWN, OK = Outcome.WARNING, Outcome.UNKNOWN, Outcome.OK


def test_invalid_indexes(reviewed: psycopg.Connection) -> None:
    reviewed.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        reviewed.execute('CREATE UNIQUE INDEX CONCURRENTLY "Broken" ON t (a)')
    review()
    found = findings_of("invalid_indexes", "r1")['public."Broken"']
    assert found.outcome is WARNING
    assert found.remedy == 'REINDEX INDEX CONCURRENTLY public."Broken";', "pasted late it takes no valid index away"
    assert found.estimated_gain is None
    reviewed.execute("DELETE FROM t")
    reviewed.execute(found.remedy.encode())
    with pytest.raises(psycopg.errors.UniqueViolation):
        reviewed.execute("INSERT INTO t VALUES (2), (2)")
    review()
    assert findings_of("invalid_indexes", "r1")["all indexes"].outcome is OK


def test_an_index_that_is_being_built_is_not_invalid(
    reviewed: psycopg.Connection, any_databases: Databases, environment: pytest.MonkeyPatch
) -> None:
    """Nor to a role that may not see who builds what: to that one it is unknown."""
    reviewed.execute("CREATE TABLE t (a int)")
    with psycopg.connect(reviewed.info.dsn, password=reviewed.info.password) as blocker:
        blocker.execute("INSERT INTO t VALUES (1)")  # the builder waits for this transaction

        def build() -> None:
            with psycopg.connect(reviewed.info.dsn, password=reviewed.info.password, autocommit=True) as other:
                other.execute("CREATE INDEX CONCURRENTLY built ON t (a)")

        builder = threading.Thread(target=build)
        builder.start()
        deadline = time.monotonic() + 10
        while reviewed.execute("SELECT to_regclass('built') IS NULL").fetchone() == (True,):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert reviewed.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'built'::regclass").fetchone() == (
            False,
        )
        review()
        assert findings_of("invalid_indexes", "r1")["all indexes"].outcome is OK
        with psycopg.connect(any_databases.postgres.url(reviewed.info.dbname), autocommit=True) as superuser:
            superuser.execute("CREATE ROLE blind LOGIN PASSWORD 'b'")
            try:
                superuser.execute(f"GRANT CONNECT ON DATABASE {reviewed.info.dbname} TO blind".encode())
                blind = any_databases.postgres.url(reviewed.info.dbname, "blind", "b")
                environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", blind)
                review("blind")
            finally:
                superuser.execute("DROP OWNED BY blind; DROP ROLE blind")
        blocker.rollback()
        builder.join(timeout=20)
    found = findings_of("invalid_indexes", "blind")["public.built"]
    assert found.outcome is UNKNOWN
    assert found.remedy == "GRANT pg_read_all_stats TO …;  -- the role of platform_db_maintenance"


def test_a_partitioned_index_without_its_parts(reviewed: psycopg.Connection) -> None:
    reviewed.execute("""
        CREATE TABLE p (id int) PARTITION BY RANGE (id);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
        CREATE INDEX whole ON ONLY p (id);
    """)
    review()
    found = findings_of("invalid_indexes", "r1")
    assert "ATTACH PARTITION" in found["public.whole"].remedy


def test_an_invalid_part_of_a_partitioned_index_is_built_again(reviewed: psycopg.Connection) -> None:
    """The server drops no part of another index alone."""
    reviewed.execute("""
        CREATE TABLE p (id int) PARTITION BY RANGE (id);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
        INSERT INTO p VALUES (1), (1);
        CREATE UNIQUE INDEX whole ON ONLY p (id);
    """)
    with pytest.raises(psycopg.errors.UniqueViolation):
        reviewed.execute("CREATE UNIQUE INDEX CONCURRENTLY part ON p1 (id)")
    reviewed.execute("DELETE FROM p; ALTER INDEX whole ATTACH PARTITION part")
    review()
    remedy = findings_of("invalid_indexes", "r1")["public.part"].remedy
    assert remedy.splitlines() == [
        "REINDEX INDEX CONCURRENTLY public.part;",
        "SET lock_timeout = '800ms';",
        "ALTER INDEX public.whole ATTACH PARTITION public.part;  -- valid now",
        "RESET lock_timeout;",
    ]
    for statement in remedy.splitlines():
        reviewed.execute(statement.encode())
    review()
    assert findings_of("invalid_indexes", "r1")["all indexes"].outcome is OK
