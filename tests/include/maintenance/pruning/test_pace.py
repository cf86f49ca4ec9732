"""Batches adapt to their durations; deleting waits for replicas and for autovacuum, on servers of the test's own."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from demo.databases import Databases
from demo.processes import Processes, free_port
from demo.servers import Postgres
from include import connections
from include.maintenance.pruning import prune
from include.maintenance.pruning.pace import Batches, PausedTooLong, Throttle
from include.outcome import ConfigurationError
from include.warehouse import actions
from tests.include.maintenance.conftest import AUDIT_LOGS
from tests.include.maintenance.pruning.audit_log_rows import CUT_OFF, NOW, archived, in_table, rule, states
from tests.old_postgres import OldPostgres, skip_where_absent
from tests.recorded_findings import latest_findings


def _after(batches: Batches, milliseconds: float, times: int = 1) -> int:
    for _ in range(times):
        batches._adapt(milliseconds * batches.size / 1000, batches.size)
    return batches.size


def test_batches_find_the_size_that_takes_half_of_the_longest_time() -> None:
    batches = Batches(5000)
    assert _after(batches, 2.0) == 5000, "2 ms per 1,000 rows: 12,500 would fit, 5,000 is the largest"
    # 100 ms per 1,000 rows: smoothed 0.4 x 0.1 + 0.6 x 0.002 = 0.0412 ms a row; a quarter at once is the most
    assert _after(batches, 100.0) == 1250
    assert _after(batches, 100.0, times=20) == 250, "25 ms at 100 ms per 1,000 rows"
    assert _after(batches, 2.0) == 301, "at most 1.2 times and one row"
    assert _after(batches, 2.0, times=30) == 5000


def test_a_batch_is_measured_and_never_empty() -> None:
    batches = Batches(1)
    with batches.measured(lambda: 0):
        time.sleep(0.06)
    assert batches.size == 1
    assert batches.transactions == 1
    assert 60 <= batches.longest_milliseconds < 1000


@pytest.fixture(scope="module", params=[Postgres, OldPostgres], ids=["postgresql18", "postgresql15"])
def own(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Databases, Processes, Path]]:
    """A cluster whose autovacuum comes at once and works slowly."""
    if request.param is OldPostgres:
        skip_where_absent()
    folder = tmp_path_factory.mktemp("pace")
    for parent in (folder, folder.parent, folder.parent.parent):
        with suppress(PermissionError):
            parent.chmod(0o755)
    processes = Processes(folder / "processes.json")
    try:
        databases = Databases(request.param(processes, folder / "postgres").start(), folder)
        databases.create_roles()
        databases.create("escrow", "escrow_owner")
        with psycopg.connect(databases.postgres.url("postgres"), autocommit=True) as superuser:
            for setting in ("autovacuum_naptime = '1s'", "autovacuum_vacuum_cost_delay = '20ms'"):
                superuser.execute(f"ALTER SYSTEM SET {setting}")
            superuser.execute("SELECT pg_reload_conf()")
        with psycopg.connect(databases.url("escrow", "escrow_owner"), autocommit=True) as owner:
            owner.execute("CREATE TABLE public.audit_logs (id int, filler text) WITH (autovacuum_enabled = off)")
            owner.execute(
                "INSERT INTO public.audit_logs SELECT n, repeat('x', 500) FROM generate_series(1, 40000) AS n"
            )
        yield databases, processes, folder
    finally:
        processes.stop_all()


def _throttle(own: tuple[Databases, Processes, Path], role: str, **changes: object) -> Throttle:
    connection = psycopg.connect(own[0].url("escrow", role), autocommit=True)
    oid = connection.execute("SELECT 'public.audit_logs'::regclass::oid").fetchone()
    assert oid is not None
    return Throttle(connection, oid[0], "public.audit_logs", rule(**changes))


def test_it_waits_while_autovacuum_works_at_the_table(own: tuple[Databases, Processes, Path]) -> None:
    """Also as a role without pg_monitor, which is not told what kind of process an autovacuum is."""
    throttle = _throttle(own, "operations_maintainer", longest_pause_seconds=0)
    throttle.wait()
    blind = _throttle(own, "escrow_owner", longest_pause_seconds=0)
    blind.wait()
    with psycopg.connect(own[0].url("escrow", "escrow_owner"), autocommit=True) as owner:
        owner.execute("UPDATE public.audit_logs SET id = id + 1")
        owner.execute("ALTER TABLE public.audit_logs SET (autovacuum_enabled = on, autovacuum_vacuum_cost_delay = 20)")
        for _ in range(200):
            if throttle._reason():
                break
            time.sleep(0.05)
        throttle.looked_at = float("-inf")
        blind.looked_at = float("-inf")
        for one in (throttle, blind):
            with pytest.raises(PausedTooLong, match="waited for autovacuum, which works at the table longer than 0 s"):
                one.wait()
        patient = _throttle(own, "operations_maintainer", longest_pause_seconds=60)
        ended = threading.Timer(
            1.0, lambda: owner.execute("ALTER TABLE public.audit_logs SET (autovacuum_enabled = off)")
        )
        ended.start()  # this cancels the autovacuum that is in its way
        patient.wait()
        ended.join()
        assert 0 < patient.facts()["paused_seconds_for_autovacuum"] < 60
        patient.connection.close()
    throttle.connection.close()
    blind.connection.close()


def test_it_waits_while_a_replica_is_behind(own: tuple[Databases, Processes, Path]) -> None:
    """A real standby that replays with a delay of an hour, and then is away: its slot keeps the WAL for it."""
    databases, processes, folder = own
    program = databases.postgres.binaries / "pg_basebackup"
    if not program.exists():
        pytest.skip("pg_basebackup is not among the server programs here")
    standby, port = folder / "standby", free_port()
    user, group = databases.postgres._ids()
    standby.mkdir(mode=0o700)
    if user is not None:
        os.chown(standby, user, group or -1)
    environment = os.environ | {"PGPASSWORD": databases.postgres.superuser_password}
    subprocess.run(
        [
            *(program, "-h", "127.0.0.1", "-p", str(databases.postgres.port)),
            *("-U", "postgres", "-D", standby, "-R", "--checkpoint=fast", "--no-sync", "-C", "-S", "standby_1"),
        ],
        env=environment,
        check=True,
        user=user,
        group=group,
        cwd="/",
    )
    with (standby / "postgresql.auto.conf").open("a") as settings:
        settings.write("recovery_min_apply_delay = '1h'\n")
    process = processes.start(
        "standby",
        [
            *(
                databases.postgres.binaries / "postgres",
                "-D",
                standby,
                "-p",
                str(port),
                "-c",
                "listen_addresses=127.0.0.1",
            ),
            *("-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=120"),
        ],
        log=folder / "standby.log",
        user=user,
        group=group,
    )
    strict = _throttle(own, "operations_maintainer", largest_replica_lag_bytes=100_000, longest_pause_seconds=0)
    blind = _throttle(own, "escrow_owner")
    with psycopg.connect(databases.url("escrow", "escrow_owner"), autocommit=True) as owner:
        for _ in range(300):
            owner.execute("UPDATE public.audit_logs SET id = id WHERE id <= 1000")
            if strict._reason().startswith("replicas"):  # and not its slot, to which it connects in a moment
                break
            time.sleep(0.05)
    with pytest.raises(PausedTooLong, match=r"waited for replicas that are \d+ s and \d+ bytes behind"):
        strict.wait()
    assert strict.facts()["replicas"] == "1"
    with pytest.raises(
        ConfigurationError, match=r"may not see how far 1 of the 1 replicas .* GRANT pg_read_all_stats TO escrow_owner$"
    ):
        blind.wait()
    processes.stop(process)
    away = "the replica of the slot standby_1, which is away"
    with psycopg.connect(databases.postgres.url("escrow"), autocommit=True) as superuser:
        for _ in range(200):  # what it had received but not replayed it needs no more
            superuser.execute("UPDATE public.audit_logs SET id = id WHERE id <= 1000")
            if strict._reason().startswith(away):
                break
            time.sleep(0.05)
        strict.looked_at = float("-inf")
        with pytest.raises(PausedTooLong, match=rf"waited for {away} and \d+ bytes behind, longer than 0 s"):
            strict.wait()
        assert strict.facts()["replicas"] == "none"
        patient = _throttle(own, "operations_maintainer", largest_replica_lag_bytes=2**40, longest_pause_seconds=0)
        patient.wait()
        superuser.execute("SELECT pg_drop_replication_slot('standby_1')")
    strict.wait()
    for one in (strict, blind, patient):
        one.connection.close()


@contextmanager
def _receiver(own: tuple[Databases, Processes, Path]) -> Iterator[None]:
    """A process that receives the log and never replays it."""
    databases, processes, folder = own
    program = databases.postgres.binaries / "pg_receivewal"
    if not program.exists():
        pytest.skip("pg_receivewal is not among the server programs here")
    user, group = databases.postgres._ids()
    (folder / "received").mkdir(mode=0o777, exist_ok=True)
    (folder / "received").chmod(0o777)
    process = processes.start(
        "receiver",
        [
            *(program, "-h", "127.0.0.1", "-p", str(databases.postgres.port), "-U", "postgres"),
            *("-D", str(folder / "received"), "--status-interval=1"),
        ],
        log=folder / "receiver.log",
        environment={**os.environ, "PGPASSWORD": databases.postgres.superuser_password},
        user=user,
        group=group,
    )
    try:
        yield
    finally:
        processes.stop(process)


def test_one_that_only_receives_the_log_is_no_replica_that_lags(own: tuple[Databases, Processes, Path]) -> None:
    """It says what it has written but never replays: the server's replay_lag for it grows without end."""
    with _receiver(own):
        strict = _throttle(own, "operations_maintainer", largest_replica_lag_seconds=0.5, longest_pause_seconds=0)
        query = "SELECT replay_lsn IS NULL AND replay_lag > '1 second' FROM pg_stat_replication"
        with psycopg.connect(own[0].postgres.url("escrow"), autocommit=True) as superuser:
            for _ in range(200):
                superuser.execute("UPDATE public.audit_logs SET id = id WHERE id <= 10")
                if superuser.execute(query).fetchone() == (True,):
                    break
                time.sleep(0.05)
            else:
                pytest.fail("the server reported no growing lag: the test shows nothing")
        strict.looked_at = float("-inf")
        strict.wait()
        assert strict.facts()["largest_replica_lag_seconds"] == 0
        strict.connection.close()


