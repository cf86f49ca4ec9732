"""The findings that the board shows: those of the latest run of each check, as the warehouse holds them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from include.outcome import Outcome
from include.warehouse import session
from include.warehouse.findings import Finding

_LATEST = """
    SELECT check_name, run_id, resource, outcome, summary, evidence, remedy, estimated_gain, found_at, first_found_at,
           coalesce(is_new, false)
    FROM ops.latest_finding
    WHERE %(check)s::text IS NULL OR check_name = %(check)s
    ORDER BY array_position(ARRAY['critical', 'warning', 'unknown', 'ok', 'not_applicable'], outcome),
             check_name, resource
"""


@dataclass(frozen=True)
class Recorded:
    """A finding; ``first_found_at`` is since when it is open, ``is_new`` whether its run was the first to find it."""

    check: str
    run_id: str
    finding: Finding
    found_at: datetime
    first_found_at: datetime | None
    is_new: bool


def latest_findings(check: str | None = None) -> list[Recorded]:
    """Return the findings of the latest run of a check (of every check without one), the worst first."""
    with session.transaction() as connection:
        rows = connection.execute(_LATEST, {"check": check}).fetchall()
    return [Recorded(row[0], row[1], Finding(row[2], Outcome(row[3]), *row[4:8]), *row[8:]) for row in rows]
