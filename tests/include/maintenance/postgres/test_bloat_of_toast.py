"""What tables keep in TOAST is measured, or named as not looked at; and columns of which there are no statistics."""

from __future__ import annotations

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.postgres import bloat
from include.outcome import Outcome
from include.settings import settings
from include.warehouse import findings
from include.warehouse.findings import Finding

PAGE = 8192


@pytest.fixture(autouse=True)
def _small_tables_count(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__INDEX_REVIEW__BLOAT_MINIMUM_BYTES", "65536")
    settings.cache_clear()


def _tables() -> dict[str, Finding]:
    return {one.resource: one for one in findings.of_run("r1", "table_bloat")}


def _without_pgstattuple(databases: Databases, connection: psycopg.Connection) -> None:
    with psycopg.connect(databases.postgres.url(connection.info.dbname), autocommit=True) as superuser:
        superuser.execute("DROP EXTENSION pgstattuple")


@pytest.fixture
def long_values(any_platform: psycopg.Connection) -> psycopg.Connection:
    """200 values of four whole chunks of 1,996 bytes, which fill a page of TOAST each; every other one is gone."""
    any_platform.execute("""
        CREATE TABLE t (id int PRIMARY KEY, document text) WITH (autovacuum_enabled = off);
        ALTER TABLE t ALTER COLUMN document SET STORAGE EXTERNAL;
        INSERT INTO t SELECT n, repeat('x', 4 * 1996) FROM generate_series(1, 200) AS n;
        DELETE FROM t WHERE id % 2 = 1;
        GRANT SELECT ON t TO operations_maintainer;
    """)
    any_platform.execute("VACUUM ANALYZE t")
    return any_platform


def test_toast_is_measured(long_values: psycopg.Connection) -> None:
    bloat.review("r1")
    [(name, found)] = _tables().items()
    assert (name, found.outcome) == ("TOAST of public.t", Outcome.WARNING)
    assert found.evidence["size_bytes"] == 200 * PAGE
    assert found.evidence["measured_wasted_bytes"] == pytest.approx(100 * PAGE, rel=0.01)
    for line in found.remedy.splitlines()[1:]:
        long_values.execute(line.removeprefix("-- ").encode())
    bloat.review("r1")
    [(name, found)] = _tables().items()
    assert found.outcome is Outcome.OK
    assert found.summary.startswith("None of 1 tables and TOAST relations of at least 65536 bytes wastes ")


def test_toast_that_cannot_be_measured(
    long_values: psycopg.Connection, any_databases: Databases, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__INDEX_REVIEW__MEASURE_AT_MOST_BYTES", "1000")
    settings.cache_clear()
    bloat.review("r1")
    found = _tables()["TOAST of public.t"]
    assert found.outcome is Outcome.UNKNOWN
    assert found.summary.startswith("The server has no statistics of what is in TOAST, and its bloat could not be ")
    assert "measure_at_most_bytes" in found.summary
    _without_pgstattuple(any_databases, long_values)
    bloat.review("r1")
    found = _tables()["all TOAST relations"]
    assert found.outcome is Outcome.UNKNOWN
    assert found.summary.startswith("TOAST was not looked at (1 of such a size): pgstattuple is not installed")
    assert _tables()["all tables"].outcome is Outcome.OK


def test_a_virtual_column_takes_no_room_but_a_bit(any_platform: psycopg.Connection, any_databases: Databases) -> None:
    """24 (header, with a bit per column) + 16 (data, aligned) + 4 (line pointer) bytes: 185 rows fill a page."""
    if any_platform.info.server_version < 180000:
        pytest.skip("there are no virtual columns before PostgreSQL 18")
    any_platform.execute("""
        CREATE TABLE t (id bigint NOT NULL, f int NOT NULL, twice int GENERATED ALWAYS AS (f * 2) VIRTUAL)
            WITH (autovacuum_enabled = off);
        INSERT INTO t SELECT n, n FROM generate_series(1, 20000) AS n;
        DELETE FROM t WHERE id % 10 <> 0;
        GRANT SELECT ON t TO operations_maintainer;
    """)
    any_platform.execute("VACUUM (ANALYZE, TRUNCATE off) t")
    _without_pgstattuple(any_databases, any_platform)
    bloat.review("r1")
    found = _tables()["public.t"]
    assert found.outcome is Outcome.WARNING
    assert found.evidence["estimated_wasted_bytes"] == (109 - 11) * PAGE  # ceil(20000 / 185) and ceil(2000 / 185)


def test_columns_that_are_never_analyzed_are_named(any_platform: psycopg.Connection, any_databases: Databases) -> None:
    any_platform.execute("""
        CREATE TABLE t (id bigint NOT NULL, "Long" int NOT NULL) WITH (autovacuum_enabled = off);
        ALTER TABLE t ALTER COLUMN "Long" SET STATISTICS 0;
        INSERT INTO t SELECT n, n FROM generate_series(1, 20000) AS n;
        CREATE INDEX i ON t ("Long");
        CREATE INDEX e ON t ((id + 1));
        ALTER INDEX e ALTER COLUMN 1 SET STATISTICS 0;
        GRANT SELECT ON t TO operations_maintainer;
    """)
    any_platform.execute("VACUUM ANALYZE t")
    _without_pgstattuple(any_databases, any_platform)
    bloat.review("r1")
    column = 'ALTER TABLE public.t ALTER COLUMN "Long" SET STATISTICS -1;'
    indexes = {one.resource: one for one in findings.of_run("r1", "index_bloat")}
    expected = {"public.i": column, "public.e": "ALTER INDEX public.e ALTER COLUMN 1 SET STATISTICS -1;"}
    found = indexes | _tables()
    for name, first in (expected | {"public.t": column}).items():
        assert found[name].outcome is Outcome.UNKNOWN
        lines = found[name].remedy.splitlines()
        assert lines[0] == first
        assert lines[1].startswith("ANALYZE public.t;")
        any_platform.execute(lines[0].encode())
    any_platform.execute("ANALYZE t")
    bloat.review("r1")
    assert _tables()["all tables"].outcome is Outcome.OK
