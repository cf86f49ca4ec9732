"""The one place that knows how an operations DAG is declared.

A DAG file calls ``operations_dag`` and lists its tasks; owner, tags, retries, timeouts, callbacks, deadline and
documentation come from here. A task names its pool where that is another than its DAG's: the names stand here, the
slots in config/pools.json. Nothing is read at import but config/operations.yaml.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import (  # type: ignore[attr-defined]
    DAG,
    Asset,
    CronPartitionTimetable,
    CronTriggerTimetable,
    DeadlineAlert,
    DeadlineReference,
    ExceptionRetryPolicy,
    IdentityMapper,
    MinimumCount,
    MonthWindow,
    Param,
    PartitionedAssetTimetable,
    RetryAction,
    RetryRule,
    RollupMapper,
    StartOfMonthMapper,
    StartOfWeekMapper,
    SyncCallback,
    WeekWindow,
    WeightRule,
    task,
)

from include import run_bounds
from include.dag_signals import Tier as Tier
from include.dag_signals import deadline_missed as deadline_missed  # stored deadlines name it by its path here
from include.dag_signals import raise_failures as raise_failures
from include.dag_signals import run_failed, task_failed
from include.outcome import ConfigurationError
from include.settings import settings, use_bounds
from include.window import WINDOW_OF, Grain, Window, last_finished_day, parse_day
from include.window import window_of_key as _window_of_key

START_DATE = datetime(2024, 1, 1, tzinfo=UTC)
"""Backfills reach back to here. Fixed: a moving date would make a new DAG version at every parse.

Only DAGs about finished days have it: Airflow starts such a DAG at once for its latest tick, which is right for
yesterday's metrics, but would run the night's maintenance at noon when a deployment is first started (``every``).
"""

DAILY_METRICS = Asset("daily_metrics")
"""The finished day's metrics in the warehouse; its partitions are days (YYYY-MM-DD)."""

WEEKS_TO_ROLL_UP = Asset("weeks_to_roll_up")
"""A day (YYYY-MM-DD) of a week that is due for its rollup: complete, corrected, or the current one."""

MONTHS_TO_ROLL_UP = Asset("months_to_roll_up")
"""A day (YYYY-MM-DD) of a month that is due for its rollup: complete, corrected, or the current one."""

PLATFORM_DB_POOL = "platform_db"
"""Bounds how many tasks query the platform's database at once; its slots stand in config/pools.json."""

SCRATCH_POOL = "scratch_servers"
"""Bounds how many tasks restore a backup to a scratch server at once: each takes the space of a database."""

OPERATIONS_POOL = "operations"
"""Bounds how many of the other tasks run at once. The watches are in none of these: what all leave is theirs."""


class Chapter(StrEnum):
    """Chapter of the guide that a DAG implements."""

    MONITORING = "monitoring"
    MAINTENANCE = "maintenance"
    INCIDENTS = "incidents"
    REPORTING = "reporting"


class Cadence(StrEnum):
    """How often a DAG runs; also the folder it lies in."""

    WATCH = "watch"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


# ------------------------------------------------------------------------------------------------ declaration
def _use_bounds(context: Any) -> None:
    use_bounds((context.get("params") or {}).get("bounds") or {})


_OF_EVERY_TASK: dict[str, Any] = {
    "owner": "operations",
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=15),
    "weight_rule": WeightRule.ABSOLUTE,  # not by the number of tasks that follow, of which a watch has none
    "pre_execute": _use_bounds,
    "on_failure_callback": [task_failed],
}


def _deadline(after: timedelta, tier: Tier) -> DeadlineAlert:
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=after,
        callback=SyncCallback("include.dagkit.deadline_missed", kwargs={"tier": tier.value}),
    )


