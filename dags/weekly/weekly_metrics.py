"""# Weekly metrics

**Purpose**: roll the daily metrics of a week up; percentiles come from merged histograms and distinct users from merged
sketches, never from averages or sums of days.
**Schedule**: whenever `daily_metrics` finds a week due: every night for the week of the day that has just ended, once
all days of an earlier week are computed, and when a day of it was corrected.
**Reads**: `ops.daily_*`, `ops.hourly_latency`.
**Writes**: `ops.rollup` and `ops.rollup_*`; each row says how many of its days it holds and whether it is final.
**Parameters**: `day` for a run by hand: any day of the week.
**On failure**: incident P3; clear the task once the cause is gone.
**Safe to re-run**: yes; the week's rows are replaced as a whole and come out the same.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import task

from include.dagkit import WEEKS_TO_ROLL_UP, Chapter, Tier, day_param, each_week_of, operations_dag, window_of
from include.window import Grain

with operations_dag(
    __file__,
    __doc__,
    chapter=Chapter.REPORTING,
    tier=Tier.STANDARD,
    schedule=each_week_of(WEEKS_TO_ROLL_UP),
    params=day_param("Any day of the week to roll up."),
    task_timeout=timedelta(minutes=30),
    max_active_runs=4,
):

    @task
    def roll_up(**context: Any) -> list[str]:
        """Roll the week up, and any earlier one whose days have changed; returns the weeks that were written."""
        from include.reporting import rollups

        return rollups.compute(window_of(context, Grain.WEEK), context["run_id"])

    roll_up()
