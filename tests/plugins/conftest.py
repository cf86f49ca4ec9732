"""The board in an Airflow environment: its application behind Airflow's own login, and a warehouse with rows."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.plugins import rows

NOW = datetime(2026, 10, 4, 3, 12, tzinfo=UTC)
"""A Sunday, 3:12 in the morning: when somebody on call looks at the board."""


def text_of(html: str) -> str:
    """The words of a page, without markup, style and double blanks."""
    body = re.sub(r"<style>.*?</style>", "", html, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)).replace("&#39;", "'").replace("&gt;", ">")


@pytest.fixture(scope="session")
def application(airflow_database: str) -> FastAPI:
    """The board's application at the instant ``NOW``, as the plugin mounts it."""
    from airflow.api_fastapi.app import init_auth_manager

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        init_auth_manager()
    from plugins.operations_board.application import create_application

    return create_application(lambda: NOW)


@pytest.fixture(scope="session")
def token(application: FastAPI) -> Callable[[str | None], str]:
    """Makes Airflow login tokens for a user with the given role."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    def make(role: str | None) -> str:
        return str(get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="operator", role=role)))

    return make


def hosted(application: FastAPI, base_path: str = "") -> FastAPI:
    """An application that mounts the board as Airflow does, under a base path."""
    host = FastAPI(root_path=base_path)
    host.mount("/operations-board", application)
    return host


@pytest.fixture
def anonymous(application: FastAPI) -> Iterator[TestClient]:
    """A browser without a login."""
    with TestClient(hosted(application), base_url="http://127.0.0.1/operations-board/") as client:
        yield client


@pytest.fixture
def browser(application: FastAPI, token: Callable[[str | None], str]) -> Iterator[TestClient]:
    """A browser logged in as a viewer, the least role."""
    cookies = {"_token": token("viewer")}
    with TestClient(hosted(application), base_url="http://127.0.0.1/operations-board/", cookies=cookies) as client:
        yield client


@pytest.fixture
def morning(warehouse: psycopg.Connection) -> date:
    """A warehouse with an operating morning at ``NOW``; returns the day of its reports."""
    return rows.fill(warehouse, NOW)
