"""What the tests of the index review share."""

from __future__ import annotations

from typing import Any

import psycopg

from include.maintenance.postgres import index_review
from include.warehouse import findings
from include.warehouse.findings import Finding


def review(run_id: str = "r1") -> list[dict[str, Any]]:
    return index_review.review(run_id)


def findings_of(check: str, run_id: str) -> dict[str, Finding]:
    return {one.resource: one for one in findings.of_run(run_id, check)}


def age(warehouse: psycopg.Connection, run_id: str, days: float, *, statistics: float = 400) -> None:
    """Make a reading older, as if it had been taken then from statistics of that age."""
    warehouse.execute(
        "UPDATE ops.index_usage SET taken_at = now() - make_interval(secs => %s * 86400),"
        " statistics_since = now() - make_interval(secs => %s * 86400) WHERE run_id = %s",
        (days, statistics, run_id),
    )
