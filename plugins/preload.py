"""Loads what nearly every task imports once, in the process that tasks are forked from.

A task is a process of its own. Without this, six tenths of the computing time of a short one are imports that the
next task does all over again. The collection's own modules are handed to a task only while every file under include/
is the one that was loaded: a change is seen by the next task, without a restart.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from airflow.configuration import conf
from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

log = logging.getLogger(__name__)

MODULES = (
    "airflow.sdk.definitions.decorators",  # brings the standard provider's task decorators and operators
    "airflow.sdk.definitions.retry_policy",
    "airflow.providers.standard.decorators.python",
    "airflow.providers.standard.decorators.sensor",
    "airflow.sdk.execution_time.timeout",
    "airflow.dag_processing.bundles.local",
    "pydantic_settings",
    "psycopg",
    "psycopg.types.json",
    "jinja2",
    "duckdb",
    "numpy.ma",  # DuckDB asks for it, too, with the first numbers that it hands over
    "fsspec.implementations.local",
)
"""Packages of others."""

OWN_MODULES = (
    "include.dagkit",  # and with it the configuration, whose checks take longest to put together
    "include.reporting.reports",
    "include.reporting.rollups",
    "include.reporting.subject",
    "include.reporting.support",
    "include.reporting.traffic",
    "include.reporting.transactions",
    "include.reporting.uptime",
    "include.reporting.users",
)
"""What most tasks of a day import; none reads the configuration while it is loaded."""

_INCLUDE = Path(__file__).resolve().parent.parent / "include"
_Stamp = tuple[int, int]


def _stamps() -> dict[Path, _Stamp]:
    files = (path for path in _INCLUDE.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path: _stamp(path) for path in files}


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "include"


def _keep_our_modules() -> None:
    """Load our own modules and hand them to every process that is forked from this one while they are up to date."""
    if any(_is_ours(name) for name in sys.modules):  # somebody uses them here already
        return
    stamps = _stamps()
    try:
        for name in OWN_MODULES:
            import_module(name)
    finally:  # also what was loaded before one of them failed
        kept = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_ours(name)}
    os.register_at_fork(after_in_child=lambda: _hand_over(kept, stamps))


def _hand_over(kept: dict[str, ModuleType], stamps: dict[Path, _Stamp]) -> None:
    try:
        fresh = all(_stamp(path) == stamp for path, stamp in stamps.items())
    except OSError:
        fresh = False
    for name, module in kept.items():
        if fresh:
            sys.modules.setdefault(name, module)
        elif sys.modules.get(name) is module:
            del sys.modules[name]


def load() -> None:
    """Load the modules for the processes that are forked from this one. Never raises."""
    # No task multiplies matrices. The threads that numpy's library starts for that would turn idle rounds first, and a
    # process with threads should not be forked.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for name in MODULES:
        try:
            import_module(name)
        except Exception:
            log.warning("%s could not be loaded ahead; each task that needs it will try again", name, exc_info=True)
    try:
        _keep_our_modules()
    except Exception:
        log.warning("the collection's modules could not be loaded ahead; each task loads them", exc_info=True)


class Preloader:
    """Listens for the start of a component."""

    @hookimpl
    def on_starting(self) -> None:
        """Load the modules, where tasks run in processes that are forked from this one. Never raises.

        A Celery worker asks for them itself (deploy/celery_worker.py): it starts without telling listeners.
        """
        if "LocalExecutor" in conf.get("core", "executor"):
            load()


class PreloadPlugin(AirflowPlugin):
    """Hands the listener to Airflow."""

    name = "preload"
    listeners = [Preloader()]  # noqa: RUF012 - Airflow reads it as a class attribute
