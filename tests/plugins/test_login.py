"""Every address of the board needs Airflow's login."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from starlette.routing import BaseRoute

pytestmark = pytest.mark.airflow


def leaves(routes: list[BaseRoute]) -> list[BaseRoute]:
    """The routes themselves, also those that stand in an included router."""
    found: list[BaseRoute] = []
    for route in routes:
        inner = getattr(route, "original_router", None) or getattr(route, "router", None)
        found += leaves(inner.routes) if inner is not None else [route]
    return found


def addresses(application: FastAPI, day: date) -> list[str]:
    values = {
        "kind": "daily_system_health", "day": day.isoformat(), "incident_id": "INC-2026-005", "action_id": "1",
        "finding_id": "1", "drill_id": "1", "grain": "week", "key": "2026-W40",
        "anything:path": "no/such/page",
    }  # fmt: skip
    found = []
    for route in leaves(application.routes):
        assert isinstance(route, APIRoute), f"{route} is not a route that the login's dependency covers"
        path = route.path
        for name, value in values.items():
            path = path.replace(f"{{{name}}}", value)
        assert "{" not in path, f"give {route.path} a value here"
        found.append(path)
    return found


def test_the_walk_sees_every_page(application: FastAPI) -> None:
    paths = {getattr(route, "path", "") for route in leaves(application.routes)}
    assert paths == {
        "/", "/reports", "/reports/{kind}/{day}", "/reports/{kind}/{day}/document", "/reports/{kind}/{day}/markdown",
        "/incidents", "/incidents/{incident_id}", "/maintenance", "/maintenance/{action_id}", "/{anything:path}",
        "/findings", "/findings/{finding_id}", "/drills", "/drills/{drill_id}", "/periods",
        "/periods/{grain}/{key}",
    }  # fmt: skip


def test_no_route_answers_without_a_login(application: FastAPI, anonymous: TestClient, morning: date) -> None:
    for path in addresses(application, morning):
        answer = anonymous.get(path.lstrip("/"))
        assert answer.status_code == 401, path
        assert "INC-2026" not in answer.text
        assert "log in" in answer.text


def test_every_route_answers_with_a_login(application: FastAPI, browser: TestClient, morning: date) -> None:
    for path in addresses(application, morning):
        answer = browser.get(path.lstrip("/"))
        assert answer.status_code == (404 if "no/such" in path else 200), (path, answer.text)


def test_the_description_of_the_api_is_not_served(anonymous: TestClient, browser: TestClient, morning: date) -> None:
    for path in ("docs", "redoc", "openapi.json", "docs/oauth2-redirect"):
        assert anonymous.get(path).status_code == 401
        assert browser.get(path).status_code == 404


def test_bad_input_is_not_looked_at_without_a_login(anonymous: TestClient, warehouse: object) -> None:
    for path in (
        "reports?month=x",
        "reports/nonsense/x",
        "incidents?page=-1",
        "maintenance/x",
        "?refresh=0",
        "findings/x",
        "drills/0",
        "periods/day/x",
    ):
        assert anonymous.get(path).status_code == 401


def test_an_account_without_a_role_is_refused(
    anonymous: TestClient, token: Callable[[str | None], str], morning: date
) -> None:
    answer = anonymous.get("", headers={"Authorization": f"Bearer {token(None)}"})
    assert answer.status_code == 403
    assert "INC-2026" not in answer.text


def test_a_forged_or_broken_token_is_refused(
    anonymous: TestClient, token: Callable[[str | None], str], morning: date
) -> None:
    head, body, signature = token("viewer").split(".")
    for forged in ("x", f"{head}.{body}.", f"{head}.{body}.{signature[:-6]}AAAAAA"):
        assert anonymous.get("", headers={"Authorization": f"Bearer {forged}"}).status_code in (401, 403)


def test_nothing_can_be_posted(browser: TestClient, morning: date) -> None:
    for method in ("post", "put", "delete", "patch"):
        assert getattr(browser, method)("incidents/INC-2026-005").status_code == 405
