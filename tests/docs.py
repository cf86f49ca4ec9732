"""Writes the generated documentation again: ``python -m tests.docs`` (make docs)."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests import catalogue, dictionary

ROOT = Path(__file__).resolve().parent.parent


def warehouse_dictionary() -> str:
    """Return docs/warehouse.md, from a warehouse that is migrated for it."""
    with _migrated_warehouse() as connection:
        return dictionary.markdown(connection)


PAGES: list[tuple[str, Callable[[], str]]] = [
    ("docs/warehouse.md", warehouse_dictionary),
    ("docs/dags.md", catalogue.markdown),
    ("tests/dags/shape.json", catalogue.snapshot),
]
"""Every generated page: its path in the checkout and the function that writes it."""


@contextmanager
def _migrated_warehouse() -> Iterator[psycopg.Connection]:
    from demo.databases import Databases
    from demo.processes import Processes
    from demo.servers import Postgres
    from include.warehouse import migrate

    with tempfile.TemporaryDirectory(prefix="gold-escrow-docs-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        processes = Processes(folder / "processes.json")
        try:
            databases = Databases(Postgres(processes, folder / "postgres").start(), folder)
            databases.create_roles()
            databases.create("warehouse", "warehouse_owner")
            os.environ["AIRFLOW_CONN_WAREHOUSE_OWNER"] = databases.url("warehouse", "warehouse_owner")
            migrate.upgrade()
            with psycopg.connect(databases.url("warehouse", "warehouse_owner")) as connection:
                yield connection
        finally:
            processes.stop_all()


def main() -> int:
    """Write every page that has changed; returns the exit status."""
    for path, page in PAGES:
        text, file = page(), ROOT / path
        changed = not file.exists() or file.read_text() != text
        if changed:
            file.write_text(text)
        print(f"{path}: {'written' if changed else 'up to date'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
