"""A vacuum is done once, proven by the server's own counters, and whatever keeps it from its effect is named."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from benchmarks.scratch import scratch_databases
from demo.databases import Databases
from include.maintenance.postgres import vacuum, vacuum_plan, vacuum_statement
from include.outcome import ConfigurationError, MaintenanceFailed, Outcome, SourceUnavailable
from include.platform import database
from include.settings import settings
from include.warehouse import actions
from tests.include.maintenance.conftest import AUDIT_LOGS
from tests.include.maintenance.postgres.vacuum_steps import (
    ROWS,
    burn_transactions,
    make_dirty,
    planned,
    proof_of,
    recorded,
    wait_for,
    whole,
)
from tests.old_postgres import flush_statistics
from tests.recorded_findings import latest_findings


@pytest.fixture
def dirty(any_platform: psycopg.Connection) -> psycopg.Connection:
    """1,000 rows of which 400 are dead."""
    make_dirty(any_platform)
    return any_platform


def _item(**changes: Any) -> dict[str, Any]:
    [item] = vacuum_plan.plan_tables("r1")
    return item | changes


def test_a_vacuum_is_proven_once(dirty: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    item = _item()
    assert vacuum.maintain(item, "r1", dry_run=False)["state"] == "proven"
    assert recorded(warehouse) == [("vacuum", "public.audit_logs", "proven", "")]
    proof = proof_of(warehouse)
    assert (proof["before"]["dead_rows"], proof["after"]["dead_rows"], proof["dead_rows_removed"]) == (400, 0, 400)
    assert (proof["before"]["changed_rows"], proof["after"]["changed_rows"]) == (1400, 0), "it was analyzed too"
    assert (proof["before"]["inserted_rows"], proof["after"]["inserted_rows"]) == (1000, 0)
    row = dirty.execute(
        "SELECT pg_total_relation_size(c.oid), greatest(age(c.relfrozenxid), age(t.relfrozenxid)),"
        " greatest(mxid_age(c.relminmxid), mxid_age(t.relminmxid))"
        " FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid WHERE c.relname = 'audit_logs'"
    ).fetchone()
    assert row is not None
    after = proof["after"]
    assert after["size_bytes"] == row[0]
    assert after["multixact_age"] <= row[2], "other tests use multixacts too"
    assert 0 < after["transaction_age"] <= row[1]
    vacuum.maintain(item, "r1", dry_run=False)
    row = dirty.execute("SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'audit_logs'").fetchone()
    assert row == (1,), "the proven act is not repeated"
    assert vacuum.finish("r1")["state"] == "proven"
    state, reason, _, proof = whole(warehouse)
    assert (state, reason, proof["dead_rows_removed"]) == ("proven", "", 400)
    assert proof["tables"] == {"proven": ["public.audit_logs"]}
    assert proof["after"]["transaction_age"] > 0
    assert planned("r2") == {}


def test_analyze_alone(dirty: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    vacuum.maintain(_item(vacuum=False), "r1", dry_run=False)
    assert recorded(warehouse) == [("analyze", "public.audit_logs", "proven", "")]
    after = proof_of(warehouse)["after"]
    assert (after["vacuum_count"], after["analyze_count"], after["dead_rows"]) == (0, 1, 400)


def test_a_missing_privilege_is_named_with_its_remedy(
    dirty: psycopg.Connection,
    warehouse: psycopg.Connection,
    any_databases: Databases,
    environment: pytest.MonkeyPatch,
) -> None:
    item = _item()
    # The application's role is neither the owner nor a maintainer.
    dirty.execute("GRANT USAGE ON SCHEMA public TO escrow_app")
    url = any_databases.url(dirty.info.dbname, "escrow_app")
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", url)
    new = dirty.info.server_version >= 170000
    remedy = "GRANT MAINTAIN ON public.audit_logs" if new else "a member of escrow_owner, which owns the table"
    with pytest.raises(ConfigurationError, match=remedy):
        vacuum.maintain(item, "r1", dry_run=False)
    [(_, _, state, reason)] = recorded(warehouse)
    assert state == "failed"
    assert remedy in reason
    assert vacuum.finish("r1")["reason"] == "not maintained: public.audit_logs; each has its own reason"
    with pytest.raises(
        ConfigurationError, match="may maintain none of the tables; (grant it pg_maintain|make it a member)"
    ):
        planned("r2")
    assert whole(warehouse, "r2")[0] == "failed", "that is no night without work"


def test_a_lock_held_by_another_session_is_named(dirty: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    item = _item()
    with dirty.transaction():
        dirty.execute("LOCK TABLE public.audit_logs IN SHARE UPDATE EXCLUSIVE MODE")
        begun = time.monotonic()
        pid = dirty.info.backend_pid
        with pytest.raises(MaintenanceFailed, match=rf"process {pid} .*escrow_owner.*ShareUpdateExclusiveLock"):
            vacuum.maintain(item, "r1", dry_run=False)
        assert 0.5 < time.monotonic() - begun < 3, "it waits for less than deadlock_timeout (1 s)"
    assert recorded(warehouse)[0][2] == "failed"
    assert vacuum.maintain(item, "r1", dry_run=False)["state"] == "proven", "the same row, once the lock is gone"
    assert len(recorded(warehouse)) == 1


def test_a_held_horizon_is_named(
    any_platform: psycopg.Connection, warehouse: psycopg.Connection, any_databases: Databases
) -> None:
    any_platform.execute(ROWS)
    url = any_databases.url(any_platform.info.dbname, "escrow_app")
    with psycopg.connect(url, application_name="long report") as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        any_platform.execute("DELETE FROM public.audit_logs WHERE audit_log_id <= 400")
        flush_statistics(any_platform)
        item = _item()
        for attempt in (1, 2):
            with pytest.raises(
                MaintenanceFailed, match=r"400 dead rows .* while process \d+ \(long report as escrow_a"
            ):
                vacuum.maintain(item, "r1", dry_run=False)
            assert recorded(warehouse)[0][2] == "failed", f"attempt {attempt}"
    assert proof_of(warehouse)["dead_rows_remaining"] == 400
    assert vacuum.maintain(item, "r1", dry_run=False)["state"] == "proven"


def _wait_for_older_transactions(connection: psycopg.Connection) -> None:
    """Wait until none in the cluster is older than now: a snapshot would keep the rows that died since it began."""
    now = connection.execute("SELECT pg_current_xact_id()").fetchone()
    deadline = time.monotonic() + 60
    while connection.execute("SELECT pg_snapshot_xmin(pg_current_snapshot()) <= %s", now).fetchone() == (True,):
        assert time.monotonic() < deadline, "a transaction has been open for a minute"
        time.sleep(0.05)


def test_rows_that_died_meanwhile_are_no_failure(
    dirty: psycopg.Connection, warehouse: psycopg.Connection, any_databases: Databases
) -> None:
    item = _item()
    _wait_for_older_transactions(dirty)
    with psycopg.connect(any_databases.url(dirty.info.dbname, "escrow_app")) as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        dirty.execute("DELETE FROM public.audit_logs WHERE audit_log_id <= 500")
        flush_statistics(dirty)
        assert vacuum.maintain(item, "r1", dry_run=False)["state"] == "proven"
    proof = proof_of(warehouse)
    assert (proof["dead_rows_removed"], proof["dead_rows_remaining"]) == (400, 100)
    assert "100 dead rows remain while process" in recorded(warehouse)[0][3]


def _while_it_runs(monkeypatch: pytest.MonkeyPatch, then: Callable[[], Any]) -> None:
    """Let something happen between the vacuum's end and the look at what became of it."""
    run = vacuum._run

    def run_and_go_on(*given: Any) -> Any:
        done = run(*given)
        then()
        return done

    monkeypatch.setattr(vacuum, "_run", run_and_go_on)


