"""Tables are vacuumed only when they need it, and the server's own counters prove it."""

import threading
import time

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance import tables
from include.outcome import ConfigurationError, MaintenanceFailed

ROWS = "INSERT INTO public.audit_logs (created_at, action) SELECT now(), 'seen' FROM generate_series(1, 1000)"
BOTH = {"table": "public.audit_logs", "vacuum": True, "analyze": True}


@pytest.fixture
def dirty(platform: psycopg.Connection) -> psycopg.Connection:
    """1,000 rows of which 400 are dead: a third of all tuples."""
    platform.execute(ROWS)
    platform.execute("DELETE FROM public.audit_logs WHERE audit_log_id <= 400")
    platform.execute("SELECT pg_stat_force_next_flush()")
    return platform


def _actions(warehouse: psycopg.Connection) -> list[tuple]:
    return warehouse.execute(
        "SELECT kind, resource, state, dry_run, reason, proof FROM ops.maintenance_action ORDER BY 1, 2"
    ).fetchall()


def test_only_what_is_due_is_planned(dirty: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    dirty.execute(
        'CREATE TABLE public."Odd ""name""" (x int); INSERT INTO public."Odd ""name""" SELECT generate_series(1, 60)'
    )
    dirty.execute("CREATE TABLE public.few (x int); INSERT INTO public.few SELECT generate_series(1, 49)")
    dirty.execute("SELECT pg_stat_force_next_flush()")
    assert tables.plan_tables("r1") == [
        BOTH,
        {"table": 'public."Odd ""name"""', "vacuum": False, "analyze": True},
    ], "49 changed rows are below the minimum of 50"
    assert _actions(warehouse) == []


def test_the_share_counts_dead_over_all_rows(dirty: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    from include.settings import settings

    # 400 of 1,000 tuples are dead: exactly 0.4.
    for share, expected in (("0.4", True), ("0.41", False)):
        environment.setenv("OPERATIONS__MAINTENANCE__VACUUM_DEAD_SHARE", share)
        settings.cache_clear()
        assert [table["vacuum"] for table in tables.plan_tables("r1")] == [expected]
    settings.cache_clear()


def test_vacuum_is_proven_once(dirty: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    assert tables.maintain(BOTH, "r1", dry_run=False)["state"] == "proven"
    [(kind, resource, state, dry_run, reason, proof)] = _actions(warehouse)
    assert (kind, resource, state, dry_run, reason) == ("vacuum", "public.audit_logs", "proven", False, "")
    assert proof["before"]["dead_rows"] == 400
    assert proof["after"]["dead_rows"] == 0
    assert proof["dead_rows_removed"] == 400
    assert proof["after"]["changed_rows"] == 0, "it was analyzed too"
    tables.maintain(BOTH, "r1", dry_run=False)
    row = dirty.execute("SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'audit_logs'").fetchone()
    assert row == (1,), "the proven act is not repeated"
    assert len(_actions(warehouse)) == 1
    assert tables.plan_tables("r2") == []
    assert [row[:3] for row in _actions(warehouse)] == [
        ("vacuum", "all tables", "nothing_to_do"),
        ("vacuum", "public.audit_logs", "proven"),
    ]


def test_analyze_alone(dirty: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    tables.maintain({"table": "public.audit_logs", "vacuum": False, "analyze": True}, "r1", dry_run=False)
    [(kind, _, state, _, _, proof)] = _actions(warehouse)
    assert (kind, state) == ("analyze", "proven")
    assert proof["after"]["vacuum_count"] == 0
    assert proof["after"]["analyze_count"] == 1


def test_dry_run_changes_nothing(dirty: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    assert tables.maintain(BOTH, "r1", dry_run=True)["state"] == "planned"
    row = dirty.execute("SELECT vacuum_count, analyze_count, n_dead_tup FROM pg_stat_user_tables").fetchone()
    assert row == (0, 0, 400)


def test_a_vacuum_that_was_skipped_is_a_failure(
    dirty: psycopg.Connection, warehouse: psycopg.Connection, databases: Databases, environment: pytest.MonkeyPatch
) -> None:
    name = dirty.info.dbname
    # The application's role is neither the owner nor a maintainer.
    dirty.execute("GRANT USAGE ON SCHEMA public TO escrow_app")
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", databases.url(name, "escrow_app"))
    remedy = (
        "GRANT MAINTAIN ON public.audit_logs" if dirty.info.server_version >= 170000 else "role that owns the table"
    )
    with pytest.raises(ConfigurationError, match=rf"skipped the vacuum.*{remedy}"):
        tables.maintain(BOTH, "r1", dry_run=False)
    [(_, _, state, _, reason, _)] = _actions(warehouse)
    assert state == "failed"
    assert remedy in reason


def test_a_lock_held_by_another_session(dirty: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    with dirty.transaction():
        dirty.execute("LOCK TABLE public.audit_logs IN SHARE UPDATE EXCLUSIVE MODE")
        begun = time.monotonic()
        with pytest.raises(MaintenanceFailed, match="another session holds a lock"):
            tables.maintain(BOTH, "r1", dry_run=False)
        assert 0.5 < time.monotonic() - begun < 3, "it waits for less than deadlock_timeout (1 s)"
    assert _actions(warehouse)[0][2] == "failed"
    assert tables.maintain(BOTH, "r1", dry_run=False)["state"] == "proven", "the same row, once the lock is gone"
    assert len(_actions(warehouse)) == 1


def test_a_held_horizon_is_named(
    platform: psycopg.Connection, warehouse: psycopg.Connection, databases: Databases
) -> None:
    platform.execute(ROWS)
    url = databases.url(platform.info.dbname, "escrow_app")
    with psycopg.connect(url, application_name="long report") as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        platform.execute("DELETE FROM public.audit_logs WHERE audit_log_id <= 400")
        platform.execute("SELECT pg_stat_force_next_flush()")
        with pytest.raises(MaintenanceFailed, match=r"400 dead rows .* while process \d+ \(long report as escrow_app"):
            tables.maintain(BOTH, "r1", dry_run=False)
    [(_, _, state, _, _, proof)] = _actions(warehouse)
    assert state == "failed"
    assert proof["dead_rows_remaining"] == 400
    assert tables.maintain(BOTH, "r1", dry_run=False)["state"] == "proven"


def test_a_table_that_is_being_vacuumed_is_left_alone(
    dirty: psycopg.Connection, warehouse: psycopg.Connection, databases: Databases
) -> None:
    url = databases.url(dirty.info.dbname, "escrow_owner")
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1")
        vacuum = threading.Thread(target=lambda: _cancelled(other, "VACUUM public.audit_logs"))
        vacuum.start()
        while not dirty.execute("SELECT 1 FROM pg_stat_progress_vacuum").fetchone():
            time.sleep(0.01)
        assert tables.plan_tables("r1") == []
        other.cancel()
        vacuum.join()
    assert ("vacuum", "public.audit_logs", "nothing_to_do", False, "a vacuum of this table is running already") in [
        row[:5] for row in _actions(warehouse)
    ]


def _cancelled(connection: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute(statement)


def test_a_superuser_is_refused(
    platform: psycopg.Connection, databases: Databases, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", databases.postgres.url(platform.info.dbname))
    with pytest.raises(ConfigurationError, match="logs in as a superuser"):
        tables.plan_tables("r1")


def test_a_table_that_does_not_exist(platform: psycopg.Connection) -> None:
    with pytest.raises(ConfigurationError, match=r"no table public\.nothing"):
        tables.maintain({"table": "public.nothing", "vacuum": True, "analyze": False}, "r1", dry_run=False)
