"""What the tests of pruning share: the rule, the rows that are archived, and the random kills."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from include.maintenance.pruning.restore import restore
from include.maintenance_sections import Prune

NOW = datetime(2026, 10, 4, 3, 0, tzinfo=UTC)
CUT_OFF = datetime(2026, 7, 6, 3, 0, tzinfo=UTC)  # 90 times 24 hours before, counted by hand
ALL = "SELECT audit_log_id::text, created_at::text, actor, action, detail::text FROM public.audit_logs"


def rule(**changes: object) -> Prune:
    values = {"table": "public.audit_logs", "time_column": "created_at", "key_column": "audit_log_id"}
    return Prune.model_validate(values | {"keep_days": 90, "batch_rows": 5, "archive_rows": 10} | changes)


def archived(platform: psycopg.Connection, warehouse: psycopg.Connection) -> Counter:
    """Restore every archive into a table of its own and count the rows."""
    found: Counter = Counter()
    query = "SELECT archive_id FROM ops.archive WHERE state IN ('verified', 'deleted') ORDER BY 1"
    for n, (archive,) in enumerate(warehouse.execute(query).fetchall()):
        platform.execute(f"DROP TABLE IF EXISTS public.restored_{n}")
        restore(archive, "platform_owner", f"public.restored_{n}")
        found.update(platform.execute(ALL.replace("audit_logs", f"restored_{n}")).fetchall())
    return found


def wait_until_settled(platform: psycopg.Connection) -> None:
    """Wait until no transaction anywhere in the cluster, of a test beside this one, is older than the rows."""
    query = (
        "SELECT count(*) FROM public.audit_logs WHERE age(xmin) <= age(pg_snapshot_xmin(pg_current_snapshot())::xid)"
    )
    until = time.monotonic() + 60
    while platform.execute(query).fetchone() != (0,):
        assert time.monotonic() < until, "a transaction has been open for a minute"
        time.sleep(0.05)


def in_table(platform: psycopg.Connection) -> Counter:
    return Counter(platform.execute(ALL).fetchall())


def files(tmp_path: Path) -> list[str]:
    """The archive files, without their manifests."""
    return sorted(
        str(path.relative_to(tmp_path / "archive"))
        for path in (tmp_path / "archive").rglob("*")
        if path.is_file() and not path.name.endswith(".manifest.json")
    )


def states(warehouse: psycopg.Connection) -> list[str]:
    return [state for (state,) in warehouse.execute("SELECT state FROM ops.archive ORDER BY archive_id")]
