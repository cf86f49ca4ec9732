"""Airflow looks after itself: its database, its logs, its DAGs, our own leftovers; each part stands on its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from include.maintenance.airflow import airflow_dags, airflow_database, airflow_logs, leftovers

_DONE_BY: dict[str, Callable[[str, bool, Path], dict[str, Any]]] = {
    "database": lambda run_id, dry_run, _: airflow_database.clean(run_id, dry_run),
    "logs": lambda run_id, dry_run, log_folder: airflow_logs.clean(log_folder, run_id, dry_run),
    "dags": lambda run_id, _, __: airflow_dags.check(run_id),
    "leftovers": lambda run_id, dry_run, _: leftovers.clean(run_id, dry_run),
}
PARTS = tuple(_DONE_BY)
"""Old rows are removed, old logs are removed, DAGs and runs are looked at, what operations itself leaves is removed."""


def look_after(part: str, run_id: str, dry_run: bool, log_folder: Path) -> dict[str, Any]:
    """Do one of PARTS; ``log_folder`` is where Airflow keeps its logs. Returns small facts of what was done or found.

    Raises ConfigurationError, SourceUnavailable or MaintenanceFailed.
    """
    return _DONE_BY[part](run_id, dry_run, log_folder)
