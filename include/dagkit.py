"""The one place that knows how an operations DAG is declared.

A DAG file calls ``operations_dag`` and lists its tasks; owner, tags, retries, timeouts, callbacks, deadline and
documentation come from here. Each task names its own pool: of two pools the names stand here, the slots of all in
config/pools.json. Nothing is read at import but config/operations.yaml.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

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
from include.outcome import IncidentClass
from include.settings import settings, use_bounds
from include.window import Grain, Window, day_window, last_finished_day, month_window, parse_day, week_window
from include.window import window_of_key as _window_of_key

_log = logging.getLogger(__name__)

START_DATE = datetime(2024, 1, 1, tzinfo=UTC)
"""Backfills reach back to here. Fixed: a moving date would make a new DAG version at every parse.

Only DAGs about finished days have it: Airflow starts such a DAG at once for its latest tick, which is right for
yesterday's metrics, but would run the night's maintenance at noon when a deployment is first started (``every``).
"""

DAILY_METRICS = Asset("daily_metrics")
"""The finished day's metrics in the warehouse; its partitions are days (YYYY-MM-DD)."""

WEEKS_TO_ROLL_UP = Asset("weeks_to_roll_up")
MONTHS_TO_ROLL_UP = Asset("months_to_roll_up")
"""A day (YYYY-MM-DD) of a week or month that is due for its rollup: complete, corrected, or the current one."""

PLATFORM_DB_POOL = "platform_db"
"""Bounds how many tasks query the platform's database at once; its slots stand in config/pools.json."""

SCRATCH_POOL = "scratch_servers"
"""Bounds how many tasks restore a backup to a scratch server at once: each takes the space of a database."""


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
    RESPONSE = "response"


class Tier(StrEnum):
    """How bad it is when a DAG fails, and so the class of the incident that its failure opens."""

    CRITICAL = "critical"
    IMPORTANT = "important"
    STANDARD = "standard"

    @property
    def incident_class(self) -> IncidentClass:
        """Class of the incident: P1, P2 or P3. No DAG opens a P0: that is the platform itself being down."""
        return {
            Tier.CRITICAL: IncidentClass.P1,
            Tier.IMPORTANT: IncidentClass.P2,
            Tier.STANDARD: IncidentClass.P3,
        }[self]

    @property
    def priority(self) -> int:
        """Airflow's priority of the DAG's tasks when more of them could start than may: the highest starts first."""
        return {Tier.CRITICAL: 100, Tier.IMPORTANT: 10, Tier.STANDARD: 1}[self]


# ------------------------------------------------------------------------------------------------ declaration
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
    return DAG(
        dag_id=path.stem,
        schedule=schedule,
        start_date=START_DATE if isinstance(schedule, CronPartitionTimetable) else None,
        catchup=False,
        max_active_runs=max_active_runs,
        is_paused_upon_creation=False,
        doc_md=documentation,
        tags=[f"chapter:{chapter}", f"cadence:{Cadence(path.parent.name)}", f"tier:{tier}"],
        params=params,
        default_args={
            "owner": "operations",
            "retries": runs.retries if retries is None else retries,
            "retry_delay": retry_delay or timedelta(seconds=runs.retry_delay_seconds),
            "retry_exponential_backoff": 2.0,
            "max_retry_delay": timedelta(minutes=15),
            "retry_policy": _retry_policy(retry_failed_acts),
            "execution_timeout": task_timeout,
            "priority_weight": tier.priority,
            "weight_rule": WeightRule.ABSOLUTE,  # not by the number of tasks that follow, of which a watch has none
            "pre_execute": _use_bounds,
            "on_failure_callback": [task_failed],
        },
        on_failure_callback=[run_failed],
        deadline=DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=run_deadline,
            callback=SyncCallback("include.dagkit.deadline_missed", kwargs={"tier": tier.value}),
        ),
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


def _use_bounds(context: Any) -> None:
    use_bounds((context.get("params") or {}).get("bounds") or {})


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
    mapper = StartOfWeekMapper(input_format="%Y-%m-%d")
    return PartitionedAssetTimetable(
        assets=asset,
        default_partition_mapper=RollupMapper(upstream_mapper=mapper, window=WeekWindow(), wait_policy=MinimumCount(1)),
    )


def each_month_of(asset: Asset) -> PartitionedAssetTimetable:
    """Return a schedule whose runs are about the month of a day that the asset reports, at every such report."""
    mapper = StartOfMonthMapper(input_format="%Y-%m-%d")
    return PartitionedAssetTimetable(
        assets=asset,
        default_partition_mapper=RollupMapper(
            upstream_mapper=mapper, window=MonthWindow(), wait_policy=MinimumCount(1)
        ),
    )


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


