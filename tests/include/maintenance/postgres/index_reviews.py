"""What the tests of the index review share."""

from __future__ import annotations

from typing import Any

from include.maintenance.postgres import index_review
from include.warehouse import findings
from include.warehouse.findings import Finding


def review(run_id: str = "r1") -> list[dict[str, Any]]:
    return index_review.review(run_id)


def findings_of(check: str, run_id: str) -> dict[str, Finding]:
    return {one.resource: one for one in findings.of_run(run_id, check)}