@pytest.mark.parametrize("begins", ["before the vacuum", "after it"])
def test_who_holds_none_of_the_rows_is_not_blamed_for_as_many_new_ones(
    dirty: psycopg.Connection,
    warehouse: psycopg.Connection,
    any_databases: Databases,
    monkeypatch: pytest.MonkeyPatch,
    begins: str,
) -> None:
    item = _item()
    _wait_for_older_transactions(dirty)
    with psycopg.connect(any_databases.url(dirty.info.dbname, "escrow_app")) as young:
        young.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        if begins == "before the vacuum":
            young.execute("SELECT 1")
            burn_transactions(dirty, 1)

        def more_die() -> None:
            young.execute("SELECT 1")
            dirty.execute("DELETE FROM public.audit_logs WHERE audit_log_id <= 900")
            flush_statistics(dirty)

        _while_it_runs(monkeypatch, more_die)
        assert vacuum.maintain(item, "r1", dry_run=False)["state"] == "proven"
    proof = proof_of(warehouse)
    assert (proof["dead_rows_removed"], proof["dead_rows_remaining"]) == (400, 500)
    assert recorded(warehouse)[0][3] == "500 dead rows remain that died while the vacuum ran"
    if begins == "after it":
        assert proof["horizon_holder"] is None


def test_who_began_after_the_vacuum_is_not_blamed_for_what_another_held(
    dirty: psycopg.Connection,
    warehouse: psycopg.Connection,
    any_databases: Databases,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    item, url = _item(), any_databases.url(dirty.info.dbname, "escrow_app")
    dirty.execute("VACUUM public.audit_logs")
    with psycopg.connect(url) as old, psycopg.connect(url) as young:
        for session in (old, young):
            session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        dirty.execute("DELETE FROM public.audit_logs WHERE audit_log_id <= 800")
        flush_statistics(dirty)

        def another_comes() -> None:
            old.rollback()
            _wait_for_older_transactions(dirty)
            young.execute("SELECT 1")

        _while_it_runs(monkeypatch, another_comes)
        assert vacuum.maintain(item, "r1", dry_run=False)["state"] == "proven"
    assert recorded(warehouse)[0][3] == "400 dead rows remain that nobody needs any more"
    assert proof_of(warehouse)["dead_rows_removed"] == 0


def test_a_role_that_may_not_see_others_still_names_the_holder_and_says_so(
    any_platform: psycopg.Connection,
    warehouse: psycopg.Connection,
    any_databases: Databases,
    environment: pytest.MonkeyPatch,
) -> None:
    owner = any_databases.url(any_platform.info.dbname, "escrow_owner")
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", owner)
    any_platform.execute(ROWS)
    url = any_databases.url(any_platform.info.dbname, "escrow_app")
    with psycopg.connect(url, application_name="long report") as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        any_platform.execute("DELETE FROM public.audit_logs WHERE audit_log_id <= 400")
        flush_statistics(any_platform)
        holder = rf"400 dead rows .* while process {old.info.backend_pid} \(long report as escrow_app, \?\)"
        with pytest.raises(MaintenanceFailed, match=holder):
            vacuum.maintain(_item(), "r1", dry_run=False)
    vacuum.finish("r1")
    found = {one.finding.resource: one.finding for one in latest_findings("tables_not_maintained")}
    assert found["role escrow_owner"].outcome is Outcome.UNKNOWN
    assert found["role escrow_owner"].remedy == "GRANT pg_monitor TO escrow_owner;"


def test_a_vacuum_in_work_is_stopped_at_the_end_of_the_window(
    dirty: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    item = _item(ends_at=(datetime.now(UTC) + timedelta(seconds=2)).isoformat())
    with database.maintenance_session() as slow:
        slow.execute("SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1; SET statement_timeout = '7min'")
        assert vacuum.maintain(item, "r1", dry_run=False, connection=slow)["state"] == "postponed"
        assert slow.execute("SHOW statement_timeout").fetchone() == ("7min",), "the session goes on with others"
    assert "it was stopped after" in recorded(warehouse)[0][3]
    [again] = planned("r2").values()
    assert again["postponed_before"]
    assert again["expected_seconds"] > 1, "twice what it had taken when it was stopped"
    assert vacuum.maintain(again, "r2", dry_run=False)["state"] == "proven"


def test_what_an_earlier_attempt_did_is_not_repeated(dirty: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    item = _item()
    with database.maintenance_session() as connection:
        found = vacuum._measure(connection, "public.audit_logs")
        assert found is not None
        plan = vacuum_plan.plan_of(item) | {"before": found[1]}
        actions.applying(actions.plan("vacuum", "public.audit_logs", "r1", dry_run=False, plan=plan))
        connection.execute("VACUUM ANALYZE public.audit_logs")  # and here the task was killed
        flush_statistics(connection)
    [again] = planned().values()
    assert vacuum.maintain(again, "r1", dry_run=False)["state"] == "proven"
    row = dirty.execute("SELECT vacuum_count, analyze_count FROM pg_stat_user_tables").fetchone()
    assert row == (1, 1)
    assert recorded(warehouse) == [("vacuum", "public.audit_logs", "proven", "it was done before the task was cut off")]
    assert proof_of(warehouse)["before"]["dead_rows"] == 400


def test_a_table_that_is_gone_needs_nothing(dirty: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    item = _item()
    dirty.execute("DROP TABLE public.audit_logs")
    assert vacuum.maintain(item, "r1", dry_run=False)["state"] == "nothing_to_do"
    assert vacuum.maintain(item | {"table": "no name; at all"}, "r1", dry_run=False)["state"] == "nothing_to_do"


def test_names_are_quoted(any_platform: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    any_platform.execute('CREATE TABLE public."Odd ""name""" (x int)')
    any_platform.execute('INSERT INTO public."Odd ""name""" SELECT generate_series(1, 60)')
    flush_statistics(any_platform)
    [item] = planned().values()
    assert item["table"] == 'public."Odd ""name"""'
    assert vacuum.maintain(item, "r1", dry_run=False)["state"] == "proven"


def test_an_unfinished_plan_is_said_so(dirty: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    planned()
    assert vacuum.finish("r1")["state"] == "failed"
    assert whole(warehouse)[3]["tables"] == {"never begun": ["public.audit_logs"]}
    with pytest.raises(MaintenanceFailed, match="has no plan of its tables"):
        vacuum.finish("another")


def test_before_14_it_is_the_servers_messages_that_tell_of_a_partitioned_table(
    any_platform: psycopg.Connection,
    warehouse: psycopg.Connection,
    any_databases: Databases,
    environment: pytest.MonkeyPatch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner = any_databases.url(any_platform.info.dbname, "escrow_owner")
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", owner)
    any_platform.execute("DROP TABLE public.audit_logs")
    any_platform.execute("CREATE TABLE public.parted (x integer) PARTITION BY RANGE (x)")
    any_platform.execute("CREATE TABLE public.one PARTITION OF public.parted FOR VALUES FROM (0) TO (1000)")
    any_platform.execute("INSERT INTO public.parted SELECT generate_series(1, 100)")
    flush_statistics(any_platform)
    item = planned()["public.parted"]
    monkeypatch.setattr(database, "server_version", lambda _: 130000)
    assert vacuum.maintain(item, "r1", dry_run=False)["state"] == "proven"
    statement = "SELECT applied ->> 'statement' FROM ops.maintenance_action WHERE kind = 'analyze'"
    assert warehouse.execute(statement).fetchone() == ('ANALYZE (VERBOSE) "public"."parted"',)


@pytest.mark.parametrize(("danger", "rest"), [(False, "5ms"), (True, "0")])
def test_a_vacuum_rests_as_configured_unless_there_is_danger(
    dirty: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, danger: bool, rest: str
) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__VACUUM__COST_DELAY_MILLISECONDS", "5")
    settings.cache_clear()
    item = planned()["public.audit_logs"] | {"danger": danger}
    with database.maintenance_session() as session:
        assert vacuum.maintain(item, "r1", dry_run=False, connection=session)["state"] == "proven"
        assert session.execute("SHOW vacuum_cost_delay").fetchone() == (rest,)
    settings.cache_clear()


# --------------------------------------------------------------------------------------------------------- options
_CLEAN = {"transaction_age": 1000, "multixact_age": 0, "toast_dead_rows": 0, "toast_inserted_rows": 0}


@pytest.mark.parametrize(
    ("version", "item", "before", "hour", "expected"),
    [
        (130000, {"freeze": False, "analyze": True}, {}, 3, ["ANALYZE", "PARALLEL 0"]),
        (130000, {"freeze": True, "analyze": False}, {}, 3, ["FREEZE", "PARALLEL 0"]),
        (150000, {"freeze": False, "analyze": True}, {}, 7, ["ANALYZE", "PARALLEL 0", "TRUNCATE FALSE",
                                                             "PROCESS_TOAST FALSE"]),
        (150000, {"freeze": False, "analyze": False}, {"toast_dead_rows": 1}, 20, ["PARALLEL 0"]),
        (180000, {"freeze": False, "analyze": True}, {"toast_inserted_rows": 1}, 19,
         ["ANALYZE", "PARALLEL 0", "TRUNCATE FALSE", "SKIP_DATABASE_STATS", "BUFFER_USAGE_LIMIT '2 MB'"]),
        (180000, {"freeze": True, "analyze": True}, {}, 6,
         ["FREEZE", "ANALYZE", "PARALLEL 0", "SKIP_DATABASE_STATS", "BUFFER_USAGE_LIMIT '2 MB'"]),
        (130000, {"freeze": True, "analyze": False}, {"transaction_age": 1_600_000_000}, 3,
         ["FREEZE", "PARALLEL 0", "TRUNCATE FALSE", "INDEX_CLEANUP FALSE"]),
        (150000, {"freeze": True, "analyze": False}, {"multixact_age": 1_600_000_000}, 3,
         ["FREEZE", "PARALLEL 0", "TRUNCATE FALSE"]),
    ],
)  # fmt: skip
def test_options_are_those_that_the_version_knows(
    version: int, item: dict[str, Any], before: dict[str, int], hour: int, expected: list[str]
) -> None:
    item = {"danger": False, "expected_seconds": 1.0} | item
    local = datetime(2026, 10, 4, hour, 0, tzinfo=ZoneInfo("Europe/Berlin"))
    assert vacuum_statement.options_of(version, item, _CLEAN | before, local) == expected


@pytest.mark.parametrize(
    ("begins", "item", "shortened"),
    [
        ("06:40", {"expected_seconds": 540.0}, True),  # twice nine minutes: 06:58
        ("06:40", {"expected_seconds": 600.0}, False),  # 07:00, when the doors open
        ("06:58:59", {"expected_seconds": 0.1}, True),  # at least a minute
        ("06:59", {"expected_seconds": 0.1}, False),
        ("06:40", {"expected_seconds": 3600.0, "ends_at": "2026-10-04T04:59:00+00:00"}, True),  # 06:59 in Berlin
        ("06:40", {"expected_seconds": 3600.0, "ends_at": "2026-10-04T04:59:00+00:00", "danger": True}, False),
        ("04:30", {"expected_seconds": 1.0, "ends_at": "2026-10-04T05:30:00+00:00"}, False),  # 07:30: it is a guess
        (
            "04:30",
            {"expected_seconds": 1.0, "ends_at": "2026-10-04T05:30:00+00:00", "expectation_is_measured": True},
            True,
        ),
        ("20:00", {"expected_seconds": 39_000.0}, False),  # until 17:40 of the next day
        ("19:59", {"expected_seconds": 0.1}, False),
        ("20:00", {"expected_seconds": 0.1}, True),
    ],
)
def test_a_file_is_not_shortened_when_that_may_come_in_business_hours(
    begins: str, item: dict[str, object], shortened: bool
) -> None:
    local = datetime.fromisoformat(f"2026-10-04T{begins}").replace(tzinfo=ZoneInfo("Europe/Berlin"))
    item = {"freeze": False, "analyze": False, "danger": False} | item
    assert ("TRUNCATE FALSE" not in vacuum_statement.options_of(180000, item, _CLEAN, local)) == shortened


def test_without_business_hours_files_are_shortened_at_any_time(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__VACUUM__BUSINESS_HOURS", '{"from_hour": 0, "to_hour": 0}')
    settings.cache_clear()
    item = {"freeze": False, "analyze": False, "danger": False, "expected_seconds": 1.0}
    local = datetime(2026, 10, 4, 23, 59, 59, tzinfo=ZoneInfo("Europe/Berlin"))
    assert "TRUNCATE FALSE" not in vacuum_statement.options_of(180000, item, _CLEAN, local)
    settings.cache_clear()


# ------------------------------------------------------------------------------------------------------- a restart
@pytest.fixture(params=["postgresql18", "postgresql15"])
def breakable(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """A cluster that may be crashed without harm to other tests."""
    if request.param == "postgresql15":
        yield request.getfixturevalue("old_databases")
        return
    with scratch_databases() as (_, _, databases):
        yield databases


def test_a_database_that_restarts_on_the_way(
    breakable: Databases, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    breakable.create("crashing", "escrow_owner")
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", breakable.url("crashing", "operations_maintainer"))
    owner = breakable.url("crashing", "escrow_owner")
    with psycopg.connect(owner, autocommit=True) as platform:
        platform.execute(AUDIT_LOGS)
        make_dirty(platform)
        platform.execute("ANALYZE public.audit_logs")
        item = _item()
        assert (item["vacuum"], item["analyze"]) == (True, False)
        errors: list[Exception] = []
        work = threading.Thread(target=_slowly, args=(item, errors))
        work.start()
        wait_for(lambda: platform.execute("SELECT 1 FROM pg_stat_progress_vacuum").fetchone())
        os.kill(platform.info.backend_pid, signal.SIGKILL)  # the server takes that for a crash and starts again
    work.join()
    [error] = errors
    assert isinstance(error, SourceUnavailable), "it is tried again"
    assert recorded(warehouse)[0][2] == "failed"
    wait_for(lambda: _answers(owner))
    with psycopg.connect(owner, autocommit=True) as platform:
        row = platform.execute("SELECT n_dead_tup FROM pg_stat_user_tables").fetchone()
        assert row == (0,), "the crash has cost the server its statistics"
        again = planned()
        assert again["public.audit_logs"]["vacuum"] or again["public.audit_logs"]["analyze"]
        for table in again.values():
            vacuum.maintain(table, "r1", dry_run=False)
    assert ("vacuum", "public.audit_logs", "proven") in [row[:3] for row in recorded(warehouse)]
    assert vacuum.finish("r1")["state"] == "proven"
    breakable.drop("crashing")


def _slowly(item: dict[str, Any], errors: list[Exception]) -> None:
    try:
        with database.maintenance_session() as slow:
            slow.execute("SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1; SET statement_timeout = '7min'")
            vacuum.maintain(item, "r1", dry_run=False, connection=slow)
    except Exception as error:
        errors.append(error)


def _answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False