def operations_dag(
    file: str,
    documentation: str | None,
    *,
    chapter: Chapter,
    tier: Tier,
    schedule: Any,
    task_timeout: timedelta = timedelta(minutes=10),
    run_deadline: timedelta = timedelta(hours=1),
    max_active_runs: int = 1,
    params: dict[str, Param] | None = None,
    retries: int | None = None,
    retry_delay: timedelta | None = None,
    retry_failed_acts: bool = True,
) -> DAG:
    """Declare the DAG of one file: its name is the file's, its cadence the folder's.

    ``task_timeout`` is also the SQL statement timeout of each task. A run that is not finished ``run_deadline``
    after it was queued sends a signal (it is not ended). ``retries`` and ``retry_delay`` replace the configured ones.
    ``retry_failed_acts`` is False where a MaintenanceFailed is the answer that the DAG was made to give, and must not
    be asked for until it is a better one. Every task has the bounds of its run (``bounds_param``) in its settings.
    """
    path, runs = Path(file), settings().runs
    cadence = Cadence(path.parent.name)
    of_days = isinstance(schedule, CronPartitionTimetable)
    of_now = isinstance(schedule, CronTriggerTimetable) and not of_days
    return DAG(
        dag_id=path.stem,
        schedule=schedule,
        start_date=START_DATE if of_days else None,
        catchup=False,
        max_active_runs=max_active_runs,
        # A run that acts on the present, or looks at it, is about no day of the past: no backfill.
        allowed_run_types=["scheduled", "manual"] if of_now else None,  # type: ignore[list-item]
        is_paused_upon_creation=False,
        doc_md=documentation,
        tags=[f"chapter:{chapter}", f"cadence:{cadence}", f"tier:{tier}"],
        params=params,
        default_args={
            **_OF_EVERY_TASK,
            "pool": "default_pool" if cadence is Cadence.WATCH else OPERATIONS_POOL,
            "retries": runs.retries if retries is None else retries,
            "retry_delay": retry_delay or timedelta(seconds=runs.retry_delay_seconds),
            "retry_policy": _retry_policy(retry_failed_acts),
            "execution_timeout": task_timeout,
            "priority_weight": tier.priority,
        },
        on_failure_callback=[run_failed],
        deadline=_deadline(run_deadline, tier),
    )


def bounds_param(dag_id: str) -> dict[str, Param]:
    """Return the parameter ``bounds`` of a DAG that run_bounds.KEYS names: the bounds that a run has of its own."""
    properties = run_bounds.schemas(dag_id, settings().maintenance)
    return {
        "bounds": Param(
            {},
            type="object",
            propertyNames={"enum": list(properties)},
            properties=properties,
            description="Bounds of this run only, by their keys under maintenance in config/operations.yaml. A run can "
            f"keep for longer than configured, not for less long. It can have {', '.join(properties)}.",
        )
    }


def _retry_policy(retry_failed_acts: bool) -> ExceptionRetryPolicy:
    final = {"ConfigurationError": "A person must correct this; trying again does not help"}
    if not retry_failed_acts:
        final["MaintenanceFailed"] = "This is what the test has found; a later one that passes does not undo it"
    return ExceptionRetryPolicy(
        rules=[
            RetryRule(exception=f"include.outcome.{name}", action=RetryAction.FAIL, reason=reason)
            for name, reason in final.items()
        ]
    )


def every(name: str) -> CronTriggerTimetable:
    """Return the schedule that config/operations.yaml gives under ``schedules.<name>``, in the platform's time zone.

    A deployment that is first started waits for the next tick, but for one of the last minutes: until its first run
    a DAG's next tick is reckoned anew whenever the file is read, which must not take away the one that is just due.
    Airflow 3.3.2 makes up for the latest tick when that is no longer ago than a tenth of the interval (three days for a
    monthly DAG) by default, and also where it is told False.
    """
    return CronTriggerTimetable(
        getattr(settings().schedules, name),
        timezone=settings().platform.timezone,
        run_immediately=timedelta(minutes=5),
    )


def finished_days(name: str) -> CronPartitionTimetable:
    """Return a schedule whose runs are about the day that has just ended, keyed YYYY-MM-DD.

    It ticks at midnight, when the day ends: Airflow counts the day back from the tick. The dates of a backfill are
    the days themselves, first and last included.
    """
    return CronPartitionTimetable(
        getattr(settings().schedules, name),
        timezone=settings().platform.timezone,
        run_offset=-1,
        key_format="%Y-%m-%d",
    )


def each_day_of(asset: Asset) -> PartitionedAssetTimetable:
    """Return a schedule with one run for each day that the asset reports."""
    return PartitionedAssetTimetable(assets=asset, default_partition_mapper=IdentityMapper())


def each_week_of(asset: Asset) -> PartitionedAssetTimetable:
    """Return a schedule whose runs are about the week of a day that the asset reports, at every such report."""
    return _rolled_up(asset, StartOfWeekMapper(input_format="%Y-%m-%d"), WeekWindow())


def each_month_of(asset: Asset) -> PartitionedAssetTimetable:
    """Return a schedule whose runs are about the month of a day that the asset reports, at every such report."""
    return _rolled_up(asset, StartOfMonthMapper(input_format="%Y-%m-%d"), MonthWindow())


