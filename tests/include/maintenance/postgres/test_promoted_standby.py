"""After a promotion the new primary's own counters prove nothing about what its predecessor did."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from demo.databases import Databases
from demo.servers import Postgres
from include.maintenance.postgres import index_review, query_review
from include.outcome import ConfigurationError, Outcome
from include.settings import settings
from include.warehouse import query_statistics
from tests.include.maintenance.postgres.index_reviews import (
    age,
    findings_of,
    primary_and_standby,
    review,
    wait_until_replayed,
)
from tests.old_postgres import flush_statistics


@pytest.fixture
def both(environment: pytest.MonkeyPatch) -> Iterator[tuple[Databases, Postgres]]:
    """A primary whose index ``i`` is in use, and its standby, which never scanned it; both count for 400 days."""
    environment.setenv("OPERATIONS__MAINTENANCE__INDEX_REVIEW__UNUSED_MINIMUM_BYTES", "0")
    environment.setitem(index_review._STATEMENTS, "statistics_since", "SELECT clock_timestamp() - interval '400 days'")
    settings.cache_clear()
    with primary_and_standby() as (databases, standby):
        environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", databases.url("escrow", "operations_maintainer"))
        with psycopg.connect(databases.url("escrow", "escrow_owner"), autocommit=True) as owner:
            owner.execute("CREATE TABLE t (id int); CREATE INDEX i ON t (id); INSERT INTO t VALUES (1), (2)")
            owner.execute("SET enable_seqscan = off")
            for _ in range(60):
                owner.execute("SELECT count(*) FROM t WHERE id = 2")
            flush_statistics(owner)
            with psycopg.connect(standby.url("escrow"), autocommit=True) as replica:
                wait_until_replayed(owner, replica)
        yield databases, standby


def _promote(databases: Databases, standby: Postgres, environment: pytest.MonkeyPatch) -> None:
    databases.postgres.stop()
    with psycopg.connect(standby.url("postgres"), autocommit=True) as superuser:
        assert superuser.execute("SELECT pg_promote(true, 60)").fetchone() == (True,)
    password = databases.passwords["operations_maintainer"]
    url = standby.url("escrow", "operations_maintainer", password)
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", url)


def test_an_index_in_use_is_not_advised_for_dropping(
    both: tuple[Databases, Postgres], warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    databases, standby = both
    review("first")
    age(warehouse, "first", 60)
    assert "public.i" not in findings_of("unused_indexes", "first")
    _promote(databases, standby, environment)
    review("second")
    found = findings_of("unused_indexes", "second")["public.i"]
    assert (found.outcome, found.remedy) == (Outcome.UNKNOWN, "")
    assert found.evidence["scans"] == {"primary": 0}
    [doubt] = found.evidence["doubts"]
    assert doubt.startswith("this primary is known to have it only since ")
    age(warehouse, "second", 34.9)
    review("third")
    assert findings_of("unused_indexes", "third")["public.i"].outcome is Outcome.UNKNOWN
    age(warehouse, "second", 35.1)
    review("third")
    found = findings_of("unused_indexes", "third")["public.i"]
    assert found.outcome is Outcome.WARNING, "as primary it has not scanned it for 35 days either"


def test_an_old_scan_as_a_standby_proves_nothing(
    both: tuple[Databases, Postgres], warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    """Since PostgreSQL 16 a server tells its last scan: that of 60 days ago says nothing about the old primary."""
    databases, standby = both
    _promote(databases, standby, environment)
    usage = index_review._STATEMENTS["usage"]
    last, scans = "(to_jsonb(s) ->> 'last_idx_scan')::timestamptz", "sum(s.idx_scan)::bigint"
    assert last in usage
    assert scans in usage
    environment.setitem(
        index_review._STATEMENTS, "usage", usage.replace(last, "now() - interval '60 days'").replace(scans, "1::bigint")
    )
    review("first")
    found = findings_of("unused_indexes", "first")["public.i"]
    assert (found.outcome, found.remedy) == (Outcome.UNKNOWN, "")


def test_the_queries_of_two_primaries_are_not_subtracted(
    both: tuple[Databases, Postgres], warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    databases, standby = both
    periods = query_statistics.periods
    environment.setattr(query_statistics, "periods", lambda run_id, baseline_days: periods(run_id, baseline_days=0))
    query_review.review("w1")
    warehouse.execute("UPDATE ops.statement_snapshot SET evictions = 2")
    with psycopg.connect(standby.url("escrow"), autocommit=True) as replica:
        for _ in range(70):  # more often than the primary: a difference of 10 would look like a week's work
            replica.execute("SELECT count(*) FROM t WHERE id = 2")
    _promote(databases, standby, environment)
    query_review.review("r1")
    [statistics] = findings_of("query_statistics", "r1").values()
    assert statistics.evidence["began_at"] is None
    assert statistics.evidence["evictions"] == 0
    [regressions] = findings_of("query_regressions", "r1").values()
    assert regressions.summary.startswith("There is no reading yet")
    [work] = [one for one in query_statistics.periods("r1", baseline_days=0)[0].work if "FROM t WHERE id" in one.text]
    assert work.calls == 70


def test_a_standby_is_no_primary(
    both: tuple[Databases, Postgres], warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    """Where the old primary follows the new one under its old address, its counters say little about the platform."""
    databases, standby = both
    url = standby.url("escrow", "operations_maintainer", databases.passwords["operations_maintainer"])
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", url)
    with pytest.raises(ConfigurationError, match="platform_db_maintenance leads to a standby"):
        review("r1")
    assert findings_of("unused_indexes", "r1")["all indexes"].outcome is Outcome.UNKNOWN
    query_review.review("r1")
    [found] = findings_of("query_statistics", "r1").values()
    assert found.outcome is Outcome.UNKNOWN
    assert "leads to a standby" in found.summary
