"""SIGKILL at random points, a server that restarts, a full disk: archive plus table is always what there was.

The number of kills is PRUNE_KILLS, 12 in the suite, half as many while whole partitions go, and half of either on the
old server; the environment variable with 400 runs the long proof of both.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from demo.databases import Databases
from demo.processes import Processes
from demo.servers import Postgres
from include import connections
from include.maintenance.pruning import archive_files, manifests, prune
from include.maintenance.pruning.pace import Throttle
from include.outcome import MaintenanceFailed, SourceUnavailable
from include.platform import database, folders
from include.settings import ROOT
from tests.include.maintenance.pruning.audit_log_rows import ALL, CUT_OFF, NOW, archived, files, in_table, rule, states
from tests.old_postgres import OldPostgres, skip_where_absent

KILLS = int(os.environ.get("PRUNE_KILLS", "12"))
ROWS = 1200
OLD = ROWS - 2  # three rows a minute: two more have the very time of the cut-off
RULE = rule(batch_rows=20, archive_rows=150)
TASK = """
import sys
from datetime import datetime
from include.maintenance.pruning import archive_files, manifests, moving, partitions, prune, settling
from include.maintenance_sections import Prune
import duckdb, numpy, psycopg
rule, now = Prune.model_validate_json(sys.argv[1]), datetime.fromisoformat(sys.argv[2])
print("ready", flush=True)
for run in sys.stdin:
    prune.prune(rule, run.strip(), False, now)
    print("done", flush=True)
