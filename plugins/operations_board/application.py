"""The board's web application. Every route depends on Airflow's login; a test goes through all of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from plugins.operations_board import drill_pages, finding_pages, pages, period_pages, views
from plugins.operations_board.common import Problem
from plugins.operations_board.presentation import Clock
from plugins.operations_board.warehouse import WarehouseAway

_SENTENCES = {
    401: ("Your login is needed", "You are not logged in, or your login has ended.", "Load Airflow again and log in."),
    403: ("Not allowed", "Your Airflow account may not see plugins.", "Ask an administrator for a role that may."),
    404: ("Not found", "The board has no such page.", "Go back to the overview."),
    405: ("Not possible", "The board only shows things; it changes nothing.", "Go back to the overview."),
}  # fmt: skip
_OTHER = (
    "Something failed",
    "The board could not answer.",
    "Load the page again; if it stays, read the API server's log.",
)


def create_application(now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> FastAPI:
    """Build the application; ``now`` returns the present instant (aware)."""
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
    from airflow.api_fastapi.core_api.security import requires_access_view

    application = FastAPI(
        title="Operations board",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(requires_access_view(AccessView.PLUGINS))],
    )
    application.state.now = now
    application.include_router(finding_pages.router)
    application.include_router(drill_pages.router)
    application.include_router(period_pages.router)
    application.include_router(views.router)  # the last: it answers every other address
    application.add_exception_handler(WarehouseAway, _warehouse_away)
    application.add_exception_handler(Problem, _problem)
    application.add_exception_handler(RequestValidationError, _invalid)
    application.add_exception_handler(HTTPException, _http_error)
    return application


def _clock(request: Request) -> Clock:
    """The clock of a page that cannot be made as asked: in UTC, for the configuration itself may be what is wrong."""
    return Clock(request.app.state.now(), ZoneInfo("UTC"))


def _warehouse_away(request: Request, error: Any) -> Response:
    return pages.page(request, "away.html", _clock(request), status=503, away=error)


def _problem(request: Request, error: Any) -> Response:
    return pages.page(
        request,
        "problem.html",
        _clock(request),
        status=error.status,
        title=error.title,
        sentence=str(error),
        remedy=error.remedy,
    )


def _invalid(request: Request, error: Any) -> Response:
    first = error.errors()[0]
    name = str(first["loc"][-1])
    sentence = f"The address gives '{name}' a value that it cannot have."
    return pages.page(
        request, "problem.html", _clock(request), status=422, title="Not understood", sentence=sentence,
        remedy="Go back to the overview and follow a link from there.",
    )  # fmt: skip


def _http_error(request: Request, error: Any) -> Response:
    title, sentence, remedy = _SENTENCES.get(error.status_code, _OTHER)
    return pages.page(
        request,
        "problem.html",
        _clock(request),
        status=error.status_code,
        title=title,
        sentence=sentence,
        remedy=remedy,
    )
