"""Embedded servers for a measurement, gone when it is over."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.databases import Databases
from demo.processes import Processes
from demo.servers import Postgres


@contextmanager
def scratch_databases() -> Iterator[tuple[Path, Processes, Databases]]:
    """Start a PostgreSQL cluster with the collection's roles in a temporary folder, and stop it at the end.

    The folder, the processes to start further ones with, and the databases are given. Raises StartError.
    """
    folder = Path(tempfile.mkdtemp(prefix="gold-escrow-bench-"))
    folder.chmod(0o755)  # the server runs as another user
    processes = Processes(folder / "processes.json")
    try:
        postgres = Postgres(processes, folder / "postgres").start()
        databases = Databases(postgres, folder)
        databases.create_roles()
        yield folder, processes, databases
    finally:
        processes.stop_all()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables, and put the former ones back at the end."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
