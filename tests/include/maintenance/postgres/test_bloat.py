"""Bloat is estimated as worked out by hand, measured where that is allowed, and unknown without statistics."""

from __future__ import annotations

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.postgres import bloat
from include.outcome import ConfigurationError, MaintenanceFailed, Outcome, SourceUnavailable
from include.platform import database
from include.settings import settings
from include.warehouse import findings
from include.warehouse.findings import Finding
from tests.old_postgres import flush_statistics

PAGE = 8192


def _findings(check: str, run_id: str = "r1") -> dict[str, Finding]:
    return {one.resource: one for one in findings.of_run(run_id, check)}


@pytest.fixture
def bloated(any_platform: psycopg.Connection, environment: pytest.MonkeyPatch) -> psycopg.Connection:
    """20,000 rows, of which every tenth is left: the pages of table and index stay."""
    environment.setenv("OPERATIONS__MAINTENANCE__INDEX_REVIEW__BLOAT_MINIMUM_BYTES", "65536")
    settings.cache_clear()
    any_platform.execute("CREATE TABLE t (id bigint NOT NULL, f int NOT NULL) WITH (autovacuum_enabled = off)")
    any_platform.execute("INSERT INTO t SELECT n, n FROM generate_series(1, 20000) AS n")
    any_platform.execute('CREATE INDEX "I" ON t (id)')
    any_platform.execute("GRANT SELECT ON t TO operations_maintainer")
    any_platform.execute("DELETE FROM t WHERE id % 10 <> 0")
    flush_statistics(any_platform)  # told after the VACUUM, the rows would count twice
    any_platform.execute("VACUUM (ANALYZE, TRUNCATE off) t")
    return any_platform


def _pages(connection: psycopg.Connection, name: str) -> int:
    row = connection.execute("SELECT pg_relation_size(%s::regclass) / 8192", (name,)).fetchone()
    assert row is not None
    return int(row[0])


def _without_pgstattuple(databases: Databases, name: str) -> None:
    with psycopg.connect(databases.postgres.url(name), autocommit=True) as superuser:
        superuser.execute("DROP EXTENSION pgstattuple")


def test_the_estimate_of_an_index_by_hand(bloated: psycopg.Connection, any_databases: Databases) -> None:
    """An entry takes 8 (header) + 8 (bigint) + 4 (line pointer) bytes: 366 fill 90 % of a page's 8152 bytes."""
    _without_pgstattuple(any_databases, bloated.info.dbname)
    bloat.review("r1")
    found = _findings("index_bloat")['public."I"']
    needed = 1 + 6  # the meta page and ceil(2000 / 366) leaves
    assert _pages(bloated, '"I"') >= 55
    wasted = (_pages(bloated, '"I"') - needed) * PAGE
    assert found.outcome is Outcome.WARNING
    assert found.evidence["estimated_wasted_bytes"] == wasted
    assert found.evidence["measured_wasted_bytes"] is None
    assert found.estimated_gain == {"bytes": wasted}
    assert found.summary.endswith("are wasted, as estimated.")
    assert found.remedy == 'REINDEX INDEX CONCURRENTLY public."I";'


def test_the_estimate_of_a_table_by_hand(bloated: psycopg.Connection, any_databases: Databases) -> None:
    """A row takes 24 (header) + 16 (data, aligned) + 4 (line pointer) bytes: 185 fill a page's 8168 bytes."""
    _without_pgstattuple(any_databases, bloated.info.dbname)
    assert _pages(bloated, "t") == 109  # ceil(20000 / 185)
    bloat.review("r1")
    found = _findings("table_bloat")["public.t"]
    assert found.evidence["estimated_wasted_bytes"] == (109 - 11) * PAGE  # ceil(2000 / 185) pages are needed
    first, *statements = found.remedy.splitlines()
    assert first.startswith("-- pg_repack writes public.t anew while others read and write it; without it, ")
    assert statements == [  # words only: it would lock everybody out for as long as it takes
        "-- SET lock_timeout = '800ms';",
        "-- VACUUM (FULL, ANALYZE) public.t;",
        "-- RESET lock_timeout;",
    ]


