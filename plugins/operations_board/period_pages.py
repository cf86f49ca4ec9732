"""The pages of weeks and months: the newest of both beside each other, and one of them with all its figures."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from include.reporting.formats import Unit
from include.warehouse.metrics import SUBJECT_TABLES
from include.window import Grain, Window, last_finished_day
from plugins.operations_board import archive, pages, periods
from plugins.operations_board.common import Problem, clock_of, configuration, expected_day
from plugins.operations_board.presentation import KIND_NAMES
from plugins.operations_board.warehouse import Reader, Row, read

router = APIRouter()

MOST_ERRORS = 10
MOST_KINDS = 50
"""Kinds of fees that are listed; the platform has a handful."""

_EXAMPLE = {Grain.WEEK: "2026-W40", Grain.MONTH: "2026-10"}


@router.get("/periods")
def all_periods(request: Request) -> Response:
    """Show the figures of the newest weeks and months beside each other, each with its change."""
    clock = clock_of(request)
    zone, expected = configuration().platform.timezone, expected_day(clock.now)
    tables = []
    with read() as reader:
        for grain in periods.SHOWN:
            bounds = reader.row("period_bounds", grain=grain.value)
            windows = periods.newest_first(grain, bounds, expected, zone)
            tables.append((grain, _columns(windows, _rows(reader, grain, windows), expected)))
    return pages.page(request, "periods.html", clock, section="periods", tables=tables, groups=periods.KEY_FIGURES)


@router.get("/periods/{grain}/{key}")
def period(request: Request, grain: Literal["week", "month"], key: Annotated[str, Path(max_length=10)]) -> Response:
    """Show one week or month with all its figures, what it lacks, and its days."""
    clock = clock_of(request)
    zone = configuration().platform.timezone
    window = window_of(Grain(grain), key, zone)
    if window.start > clock.now:
        raise Problem(f"{periods.name_of(window)} has not begun.", remedy="See the list of weeks and months.")
    expected = expected_day(clock.now)
    days, before = window.days, periods.preceding(window)
    asked: dict[str, Any] = {"grain": grain, "first_day": window.first_day}
    kinds = list(KIND_NAMES)
    with read() as reader:
        row, row_before = _rows(reader, window.grain, [window, before])
        uptime = reader.rows("period_uptime", **asked, first_day_before=before.first_day)
        errors = reader.rows("period_errors", **asked, first_day_before=before.first_day, limit=MOST_ERRORS)
        revenue = reader.rows("period_revenue", **asked, limit=MOST_KINDS)
        support = reader.rows("period_support", **asked)
        lacking = reader.rows("completeness", first_day=days[0], last_day=days[-1], subjects=list(SUBJECT_TABLES))
        rolled_up = reader.row("period_bounds", grain=grain)
        bounds = reader.row("archive_bounds", kinds=kinds) or {"first_key": None}
        reports = reader.rows(
            "archive_month", kinds=kinds, first_key=days[0].isoformat(), last_key=days[-1].isoformat()
        )
    after = periods.following(window)
    return pages.page(
        request, "period.html", clock, section="periods", window=window, row=row,
        before=before if _is_known(before, rolled_up, bounds["first_key"]) else None,
        after=after if after.start <= clock.now else None,
        figures={
            table: periods.cells(names, row, row_before, window.grain) for table, names in periods.FIGURES.items()
        },
        uptime=_uptime(uptime), errors=_errors(errors, row, row_before), revenue=revenue, support=support,
        gaps=periods.gaps(lacking, expected), is_over=days[-1] <= expected,
        days=archive.days_of(
            days, reports, kinds, first_key=bounds["first_key"], finished=last_finished_day(clock.now, zone),
            expected=expected,
        ),
    )  # fmt: skip


def window_of(grain: Grain, key: str, zone: str) -> Window:
    """Return the week or month that is written as ``key``. Raises Problem when it is none."""
    found = periods.of_key(grain, key, zone)
    if found is None:
        raise Problem(
            f"'{key}' is not a {grain}.",
            title="Not understood",
            remedy=f"Write it as {_EXAMPLE[grain]}.",
            status=422,
        )
    return found


def _is_known(window: Window, rolled_up: Row | None, first_key: str | None) -> bool:
    """Whether the board can say anything of a period: it was rolled up, or is not before the first report of all."""
    first_day = rolled_up["first_day"] if rolled_up else None
    known = [day for day in (first_day, first_key and date.fromisoformat(first_key)) if day]
    return bool(known) and window.days[-1] >= min(known)


def _rows(reader: Reader, grain: Grain, windows: list[Window]) -> list[Row]:
    """Return a row of periods.sql for each window, in their order."""
    first_days = [window.first_day for window in windows]
    return reader.rows("periods", grain=grain.value, first_days=first_days) if windows else []


def _columns(windows: list[Window], rows: list[Row], expected: date) -> list[dict[str, Any]]:
    """Return what a table shows of each window but the last, which the one before it is compared with only."""
    return [
        {
            "window": window,
            "row": row,
            "is_over": window.days[-1] <= expected,
            "cells": {
                one.name: one
                for names in periods.KEY_FIGURES.values()
                for one in periods.cells(names, row, before, window.grain)
            },
        }
        for window, row, before in zip(windows, rows, rows[1:], strict=False)
    ]


def _uptime(components: list[Row]) -> list[Row]:
    return [one | {"change": periods.change_of(one["uptime"], one["uptime_before"], Unit.SHARE)} for one in components]


def _errors(errors: list[Row], row: Row, before: Row) -> list[Row]:
    """Give each kind of error its change; none where either period lacks days of traffic."""
    whole = periods.is_whole(row, "traffic") and periods.is_whole(before, "traffic")
    return [
        one | {"change": periods.change_of(one["errors"], one["errors_before"], Unit.COUNT) if whole else ""}
        for one in errors
    ]
