"""# Incident watch

**Purpose**: turn the signals of failed tasks, failed runs and missed deadlines into incidents (guide, "Incident
Response"): one open incident per DAG, numbered without gaps, with a timeline.
**Schedule**: every minute (`schedules.incident_watch`).
**Reads**: `ops.signal`, the spool of signals that were written while the warehouse was away.
**Writes**: `ops.incident`, `ops.incident_signal`, `ops.incident_timeline`.
**Parameters**: none.
**On failure**: incident P1. The same work by hand, without Airflow: `python -m include.incidents handle`.
**Safe to re-run**: yes; a signal becomes part of an incident once.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import task

from include.dagkit import Chapter, Tier, every, operations_dag

with operations_dag(
    __file__,
    __doc__,
    chapter=Chapter.INCIDENTS,
    tier=Tier.CRITICAL,
    schedule=every("incident_watch"),
    task_timeout=timedelta(seconds=50),
    run_deadline=timedelta(minutes=10),
    # One that did not get to its work, as while the API server starts anew, is no failure yet.
    retries=1,
    retry_delay=timedelta(seconds=5),
):

    @task
    def handle_signals() -> dict[str, Any]:
        """Bring spooled signals into the warehouse and open or continue their incidents."""
        from include.incidents import incidents

        return incidents.drain_and_handle()

    handle_signals()