"""


def _fill(platform: psycopg.Connection) -> None:
    platform.execute(
        "INSERT INTO public.audit_logs (created_at, actor, action, detail) SELECT"
        " %s::timestamptz + (300 - n) / 3 * interval '1 minute', md5(n::text), E'a\\tb\\x1f\\x10', to_jsonb(n)"
        " FROM generate_series(1, %s) AS n",
        (CUT_OFF, ROWS + 300),
    )


def _fill_partitions(superuser: psycopg.Connection) -> None:
    """Four partitions of ten days each before the cut-off, which the maintaining role owns, with 200 rows each."""
    for n in range(4):
        until = CUT_OFF - timedelta(days=10 * n)
        superuser.execute(
            f"CREATE TABLE public.audit_{n} PARTITION OF public.audit_logs"
            f" FOR VALUES FROM ('{until - timedelta(days=10)}') TO ('{until}')"
        )
        superuser.execute(f"ALTER TABLE public.audit_{n} OWNER TO operations_maintainer")
        superuser.execute(f"GRANT SELECT ON public.audit_{n} TO escrow_owner")
        superuser.execute(
            "INSERT INTO public.audit_logs (created_at, actor, action, detail) SELECT %s::timestamptz - n / 3 *"
            " interval '1 hour', md5(n::text), E'a\\tb\\x1f\\x10', to_jsonb(n) FROM generate_series(3, 202) AS n",
            (until,),
        )


def _in_tables(platform: psycopg.Connection) -> Counter:
    """The rows of the table or of all its partitions, also of those that are detached already."""
    query = "SELECT oid::regclass::text FROM pg_class WHERE relname ~ '^audit_(logs|[0-9])$' AND relkind = 'r'"
    found: Counter = Counter()
    for (name,) in platform.execute(query).fetchall():
        found.update(platform.execute(ALL.replace("public.audit_logs", name)).fetchall())
    return found


def _lost(platform: psycopg.Connection, warehouse: psycopg.Connection, everything: Counter) -> Counter:
    """Rows that are neither in the table nor in a file that was verified, read without any of our own restoring."""
    import duckdb

    found = _in_tables(platform)
    query = "SELECT location FROM ops.archive WHERE state IN ('verified', 'deleted')"
    folder = folders.open_folder(archive_files.CONNECTION)
    places = [folder.place(location) for (location,) in warehouse.execute(query).fetchall()]
    if places:
        rows = "CAST(audit_log_id AS VARCHAR), CAST(created_at AS VARCHAR), actor, action, detail"
        found.update(duckdb.execute(f"SELECT {rows} FROM read_parquet(?)", [places]).fetchall())
    assert set(found) <= set(everything), "as they were, in every column"
    return everything - found


def test_random_kills(any_platform: psycopg.Connection, warehouse: psycopg.Connection, tmp_path: Path) -> None:
    kills = KILLS if any_platform.info.server_version >= 180000 else max(1, KILLS // 2)
    _kill_at_random(any_platform, warehouse, tmp_path, lambda: _fill(any_platform), kills)


def test_random_kills_while_whole_partitions_go(
    any_platform: psycopg.Connection, warehouse: psycopg.Connection, any_databases: Databases, tmp_path: Path
) -> None:
    any_platform.execute("DROP TABLE public.audit_logs")
    with psycopg.connect(any_databases.postgres.url(any_platform.info.dbname), autocommit=True) as superuser:
        superuser.execute(
            "CREATE TABLE public.audit_logs (audit_log_id bigint GENERATED BY DEFAULT AS IDENTITY,"
            " created_at timestamptz NOT NULL, actor text, action text NOT NULL, detail jsonb,"
            " PRIMARY KEY (audit_log_id, created_at))"
            " PARTITION BY RANGE (created_at)"
        )
        superuser.execute("ALTER TABLE public.audit_logs OWNER TO operations_maintainer")
        superuser.execute("GRANT SELECT ON public.audit_logs TO escrow_owner")
        superuser.execute("GRANT CREATE ON SCHEMA public TO operations_maintainer")
        kills = max(1, KILLS // (2 if any_platform.info.server_version >= 180000 else 4))
        _kill_at_random(any_platform, warehouse, tmp_path, lambda: _fill_partitions(superuser), kills)
    query = "SELECT count(*) FROM ops.detached_partition WHERE state <> 'dropped'"
    assert warehouse.execute(query).fetchone() == (0,)


def _kill_at_random(
    platform: psycopg.Connection, warehouse: psycopg.Connection, tmp_path: Path, fill: Callable[[], None], kills: int
) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    dice, killed, complete, longest = random.Random(seed), 0, 0, 0.5
    fill()
    everything = _in_tables(platform)
    command = [sys.executable, "-c", TASK, RULE.model_dump_json(), NOW.isoformat()]
    while killed < kills:
        with subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as task:
            assert task.stdin is not None
            assert task.stdout is not None
            assert task.stdout.readline() == b"ready\n"
            began = time.monotonic()
            task.stdin.write(f"run {killed}-{complete}\n".encode())
            task.stdin.flush()
            time.sleep(dice.uniform(0, longest))
            task.send_signal(signal.SIGKILL)
            ended = task.stdout.read()
        if ended == b"done\n":
            complete += 1
            longest = max(0.05, min(longest, time.monotonic() - began))
            _check_complete(platform, warehouse, everything, tmp_path)
            fill()
            everything = _in_tables(platform) + archived(platform, warehouse)
        else:
            killed += 1
            assert _lost(platform, warehouse, everything) == Counter(), f"after kill {killed}"
    prune.prune(RULE, "last", dry_run=False, now=NOW)
    _check_complete(platform, warehouse, everything, tmp_path)
    print(f"{killed} kills, {complete} complete runs between them")


def _check_complete(
    platform: psycopg.Connection, warehouse: psycopg.Connection, everything: Counter, tmp_path: Path
) -> None:
    assert _in_tables(platform) + archived(platform, warehouse) == everything, "exactly, and none twice"
    assert set(states(warehouse)) <= {"deleted", "withdrawn"}
    query = "SELECT location FROM ops.archive WHERE state = 'deleted' ORDER BY 1"
    assert files(tmp_path) == [location for (location,) in warehouse.execute(query).fetchall()]
    manifests.verify_chain("public.audit_logs")


@pytest.mark.parametrize("kind", [Postgres, OldPostgres], ids=["postgresql18", "postgresql15"])
def test_the_database_restarts_in_the_middle(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path, kind: type[Postgres]
) -> None:
    """A cluster of its own for the platform: it crashes in the middle of the deletion."""
    from tests.include.maintenance.conftest import AUDIT_LOGS

    if kind is OldPostgres:
        skip_where_absent()
    tmp_path.chmod(0o755)
    processes = Processes(tmp_path / "processes.json")
    try:
        own = Databases(kind(processes, tmp_path / "own").start(), tmp_path)
        own.create_roles()
        own.create("escrow", "escrow_owner")

        def lead() -> None:
            environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", own.url("escrow", "operations_maintainer"))
            environment.setenv("AIRFLOW_CONN_PLATFORM_OWNER", own.url("escrow", "escrow_owner"))

        lead()
        with connections.postgres("platform_owner", autocommit=True) as platform:
            platform.execute(AUDIT_LOGS)
            _fill(platform)
            before = in_table(platform)
        wait = Throttle.wait

        def crash(throttle: Throttle) -> None:
            wait(throttle)
            if throttle.table_oid and next(calls, None) is None:
                assert own.postgres.process is not None
                os.kill(own.postgres.process.popen.pid, signal.SIGQUIT)  # at once, without a checkpoint

        calls = iter(range(20))
        with environment.context() as patch:
            patch.setattr(Throttle, "wait", crash)
            with pytest.raises(SourceUnavailable, match="was lost"):
                prune.prune(RULE, "r1", dry_run=False, now=NOW)
        own.postgres.stop()
        own.postgres.start()
        lead()
        assert prune.prune(RULE, "r1", dry_run=False, now=NOW)["state"] == "proven"
        with connections.postgres("platform_owner", autocommit=True) as platform:
            assert in_table(platform) + archived(platform, warehouse) == before
    finally:
        processes.stop_all()


FULL = """
import resource, sys
from datetime import datetime
from include.maintenance.pruning import prune
from include.outcome import MaintenanceFailed, SourceUnavailable
from include.maintenance_sections import Prune
import duckdb, numpy
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    prune.prune(Prune.model_validate_json(sys.argv[1]), "r1", False, datetime.fromisoformat(sys.argv[2]))
except (MaintenanceFailed, SourceUnavailable) as error:
    print(error)
