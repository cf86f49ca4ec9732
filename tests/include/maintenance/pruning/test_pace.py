"""Batches adapt to their durations; deleting waits for replicas and for autovacuum, on servers of the test's own."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from demo.databases import Databases
from demo.processes import Processes, free_port
from demo.servers import Postgres
from include.maintenance.pruning.pace import Batches, Throttle
from include.outcome import MaintenanceFailed
from tests.include.maintenance.pruning.audit_log_rows import rule
from tests.old_postgres import OldPostgres, skip_where_absent


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
            with pytest.raises(
                MaintenanceFailed, match="waited for autovacuum, which works at the table longer than 0 s"
            ):
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
    """A real standby that replays with a delay of an hour."""
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
            *("-U", "postgres", "-D", standby, "-R", "--checkpoint=fast", "--no-sync"),
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
            if strict._reason():
                break
            time.sleep(0.05)
    with pytest.raises(MaintenanceFailed, match=r"waited for replicas that are \d+ s and \d+ bytes behind"):
        strict.wait()
    assert strict.facts()["replicas"] == "1"
    blind.wait()
    assert blind.facts()["replicas"] == "unknown: the role may not see them"
    processes.stop(process)
    strict.looked_at = float("-inf")
    for _ in range(100):
        if not strict._reason():
            break
        time.sleep(0.05)
    strict.wait()
    assert strict.facts()["replicas"] == "none"
    for one in (strict, blind):
        one.connection.close()


def test_one_that_only_receives_the_log_is_no_replica_that_lags(own: tuple[Databases, Processes, Path]) -> None:
    """It says what it has written but never replays: the server's replay_lag for it grows without end."""
    databases, processes, folder = own
    program = databases.postgres.binaries / "pg_receivewal"
    if not program.exists():
        pytest.skip("pg_receivewal is not among the server programs here")
    user, group = databases.postgres._ids()
    (folder / "received").mkdir(mode=0o777)
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
    strict = _throttle(own, "operations_maintainer", largest_replica_lag_seconds=0.5, longest_pause_seconds=0)
    query = "SELECT replay_lsn IS NULL AND replay_lag > '1 second' FROM pg_stat_replication"
    with psycopg.connect(databases.postgres.url("escrow"), autocommit=True) as superuser:
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
    processes.stop(process)
    strict.connection.close()
