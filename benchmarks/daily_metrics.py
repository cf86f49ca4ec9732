"""What a day's metrics cost per row of their sources, at the guide's volumes, 10 and 100 times as much."""

from __future__ import annotations

import json
import time
from datetime import date, timedelta
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.scratch import environment, scratch_databases
from demo.databases import Databases

SCALES = (1, 10, 100)
FIRST_DAY, DAYS, MEASURED = date(2026, 10, 1), 3, 2
_GOAL = "per row no more than at the scale before"
_SOURCES = """
    SELECT (SELECT count(*) FROM operations.page_views WHERE viewed_at >= %(start)s AND viewed_at < %(end)s)
         + (SELECT count(*) FROM operations.sessions WHERE started_at >= %(start)s AND started_at < %(end)s)
         + (SELECT count(*) FROM operations.transactions WHERE created_at >= %(start)s AND created_at < %(end)s)
         + (SELECT count(*) FROM operations.support_tickets WHERE created_at >= %(start)s AND created_at < %(end)s)
"""


def measure() -> list[Figure]:
    """Generate a platform of each size and compute days of it, from the sources to the warehouse."""
    figures: list[Figure] = []
    before: tuple[int, float] | None = None
    with scratch_databases() as (folder, _, databases):
        for scale in SCALES:
            seconds, rows = _cost(databases, folder / f"scale-{scale}", scale)
            each = seconds / rows
            if before is not None:
                smaller, cost = before
                figures.append(
                    Figure(
                        f"daily_metrics SCALE={scale}",
                        f"{seconds / MEASURED:.2f} s a day, {each * 1e6:.1f} us/row",
                        f"SCALE={smaller}: {cost * 1e6:.1f} us/row",
                        f"{each / cost:.2f}",
                        _GOAL,
                        each <= cost,
                    )
                )
            before = scale, each
    return figures


def _cost(databases: Databases, folder: Path, scale: int) -> tuple[float, int]:
    """Return the seconds that the measured days take together, and the rows and log lines that they are made from."""
    from demo.platform import database, history
    from include import connections
    from include.reporting import support, traffic, transactions, uptime, users
    from include.warehouse import migrate
    from include.window import day_window

    escrow, warehouse, logs = f"escrow_{scale}", f"warehouse_{scale}", folder / "logs"
    databases.create(escrow, "escrow_owner")
    databases.create(warehouse, "warehouse_owner")
    place = {"AIRFLOW_CONN_PLATFORM_LOGS": json.dumps({"conn_type": "fs", "extra": {"path": str(logs)}})}
    with environment(databases.connections(warehouse=warehouse, escrow=escrow) | place):
        migrate.upgrade()
        database.install(databases.url(escrow, "escrow_owner"))
        history.generate(
            databases.url(escrow, "escrow_owner"),
            databases.url(warehouse, "warehouse_writer"),
            logs,
            first_day=FIRST_DAY,
            days=DAYS,
            scale=scale,
            seed=7,
        )
        seconds, rows = 0.0, 0
        for number in range(MEASURED):
            window = day_window(FIRST_DAY + timedelta(days=number), "UTC")
            started = time.perf_counter()
            for subject in (traffic, users, transactions, support, uptime):
                subject.compute(window, "benchmark")
            seconds += time.perf_counter() - started
            with connections.postgres("platform_db") as source, connections.postgres("warehouse_reader") as held:
                found = source.execute(_SOURCES, {"start": window.start, "end": window.end}).fetchone()
                lines = held.execute(
                    "SELECT lines_read FROM ops.daily_traffic WHERE day = %s", (window.first_day,)
                ).fetchone()
            assert found
            assert lines
            rows += found[0] + lines[0]
    databases.drop(escrow)
    databases.drop(warehouse)
    return seconds, rows