def test_a_fill_factor_is_no_bloat(bloated: psycopg.Connection, any_databases: Databases) -> None:
    bloated.execute('ALTER INDEX "I" SET (fillfactor = 50); ALTER TABLE t SET (fillfactor = 20)')
    bloated.execute("INSERT INTO t SELECT n, n FROM generate_series(1, 60000) AS n")
    bloated.execute('REINDEX INDEX "I"')
    bloated.execute("VACUUM (FULL, ANALYZE) t")

    def nothing_is_bloated() -> None:
        bloat.review("r1")
        assert _findings("index_bloat")["all indexes"].outcome is Outcome.OK
        assert _findings("table_bloat")["all tables"].outcome is Outcome.OK

    nothing_is_bloated()
    with psycopg.connect(_superuser(bloated), autocommit=True) as superuser:
        statistics = superuser.execute("DELETE FROM pg_statistic WHERE starelid = 't'::regclass").rowcount
    assert statistics == 2
    nothing_is_bloated()  # by measurement alone
    bloated.execute("ANALYZE t")
    _without_pgstattuple(any_databases, bloated.info.dbname)
    nothing_is_bloated()  # by estimate alone


def test_the_measurement_confirms(bloated: psycopg.Connection) -> None:
    bloat.review("r1")
    found = _findings("index_bloat")['public."I"']
    # 2,000 entries of 20 bytes fill 5.5 pages at 90 %; beside them stay the meta page and the inner page.
    assert found.evidence["measured_wasted_bytes"] == pytest.approx((_pages(bloated, '"I"') - 7.5) * PAGE, rel=0.03)
    assert found.estimated_gain == {"bytes": found.evidence["measured_wasted_bytes"]}
    assert found.evidence["leaf_density_percent"] < 15
    assert found.summary.endswith("are wasted, as measured.")
    table = _findings("table_bloat")["public.t"]
    # Of a page's 8168 bytes its 185 line pointers stay, and 18.3 rows of 40 bytes.
    assert table.evidence["measured_wasted_bytes"] == pytest.approx(109 * (8168 - 185 * 4 - 18.35 * 40), rel=0.01)


def test_the_measurement_refutes_a_wrong_estimate(bloated: psycopg.Connection) -> None:
    """Statistics that are too old for the index let the estimate see bloat where none is."""
    bloated.execute("INSERT INTO t SELECT n, n FROM generate_series(1, 60000) AS n WHERE n % 10 <> 0")
    bloated.execute("DELETE FROM t WHERE id > 60000")
    bloated.execute('REINDEX INDEX "I"')
    bloated.execute("VACUUM t")
    owner = "UPDATE pg_class SET reltuples = 10 WHERE oid IN ('t'::regclass, '\"I\"'::regclass)"
    with psycopg.connect(_superuser(bloated), autocommit=True) as superuser:
        superuser.execute(owner.encode())
        superuser.execute("SELECT pg_stat_reset_single_table_counters('t'::regclass)")
    bloat.review("r1")
    assert _findings("index_bloat")["all indexes"].outcome is Outcome.OK


def _superuser(connection: psycopg.Connection) -> str:
    databases = _superuser.databases  # type: ignore[attr-defined]
    return str(databases.postgres.url(connection.info.dbname))


@pytest.fixture(autouse=True)
def _superusers(any_databases: Databases) -> None:
    _superuser.databases = any_databases  # type: ignore[attr-defined]


def test_missing_statistics_are_unknown_unless_measured(bloated: psycopg.Connection, any_databases: Databases) -> None:
    bloated.execute("REVOKE SELECT ON t FROM operations_maintainer")
    if bloated.info.server_version < 170000:  # there the maintainer is a member of the owner
        with psycopg.connect(_superuser(bloated), autocommit=True) as superuser:
            superuser.execute("DELETE FROM pg_statistic WHERE starelid = 't'::regclass")
    bloat.review("r1")
    measured = _findings("index_bloat")['public."I"']
    assert (measured.outcome, measured.evidence["estimated_wasted_bytes"]) == (Outcome.WARNING, None)
    _without_pgstattuple(any_databases, bloated.info.dbname)
    bloat.review("r1")
    for check, name in (("index_bloat", 'public."I"'), ("table_bloat", "public.t")):
        found = _findings(check)[name]
        assert found.outcome is Outcome.UNKNOWN
        assert "no statistics" in found.summary
        assert found.remedy.startswith("ANALYZE public.t;")
        assert found.estimated_gain is None


def test_names_of_type_name_cannot_be_estimated(bloated: psycopg.Connection, any_databases: Databases) -> None:
    """The type ``name`` is padded to 64 bytes in tables, but not in its statistics' width."""
    bloated.execute("CREATE TABLE named AS SELECT n::text::name AS label FROM generate_series(1, 5000) AS n")
    bloated.execute("GRANT SELECT ON named TO operations_maintainer; ANALYZE named")
    _without_pgstattuple(any_databases, bloated.info.dbname)
    bloat.review("r1")
    assert _findings("table_bloat")["public.named"].outcome is Outcome.UNKNOWN


