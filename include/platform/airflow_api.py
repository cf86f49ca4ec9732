"""Reads Airflow's own REST API, with the connection ``airflow_api``: its address and the login of a user.

The user needs no more than to read DAGs, runs and import errors. An answer's text never gets into an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from include import connections
from include.outcome import ConfigurationError, SourceUnavailable
from include.web_addresses import web_url

if TYPE_CHECKING:
    import httpx

CONNECTION = "airflow_api"
_TIMEOUT_SECONDS = 15
_PAGE, _MOST_PAGES = 100, 1000


class AirflowApi:
    """Airflow as its REST API shows it. Use ``open_api``."""

    def __init__(self, client: httpx.Client) -> None:
        """Take over a client that is logged in."""
        self._client = client

    def pages(self, path: str, key: str, **parameters: Any) -> list[dict[str, Any]]:
        """Return every item of a listing (``path`` without /api/v2), page by page.

        Raises ConfigurationError (the user may not read it) or SourceUnavailable.
        """
        found: list[dict[str, Any]] = []
        for _ in range(_MOST_PAGES):
            page = _answer(
                self._client, "GET", f"/api/v2{path}", params={**parameters, "limit": _PAGE, "offset": len(found)}
            )
            found += page[key]
            if not page[key] or len(found) >= page["total_entries"]:
                return found
        raise SourceUnavailable(f"Airflow's API lists more than {_PAGE * _MOST_PAGES} entries for {path}")


@contextmanager
def open_api() -> Iterator[AirflowApi]:
    """Log in. Raises ConfigurationError (refused, or not Airflow) or SourceUnavailable."""
    import httpx

    found = connections.details(CONNECTION)
    if not (found.login and found.password):
        raise ConfigurationError(f"the connection {CONNECTION} has no login and password; set those of a user")
    with httpx.Client(base_url=web_url(CONNECTION), timeout=_TIMEOUT_SECONDS) as client:
        given = {"username": found.login, "password": found.password}
        token = _answer(client, "POST", "/auth/token", json=given).get("access_token")
        if not isinstance(token, str):
            raise ConfigurationError(f"the connection {CONNECTION} does not lead to Airflow; correct its address")
        client.headers["Authorization"] = f"Bearer {token}"
        yield AirflowApi(client)


def _answer(client: httpx.Client, method: str, path: str, **arguments: Any) -> dict[str, Any]:
    import httpx

    try:
        answer = client.request(method, path, **arguments)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceUnavailable(f"Airflow's API ({CONNECTION}) cannot be reached: {type(error).__name__}") from None
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise ConfigurationError(
            f"Airflow refuses the user of the connection {CONNECTION} ({path} answered {answer.status_code}); "
            "correct its login, or let the user read DAGs, runs and import errors"
        )
    if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise SourceUnavailable(f"Airflow's API ({CONNECTION}) answered {answer.status_code} to {path}")
    try:
        content = answer.json() if answer.is_success else None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"the connection {CONNECTION} does not lead to Airflow ({path} answered {answer.status_code}); "
            "correct its address"
        )
    return content
