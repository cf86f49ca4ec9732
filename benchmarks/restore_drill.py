"""A backup verification with all its checks against a plain ``pg_restore -j2`` of the same dump.

Both restore to scratch servers with the same settings, in memory where there is room: in the minute after a server's
files were removed, as those of the round before were, ext4 takes a second more to make new ones. The drill's time is
that of the whole verification, from looking for the backup to the removed server; the peer's is that of pg_restore
alone, into a server that is there already.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import psycopg
import yaml

from benchmarks.figures import Figure
from benchmarks.scratch import environment, scratch_databases
from demo import memory_folder
from include.maintenance.backups import backup_verification
from include.platform import backups
from include.platform.backup_restore import prepare_for_dump, restore_dump
from include.platform.scratch_server import scratch_server
from include.settings import DEFAULT_FILE, settings
from include.warehouse import drills, migrate

GIGABYTES = float(os.environ.get("BENCH_GIGABYTES", "1"))
AT_MOST = 1.3
ROUNDS = 3
JOBS = 2

_TABLES = """
CREATE TABLE branches (branch_id integer PRIMARY KEY, balance integer NOT NULL, filler char(88) NOT NULL);
CREATE TABLE accounts (
    account_id bigint PRIMARY KEY, branch_id integer NOT NULL REFERENCES branches, balance integer NOT NULL,
    filler char(84) NOT NULL
);
CREATE TABLE history (
    history_id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts, delta integer NOT NULL,
    made_at timestamptz NOT NULL, filler char(22) NOT NULL
);
INSERT INTO branches SELECT n, 0, '' FROM generate_series(1, 100) AS n;
INSERT INTO accounts SELECT n, 1 + n % 100, n % 9999, md5(n::text) FROM generate_series(1, {rows}) AS n;
INSERT INTO history
SELECT n, 1 + n::bigint * 7919 % {rows}, n % 5000, timestamptz '2026-01-01' + n * interval '1 second', 'x'
FROM generate_series(1, {rows} / 2) AS n;
CREATE INDEX history_made_at ON history (made_at);
"""
"""Tables like those of pgbench, with the foreign keys that its option --foreign-keys makes and a second index."""
_BYTES_PER_ROW = 227  # of an account with half a row of history, and their indexes


def measure() -> list[Figure]:
    """Generate the database, dump it once, and time drill and peer in turns; the fastest of each counts."""
    with scratch_databases() as (folder, _, databases):
        for name, owner in (("warehouse", "warehouse_owner"), ("escrow", "escrow_owner")):
            databases.create(name, owner)
        place = folder / "backups"
        connections = databases.connections(warehouse="warehouse", escrow="escrow") | {
            "AIRFLOW_CONN_BACKUPS": json.dumps({"conn_type": "fs", "extra": {"path": str(place)}}),
            "OPERATIONS_CONFIG": str(_configuration(folder)),
        }
        with environment(connections):
            settings.cache_clear()
            try:
                migrate.upgrade()
                return _measure(databases.url("escrow", "escrow_owner"), place)
            finally:
                settings.cache_clear()


def _configuration(folder: Path) -> Path:
    content = yaml.safe_load(DEFAULT_FILE.read_text())
    content["backups"] |= {
        "sources": [{"name": "bench", "format": "custom", "files": "*.dump", "every_hours": 24}],
        "query": "SELECT sum(delta) > 0 FROM history WHERE made_at >= '2026-01-02' AND made_at < '2026-01-03'",
        "recovery_point_hours": 1e6,
        "jobs": JOBS,
    }
    if memory := memory_folder.roomy(6e9 * GIGABYTES):
        content["backups"]["scratch_folder"] = str(memory)
    file = folder / "operations.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def _measure(url: str, place: Path) -> list[Figure]:
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(_TABLES.format(rows=int(GIGABYTES * 1e9 / _BYTES_PER_ROW)).encode())
        row = owner.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None
    dump = backups.take(url, place, "bench.dump")
    facts = backups.read_facts(dump.name)
    assert facts is not None
    ours, peers, stages = [], [], {}
    for number in range(ROUNDS):
        with scratch_server(facts.major, "benchmark") as server:
            restored = prepare_for_dump(server, dump, facts)
            begun = time.perf_counter()
            restore_dump(restored, dump, JOBS, privileges=True)
            peers.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        backup_verification.verify("bench", f"round {number}")
        ours.append(time.perf_counter() - begun)
        drill = drills.find("backup_verification", "bench", f"round {number}")
        assert drill is not None
        stages = {stage.name: stage.seconds for stage in drills.stages_of(drill) if (stage.seconds or 0) >= 0.1}
    ratio = min(ours) / min(peers)
    print(f"  stages of the last drill: {stages}", flush=True)
    return [
        Figure(
            f"restore_drill {row[0] / 1e9:.2f} GB, all checks",
            f"{min(ours):.1f} s",
            f"{min(peers):.1f} s pg_restore -j2",
            f"{ratio:.2f}",
            f"at most {AT_MOST} times pg_restore",
            ratio <= AT_MOST,
        )
    ]
