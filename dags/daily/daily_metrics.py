"""# Daily metrics

**Purpose**: compute every figure of the guide's daily reports and of its evening metrics summary for one finished day.
**Schedule**: at midnight for the day that has just ended (`schedules.daily_metrics`), partitioned by day; it waits for
late log lines first. A backfill takes a range of dates, in the UI or with `airflow backfill create`.
**Reads**: the source contract (`platform_db`), the access, application and error logs (`platform_logs`), observations.
**Writes**: `ops.daily_*`, `ops.hourly_*`; reports the day on the asset `daily_metrics`, which the reports and rollups
follow.
**Parameters**: `day` for a run by hand.
**On failure**: incident P2. A source that was away: clear the failed tasks once it is back. A missing view or column is
named in the error; `make check-platform` shows all of them.
**Safe to re-run**: yes; a day's rows are replaced as a whole and come out the same.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from airflow.sdk import task

from include.dagkit import (
    DAILY_METRICS,
    PLATFORM_DB_POOL,
    Chapter,
    Tier,
    announce,
    day_param,
    finished_days,
    operations_dag,
    window_of,
)
from include.settings import settings

with operations_dag(
    __file__,
    __doc__,
    chapter=Chapter.REPORTING,
    tier=Tier.IMPORTANT,
    schedule=finished_days("daily_metrics"),
    params=day_param("The day to compute."),
    task_timeout=timedelta(minutes=30),
    run_deadline=timedelta(hours=6),
    max_active_runs=16,
):

    @task.sensor(mode="reschedule", poke_interval=60, timeout=13 * 3600)
    def wait_for_late_lines(**context: Any) -> bool:
        """Wait until lines that were written late have reached the logs; a day long past passes at once."""
        grace = timedelta(minutes=settings().traffic.late_lines_minutes)
        return datetime.now(UTC) >= window_of(context).end + grace

    @task
    def uptime(**context: Any) -> bool:
        """Time up, down, in maintenance and unknown per component."""
        from include.reporting import uptime

        return uptime.compute(window_of(context), context["run_id"])

    @task
    def traffic(**context: Any) -> list[str]:
        """Requests, response times and errors from the logs; returns the days whose rows changed."""
        from include.reporting import traffic

        return [day.isoformat() for day in traffic.compute(window_of(context), context["run_id"])]

    @task(pool=PLATFORM_DB_POOL)
    def users(**context: Any) -> bool:
        """Registrations, active users, sessions and page views."""
        from include.reporting import users

        return users.compute(window_of(context), context["run_id"])

    @task(pool=PLATFORM_DB_POOL)
    def transactions(**context: Any) -> bool:
        """Transactions by outcome, revenue and fees."""
        from include.reporting import transactions

        return transactions.compute(window_of(context), context["run_id"])

    @task(pool=PLATFORM_DB_POOL)
    def support(**context: Any) -> bool:
        """Support tickets against their targets, and feedback."""
        from include.reporting import support

        return support.compute(window_of(context), context["run_id"])

    @task(outlets=[DAILY_METRICS])
    def report_day(changed_by_late_lines: list[str], **context: Any) -> list[str]:
        """Report the day, and earlier days that late lines changed, to the DAGs that follow."""
        days = {window_of(context).first_day, *map(date.fromisoformat, changed_by_late_lines)}
        announce(context, DAILY_METRICS, days)
        return sorted(day.isoformat() for day in days)

    late = traffic()
    wait_for_late_lines() >> [uptime(), late, users(), transactions(), support()] >> report_day(late)  # type: ignore[arg-type]