def test_expressions_partial_and_empty_columns(bloated: psycopg.Connection, any_databases: Databases) -> None:
    """Fresh indexes of every kind are not called bloated."""
    bloated.execute("""
        CREATE TABLE wide (id int, label text, empty text) WITH (autovacuum_enabled = off);
        INSERT INTO wide SELECT n, repeat('x', n % 50), CASE WHEN n % 3 = 0 THEN 'filled' END
            FROM generate_series(1, 20000) n;
        CREATE INDEX lowered ON wide (lower(label), id);
        CREATE INDEX partial ON wide (id) WHERE empty IS NOT NULL;
        CREATE INDEX several ON wide (empty, id, label) INCLUDE (label);
        GRANT SELECT ON wide TO operations_maintainer;
        DROP TABLE t;
        ANALYZE wide;
    """)
    _without_pgstattuple(any_databases, bloated.info.dbname)
    bloat.review("r1")
    assert {name: one.outcome for name, one in _findings("table_bloat").items()} == {"all tables": Outcome.OK}
    found = _findings("index_bloat")
    if bloated.info.server_version >= 170000:  # statistics of an expression are its index's: its owner's alone
        assert found.pop("public.lowered").outcome is Outcome.UNKNOWN
        assert not found
    else:
        assert {name: one.outcome for name, one in found.items()} == {"all indexes": Outcome.OK}


