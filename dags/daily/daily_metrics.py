"""# Daily metrics

**Purpose**: compute every figure of the guide's daily reports and of its evening metrics summary for one finished day.
**Schedule**: at midnight for the day that has just ended (`schedules.daily_metrics`), partitioned by day; each subject
waits for late log lines and rows first (`traffic.late_lines_minutes`). Later ones come into their day by the runs of
later days: rows for `reports.late_rows_days`. After an outage only the last of the days that ended meanwhile is
computed by itself; the board names the others. Backfill with `airflow backfill create`, or in the UI set to UTC.
**Reads**: the source contract (`platform_db`), the logs (`platform_logs`), `ops.observation`, `ops.maintenance_window`.
**Writes**: `ops.daily_*`, `ops.hourly_*`, `ops.metric_write`, `ops.rollup_announcement`; reports the day, and others
that it changed, on `daily_metrics`, which the reports follow, and on `weeks_to_roll_up`, `months_to_roll_up` when due.
**Parameters**: `day` for a run by hand.
**On failure**: incident P2. The day is reported all the same, with what there is of it (`report_incomplete_day`). A
source that was away: clear the failed tasks once it is back. A gap in its views: `python -m include.platform check`.
**Safe to re-run**: yes; a day's rows are replaced as a whole and come out the same.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import PokeReturnValue, task

from include.dagkit import (
    DAILY_METRICS,
    MONTHS_TO_ROLL_UP,
    PLATFORM_DB_POOL,
    WEEKS_TO_ROLL_UP,
    Chapter,
    Tier,
    announce,
    day_param,
    finished_days,
    operations_dag,
    window_of,
)
from include.settings import settings
from include.window import Grain, Window, demand_begun, demand_over

LATE_LINES = timedelta(minutes=settings().traffic.late_lines_minutes)
# A day that has only begun may be waited for: it has 25 hours when clocks are put back.
LONGEST_WAIT = (LATE_LINES + timedelta(hours=26)).total_seconds()


def _once_over(compute: Callable[[Window, str], Any], context: Any) -> PokeReturnValue:
    """Compute a subject once the day is over and its last rows and log lines, which are dated before, have arrived."""
    window = demand_begun(window_of(context), datetime.now(UTC))
    if datetime.now(UTC) < window.end + LATE_LINES:
        return PokeReturnValue(False)
    return PokeReturnValue(True, compute(window, context["run_id"]))


with operations_dag(
    __file__,
    __doc__,
    chapter=Chapter.REPORTING,
    tier=Tier.IMPORTANT,
    schedule=finished_days("daily_metrics"),
    params=day_param("The day to compute."),
    task_timeout=timedelta(minutes=30),
    run_deadline=max(timedelta(hours=6), LATE_LINES + timedelta(hours=1)),
    max_active_runs=16,
):

    @task.sensor(mode="reschedule", poke_interval=60, timeout=LONGEST_WAIT)
    def uptime(**context: Any) -> PokeReturnValue:
        """Time up, down, in maintenance and unknown per component."""
        from include.reporting import uptime

        return _once_over(uptime.compute, context)

    @task.sensor(mode="reschedule", poke_interval=60, timeout=LONGEST_WAIT)
    def traffic(**context: Any) -> PokeReturnValue:
        """Requests, response times and errors from the logs; the days that changed."""
        from include.reporting import traffic

        return _once_over(lambda *of: [day.isoformat() for day in traffic.compute(*of)], context)

    @task.sensor(mode="reschedule", poke_interval=60, timeout=LONGEST_WAIT, pool=PLATFORM_DB_POOL)
    def users(**context: Any) -> PokeReturnValue:
        """Registrations, active users, sessions and page views."""
        from include.reporting import subject, users

        return _once_over(subject.with_late_rows("users", users.compute), context)

    @task.sensor(mode="reschedule", poke_interval=60, timeout=LONGEST_WAIT, pool=PLATFORM_DB_POOL)
    def transactions(**context: Any) -> PokeReturnValue:
        """Transactions by outcome, revenue and fees."""
        from include.reporting import subject, transactions

        return _once_over(subject.with_late_rows("transactions", transactions.compute), context)

    @task.sensor(mode="reschedule", poke_interval=60, timeout=LONGEST_WAIT, pool=PLATFORM_DB_POOL)
    def support(**context: Any) -> PokeReturnValue:
        """Support tickets against their targets, and feedback."""
        from include.reporting import subject, support

        return _once_over(subject.with_late_rows("support", support.compute), context)

    @task(outlets=[DAILY_METRICS, WEEKS_TO_ROLL_UP, MONTHS_TO_ROLL_UP])
    def report_day(changed: list[list[str] | None], **context: Any) -> list[str]:
        """Report the day, once it is over, and earlier ones that late lines or rows changed, to who follows."""
        from include.reporting import rollups

        window = demand_over(window_of(context), datetime.now(UTC))
        days = {window.first_day, *(date.fromisoformat(day) for late in changed for day in late or [])}
        announce(context, DAILY_METRICS, days)
        due = rollups.due(days, window.timezone, context["run_id"])
        announce(context, WEEKS_TO_ROLL_UP, due[Grain.WEEK])
        announce(context, MONTHS_TO_ROLL_UP, due[Grain.MONTH])
        return sorted(day.isoformat() for day in days)

    subjects = [uptime(), *(late := [traffic(), users(), transactions(), support()])]
    subjects >> report_day(late)  # type: ignore[arg-type]
    # When a subject fails, report_day does not run: that fails the run, and it is cleared with the subject. The reports
    # show all the same what there is and what is missing: one_failed waits for no other subject, none_skipped for all.
    notice_failure = EmptyOperator(task_id="notice_failure", trigger_rule="one_failed", doc_md="Lets the next one run.")
    incomplete = report_day.override(task_id="report_incomplete_day", trigger_rule="none_skipped")(late)  # type: ignore[arg-type]
    subjects >> notice_failure >> incomplete
    subjects >> incomplete
