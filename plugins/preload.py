"""Loads what nearly every task imports once, in the process that tasks are forked from.

A task is a process of its own. Without this, six tenths of the computing time of a short one are imports that the
next task does all over again. Only packages of others are loaded here: a change of the collection's own code is seen
by the next task, without a restart.
"""

from __future__ import annotations

import logging
from importlib import import_module

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
)


class Preloader:
    """Listens for the start of a component."""

    @hookimpl
    def on_starting(self) -> None:
        """Load the modules, where tasks run in processes that are forked from this one. Never raises."""
        if "LocalExecutor" not in conf.get("core", "executor"):
            return
        for name in MODULES:
            try:
                import_module(name)
            except Exception:
                log.warning("%s could not be loaded ahead; each task that needs it will try again", name, exc_info=True)


class PreloadPlugin(AirflowPlugin):
    """Hands the listener to Airflow."""

    name = "preload"
    listeners = [Preloader()]  # noqa: RUF012 - Airflow reads it as a class attribute
