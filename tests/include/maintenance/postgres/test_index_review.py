"""Every check of the index review fails on a hand-made fault and passes without it, on PostgreSQL 18 and 15."""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import psycopg
import pytest
from psycopg.pq import ExecStatus, PGconn

from demo.databases import Databases
from demo.servers import Postgres
from include.maintenance.postgres import index_review
from include.outcome import ConfigurationError, Outcome, SourceUnavailable
from include.settings import settings
from tests.include.maintenance.postgres.index_reviews import (
    age,
    findings_of,
    primary_and_standby,
    review,
    wait_until_replayed,
)
from tests.include.maintenance.postgres.partition_remedies import confirmed
from tests.old_postgres import flush_statistics

WARNING, UNKNOWN, OK = Outcome.WARNING, Outcome.UNKNOWN, Outcome.OK


# ------------------------------------------------------------------------------------------------------ unused
def test_an_unused_index_is_named_after_35_days(
    reviewed: psycopg.Connection, warehouse: psycopg.Connection, old_statistics: object
) -> None:
    reviewed.execute('CREATE TABLE "T 1" (id int PRIMARY KEY, "a b" int); CREATE INDEX "I ""1" ON "T 1" ("a b")')
    review("first")
    seen = findings_of("unused_indexes", "first")['public."I ""1"']
    assert seen.outcome is UNKNOWN
    assert "this primary is known to have it only since" in seen.summary
    assert seen.remedy == ""
    age(warehouse, "first", 34.9)
    review("second")
    assert findings_of("unused_indexes", "second")['public."I ""1"'].outcome is UNKNOWN
    age(warehouse, "first", 35.1)
    review("second")
    found = findings_of("unused_indexes", "second")['public."I ""1"']
    assert found.outcome is WARNING
    assert found.remedy.splitlines() == [
        "-- First see that idx_scan in pg_stat_user_indexes is still 0 on primary; then:",
        '--   DROP INDEX CONCURRENTLY public."I ""1";',
    ]
    assert found.estimated_gain == {"bytes": found.evidence["size_bytes"]} == {"bytes": 8192}
    assert found.evidence["scans"] == {"primary": 0}
    assert "for 400 days" in found.summary
    reviewed.execute(found.remedy.encode())
    assert reviewed.execute("SELECT count(*) FROM pg_class WHERE relname = 'I \"1'").fetchone() == (1,), "not unread"
    reviewed.execute(confirmed(found.remedy).encode())
    review("third")
    assert 'public."I ""1"' not in findings_of("unused_indexes", "third")


def test_what_the_planner_knows_of_an_expression_is_kept_first(
    reviewed: psycopg.Connection, warehouse: psycopg.Connection, old_statistics: object
) -> None:
    reviewed.execute("CREATE TABLE t (id int, name text); CREATE INDEX i ON t (lower(name), id, (id + 1))")
    review("first")
    age(warehouse, "first", 36)
    review("second")
    first, see, drop = findings_of("unused_indexes", "second")["public.i"].remedy.splitlines()
    assert see.startswith("-- First see that idx_scan in pg_stat_user_indexes is still ")
    assert drop == "--   DROP INDEX CONCURRENTLY public.i;"
    if reviewed.info.server_version < 140000:
        assert first.startswith("-- The planner's statistics of lower(name), ((id + 1)) go with it;")
        return
    statement = "CREATE STATISTICS … ON lower(name), ((id + 1)) FROM public.t"
    assert first.startswith("-- The planner's statistics of its expressions go with it. To keep them, first ")
    assert first.endswith(f"{statement} and ANALYZE the table.")
    reviewed.execute(statement.replace("…", "kept").encode())


