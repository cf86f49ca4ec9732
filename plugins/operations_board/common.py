"""What the pages of all sections share: the clock, the configuration, pages of a list, and a page that there is not."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import Query, Request

from include.outcome import ConfigurationError
from include.settings import Settings, settings
from include.window import day_window, last_finished_day
from plugins.operations_board.presentation import Clock
from plugins.operations_board.warehouse import Reader, Row, WarehouseAway

PAGE_ROWS = 50
METRICS_TAKE = timedelta(hours=1)
"""How long after its wait for late lines a day's metrics and reports may take before they are late."""
Number = Annotated[int, Query(ge=1, le=10_000)]
"""Number of a page of a list, from 1."""


class Problem(Exception):
    """A page that there is not: one sentence, what to do instead, and the HTTP status."""

    def __init__(self, sentence: str, *, title: str = "Not found", remedy: str, status: int = 404) -> None:
        super().__init__(sentence)
        self.title, self.remedy, self.status = title, remedy, status


def configuration() -> Settings:
    """Return the settings; raises WarehouseAway, whose page names what is wrong with them."""
    try:
        return settings()
    except ConfigurationError as error:
        sentence = f"The board cannot read its configuration: {error}."
        raise WarehouseAway(sentence, "Correct the configuration and restart the API server.") from error


def clock_of(request: Request) -> Clock:
    """Return the clock of a page, in the platform's time zone."""
    return Clock(request.app.state.now(), ZoneInfo(configuration().platform.timezone))


def expected_day(now: datetime) -> date:
    """Return the last day whose metrics and reports are due at ``now`` (aware)."""
    configured = configuration()
    zone = configured.platform.timezone
    finished = last_finished_day(now, zone)
    late = timedelta(minutes=configured.traffic.late_lines_minutes) + METRICS_TAKE
    return finished if now >= day_window(finished, zone).end + late else finished - timedelta(days=1)


def rows_of_page(reader: Reader, query: str, page: int, **parameters: Any) -> list[Row]:
    """Return the rows of one page, from 1, of the list that a query with ``limit`` and ``offset`` gives."""
    return reader.rows(query, **parameters, limit=PAGE_ROWS, offset=(page - 1) * PAGE_ROWS)


def paging(rows: list[Row], page: int) -> dict[str, Any]:
    """Return what the template's pager needs for the rows of a page, each of which tells the total of all pages.

    Raises Problem when the list has no such page.
    """
    total = int(rows[0]["total"]) if rows else 0
    pages = max(1, -(-total // PAGE_ROWS))
    if page > pages:
        raise Problem(f"The list has no page {page}.", remedy="Go back to its first page.")
    return {"page": page, "pages": pages, "total": total}