# ------------------------------------------------------------------------------------------------- the window
def window_of(context: Any, grain: Grain = Grain.DAY) -> Window:
    """Return the window that a run is about.

    The parameter ``day`` wins (for a week or month: the one that the day lies in), then the partition key; a run with
    neither is about the last day that had ended when it became due, or the week or month of that day. Raises
    ConfigurationError for a day or key of another form.
    """
    zone = settings().platform.timezone
    given = (context.get("params") or {}).get("day")
    if not given and (key := context.get("partition_key") or context["dag_run"].partition_key):
        return _window_of_key(grain, key, zone)
    day = parse_day(given) if given else last_finished_day(context["dag_run"].run_after, zone)
    return {Grain.DAY: day_window, Grain.WEEK: week_window, Grain.MONTH: month_window}[grain](day, zone)


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


# -------------------------------------------------------------------------------------------------- callbacks
def _never_raises(callback: Callable[..., None]) -> Callable[..., None]:
    """Let a callback never hide the failure that it reports: where it fails itself, that becomes a signal."""

    @functools.wraps(callback)
    def guarded(*given: Any, **named: Any) -> None:
        try:
            callback(*given, **named)
        except Exception as error:
            _log.exception("the callback %s failed", callback.__name__)
            with suppress(Exception):
                _record(
                    "dag_failed",
                    tags=[],
                    dag_id="unknown",
                    run_id=datetime.now(UTC).isoformat(),  # as no run can be named, each is a signal of its own
                    title="A DAG failed or is late, and which one could not be read: the logs of Airflow say more",
                    error=f"{callback.__name__}: {type(error).__name__}: {error}",
                )

    return guarded


@_never_raises
def task_failed(context: Any) -> None:
    """Write the signal of a task that failed for good. Never raises."""
    instance = context["task_instance"]
    error = context.get("exception")
    text = f"{type(error).__name__}: {error}" if error else "no error text; the process may have been lost"
    _record(
        "task_failed",
        tags=list(context["dag"].tags),
        dag_id=instance.dag_id,
        run_id=instance.run_id,
        title=f"{instance.dag_id}: task {instance.task_id} failed",
        task_id=instance.task_id,
        map_index=instance.map_index,
        try_number=instance.try_number,
        error=text,
        log_url=getattr(instance, "log_url", None),
    )


@_never_raises
def run_failed(context: Any) -> None:
    """Write the signal of a run that failed, whatever ended its tasks. Never raises.

    Airflow names no more than the DAG and the run's id when the task that failed is not in the DAG any more. A run
    that was cleared and failed again is another signal.
    """
    dag, run = context["dag"], context.get("dag_run")
    _record(
        "dag_failed",
        tags=list(dag.tags),
        dag_id=dag.dag_id,
        run_id=run.run_id if run else context["run_id"],
        title=f"{dag.dag_id}: run failed",
        try_number=getattr(run, "clear_number", None) or 0,
        error=str(context.get("reason") or ""),
        partition_key=getattr(run, "partition_key", None),
    )


@_never_raises
def deadline_missed(context: Any = None, tier: str = Tier.IMPORTANT.value, **_: Any) -> None:
    """Write the signal of a run that was not finished in time. Airflow gives the run as a plain dict. Never raises.

    Airflow forgets the deadline of a run that succeeds, but not of one that fails: that has its signal already.
    """
    run = (context or {}).get("dag_run") or {}
    if run.get("state") in ("failed", "success"):
        return
    _record(
        "deadline_missed",
        tags=[f"tier:{tier}"],
        dag_id=str(run.get("dag_id", "unknown")),
        run_id=str(run.get("dag_run_id") or run.get("run_id") or "unknown"),
        title=f"{run.get('dag_id', 'a DAG')}: run not finished by its deadline",
    )


def _record(
    kind: str,
    *,
    tags: list[str],
    dag_id: str,
    run_id: str,
    title: str,
    task_id: str = "",
    map_index: int = -1,
    try_number: int = 0,
    **detail: Any,
) -> None:
    from include.incidents import signals

    tiers = [tag.removeprefix("tier:") for tag in tags if tag.startswith("tier:")]
    tier = Tier(tiers[0]) if tiers else Tier.IMPORTANT
    signals.record(
        signals.Signal(
            idempotency_key=f"airflow:{dag_id}:{run_id}:{task_id}:{map_index}:{try_number}:{kind}",
            kind=kind,
            occurred_at=datetime.now(UTC),
            fingerprint=f"airflow:{dag_id}",
            incident_class=tier.incident_class,
            title=title,
            detail={"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "try_number": try_number, **detail},
        )
    )
