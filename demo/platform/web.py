"""The platform's web application: ``python -m demo.platform.web --port N``.

Settings come from the environment: ESCROW_DATABASE_URL (the role escrow_app), ESCROW_LOGS (a folder), and optionally
ESCROW_REDIS_URL and ESCROW_CHAIN_URL. SIGHUP opens the log files anew.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field

from demo.platform import staff
from demo.platform.api import Api, Refused
from demo.platform.live_logs import Logs
from demo.platform.pages import PAGES, page
from demo.platform.requests import WATCH_AGENT
from demo.platform.store import Cache, Pool, Unavailable

Call = Callable[[Request], Awaitable[Response]]
Number = Annotated[int, Field(gt=0, lt=2**63)]
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]


class Registration(BaseModel):
    """A new user."""

    email: Text
    full_name: Text


class Login(BaseModel):
    """Name and password."""

    email: Text
    password: Text


class NewTransaction(BaseModel):
    """What a buyer wants to pay whom."""

    buyer_id: Number
    seller_id: Number
    amount_usd: Annotated[Decimal, Field(gt=0, max_digits=14, decimal_places=2)]


class Payment(BaseModel):
    """What the buyer pays; by default the price."""

    paid_usd: Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=2)] | None = None


class Ticket(BaseModel):
    """A request to the support team."""

    user_id: Number
    priority: Literal["high", "medium", "low"]
    subject: Text


class Rating(BaseModel):
    """A rating from 1 (worst) to 5 (best)."""

    user_id: Number
    rating: Annotated[int, Field(ge=1, le=5)]
    remark: Annotated[str, Field(max_length=2000, pattern=r"^[^\x00]*$")] = ""


class Verification(BaseModel):
    """Who was verified."""

    user_id: Number


def _client(request: Request) -> str:
    """Return the client's address; a proxy on the same machine may name it."""
    peer = request.client.host if request.client else "-"
    forwarded = request.headers.get("x-forwarded-for", "").split(",")[0].strip()
    return forwarded[:64] if forwarded and peer in ("127.0.0.1", "::1") else peer


