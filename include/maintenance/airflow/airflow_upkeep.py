"""Airflow looks after itself: its database, its logs, its DAGs, our own leftovers; each part stands on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from include.maintenance.airflow import airflow_dags, airflow_database, airflow_logs, leftovers
from include.outcome import ConfigurationError

PARTS = ("database", "logs", "dags", "leftovers")
"""Old rows are removed, old logs are removed, DAGs and runs are looked at, what operations itself leaves is removed."""


def look_after(part: str, run_id: str, dry_run: bool, log_folder: Path) -> dict[str, Any]:
    """Do one part; ``log_folder`` is where Airflow keeps its logs. Returns small facts of what was done or found.

    Raises ConfigurationError, SourceUnavailable or MaintenanceFailed.
    """
    if part == "database":
        return airflow_database.clean(run_id, dry_run)
    if part == "logs":
        return airflow_logs.clean(log_folder, run_id, dry_run)
    if part == "dags":
        return airflow_dags.check(run_id)
    if part == "leftovers":
        return leftovers.clean(run_id, dry_run)
    raise ConfigurationError(f"'{part}' is no part of Airflow's upkeep; use one of {', '.join(PARTS)}")
