"""An Airflow of a test module's own, started as a deployment starts it and gone afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from demo.airflow import COMPONENTS, Airflow
from demo.databases import Databases
from demo.processes import Processes


@contextmanager
def running_airflow(
    name: str,
    databases: Databases,
    folder: Path,
    *,
    connections: dict[str, str],
    settings: dict[str, str],
    dags: set[str],
    components: tuple[str, ...] = COMPONENTS,
) -> Iterator[Airflow]:
    """Start components with a metadata database of their own and wait for DAGs; fail when anything is left running."""
    database = f"{name}_airflow"
    databases.create(database, "airflow")
    processes = Processes(folder / "processes.json")
    airflow = Airflow(
        processes,
        folder / "airflow",
        database_url=databases.url(database, "airflow"),
        connections=connections,
        preferred_port=None,
        parallelism=4,
        settings=settings,
    )
    try:
        airflow.prepare()
        airflow.start(*components)
        airflow.wait_for_dags(dags)
        yield airflow
    finally:
        airflow.stop()
        processes.stop_all()
        left = [child for child in psutil.process_iter(["cmdline"]) if _belongs_to(child, folder)]
        assert left == [], "something was left running"
    databases.drop(database)


def _belongs_to(process: psutil.Process, folder: Path) -> bool:
    try:
        return bool(process.environ().get("AIRFLOW_HOME") == str(folder / "airflow"))
    except (psutil.Error, OSError):
        return False


def until(condition: Callable[[], Any], seconds: float) -> Any:
    """Wait for a condition. Fails when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.5)
    pytest.fail(f"not within {seconds:.0f} s")
