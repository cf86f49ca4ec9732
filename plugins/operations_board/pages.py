"""Renders pages: the Jinja environment, relative links, and the security headers of every answer."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from include.reporting import formats
from plugins.operations_board import periods
from plugins.operations_board.action_lines import action_summary
from plugins.operations_board.presentation import ABSENT, FILTERS, KIND_NAMES, OUTCOME_WORDS, TONES, Clock

TEMPLATES = Path(__file__).resolve().parent / "templates"

_COMMON_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@lru_cache(maxsize=1)
def _style() -> tuple[Markup, str]:
    """The style sheet, and its hash as a Content-Security-Policy wants it: no other style is allowed."""
    text = (TEMPLATES / "board.css").read_text()
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f"'sha256-{digest}'"  # noqa: S704 - a file of ours, no input


def page_policy() -> str:
    """Content-Security-Policy of the board's pages: no scripts at all, nothing from other hosts."""
    return (
        f"default-src 'none'; style-src {_style()[1]}; img-src 'self' data:; frame-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'self'"
    )


DOCUMENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'; sandbox"
)
"""Content-Security-Policy of a report's document: it may style itself and draw, and neither run, send nor load."""


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        FILTERS, action_summary=action_summary, percent=formats.percent, dollars=formats.exact_dollars,
        duration=formats.duration,
        period_name=periods.name_of, period_span=periods.span_of,
    )  # fmt: skip
    environment.globals.update(
        ABSENT=ABSENT, kind_names=KIND_NAMES, outcome_words=OUTCOME_WORDS, tones=TONES, style=_style()[0]
    )
    return environment


def root_of(request: Request) -> str:
    """Return the relative path from the request's page to the board's root, for example ``../../``.

    Links made of it hold under any base path and behind any proxy.
    """
    raw = request.scope.get("raw_path") or request.scope["path"].encode()
    depth = raw.split(b"?")[0].count(b"/") - str(request.scope.get("root_path", "")).count("/") - 1
    return "../" * depth if depth > 0 else "./"


def page(request: Request, template: str, clock: Clock, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a template of the folder ``templates``."""
    body = (
        _environment()
        .get_template(template)
        .render(
            root=root_of(request),
            clock=clock,
            now=clock.now,
            now_utc=clock.now.astimezone(UTC),
            section=values.pop("section", ""),
            refresh=values.pop("refresh", None),
            **values,
        )
    )
    headers = _COMMON_HEADERS | {"Content-Security-Policy": page_policy()}
    if status == 503:
        headers["Retry-After"] = "60"
    return HTMLResponse(body, status_code=status, headers=headers)


def document(html: str) -> HTMLResponse:
    """Return a report's own page, locked into a sandbox."""
    return HTMLResponse(html, headers=_COMMON_HEADERS | {"Content-Security-Policy": DOCUMENT_POLICY})


def plain_text(text: str) -> Response:
    """Return a report as Markdown, shown by the browser as plain text."""
    headers = _COMMON_HEADERS | {"Content-Security-Policy": "default-src 'none'; frame-ancestors 'self'; sandbox"}
    return Response(text, media_type="text/plain; charset=utf-8", headers=headers)
