"""Celery's settings: those of Airflow's provider. Its workers load what most tasks import before they fork them."""

from __future__ import annotations

from typing import Any

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG
from celery.signals import import_modules

SETTINGS = DEFAULT_CELERY_CONFIG
"""What AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS names."""


@import_modules.connect  # type: ignore[untyped-decorator]
def load_ahead(**_: Any) -> None:
    """Load them in the worker's first process, before Airflow's provider freezes what is loaded. Never raises."""
    from plugins import preload

    preload.load()