def test_young_statistics_prove_nothing(reviewed: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    """The tests' server is minutes old: however long we know the index, its statistics say nothing about 35 days."""
    reviewed.execute("CREATE TABLE t (id int); CREATE INDEX i ON t (id)")
    review("first")
    age(warehouse, "first", 100)
    review("second")
    found = findings_of("unused_indexes", "second")["public.i"]
    assert found.outcome is UNKNOWN
    assert "the statistics of primary go back only to" in found.summary


def test_an_index_that_stopped_being_used(
    reviewed: psycopg.Connection, warehouse: psycopg.Connection, old_statistics: object
) -> None:
    reviewed.execute("CREATE TABLE t (id int); CREATE INDEX i ON t (id); INSERT INTO t SELECT generate_series(1, 9)")

    def scan() -> None:
        reviewed.execute("SET enable_seqscan = off")
        reviewed.execute("SELECT count(*) FROM t WHERE id = 3")
        reviewed.execute("RESET enable_seqscan")
        flush_statistics(reviewed)

    scan()
    scan()
    review("first")
    assert "public.i" not in findings_of("unused_indexes", "first"), "it is in use"
    age(warehouse, "first", 36.5)
    if reviewed.info.server_version >= 160000:  # the server itself tells the last scan: just now
        review("second")
        assert "public.i" not in findings_of("unused_indexes", "second")
        warehouse.execute("UPDATE ops.index_usage SET last_scan_at = NULL")
        last = "(to_jsonb(s) ->> 'last_idx_scan')::timestamptz"
        statement = index_review._STATEMENTS["usage"]
        assert last in statement
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(index_review._STATEMENTS, "usage", statement.replace(last, "now() - interval '36.5 days'"))
            review("second")
    else:
        review("second")
    found = findings_of("unused_indexes", "second")["public.i"]
    assert found.outcome is WARNING
    assert found.evidence["scans"] == {"primary": 2}
    assert "for 36 days" in found.summary
    scan()
    review("third")
    assert "public.i" not in findings_of("unused_indexes", "third"), "used again"


def test_what_holds_a_rule_is_never_called_unused(
    reviewed: psycopg.Connection, warehouse: psycopg.Connection, old_statistics: object
) -> None:
    reviewed.execute("""
        CREATE TABLE parent (id int PRIMARY KEY);
        CREATE TABLE t (id int PRIMARY KEY, u int NOT NULL, v int, w int REFERENCES parent, r int4range,
                        CONSTRAINT x EXCLUDE USING gist (r WITH &&), CONSTRAINT k UNIQUE (v));
        CREATE UNIQUE INDEX identity ON t (u);
        ALTER TABLE t REPLICA IDENTITY USING INDEX identity;
        CREATE INDEX serves_the_foreign_key ON t (w);
        CREATE INDEX ordered ON t (v, w);
        ALTER TABLE t CLUSTER ON ordered;
        CREATE TABLE p (id int, v int) PARTITION BY RANGE (id);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
        CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20);
        CREATE INDEX of_all_partitions ON p (v);
    """)
    review("first")
    age(warehouse, "first", 36)
    review("second")
    found = findings_of("unused_indexes", "second")
    assert set(found) == {"public.of_all_partitions", "public.audit_logs_created_at_idx"}
    warning, see, *statements = confirmed(found["public.of_all_partitions"].remedy).splitlines()
    assert warning.startswith("-- Locks the table and all its partitions for a moment")
    assert "pg_stat_user_indexes of its parts together is still 0 on primary" in see
    drop = "DROP INDEX public.of_all_partitions;"
    assert statements == ["BEGIN;", "SET LOCAL lock_timeout = '800ms';", drop, "COMMIT;"]
    assert found["public.of_all_partitions"].evidence["size_bytes"] == 2 * 8192
    reviewed.execute("INSERT INTO p VALUES (1, 1); SET enable_seqscan = off")
    reviewed.execute("SELECT FROM p1 WHERE v = 1")
    flush_statistics(reviewed)
    review("second")
    assert "public.of_all_partitions" not in findings_of("unused_indexes", "second"), "one partition's scan is a use"


# ---------------------------------------------------------------------------------------------------- replicas
@pytest.fixture(scope="module")
def replicated() -> Iterator[tuple[Databases, Postgres]]:
    with primary_and_standby() as servers:
        yield servers


@contextmanager
def _streaming(server: Postgres, name: str) -> Iterator[None]:
    """Stream from a server as a standby of that name does, as far as the server can tell."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as superuser:
        row = superuser.execute("SELECT pg_last_wal_replay_lsn()::text, pg_last_wal_replay_lsn() - '0/0'").fetchone()
        assert row is not None
        connection = PGconn.connect(f"{server.url('postgres')}?replication=true&application_name={name}".encode())
        started = connection.exec_(f"START_REPLICATION PHYSICAL {row[0]}".encode())
        assert started.status == ExecStatus.COPY_BOTH, started.error_message
        replayed = int(row[1])
        connection.put_copy_data(b"r" + struct.pack("!QQQqB", replayed, replayed, replayed, 0, 0))
        connection.flush()
        told = "SELECT count(*) FROM pg_stat_replication WHERE application_name = %s AND replay_lsn IS NOT NULL"
        deadline = time.monotonic() + 20
        while superuser.execute(told, (name,)).fetchone() != (1,):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield
        connection.finish()


def test_replicas_count(
    replicated: tuple[Databases, Postgres], warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    databases, standby = replicated
    environment.setenv("OPERATIONS__MAINTENANCE__INDEX_REVIEW__UNUSED_MINIMUM_BYTES", "0")
    environment.setitem(index_review._STATEMENTS, "statistics_since", "SELECT clock_timestamp() - interval '400 days'")
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", databases.url("escrow", "operations_maintainer"))
    password = databases.passwords["operations_maintainer"]
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_REPLICA_ONE", standby.url("escrow", "operations_maintainer", password))
    settings.cache_clear()
    with psycopg.connect(databases.url("escrow", "escrow_owner"), autocommit=True) as owner:
        owner.execute("CREATE TABLE t (id int); CREATE INDEX i ON t (id); INSERT INTO t SELECT generate_series(1, 9)")
        with psycopg.connect(standby.url("escrow"), autocommit=True) as replica:
            wait_until_replayed(owner, replica)
    with psycopg.connect(standby.url("escrow"), autocommit=True) as replica:
        review("first")
        age(warehouse, "first", 36)
        review("second")
        found = findings_of("unused_indexes", "second")["public.i"]
        assert found.outcome is UNKNOWN, "a standby that nobody looked at may be using it"
        assert found.evidence["doubts"] == [
            "1 standby named 'second' is not among the replicas of maintenance.index_review.replicas"
        ]
        environment.setenv("OPERATIONS__MAINTENANCE__INDEX_REVIEW__REPLICAS", '["platform_db_replica_one"]')
        settings.cache_clear()
        review("third")
        found = findings_of("unused_indexes", "third")["public.i"]
        assert found.outcome is WARNING
        assert found.evidence["scans"] == {"primary": 0, "platform_db_replica_one": 0}
        with _streaming(standby, "third"):
            review("cascaded")
        found = findings_of("unused_indexes", "cascaded")["public.i"]
        assert (found.outcome, found.remedy) == (UNKNOWN, ""), "a standby of the standby may be using it"
        assert found.evidence["doubts"] == [
            "1 standby named 'third' is not among the replicas of maintenance.index_review.replicas"
        ]
        with psycopg.connect(databases.postgres.url("escrow"), autocommit=True) as superuser:
            for server in (superuser, replica):
                server.execute("SELECT pg_create_physical_replication_slot('of_a_standby', true)")
            review("down")
            for server in (superuser, replica):
                server.execute("SELECT pg_drop_replication_slot('of_a_standby')")
        found = findings_of("unused_indexes", "down")["public.i"]
        assert (found.outcome, found.remedy) == (UNKNOWN, ""), "a standby that is down may use it when it is back"
        assert found.evidence["doubts"] == [
            f"nobody reads the replication slot 'of_a_standby' of {node} just now: its standby may be down"
            for node in ("primary", "platform_db_replica_one")
        ]
        replica.execute("SET enable_seqscan = off")
        replica.execute("SELECT count(*) FROM t WHERE id = 3")
        flush_statistics(replica)
        review("fourth")
        assert "public.i" not in findings_of("unused_indexes", "fourth"), "the replica uses it"
    for wrong in (
        "postgresql://x:y@127.0.0.1:1/escrow",
        databases.url("escrow", "operations_maintainer"),
        standby.url("postgres", "operations_maintainer", password),
    ):
        warehouse.execute("DELETE FROM ops.index_usage WHERE node <> 'primary' AND run_id <> 'first'")
        environment.setenv("AIRFLOW_CONN_PLATFORM_DB_REPLICA_ONE", wrong)
        review("fifth")
        found = findings_of("unused_indexes", "fifth")["public.i"]
        assert found.outcome is UNKNOWN
        assert "the replica platform_db_replica_one could not be looked at" in found.summary


# --------------------------------------------------------------------------------------------------- redundant
def test_redundant_indexes(reviewed: psycopg.Connection) -> None:
    reviewed.execute("""
        CREATE COLLATION other (provider = libc, locale = 'C');
        CREATE TABLE t (id int PRIMARY KEY, a int, b int, c text, j jsonb);
        CREATE INDEX t_a ON t (a);                      -- covered by t_a_b
        CREATE INDEX t_a_b ON t (a, b);                 -- covered by t_a_b_c
        CREATE INDEX t_a_b_c ON t (a, b, c);
        CREATE INDEX t_id ON t (id);                    -- the same as the primary key
        CREATE INDEX t_a_again ON t (a);                -- the same as t_a, which is older
        CREATE UNIQUE INDEX t_a_unique ON t (a);        -- holds a rule: stays, and does the work of t_a
        CREATE INDEX t_a_desc ON t (a DESC);            -- another order
        CREATE INDEX t_a_some ON t (a) WHERE b > 0;     -- another condition
        CREATE INDEX t_c ON t (c);
        CREATE INDEX t_c_pattern ON t (c text_pattern_ops);
        CREATE INDEX t_c_other ON t (c COLLATE other);
        CREATE INDEX t_lower ON t (lower(c));
        CREATE INDEX t_lower_a ON t (lower(c), a);      -- covers t_lower
        CREATE INDEX t_b_more ON t (b) INCLUDE (a);
        CREATE INDEX t_b_a_c ON t (b, a, c);            -- covers t_b_more
        CREATE INDEX t_b_with_j ON t (b) INCLUDE (j);   -- has a column that no other index has
        CREATE INDEX t_hash ON t USING hash (a);
        CREATE INDEX t_hash_again ON t USING hash (a);
        CREATE INDEX t_j ON t USING gin (j);
        CREATE INDEX t_j_path ON t USING gin (j jsonb_path_ops);
        CREATE TABLE other_table (a int);
        CREATE INDEX other_table_a ON other_table (a);
    """)
    review()
    found = findings_of("redundant_indexes", "r1")
    assert {name: one.evidence["kept_index"] for name, one in found.items()} == {
        "public.t_a": "public.t_a_unique",
        "public.t_a_b": "public.t_a_b_c",
        "public.t_id": "public.t_pkey",
        "public.t_a_again": "public.t_a",
        "public.t_lower": "public.t_lower_a",
        "public.t_b_more": "public.t_b_a_c",
        "public.t_hash_again": "public.t_hash",
    }
    assert found["public.t_id"].evidence["identical"]
    assert not found["public.t_a_b"].evidence["identical"]
    assert found["public.t_id"].remedy.splitlines() == [
        "-- First see that public.t_pkey is there and valid, for it does this one's work; then:",
        "--   DROP INDEX CONCURRENTLY public.t_id;",
    ]
    for one in found.values():
        reviewed.execute(one.remedy.encode())
    review()
    assert findings_of("redundant_indexes", "r1").keys() == found.keys(), "pasted unread they drop nothing"
    for one in found.values():
        reviewed.execute(confirmed(one.remedy).encode())
    review()
    assert findings_of("redundant_indexes", "r1")["all indexes"].outcome is OK


def test_one_of_equal_partitioned_indexes_stays(reviewed: psycopg.Connection) -> None:
    reviewed.execute("""
        CREATE TABLE p (id int, v int) PARTITION BY RANGE (id);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
        CREATE INDEX first ON p (v);
        CREATE INDEX second ON p (v);
        CREATE INDEX third ON p (v);
    """)
    review()
    found = findings_of("redundant_indexes", "r1")
    assert sorted(found) == ["public.second", "public.third"]
    assert "--   DROP INDEX public.second;" in found["public.second"].remedy.splitlines()
    for one in found.values():
        reviewed.execute(confirmed(one.remedy).encode())
    review()
    assert findings_of("redundant_indexes", "r1")["all indexes"].outcome is OK


# ---------------------------------------------------------------------------------------------------- failures
def test_the_facts_and_a_repeated_review(reviewed: psycopg.Connection) -> None:
    reviewed.execute("CREATE TABLE t (a int); CREATE INDEX one ON t (a); CREATE INDEX two ON t (a)")
    facts = review()
    assert [one["check"] for one in facts] == [
        "unused_indexes",
        "redundant_indexes",
        "invalid_indexes",
        "foreign_keys_without_index",
    ]
    assert facts[1] == {"check": "redundant_indexes", "outcome": "warning", "warning": 1}
    assert review() == facts


def test_a_check_that_fails_leaves_the_others(reviewed: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    reviewed.execute("CREATE TABLE t (a int); CREATE INDEX one ON t (a); CREATE INDEX two ON t (a)")
    review("r0")
    monkeypatch.setitem(index_review._STATEMENTS, "droppable", "SELECT FROM gone")
    with pytest.raises(ConfigurationError, match='the check unused_indexes: relation "gone" does not exist'):
        review()
    assert findings_of("unused_indexes", "r1")["all indexes"].outcome is UNKNOWN
    assert findings_of("redundant_indexes", "r1")["public.two"].outcome is WARNING
    assert findings_of("invalid_indexes", "r1")["all indexes"].outcome is OK
    assert findings_of("foreign_keys_without_index", "r1")["all foreign keys"].outcome is OK


def test_a_lost_database_is_unknown_and_raised(
    platform: psycopg.Connection, environment: pytest.MonkeyPatch, databases: Databases
) -> None:
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", "postgresql://x:y@127.0.0.1:1/escrow")
    with pytest.raises(SourceUnavailable, match="platform_db_maintenance"):
        review()
    found = findings_of("unused_indexes", "r1")["all indexes"]
    assert found.outcome is UNKNOWN
    assert "cannot be reached" in found.summary
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", databases.postgres.url(platform.info.dbname))
    with pytest.raises(ConfigurationError, match="superuser"):
        review()


def test_a_crash_and_a_reset_begin_the_statistics_anew(replicated: tuple[Databases, Postgres]) -> None:
    databases, _ = replicated
    url = databases.url("escrow", "operations_maintainer")

    def since() -> datetime:
        with psycopg.connect(url) as connection:
            row = connection.execute(index_review._STATEMENTS["statistics_since"]).fetchone()
        assert row is not None
        found: datetime = row[0]
        return found

    with psycopg.connect(databases.postgres.url("escrow"), autocommit=True) as superuser:
        first = since()
        superuser.execute("SELECT pg_stat_reset_shared('archiver')")
        assert since() == first, "a reset of other counters loses no index's scans"
        superuser.execute("SELECT pg_stat_reset()")
        second = since()
        assert second > first
        os.kill(superuser.info.backend_pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while True:
        try:
            third = since()
            break
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert third > second, "a crash loses the statistics without a trace in pg_stat_database"
