"""Finds tables that should be partitioned by time: large or soon large, insert-mostly, with a time column.

Such a table is pruned row by row; as partitions its old rows leave in milliseconds, vacuum and indexes stay small.
The finding's remedy is the SQL (partition_remedy.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations
from statistics import median
from typing import TYPE_CHECKING, Any

from include import connections
from include.maintenance.postgres import partition_remedy
from include.maintenance.postgres.partition_remedy import Interval
from include.outcome import Outcome
from include.platform import database
from include.settings import settings
from include.warehouse import archives, findings, snapshots
from include.warehouse.findings import Finding
from include.warehouse.snapshots import Snapshot, TableSize
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg

CHECK = "tables_to_partition"
_HISTORY_DAYS = 190
_SOON_DAYS = 90
_PRUNED_DAYS = 31
_INSERT_MOSTLY = 0.8  # inserts among inserts and updates; deletions are what partitions are for
_MANY_PRUNED_ROWS = 1_000_000
_LARGEST_PARTITION_BYTES = 20 * 2**30
_STATEMENTS = statements(__file__)


@dataclass(frozen=True)
class Facts:
    """What is known of a table; None where it is not. ``bytes_per_day`` may be negative."""

    bytes: int
    rows: int | None
    bytes_per_day: float | None
    insert_share: float | None
    pruned_rows: int
    time_column: str | None


def growth(history: Sequence[tuple[datetime, int]]) -> float | None:
    """Return the bytes a day of sizes over time: the median slope of all pairs at least 20 hours apart (Theil-Sen).

    One purge or load in between does not move it. None for fewer than two such sizes.
    """
    slopes = [
        (later - earlier) / ((until - since) / timedelta(days=1))
        for (since, earlier), (until, later) in combinations(sorted(history), 2)
        if until - since >= snapshots.SHORTEST_INTERVAL
    ]
    return median(slopes) if slopes else None


def insert_share(now: TableSize, before: TableSize | None) -> float | None:
    """Return the share of inserts among inserts and updates since ``before`` (or since the statistics were reset).

    None when there were neither: nothing is known of how the table is used.
    """
    inserted, updated = now.rows_inserted, now.rows_updated
    if before is not None and inserted >= before.rows_inserted and updated >= before.rows_updated:
        inserted, updated = inserted - before.rows_inserted, updated - before.rows_updated
    return inserted / (inserted + updated) if inserted + updated else None


def interval(bytes_per_day: float | None) -> Interval:
    """Return the length of a partition: a month, unless that would be more than 20 GiB."""
    if bytes_per_day is None or bytes_per_day * 31 <= _LARGEST_PARTITION_BYTES:
        return "month"
    return "week" if bytes_per_day * 7 <= _LARGEST_PARTITION_BYTES else "day"


def judge(facts: Facts) -> tuple[Outcome, str]:
    """Say whether a table should be partitioned by time, and why."""
    limit = settings().maintenance.monthly.partition_tables_larger_than_bytes
    reasons = []
    if facts.bytes >= limit:
        reasons.append(f"has {facts.bytes / 2**30:,.1f} GiB")
    elif facts.bytes_per_day is not None and facts.bytes + _SOON_DAYS * facts.bytes_per_day >= limit:
        days = (limit - facts.bytes) / facts.bytes_per_day
        reasons.append(f"will have {limit / 2**30:,.1f} GiB in {days:,.0f} days")
    if facts.pruned_rows >= _MANY_PRUNED_ROWS:
        reasons.append(f"loses {facts.pruned_rows:,} rows a month to pruning")
    if not reasons:
        return Outcome.OK, "is small enough"
    why = " and ".join(reasons)
    if facts.time_column is None:
        return Outcome.WARNING, f"{why}, but has no time column that is NOT NULL to partition it by"
    if facts.insert_share is not None and facts.insert_share < _INSERT_MOSTLY:
        share = 100 * (1 - facts.insert_share)
        return Outcome.OK, f"{why}, but {share:.0f} % of its changes are updates: partitions by time would not help"
    return Outcome.WARNING, f"{why}: partition it by {facts.time_column}"


def check(run_id: str) -> dict[str, Any]:
    """Judge every table of the run's snapshot and write the findings; small ones share one.

    Raises ConfigurationError when the run has no snapshot, or SourceUnavailable.
    """
    with findings.unknown_recorded(run_id, CHECK, "the check"):
        snapshot = snapshots.required(run_id)
        history = snapshots.up_to(snapshot, _HISTORY_DAYS)
        sizes = [(one, snapshots.table_sizes(one)) for one in history]
        now = sizes[-1][1]
        configured = {rule.table: rule.time_column for rule in settings().maintenance.prune}
        with (
            connections.postgres("warehouse", autocommit=True) as warehouse,
            database.maintenance_session("the search for tables to partition") as connection,
        ):
            candidates = connection.execute(
                _STATEMENTS["candidates"], {"configured": json.dumps(configured)}
            ).fetchall()
            found = [
                _finding(
                    connection, name, oid, _facts(warehouse, snapshot, sizes, name, time_column), snapshot.taken_at
                )
                for name, oid, time_column in candidates
                if name in now
            ]
        notable = [one for one in found if one is not None]
        small = {"tables": len(found) - len(notable), "snapshots": len(history)}
        rest = Finding("all other tables", Outcome.OK, f"{small['tables']} tables are small enough as they are", small)
        return findings.replace(run_id, CHECK, [*notable, rest])


def _facts(
    warehouse: psycopg.Connection[Any],
    snapshot: Snapshot,
    sizes: list[tuple[Snapshot, dict[str, TableSize]]],
    name: str,
    time_column: str | None,
) -> Facts:
    now = sizes[-1][1][name]
    earlier = [
        tables[name]
        for one, tables in sizes[:-1]
        if name in tables
        and one.counters_since == snapshot.counters_since
        and snapshot.taken_at - one.taken_at >= snapshots.SHORTEST_INTERVAL
    ]
    since = snapshot.taken_at - timedelta(days=_PRUNED_DAYS)
    return Facts(
        now.bytes,
        now.estimated_rows,
        growth([(one.taken_at, tables[name].bytes) for one, tables in sizes if name in tables]),
        insert_share(now, earlier[-1] if earlier else None),
        archives.deleted_since(warehouse, name, since)[1],
        time_column,
    )


def _finding(connection: psycopg.Connection[Any], name: str, oid: int, facts: Facts, now: datetime) -> Finding | None:
    outcome, why = judge(facts)
    if outcome is Outcome.OK and why == "is small enough":
        return None
    evidence = {key: value for key, value in vars(facts).items() if value is not None}
    remedy, gain = "", None
    if outcome is Outcome.WARNING and facts.time_column is not None:
        length = interval(facts.bytes_per_day)
        planned = partition_remedy.plan(connection, name, oid, facts.time_column, length, now)
        remedy = planned.sql or "\n".join(database.in_comment(f"-- {obstacle}") for obstacle in planned.obstacles)
        evidence |= {"interval": length, "obstacles": planned.obstacles, "confirm": planned.confirm}
        gain = {"rows_not_deleted_one_by_one_per_month": facts.pruned_rows} if facts.pruned_rows else None
    return Finding(name, outcome, f"{name} {why}", evidence, remedy, gain)
