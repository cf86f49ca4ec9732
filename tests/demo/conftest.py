"""Databases of the demo platform."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from demo.databases import Databases
from demo.platform import database


@pytest.fixture(scope="session")
def new_escrow(databases: Databases) -> Iterator[Callable[[], str]]:
    """Return a function that creates a database with the platform's schema and returns its name."""
    made: list[str] = []

    def create() -> str:
        name = f"escrow_{uuid.uuid4().hex[:12]}"
        databases.create(name, "escrow_owner")
        made.append(name)
        database.install(databases.url(name, "escrow_owner"))
        return name

    yield create
    for name in made:
        databases.drop(name)
