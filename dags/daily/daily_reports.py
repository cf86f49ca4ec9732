"""# Daily reports

**Purpose**: render the guide's Daily System Health Report and Daily User Activity Report as Markdown and as HTML pages
with charts.
**Schedule**: whenever `daily_metrics` reports a day.
**Reads**: `ops.daily_*`, `ops.incident`.
**Writes**: `ops.report`; the documents in the folder or object storage of the connection named by `reports.folder`.
**Parameters**: `day`, a finished one, for a run by hand.
**On failure**: incident P2; the figures are safe in the warehouse. Clear the task once the cause is gone.
**Safe to re-run**: yes; the same figures give the same document, byte by byte.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import task

from include.dagkit import DAILY_METRICS, Chapter, Tier, day_param, each_day_of, operations_dag, window_of

with operations_dag(
    __file__,
    __doc__,
    chapter=Chapter.REPORTING,
    tier=Tier.IMPORTANT,
    schedule=each_day_of(DAILY_METRICS),
    params=day_param("The day to report."),
    task_timeout=timedelta(minutes=10),
    max_active_runs=16,
):

    @task
    def render_reports(**context: Any) -> list[str]:
        """Render, store and deliver both reports; returns those whose content changed."""
        from include.reporting import reports

        return reports.render_day(window_of(context), context["run_id"])

    render_reports()