def _rolled_up(
    asset: Asset, mapper: StartOfWeekMapper | StartOfMonthMapper, window: WeekWindow | MonthWindow
) -> PartitionedAssetTimetable:
    days = RollupMapper(upstream_mapper=mapper, window=window, wait_policy=MinimumCount(1))
    return PartitionedAssetTimetable(assets=asset, default_partition_mapper=days)


def day_param(what: str) -> dict[str, Param]:
    """Return the parameter ``day`` for runs that are started by hand; ``what`` completes its description."""
    return {
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            description=f"{what} Leave empty for the day of the partition key, or else for the last finished day.",
        )
    }


class Ask(HITLOperator):
    """Asks a person, with options that name what the question is about.

    Airflow 3.3.2 keeps what a task has asked first: where a cleared run asks about something else, a person is still
    shown the question of the earlier attempt. An answer to that one raises ConfigurationError.
    """

    def validate_chosen_options(self, chosen_options: list[str]) -> None:
        """Refuse an answer that this question does not offer."""
        if others := [option for option in chosen_options if option not in self.options]:
            raise ConfigurationError(
                f"the answer '{others[0]}' belongs to a question of an earlier attempt of this run, not to the one for "
                f"'{self.options[0]}'; trigger a new run, which asks anew"
            )


# ------------------------------------------------------------------------------------------------- the window
def window_of(context: Any, grain: Grain = Grain.DAY) -> Window:
    """Return the window that a run is about.

    That is the one of the parameter ``day`` (for a week or month: that the day lies in) or of the partition key. A run
    with neither, and one of a schedule, is about the last day that had ended when it became due, or the week or month
    of that day. Raises ConfigurationError for a day or key of another form, when both are given and differ, and
    for a run with neither that was meant for another day: its key was cleared, or it has a logical date of that day.
    """
    zone, run = settings().platform.timezone, context["dag_run"]
    given = (context.get("params") or {}).get("day")
    # Airflow counts the key of a tick back to the tick before. Where clocks skip midnight the tick is at 01:00, and the
    # one before it at 00:00 of the same day: that key names the day that begins.
    key = None if run.run_type == "scheduled" else context.get("partition_key") or run.partition_key
    of_key = _window_of_key(grain, key, zone) if key else None
    if of_key and not given:
        return of_key
    day = parse_day(given) if given else last_finished_day(run.run_after, zone)
    window = WINDOW_OF[grain](day, zone)
    if not given:
        _refuse_another_window(run, window)
    if of_key and of_key != window:
        raise ConfigurationError(
            f"the parameter day names {window.key} and the partition key {of_key.key}; start the run with one of them"
        )
    return window


def _refuse_another_window(run: Any, window: Window) -> None:
    """Raise ConfigurationError for a run that was meant for another window than ``window``, that of the last day."""
    remedy = "trigger the DAG with the parameter day"
    if run.run_type in ("backfill", "asset_triggered"):
        raise ConfigurationError(
            f"the partition key of this run was cleared, and with it the day that it is about: {remedy}"
        )
    day = run.logical_date and last_finished_day(run.logical_date, window.timezone)
    if run.run_type == "manual" and day and window != WINDOW_OF[window.grain](day, window.timezone):
        raise ConfigurationError(
            f"this run has the logical date {run.logical_date.isoformat()}, but would be about {window.key}: a logical "
            f"date chooses no day; {remedy}"
        )


@task
def migrate_warehouse() -> list[str]:
    """Bring the warehouse to the newest schema; does nothing when it is there already."""
    from include.warehouse import migrate

    return migrate.upgrade()


def announce(context: Any, asset: Asset, days: set[date]) -> None:
    """Report the days of an asset that a task has brought up to date, so that the DAGs that follow it run for each.

    Without a day the asset is taken out of the task's outlets: Airflow reports every outlet of a task that succeeds.
    """
    if days:
        context["outlet_events"][asset].add_partitions([day.isoformat() for day in sorted(days)])
    else:
        task = context["task"]
        task.outlets = [outlet for outlet in task.outlets if outlet != asset]


def airflow_log_folder() -> Path:
    """Return where Airflow, as it is configured here, keeps the logs of tasks and of the DAG processor."""
    from airflow.sdk.configuration import conf

    return Path(conf.get("logging", "base_log_folder"))
