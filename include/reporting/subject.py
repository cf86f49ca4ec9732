"""Computes one subject of one day from the platform's database: what the subjects read there have in common."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from include.outcome import Completeness
from include.reporting.extent import Extent, extent
from include.warehouse import metrics
from include.warehouse.metrics import TableRows
from include.window import Window


class Found(NamedTuple):
    """What a subject's source gave: its rows by table, facts about the source, and how much of it was there."""

    tables: dict[str, TableRows]
    detail: dict[str, Any]
    extent: Extent


def compute_day(window: Window, run_id: str, subject: str, read: Callable[[Window, datetime], Found]) -> bool:
    """Read a subject's day and write it; tell whether its rows changed.

    ``read`` is called with the window and the instant (UTC) at which the reading begins; a day that has not begun
    is not read and is missing. Raises what ``read`` raises, and as ``metrics.replace_day`` does.
    """
    now = datetime.now(UTC)
    found = Found({}, {}, extent(window, now))
    if found.extent.state is not Completeness.MISSING:
        found = read(window, now)
    return metrics.replace_day(
        window.first_day,
        subject,
        found.tables,
        state=found.extent.state,
        completeness=found.extent.completeness,
        reason=found.extent.reason,
        detail=found.detail,
        run_id=run_id,
    )