def test_too_large_to_be_measured(bloated: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__INDEX_REVIEW__MEASURE_AT_MOST_BYTES", "1000")
    settings.cache_clear()
    bloat.review("r1")
    assert _findings("index_bloat")['public."I"'].evidence["measured_wasted_bytes"] is None


@pytest.mark.parametrize("limit", ["BYTES", "MINUTES"])
def test_a_run_measures_no_more_than_its_budget(
    bloated: psycopg.Connection, environment: pytest.MonkeyPatch, limit: str
) -> None:
    """Half of what it may read is kept for tables: of two indexes that leaves one."""
    bloated.execute("CREATE TABLE hidden (id int) WITH (autovacuum_enabled = off)")
    bloated.execute("INSERT INTO hidden SELECT generate_series(1, 9000); CREATE INDEX of_hidden ON hidden (id)")
    most, minutes = 2**40, 0
    if limit == "BYTES":
        most, minutes = _pages(bloated, '"I"') * PAGE * 2 + 1000, 9
    environment.setenv("OPERATIONS__MAINTENANCE__INDEX_REVIEW__MEASURE_BYTES_PER_RUN", str(most))
    environment.setenv("OPERATIONS__MAINTENANCE__INDEX_REVIEW__MEASURE_MINUTES_PER_RUN", str(minutes))
    settings.cache_clear()
    bloat.review("r1")
    found = _findings("index_bloat")
    assert set(found) == {'public."I"', "public.of_hidden"}
    measured = {'public."I"'} if limit == "BYTES" else set()
    assert {name for name, one in found.items() if one.evidence["measured_wasted_bytes"] is not None} == measured
    left_over = found["public.of_hidden"]
    assert left_over.outcome is Outcome.UNKNOWN
    assert "what a run may measure was used up" in left_over.summary
    table = _findings("table_bloat")["public.t"]
    assert table.outcome is Outcome.WARNING
    assert (table.evidence["measured_wasted_bytes"] is not None) == (limit == "BYTES"), "half is kept for tables"
    if limit == "MINUTES":
        assert found['public."I"'].outcome is Outcome.WARNING, "the estimate stays"
        assert found['public."I"'].evidence["not_measured"].startswith("what a run may measure was used up")


def test_a_measurement_ends_with_the_time_of_the_run(bloated: psycopg.Connection) -> None:
    with psycopg.connect(_superuser(bloated), autocommit=True) as superuser:
        superuser.execute("CREATE SCHEMA slow; GRANT USAGE ON SCHEMA slow TO PUBLIC")
        superuser.execute("CREATE FUNCTION slow.pgstattuple_approx(regclass, OUT table_len bigint,"
                          " OUT approx_free_space bigint, OUT dead_tuple_len bigint)"
                          " LANGUAGE sql AS 'SELECT 1, 1, 1 FROM pg_sleep(250)'")  # fmt: skip
    one = {"oid": _oid(bloated, "t"), "fill_factor": 100, "size_bytes": PAGE, "read_bytes": PAGE}
    with database.maintenance_session() as connection:
        connection.execute("SET statement_timeout = '7min'")
        with pytest.raises(MaintenanceFailed, match="the time that a run may measure ended meanwhile"):
            bloat._measure(connection, "table", one, "slow", bloat._Budget(PAGE, 0.3))
        assert connection.execute("SHOW statement_timeout").fetchone() == ("7min",), "nothing else is limited so"


def test_equal_entries_that_are_merged_are_not_estimated(bloated: psycopg.Connection, any_databases: Databases) -> None:
    """Merged entries take 6 bytes instead of 20: by their number alone this index would need more than it has."""
    bloated.execute("""
        CREATE TABLE u (id int, kind int NOT NULL, whole numeric NOT NULL) WITH (autovacuum_enabled = off);
        INSERT INTO u SELECT n, n % 3, n % 3 FROM generate_series(1, 60000) AS n;
        CREATE INDEX fresh ON u (kind);
        CREATE INDEX never_merged ON u (whole);
        CREATE INDEX not_merged ON u (kind) WITH (deduplicate_items = off);
        CREATE INDEX emptied ON u (kind);
        GRANT SELECT ON u TO operations_maintainer;
        DELETE FROM u WHERE id % 10 > 3;
    """)
    flush_statistics(bloated)
    bloated.execute("VACUUM (ANALYZE, TRUNCATE off) u")
    bloated.execute("REINDEX INDEX fresh; REINDEX INDEX never_merged; REINDEX INDEX not_merged")
    unmerged = 20 * 24_000 / (PAGE * 0.9)
    assert _pages(bloated, "emptied") < unmerged, "an estimate without merging would see nothing wasted"
    bloat.review("r1")
    found = _findings("index_bloat")
    found.pop('public."I"')
    assert set(found) == {"public.emptied"}
    assert (found["public.emptied"].outcome, found["public.emptied"].evidence["estimated_wasted_bytes"]) == (
        Outcome.WARNING,
        None,
    )
    needed = _pages(bloated, "fresh")
    assert found["public.emptied"].evidence["measured_wasted_bytes"] == pytest.approx(
        (_pages(bloated, "emptied") - needed) * PAGE, rel=0.1
    )
    _without_pgstattuple(any_databases, bloated.info.dbname)
    bloat.review("r1")
    found = _findings("index_bloat")
    assert found["public.emptied"].outcome is Outcome.UNKNOWN
    assert found["public.emptied"].summary.startswith("Many of its entries are equal and share room")
    assert set(found) == {'public."I"', "public.emptied"}, "the others need about what they have, merged or not"


def test_a_locked_table_is_unknown_and_raised(bloated: psycopg.Connection) -> None:
    with (
        psycopg.connect(bloated.info.dsn, password=bloated.info.password) as other,
        pytest.MonkeyPatch.context() as patch,
    ):
        other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        patch.setattr("include.platform.database._LONGEST_LOCK_WAIT_MILLISECONDS", 100)
        with pytest.raises(MaintenanceFailed, match="another session holds a lock"):
            bloat.review("r1")
        other.rollback()
        other.execute('REINDEX INDEX "I"')
        with database.maintenance_session() as connection, pytest.raises(MaintenanceFailed, match="measured just now"):
            bloat.measure_index(connection, "extensions", {"oid": _oid(bloated, '"I"'), "fill_factor": 90})
    assert _findings("table_bloat")["all tables"].outcome is Outcome.UNKNOWN


def test_what_vanished_cannot_be_measured(bloated: psycopg.Connection) -> None:
    gone = {"oid": _oid(bloated, "t"), "fill_factor": 100}, {"oid": _oid(bloated, '"I"'), "fill_factor": 90}
    bloated.execute("DROP TABLE t")
    with database.maintenance_session() as connection:
        for measure, one in zip((bloat._measure_table, bloat.measure_index), gone, strict=True):
            with pytest.raises(MaintenanceFailed, match="it cannot be measured just now: could not open relation"):
                measure(connection, "extensions", one)


def test_one_kind_that_cannot_be_looked_at_leaves_the_other(
    bloated: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(bloat._STATEMENTS, "indexes", "SELECT FROM gone")
    with pytest.raises(ConfigurationError, match='the check index_bloat: relation "gone" does not exist'):
        bloat.review("r1")
    assert _findings("index_bloat")["all indexes"].outcome is Outcome.UNKNOWN
    assert _findings("table_bloat")["public.t"].outcome is Outcome.WARNING


def _oid(connection: psycopg.Connection, name: str) -> int:
    row = connection.execute("SELECT %s::regclass::oid::bigint", (name,)).fetchone()
    assert row is not None
    return int(row[0])


def test_a_lost_database_is_unknown_and_raised(bloated: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", "postgresql://x:y@127.0.0.1:1/escrow")
    with pytest.raises(SourceUnavailable):
        bloat.review("r1")
    assert _findings("index_bloat")["all indexes"].outcome is Outcome.UNKNOWN
