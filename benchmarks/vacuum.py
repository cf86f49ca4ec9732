"""Vacuum and analyze of the tables that need it, against vacuumdb -z -j2 on identical copies.

Ours is what the tasks of daily_maintenance do: the plan, two workers that take the tables in its order, the end, and
every record in a warehouse on the same cluster. Airflow's own time for a task is measured by task_overhead.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from pathlib import Path

import psycopg

from benchmarks.figures import Figure
from benchmarks.scratch import environment, scratch_databases
from demo.databases import Databases

TABLES = int(os.environ.get("BENCH_VACUUM_TABLES", "20"))
ROWS = int(os.environ.get("BENCH_VACUUM_ROWS", "200000"))
ROUNDS = 3
WORKERS = 2
CASES = ((2, 0.35), (TABLES, 1.15))
"""How many of the tables are dirty, and the most that ours may take of the peer's time."""

_TABLE = """
    CREATE TABLE table_{number} (id bigint PRIMARY KEY, created_at timestamptz NOT NULL, state text, note text)
    WITH (autovacuum_enabled = off);
    INSERT INTO table_{number}
    SELECT n, timestamptz '2026-10-01' + n * interval '1 second', 'state ' || n % 7, md5(n::text)
    FROM generate_series(1, {rows}) AS n;
    CREATE INDEX ON table_{number} (created_at);
"""


def measure() -> list[Figure]:
    """Make a database, dirty copies of it in the same way, and maintain them in turns."""
    with scratch_databases() as (_, _, databases):
        with psycopg.connect(databases.postgres.url("postgres"), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET autovacuum = off")
            connection.execute("SELECT pg_reload_conf()")
        _fill(databases)
        return [_figure(databases, dirty, goal) for dirty, goal in CASES]


def _fill(databases: Databases) -> None:
    databases.create("clean", "escrow_owner")
    with psycopg.connect(databases.url("clean", "escrow_owner"), autocommit=True) as connection:
        for number in range(TABLES):
            connection.execute(_TABLE.format(number=number, rows=ROWS))
        connection.execute("SELECT pg_stat_force_next_flush()")
    with psycopg.connect(databases.postgres.url("clean"), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def _figure(databases: Databases, dirty: int, goal: float) -> Figure:
    ours: list[float] = []
    peers: list[float] = []
    for turn in range(ROUNDS):
        sides = [(ours, _ours), (peers, _vacuumdb)]
        for seconds, side in sides if turn % 2 == 0 else reversed(sides):
            name = _dirty_copy(databases, dirty)
            seconds.append(side(databases, name))
            databases.drop(name)
    ratio = min(ours) / min(peers)
    return Figure(
        f"vacuum {dirty} dirty of {TABLES} tables",
        f"{min(ours):.2f} s",
        f"vacuumdb -z -j2 {min(peers):.2f} s",
        f"{ratio:.2f}",
        f"at most {goal} times, {TABLES * ROWS / 1e6:.1f} M rows",
        ratio <= goal,
    )


def _dirty_copy(databases: Databases, dirty: int) -> str:
    """A copy of the database in which a fifth of the rows of some tables is dead; its statistics are the copy's own."""
    name = "measured"
    databases.create(name, "escrow_owner", template="clean")
    with psycopg.connect(databases.url(name, "escrow_owner"), autocommit=True) as connection:
        # Statistics are not copied: without this every table would look as if it had never been analyzed.
        for number in range(TABLES):
            connection.execute(f"ANALYZE table_{number}")
        for number in range(dirty):
            connection.execute(f"DELETE FROM table_{number} WHERE id % 5 = 0")
        connection.execute("SELECT pg_stat_force_next_flush()")
    with psycopg.connect(databases.postgres.url(name), autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    return name


def _ours(databases: Databases, name: str) -> float:
    """Seconds of plan, work and end, with every record."""
    from include.maintenance.postgres import vacuum, vacuum_plan
    from include.platform import database
    from include.warehouse import migrate, session

    warehouse = f"warehouse_{time.monotonic_ns()}"
    databases.create(warehouse, "warehouse_owner")
    failed: list[Exception] = []
    with environment(databases.connections(warehouse=warehouse, escrow=name)):
        migrate.upgrade()
        waiting: queue.SimpleQueue[dict[str, object]] = queue.SimpleQueue()

        def work() -> None:
            try:
                with database.maintenance_session() as connection, session.kept_open():
                    while not waiting.empty():
                        vacuum.maintain(waiting.get_nowait(), "bench", False, connection=connection)
            except queue.Empty:
                return
            except Exception as error:
                failed.append(error)

        started = time.perf_counter()
        for item in vacuum_plan.plan_tables("bench"):
            waiting.put(item)
        workers = [threading.Thread(target=work) for _ in range(min(WORKERS, waiting.qsize()))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        done = vacuum.finish("bench")
        seconds = time.perf_counter() - started
        if failed:
            raise failed[0]
        if done["state"] != "proven":
            raise AssertionError(f"the run ended as {done}")
    _must_be_clean(databases, name)
    databases.drop(warehouse)
    return seconds


def _vacuumdb(databases: Databases, name: str) -> float:
    """Seconds of vacuumdb as an administrator runs it."""
    postgres = databases.postgres
    command: list[str | Path] = [
        postgres.binaries / "vacuumdb", "-q", "-z", f"-j{WORKERS}", "-h", "127.0.0.1", "-p", str(postgres.port),
        "-U", "postgres", name,
    ]  # fmt: skip
    variables = {**os.environ, "PGPASSWORD": postgres.superuser_password}
    started = time.perf_counter()
    subprocess.run(command, check=True, env=variables)
    seconds = time.perf_counter() - started
    _must_be_clean(databases, name)
    return seconds


def _must_be_clean(databases: Databases, name: str) -> None:
    with psycopg.connect(databases.postgres.url(name), autocommit=True) as connection:
        row = connection.execute("SELECT sum(n_dead_tup), sum(n_mod_since_analyze) FROM pg_stat_user_tables").fetchone()
    if row != (0, 0):
        raise AssertionError(f"after the work {row} dead and changed rows were left")