def _session(request: Request) -> int | None:
    value = request.cookies.get("session", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else None


def create_app(api: Api, logs: Logs) -> FastAPI:
    """Return the application over ``api``, logging to ``logs``."""
    app = FastAPI(title="Gold Escrow Platform", docs_url=None, redoc_url=None, openapi_url=None)
    _add_logging(app, logs)
    _add_pages(app, api)
    _add_accounts(app, api)
    _add_transactions(app, api)
    _add_staff(app, api)
    return app


def _target(request: Request) -> str:
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{request.method} {request.url.path}{query}"


def _add_logging(app: FastAPI, logs: Logs) -> None:
    @app.middleware("http")
    async def log(request: Request, call_next: Call) -> Response:
        began = time.perf_counter()
        try:
            response = await call_next(request)
        except Exception as error:
            logs.application("ERROR", "escrow.web", "request failed", request.url.path, type(error).__name__)
            response = JSONResponse({"error": "internal error"}, status_code=500)
        size = int(response.headers.get("content-length", 0))
        referer, agent = (request.headers.get(name, "-") for name in ("referer", "user-agent"))
        seconds = time.perf_counter() - began
        logs.access(_client(request), _target(request), response.status_code, size, referer, agent, seconds)
        return response

    @app.exception_handler(Unavailable)
    async def unavailable(request: Request, error: Unavailable) -> Response:
        logs.application("ERROR", "escrow.api", f"{error.what} is not available", request.url.path, error.cause)
        message = f"connect() failed while connecting to upstream ({error.what})"
        logs.error(message, _client(request), _target(request), error.where)
        return JSONResponse({"error": f"{error.what} is not available"}, status_code=503, headers={"Retry-After": "5"})

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return JSONResponse({"error": str(error)}, status_code=error.status)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        logs.application("WARNING", "escrow.api", "request not understood", request.url.path)
        first = error.errors()[0]
        return JSONResponse({"error": f"{'.'.join(map(str, first['loc']))}: {first['msg']}"}, status_code=422)


def _add_pages(app: FastAPI, api: Api) -> None:
    @app.get("/health")
    def health() -> dict[str, str]:
        """Tell that the application serves; it asks nothing of what stands behind it."""
        return {"status": "ok"}

    def show(request: Request) -> Response:
        if request.headers.get("user-agent") == WATCH_AGENT:  # a probe is no visitor, and must not count as one
            api.look()
            return HTMLResponse(page(request.url.path))
        session = api.visit(_session(request), request.url.path, _client(request))
        response = HTMLResponse(page(request.url.path))
        response.set_cookie("session", str(session), httponly=True, samesite="lax")
        return response

    for path in PAGES:
        app.add_api_route(path, show, methods=["GET"], response_model=None)

    @app.get("/transactions/{number}", response_model=None)
    def detail(number: Number, request: Request) -> Response:
        api.transaction(number)
        return show(request)


def _add_accounts(app: FastAPI, api: Api) -> None:
    @app.post("/api/users", status_code=201)
    def register(body: Registration) -> dict[str, Any]:
        return api.register(body.email, body.full_name)

    @app.post("/api/verification")
    def verify(body: Verification) -> dict[str, Any]:
        return api.verify(body.user_id)

    @app.post("/api/login")
    def login(body: Login, request: Request) -> dict[str, Any]:
        return api.login(body.email, body.password, _session(request), _client(request))

    @app.post("/api/logout")
    def logout(request: Request) -> dict[str, str]:
        api.logout(_session(request), _client(request))
        return {"status": "ok"}

    @app.post("/api/support-tickets", status_code=201)
    def ticket(body: Ticket) -> dict[str, Any]:
        return api.ticket(body.user_id, body.priority, body.subject)

    @app.post("/api/feedback", status_code=201)
    def rate(body: Rating) -> dict[str, Any]:
        return api.rate(body.user_id, body.rating, body.remark)


def _add_transactions(app: FastAPI, api: Api) -> None:
    @app.get("/api/prices")
    def prices() -> dict[str, Any]:
        return api.prices()

    @app.get("/api/transactions")
    def newest(page: Annotated[int, Field(ge=1, le=10_000)] = 1) -> list[dict[str, Any]]:
        return api.newest(page)

    @app.get("/api/transactions/{number}")
    def one(number: Number) -> dict[str, Any]:
        return api.transaction(number)

    @app.post("/api/transactions", status_code=201)
    def create(body: NewTransaction) -> dict[str, Any]:
        return api.create(body.buyer_id, body.seller_id, body.amount_usd)

    @app.post("/api/transactions/{number}/fund")
    def fund(number: Number, body: Payment) -> dict[str, Any]:
        return api.fund(number, body.paid_usd)

    changes = {"release": api.release, "dispute": api.dispute, "refund": api.refund, "cancel": api.cancel}

    @app.post("/api/transactions/{number}/{change}")
    def change(number: Number, change: Literal["release", "dispute", "refund", "cancel"]) -> dict[str, Any]:
        return changes[change](number)


def _add_staff(app: FastAPI, api: Api) -> None:
    @app.get("/api/staff/transactions")
    def transactions() -> list[dict[str, Any]]:
        return staff.open_transactions(api.pool)

    @app.get("/api/staff/support-tickets")
    def tickets() -> list[dict[str, Any]]:
        return staff.open_tickets(api.pool)

    @app.post("/api/staff/support-tickets/{number}/{act}")
    def attend(number: Number, act: Literal["answer", "resolve"]) -> dict[str, Any]:
        return staff.attend(api.pool, number, resolved=act == "resolve")


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.platform.web", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    missing = [name for name in ("ESCROW_DATABASE_URL", "ESCROW_LOGS") if not os.environ.get(name)]
    if missing:
        sys.exit(f"the environment variable {missing[0]} is not set; see the first lines of demo/platform/web.py")
    logs = Logs(Path(os.environ["ESCROW_LOGS"]))
    cache = Cache(
        os.environ.get("ESCROW_REDIS_URL"), lambda text: logs.application("WARNING", "escrow.cache", text, "-")
    )
    api = Api(Pool(os.environ["ESCROW_DATABASE_URL"]), cache, os.environ.get("ESCROW_CHAIN_URL") or None)
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda *_: logs.reopen())
    try:
        uvicorn.run(create_app(api, logs), host="127.0.0.1", port=port, log_level="warning", access_log=False)
    finally:
        api.close()


if __name__ == "__main__":
    main()
