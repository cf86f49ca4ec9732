"""Pruning beside one naive DELETE, on identical copies: 1 M rows of 3 M, three indexes, jsonb.

Measured in one run: the deletion alone, the whole of it with verified archives, the longest transaction, and the 99th
percentile of a writer's commits: alone, beside a prune, beside the naive DELETE, and beside two programs that merely
compute. A prune takes processors as these do, so what it does beyond them is what the database does to the writer.
The order of the sides changes with each round; the best of the rounds counts for the times of both, the median of the
rounds for the writer, the longest transaction of all for the bound.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import worker
from benchmarks.figures import ROOT, CommandFailedError, Figure
from benchmarks.scratch import environment, scratch_databases
from demo.databases import Databases
from demo.processes import Processes

if TYPE_CHECKING:
    import psycopg

    from include.maintenance_sections import Prune

ROWS, OLD = 3_000_000, 1_000_000
ROUNDS = 5
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
CUT_OFF = FIRST + timedelta(seconds=OLD + 1)
KEEP_DAYS = 90
_TABLE = """
CREATE TABLE public.audit_logs (
    audit_log_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at timestamptz NOT NULL, actor text NOT NULL, action text NOT NULL, detail jsonb
);
INSERT INTO public.audit_logs (created_at, actor, action, detail)
SELECT %(first)s + n * interval '1 second', 'user' || n %% 1000, (ARRAY['login', 'transfer', 'view'])[n %% 3 + 1],
       jsonb_build_object('ip', '10.0.0.' || n %% 250, 'n', n)
FROM generate_series(1, %(rows)s) AS n;
CREATE INDEX ON public.audit_logs (created_at);
CREATE INDEX ON public.audit_logs (actor, created_at);
GRANT USAGE ON SCHEMA public TO operations_maintainer;
GRANT SELECT, DELETE, INSERT ON public.audit_logs TO operations_maintainer;
ALTER TABLE public.audit_logs SET (autovacuum_enabled = off);
"""


@dataclass(frozen=True)
class _Measured:
    """Seconds of a run, and its longest transaction in milliseconds."""

    seconds: float
    longest: float


def measure() -> list[Figure]:
    """Prune copies of one table in turn with the other side's single statement, and beside a writer."""
    naive: list[float] = []
    ours: list[_Measured] = []
    deletions: list[_Measured] = []
    with scratch_databases() as (folder, processes, databases):
        _made_durable(databases, processes)
        databases.create("template", "escrow_owner")
        _fill(databases)
        for number in range(ROUNDS):
            for side in ("naive", "delete", "prune")[:: -1 if number % 2 else 1]:
                with _copy(databases, folder, f"{side}_{number}") as connection:
                    if side == "naive":
                        naive.append(_naive(connection))
                    else:
                        (ours if side == "prune" else deletions).append(_ours(folder, side))
        writer: dict[str, list[float]] = {"alone": [], "prune": [], "naive": [], "compute": []}
        for number in range(ROUNDS):
            for side, p99s in writer.items():
                with _copy(databases, folder, f"writer_{side}_{number}"):
                    p99s.append(_p99(_writer(None if side == "alone" else folder / side)))
    medians = {side: statistics.median(p99s) for side, p99s in writer.items()}
    return [*_figures(min(naive), deletions, ours), _writers_figure(**medians)]


def _figures(naive: float, deletions: list[_Measured], ours: list[_Measured]) -> list[Figure]:
    deleting, whole = min(one.seconds for one in deletions), min(one.seconds for one in ours)
    longest = max(one.longest for one in (*deletions, *ours))
    peer = f"one DELETE {naive:.2f} s"
    return [
        Figure(
            "prune: deletion of 1 M of 3 M rows",
            f"{deleting:.2f} s",
            peer,
            f"{deleting / naive:.2f}",
            "at most 1.25 times one naive DELETE",
            deleting <= 1.25 * naive,
        ),
        Figure(
            "prune: with verified archive",
            f"{whole:.2f} s",
            peer,
            f"{whole / naive:.2f}",
            "at most 2.5 times one naive DELETE",
            whole <= 2.5 * naive,
        ),
        Figure(
            "prune: longest transaction",
            f"{longest:.0f} ms",
            f"{naive * 1000:.0f} ms",
            f"{longest / naive / 1000:.3f}",
            "at most 50 ms",
            longest <= 50,
        ),
    ]


def _writers_figure(alone: float, prune: float, naive: float, compute: float) -> Figure:
    return Figure(
        "prune: a writer's p99 beside it",
        f"{prune:.1f} ms",
        f"beside two busy programs {compute:.1f}, DELETE {naive:.1f}, alone {alone:.1f}",
        f"{prune / compute:.2f}",
        "at most 5 ms more than beside two busy programs",
        prune <= compute + 5,
    )


def _p99(milliseconds: list[float]) -> float:
    return statistics.quantiles(milliseconds, n=100)[98]


def _made_durable(databases: Databases, processes: Processes) -> None:
    """Start the cluster again with fsync and full pages in its log, as one in production runs."""
    postgres = databases.postgres
    user, group = postgres._ids()
    postgres.stop()
    command: list[str | Path] = [
        *(postgres.binaries / "postgres", "-D", postgres.data, "-p", str(postgres.port)),
        *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "timezone=UTC"),
        *("-c", "shared_buffers=1GB", "-c", "max_wal_size=8GB", "-c", "checkpoint_timeout=30min"),
    ]
    postgres.process = processes.start("PostgreSQL", command, log=postgres.log, user=user, group=group)
    processes.wait_until(postgres.process, postgres._answers, seconds=60)


