"""The pages of drills: the newest of each kind and resource, and one drill with its stages and its trend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from plugins.operations_board import pages, upkeep
from plugins.operations_board.common import Number, Problem, clock_of, configuration, paging, rows_of_page
from plugins.operations_board.presentation import Clock
from plugins.operations_board.warehouse import Row, read

router = APIRouter()

MOST_TREND = 26
"""Half a year of weekly drills."""

_FULL_BAR = 60.0


@router.get("/drills")
def drills(request: Request, page: Number = 1) -> Response:
    """Show the newest drill of each kind and resource, and list all."""
    clock = clock_of(request)
    sources = [source.name for source in configuration().backups.sources]
    with read() as reader:
        latest = reader.rows("latest_drills")
        rows = rows_of_page(reader, "drills", page)
        trends = {
            row["drill_id"]: bars(
                reader.rows("drill_trend", kind=row["kind"], resource=row["resource"], limit=MOST_TREND), "rto"
            )
            for row in latest
        }
    return pages.page(
        request, "drills.html", clock, section="drills", latest=[shown(row, clock) for row in latest],
        never_tried=upkeep.never_tried(latest, sources), dags=upkeep.DAGS, sources=sources, trends=trends, rows=rows,
        judged=upkeep.judged, **paging(rows, page),
    )  # fmt: skip


@router.get("/drills/{drill_id}")
def drill(request: Request, drill_id: Annotated[int, Path(ge=1, le=2**63 - 1)]) -> Response:
    """Show one drill: what it measured, its stages, and how others of its kind and resource went."""
    clock = clock_of(request)
    with read() as reader:
        found = reader.row("drill", drill_id=drill_id)
        if found is None:
            raise Problem(f"There is no drill {drill_id}.", remedy="See the list of all drills.")
        stages = reader.rows("drill_stages", id=drill_id)
        trend = reader.rows("drill_trend", kind=found["kind"], resource=found["resource"], limit=MOST_TREND)
    hangs = upkeep.state_of(found | {"passed_at": None}, clock) != found["outcome"]
    return pages.page(
        request, "drill.html", clock, section="drills", drill=found | {"judged": upkeep.judged(found)}, hangs=hangs,
        dag=upkeep.DAGS.get(found["kind"], ""), name=upkeep.drill_name(found["kind"], found["resource"]),
        stages=with_shares(stages), total=sum(row["seconds"] or 0 for row in stages), trend=trend,
        charts={one: bars(trend, one, drill_id) for one in ("rpo", "rto")},
    )  # fmt: skip


def shown(drill: Row, clock: Clock) -> Row:
    """A drill with its name, the word for its present state and how it stands against its targets."""
    return drill | {
        "name": upkeep.drill_name(drill["kind"], drill["resource"]),
        "state": upkeep.state_of(drill, clock),
        "judged": upkeep.judged(drill),
    }


def with_shares(stages: Sequence[Row]) -> list[Row]:
    """Give each stage the share of the longest one that its time is, in percent; None for one without a time."""
    longest = max((float(row["seconds"]) for row in stages if row["seconds"] is not None), default=0.0)
    return [
        row
        | {
            "percent": None
            if row["seconds"] is None or not longest
            else round(100 * float(row["seconds"]) / longest, 1)
        }
        for row in stages
    ]


# --------------------------------------------------------------------------------------------------------- trend
@dataclass(frozen=True)
class Bar:
    """A drill's bar in a chart of 100 units of width and 60 of height; ``height`` is None without a figure."""

    drill_id: int
    outcome: str
    x: float
    width: float
    height: float | None
    is_this: bool


@dataclass(frozen=True)
class Chart:
    """Bars, the oldest first, under the highest value; ``target_y`` is the line of the target, if one is set."""

    bars: tuple[Bar, ...]
    highest_seconds: float
    target_seconds: float | None
    target_y: float | None


def bars(trend: Sequence[Row], name: str, this: int | None = None) -> Chart | None:
    """Draw ``rpo`` or ``rto`` of drills (the newest first); None when fewer than two of them were measured."""
    values = [None if row[f"{name}_seconds"] is None else float(row[f"{name}_seconds"]) for row in trend]
    if sum(value is not None for value in values) < 2:
        return None
    target = next((float(row[f"{name}_target_seconds"]) for row in trend if row[f"{name}_target_seconds"]), None)
    highest = max(value for value in values if value is not None)
    # A target far above every figure would leave nothing to see of them; then the line is not drawn but written.
    drawn = target if target is not None and target <= 4 * highest else None
    top = max(highest, drawn or 0.0) * 1.05 or 1.0
    step = 100 / max(len(trend), 8)
    found = tuple(
        Bar(
            row["drill_id"],
            row["outcome"],
            round(index * step + step * 0.12, 2),
            round(step * 0.76, 2),
            None if value is None else round(max(1.0, _FULL_BAR * value / top), 2),
            row["drill_id"] == this,
        )
        for index, (row, value) in enumerate(zip(reversed(trend), reversed(values), strict=True))
    )
    return Chart(found, highest, target, None if drawn is None else round(_FULL_BAR * (1 - drawn / top), 2))
