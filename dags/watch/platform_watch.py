"""# Platform watch

**Purpose**: probe the frontend, the API, the database, the cache and the chain endpoint, as the guide's chapter
"Monitoring Procedures" asks; the uptime of every report is computed from these observations.
**Schedule**: every minute (`schedules.platform_watch`).
**Reads**: the platform's public addresses, its database, Redis and chain endpoint.
**Writes**: `ops.observation`.
**Parameters**: none.
**On failure**: incident P1, because nobody is watching. Check that the warehouse answers; the time until the watch runs
again is counted as unknown, not as up.
**Safe to re-run**: yes; a run always observes the present moment.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import task

from include.dagkit import Chapter, Tier, every, operations_dag

with operations_dag(
    __file__,
    __doc__,
    chapter=Chapter.MONITORING,
    tier=Tier.CRITICAL,
    schedule=every("platform_watch"),
    task_timeout=timedelta(seconds=50),
    run_deadline=timedelta(minutes=10),
    # One that did not get to its work, as while the API server starts anew, is no failure yet.
    retries=1,
    retry_delay=timedelta(seconds=5),
):

    @task
    def probe_components(**context: Any) -> dict[str, str]:
        """Probe every component at once and record what was seen."""
        from include.monitoring import watch

        return watch.watch(context["run_id"])

    probe_components()
