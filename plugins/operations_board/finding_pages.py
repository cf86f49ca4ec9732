"""The pages of findings: what the latest run of every check said, and one finding with its history."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from plugins.operations_board import pages
from plugins.operations_board.common import Number, Problem, clock_of, paging, rows_of_page
from plugins.operations_board.presentation import words
from plugins.operations_board.upkeep import PAUSES, is_stale
from plugins.operations_board.warehouse import read

router = APIRouter()

MOST_HISTORY = 60
OPEN = ("critical", "warning", "unknown")
OUTCOMES = (*OPEN, "ok", "not_applicable")

Shown = Literal["open", "critical", "warning", "unknown", "ok", "not_applicable", "all"]


@router.get("/findings")
def findings(
    request: Request,
    outcome: Shown = "open",
    check: Annotated[str | None, Query(max_length=100, pattern="^[^\\x00]+$")] = None,
    page: Number = 1,
) -> Response:
    """List the latest findings, the worst first; ``outcome`` and ``check`` narrow them down."""
    clock = clock_of(request)
    outcomes = {"open": OPEN, "all": OUTCOMES}.get(outcome, (outcome,))
    with read() as reader:
        checks = reader.rows("finding_checks", runs=PAUSES)
        rows = rows_of_page(reader, "findings", page, outcomes=list(outcomes), check=check)
    if check is not None and all(row["check_name"] != check for row in checks):
        raise Problem(f"There is no check {check}, or it has never looked.", remedy="See the list of all checks.")
    counted = [row for row in checks if check in (None, row["check_name"])]
    numbers = {one: sum(row[one] for row in counted) for one in OUTCOMES}
    numbers |= {"open": sum(numbers[one] for one in OPEN), "all": sum(numbers.values())}
    return pages.page(
        request, "findings.html", clock, section="findings", rows=rows, outcome=outcome, check=check, numbers=numbers,
        checks=[row | {"stale": is_stale(row, clock.now)} for row in checks], outcomes=OUTCOMES,
        **paging(rows, page),
    )  # fmt: skip


@router.get("/findings/{finding_id}")
def finding(request: Request, finding_id: Annotated[int, Path(ge=1, le=2**63 - 1)]) -> Response:
    """Show one finding: its evidence, remedy and gain, and what the check said of the same resource in other runs."""
    with read() as reader:
        found = reader.row("finding", finding_id=finding_id)
        if found is None:
            raise Problem(f"There is no finding {finding_id}.", remedy="See the list of the latest findings.")
        history = reader.rows(
            "finding_history", check=found["check_name"], resource=found["resource"], limit=MOST_HISTORY
        )
    return pages.page(
        request, "finding.html", clock_of(request), section="findings", finding=found, history=history,
        name=f"{words(found['check_name'])}: {found['resource']}",
    )  # fmt: skip
