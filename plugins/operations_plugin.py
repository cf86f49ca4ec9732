"""Registers the collection's plugin. Every Airflow process loads this file, so it imports nothing heavy."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any
from urllib.parse import quote

from airflow.plugins_manager import AirflowPlugin

log = logging.getLogger(__name__)

# Airflow draws it as a plain image on a light, a dark or (while the board is open) a blue ground: it has its own plate.
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><rect x="1.5" y="3" width="21" height="18" rx="3.5" '
    'fill="{plate}"/><path d="M5 12.5h3.2l2.3-5.5 3.4 9.5 2-4h3.1" fill="none" stroke="{line}" stroke-width="2.2" '
    'stroke-linecap="round" stroke-linejoin="round"/></svg>'
)


def _icon(plate: str, line: str) -> str:
    return "data:image/svg+xml," + quote(_ICON.format(plate=plate, line=line))


class OperationsPlugin(AirflowPlugin):
    """The operations board in Airflow's navigation."""

    name = "operations"
    external_views = [  # noqa: RUF012 - Airflow reads it as a class attribute
        {
            "name": "Operations board",
            "href": "operations-board/",  # relative to Airflow's base URL; the slash at its end is needed
            "destination": "nav",
            "url_route": "operations-board",
            "nav_top_level": True,
            "icon": _icon("#334155", "#ffffff"),
            "icon_dark_mode": _icon("#dbe4f0", "#1e293b"),
        }
    ]

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The board's application, built when the API server asks for it; no other process does."""
        from starlette.responses import PlainTextResponse

        try:
            from plugins.operations_board.application import create_application

            application: Any = create_application()
        except Exception:
            # An exception here would keep the whole API server from starting, and every task needs that server.
            log.exception("the operations board cannot start; is the checkout on PYTHONPATH?")
            sentence = "The operations board cannot start; the log of the API server says why."
            application = PlainTextResponse(sentence, status_code=503)
        return [{"app": application, "url_prefix": "/operations-board", "name": self.external_views[0]["name"]}]