@pytest.fixture
def pruned(
    own: tuple[Databases, Processes, Path], warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection]:
    """The owner's connection to a table with 23 rows past their retention, which is pruned as that owner."""
    databases = own[0]
    databases.create("pruned", "escrow_owner")
    for connection in ("PLATFORM_DB_MAINTENANCE", "PLATFORM_OWNER"):
        environment.setenv(f"AIRFLOW_CONN_{connection}", databases.url("pruned", "escrow_owner"))
    with connections.postgres("platform_owner", autocommit=True) as owner:
        owner.execute("DROP TABLE IF EXISTS public.audit_logs")
        owner.execute(AUDIT_LOGS)
        owner.execute(
            "INSERT INTO public.audit_logs (created_at, actor, action) SELECT %s::timestamptz - n * interval '1 hour',"
            " 'ann', 'x' FROM generate_series(-6, 23) AS n",
            (CUT_OFF,),
        )
        yield owner


def test_replicas_that_may_not_be_seen_stop_it_before_anything_is_deleted(
    own: tuple[Databases, Processes, Path], pruned: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    with _receiver(own), psycopg.connect(own[0].postgres.url("pruned"), autocommit=True) as superuser:
        for _ in range(200):
            if superuser.execute("SELECT count(*) FROM pg_stat_replication").fetchone() == (1,):
                break
            time.sleep(0.05)
        with pytest.raises(ConfigurationError, match="GRANT pg_read_all_stats TO escrow_owner"):
            prune.prune(rule(), "r1", dry_run=False, now=NOW)
        assert pruned.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (30,)
        assert states(warehouse) == [], "nor is anything archived"
        superuser.execute("GRANT pg_read_all_stats TO escrow_owner")
        try:
            assert prune.prune(rule(longest_pause_seconds=0), "r1", dry_run=False, now=NOW)["state"] == "proven"
        finally:
            superuser.execute("REVOKE pg_read_all_stats FROM escrow_owner")


def test_a_pause_that_gets_too_long_postpones_the_rest(
    own: tuple[Databases, Processes, Path],
    pruned: psycopg.Connection,
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
) -> None:
    """A replica stays away from the third batch on: the run and the next one are postponed, and nothing gets lost."""
    before, wait, calls = in_table(pruned), Throttle.wait, iter(range(2))
    impatient = rule(largest_replica_lag_bytes=1_000_000, longest_pause_seconds=0)
    with psycopg.connect(own[0].postgres.url("pruned"), autocommit=True) as superuser:
        superuser.execute("CHECKPOINT")  # from there on the slot keeps the WAL
        superuser.execute("SELECT pg_create_physical_replication_slot('away', true)")

        def looks(throttle: Throttle) -> None:
            if next(calls, None) is None:
                # Within a transaction: its end takes the message to the log, where the lag is measured.
                superuser.execute("SELECT pg_logical_emit_message(true, 'test', repeat('x', 2000000))")
            throttle.looked_at = float("-inf")
            wait(throttle)

        try:
            with environment.context() as patch:
                patch.setattr(Throttle, "wait", looks)
                done = prune.prune(impatient, "r1", dry_run=False, now=NOW)
            assert done["state"] == "postponed"
            assert "has waited for the replica of the slot away, which is away and" in done["reason"]
            assert done["reason"].endswith(" rows archived and deleted; the next run goes on from there")
            [(left,)] = pruned.execute("SELECT count(*) FROM public.audit_logs")
            assert left in range(20, 25), "the two batches before it are gone; after a slow one the next is smaller"
            assert "verified" in states(warehouse), "the archive whose rows are still there waits for the next attempt"
            act = actions.find("prune", "public.audit_logs", "r1")
            assert act is not None
            assert act.applied is not None
            assert (act.applied["rows_older_after"], act.applied["rows_deleted_by_this_attempt"]) == (
                left - 7,
                30 - left,
            )
            assert prune.prune(impatient, "r2", dry_run=False, now=NOW)["state"] == "postponed", "while it settles"
            [backlog] = latest_findings("pruning_backlog")
            assert backlog.finding.evidence["postponed_in_a_row"] == 2
            assert backlog.finding.evidence["rows_left"] == left - 7
            assert "pg_drop_replication_slot" in backlog.finding.remedy
        finally:
            superuser.execute("SELECT pg_drop_replication_slot('away')")
    assert prune.prune(impatient, "r3", dry_run=False, now=NOW)["state"] == "proven"
    assert in_table(pruned) + archived(pruned, warehouse) == before
    assert set(states(warehouse)) == {"deleted"}