def _fill(databases: Databases) -> None:
    import psycopg

    with psycopg.connect(databases.url("template", "escrow_owner"), autocommit=True) as connection:
        for statement in _TABLE.split(";")[:-1]:
            values = {"first": FIRST, "rows": ROWS} if "%(" in statement else None
            connection.execute(statement.encode(), values)
        connection.execute("VACUUM ANALYZE public.audit_logs")


@contextmanager
def _copy(databases: Databases, folder: Path, name: str) -> Iterator[psycopg.Connection[Any]]:
    """A copy of the table, warm, with connections that lead to it and to an empty warehouse."""
    import psycopg

    from include.warehouse import migrate

    databases.create(name, "escrow_owner", template="template")
    databases.create(f"{name}_warehouse", "warehouse_owner")
    archive = folder / f"{name}_archive"
    archive.mkdir()
    place = {"AIRFLOW_CONN_ARCHIVE": json.dumps({"conn_type": "fs", "extra": {"path": str(archive)}})}
    with environment(databases.connections(warehouse=f"{name}_warehouse", escrow=name) | place):
        migrate.upgrade()
        with psycopg.connect(databases.url(name, "escrow_owner"), autocommit=True) as connection:
            connection.execute("SELECT count(detail) FROM public.audit_logs")
            connection.execute("SELECT count(created_at) FROM public.audit_logs WHERE created_at < %s", (CUT_OFF,))
            with psycopg.connect(databases.postgres.url("postgres"), autocommit=True) as superuser:
                superuser.execute("CHECKPOINT")
            yield connection
    databases.drop(name)
    databases.drop(f"{name}_warehouse")


def _naive(connection: psycopg.Connection[Any]) -> float:
    started = time.perf_counter()
    deleted = connection.execute("DELETE FROM public.audit_logs WHERE created_at < %s", (CUT_OFF,)).rowcount
    seconds = time.perf_counter() - started
    assert deleted == OLD
    return seconds


def _ours(folder: Path, what: str) -> _Measured:
    """Prune, or delete only, in a process of its own, as a task does it."""
    target = folder / "measured.json"
    subprocess.run([sys.executable, "-m", "benchmarks.prune", what, str(target)], cwd=ROOT, check=True)
    return _Measured(**json.loads(target.read_text()))


def _prune_here() -> _Measured:
    from include.maintenance.pruning import prune
    from include.settings import settings

    settings()  # a task's DAG file has read them
    started = time.perf_counter()
    done = prune.prune(_rule(), "benchmark", dry_run=False, now=CUT_OFF + timedelta(days=KEEP_DAYS))
    seconds = time.perf_counter() - started
    assert done["rows"] == OLD, done
    from include.warehouse import actions

    action = actions.find("prune", "public.audit_logs", "benchmark")
    assert action is not None
    assert action.proof is not None
    return _Measured(seconds, action.proof["longest_transaction_milliseconds"])


def _delete_here() -> _Measured:
    """Archive all rows first, and then measure the deletion alone."""
    from include.maintenance.pruning import moving, prune

    with prune._attempt(_rule(), CUT_OFF) as work:
        chunks = []
        for chunk in moving.chunks(work, work.source, True):
            moving.archive(work, chunk)
            chunks.append(chunk)
        started = time.perf_counter()
        deleted = sum(moving._delete(work, chunk) for chunk in chunks)
        seconds = time.perf_counter() - started
        assert deleted == OLD, deleted
        return _Measured(seconds, work.deleting.longest_milliseconds)


def _rule() -> Prune:
    """The rule of the configuration, whose columns the table has but for those of legal holds."""
    from include.settings import settings

    [rule] = settings().maintenance.prune
    return rule.model_copy(update={"keep_days": KEEP_DAYS, "hold_columns": []})


def _writer(beside: Path | None) -> list[float]:
    """Commit rows of today at a steady pace for some seconds, or beside a task; milliseconds of each commit."""
    from include import connections

    process = None
    if beside is not None:
        target = beside.with_suffix(".json")
        _begun(target).unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.prune", beside.name, str(target)]
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)  # and with it what it forks
        while not _begun(target).exists() and process.poll() is None:
            time.sleep(0.001)
    took, until = [], time.monotonic() + 4
    try:
        with connections.postgres("platform_db_maintenance", autocommit=True) as connection:
            while process.poll() is None if process else time.monotonic() < until:
                started = time.perf_counter()
                connection.execute("INSERT INTO public.audit_logs (created_at, actor, action) VALUES (now(), 'w', 'w')")
                took.append((time.perf_counter() - started) * 1000)
                time.sleep(0.005)
    finally:
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process is not None and process.returncode:
        raise CommandFailedError(f"what ran beside the writer ended with {process.returncode}")
    return took


def _naive_here() -> _Measured:
    from include import connections

    with connections.postgres("platform_db_maintenance", autocommit=True) as connection:
        seconds = _naive(connection)
    return _Measured(seconds, seconds * 1000)


def _compute_here() -> _Measured:
    """Keep two processors busy for two seconds, without the database."""
    busy = "import time; until = time.monotonic() + 2\nwhile time.monotonic() < until: pass"
    for process in [subprocess.Popen([sys.executable, "-c", busy]) for _ in range(2)]:
        process.wait()
    return _Measured(2, 0)


def _as_a_task(side: str, target: Path) -> None:
    """Do one side's work; say when it begins, and at the end what it took."""
    sides = {"prune": _prune_here, "delete": _delete_here, "naive": _naive_here, "compute": _compute_here}
    _begun(target).touch()
    target.write_text(json.dumps(vars(sides[side]())))


def _begun(target: Path) -> Path:
    return target.with_suffix(".begun")


if __name__ == "__main__":
    with worker.loaded():
        worker.seconds_of_a_task(partial(_as_a_task, sys.argv[1], Path(sys.argv[2])))
