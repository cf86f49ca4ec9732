"""Writes ``ops.index_usage``: how often each index had been scanned at each review, on the primary and its replicas."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from include.warehouse import session
from include.warehouse.statements import statements

PRIMARY = "primary"
_STATEMENTS = statements(__file__)


class Usage(NamedTuple):
    """Scans of one index on one node since ``statistics_since``; times are aware datetimes."""

    node: str
    index_oid: int
    index_name: str
    scans: int
    last_scan_at: datetime | None
    statistics_since: datetime


class Idle(NamedTuple):
    """Since when an index has not been scanned on one node, and since when the server is known to have it."""

    index_oid: int
    index_name: str
    node: str
    scans: int
    statistics_since: datetime
    idle_since: datetime
    known_since: datetime


def record(run_id: str, server: str, taken_at: datetime, usages: Sequence[Usage], *, keep_days: int) -> list[Idle]:
    """Store a run's reading in place of its earlier one, and return what all readings say about each index.

    One transaction. Readings older than ``keep_days`` are removed. ``server`` names the cluster, its database
    and the primary's timeline: readings of another one say nothing about this.
    Raises ConfigurationError and SourceUnavailable as ``session.transaction`` does.
    """
    nodes, oids, names, scans, last_scans, since = (
        [list(column) for column in zip(*usages, strict=True)] if usages else [[] for _ in Usage._fields]
    )
    values = {
        "run_id": run_id,
        "server": server,
        "taken_at": taken_at,
        "keep_days": keep_days,
        "nodes": nodes,
        "oids": oids,
        "names": names,
        "scans": scans,
        "last_scans": last_scans,
        "since": since,
    }
    with session.transaction() as connection:
        connection.execute(_STATEMENTS["remove"], values)
        connection.execute(_STATEMENTS["record"], values)
        return [Idle(*row) for row in connection.execute(_STATEMENTS["idle"], values)]