"""


@pytest.mark.parametrize("largest", [2_000, 20_000])
def test_no_room_for_the_archive(
    any_platform: psycopg.Connection, warehouse: psycopg.Connection, tmp_path: Path, largest: int
) -> None:
    """No file may get larger than a few bytes in the task's process, as on a disk that is full."""
    _fill(any_platform)
    before = in_table(any_platform)
    whole = rule(batch_rows=500, archive_rows=5000)
    command = [sys.executable, "-c", FULL, whole.model_dump_json(), NOW.isoformat(), str(largest)]
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert "File too large" in ended.stdout, ended
    assert len(ended.stdout.splitlines()) == 1
    assert in_table(any_platform) == before
    assert files(tmp_path) == []
    [(state, reason)] = warehouse.execute("SELECT state, reason FROM ops.maintenance_action").fetchall()
    assert (state, reason) == ("failed", ended.stdout.strip())
    assert prune.prune(whole, "r1", dry_run=False, now=NOW)["rows"] == OLD
    assert in_table(any_platform) + archived(any_platform, warehouse) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_the_archive_folder_is_full(
    any_platform: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "archive"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)], check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    _fill(any_platform)
    before = in_table(any_platform)
    try:
        with pytest.raises((SourceUnavailable, MaintenanceFailed), match="No space left on device"):
            prune.prune(RULE, "r1", dry_run=False, now=NOW)
        subprocess.run(["mount", "-o", "remount,size=16m", str(place)], check=True)
        assert prune.prune(RULE, "r1", dry_run=False, now=NOW)["state"] == "proven"
        assert in_table(any_platform) + archived(any_platform, warehouse) == before
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_held_horizon_does_not_hinder_the_deletion(
    any_platform: psycopg.Connection, warehouse: psycopg.Connection, any_databases: Databases
) -> None:
    """An old snapshot keeps the dead rows; what it wrote itself is left to be compared by content."""
    _fill(any_platform)
    before = in_table(any_platform)
    with psycopg.connect(any_databases.postgres.url(any_platform.info.dbname)) as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("CREATE TEMPORARY TABLE x AS SELECT count(*) FROM public.audit_logs")
        any_platform.execute("INSERT INTO public.audit_logs (created_at, action) VALUES ('2020-01-01', 'unsettled')")
        assert prune.prune(RULE, "r1", dry_run=False, now=NOW)["rows"] == OLD + 1
        with database.maintenance_session() as connection:
            horizon = database.horizon(connection)
            assert horizon is not None
            assert "transaction open since" in horizon.holder
    after = in_table(any_platform) + archived(any_platform, warehouse)
    assert sum((after - before).values()) == 1
    assert not before - after
