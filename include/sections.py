"""The sections of the configuration: every key with its type and bounds. settings.py reads them.

Durations bear their unit in their names; shares are 0 to 1.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_CHECKOUT = Path(__file__).resolve().parent.parent

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Days = Annotated[int, Field(ge=1, le=36_500)]
_YEAR_HOURS = 24 * 366
_IDENTIFIER = r'([a-z_][a-z0-9_$]*|"([^"]|"")+")'
TableName = Annotated[str, Field(pattern=rf"^{_IDENTIFIER}\.{_IDENTIFIER}$")]
"""Schema and table, each in double quotes where SQL needs them."""


class Section(BaseModel):
    """A part of the configuration; a key that it does not know is an error, not a silent typo."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Platform(Section):
    """The operated platform."""

    name: str
    timezone: str
    components: list[Literal["frontend", "api", "database", "cache", "chain"]] = Field(min_length=1)
    user_facing_components: list[str] = Field(min_length=1)

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("it is not an IANA time zone such as Europe/Berlin") from None
        return value

    @model_validator(mode="after")
    def _user_facing_are_components(self) -> Platform:
        if strangers := set(self.user_facing_components) - set(self.components):
            raise ValueError(f"user_facing_components names {sorted(strangers)}, which components does not list")
        return self


class Targets(Section):
    """Targets of the guide's morning routine: shares 0 to 1, seconds."""

    uptime: Share
    response_seconds: Seconds
    error_rate: Share


class Alerts(Section):
    """Limits of the guide's alert management: shares 0 to 1, seconds."""

    error_rate: Share
    response_seconds: Seconds


class Watch(Section):
    """How components are probed, in seconds."""

    # The task of the watch has 50 seconds; starting it, a grace of 5 for the probes and recording need the rest.
    longest_attempts_seconds: ClassVar[float] = 35.0

    observation_holds_seconds: Seconds
    probe_timeout_seconds: Seconds
    confirm_failure_after_seconds: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _within_its_task(self) -> Watch:
        attempts = 2 * self.probe_timeout_seconds + self.confirm_failure_after_seconds
        if attempts > self.longest_attempts_seconds:
            raise ValueError(
                "two watch.probe_timeout_seconds and one watch.confirm_failure_after_seconds make "
                f"{attempts:g} seconds, {self.longest_attempts_seconds:g} are the most; one of the two must be lower"
            )
        return self


class Traffic(Section):
    """Which logs are read and what of them counts."""

    access_logs: str
    application_logs: str
    error_logs: str
    excluded_paths: list[str]
    late_lines_minutes: Annotated[int, Field(ge=0, le=720)]
    largest_number_of_endpoints: Annotated[int, Field(ge=1, le=10_000)]


class ResponseHours(Section):
    """Hours to the first answer by priority (guide, "User Support Review")."""

    high: Annotated[int, Field(gt=0, le=_YEAR_HOURS)]
    medium: Annotated[int, Field(gt=0, le=_YEAR_HOURS)]
    low: Annotated[int, Field(gt=0, le=_YEAR_HOURS)]


class Support(Section):
    """Support targets."""

    response_hours: ResponseHours


class Reports(Section):
    """Where reports go and what their figures are compared with."""

    folder: str
    comparison_weeks: Annotated[int, Field(ge=1, le=52)]
    chart_days: Annotated[int, Field(ge=7, le=366)]


class Prune(Section):
    """Retention of one table: rows older than ``keep_days`` are archived and deleted.

    ``batch_rows`` is the most that one transaction deletes, ``archive_rows`` the most that one file holds. Deleting
    pauses while a replica (or the slot of one that is away) is further behind than the limits, or autovacuum works at
    the table. After ``longest_pause_seconds`` of that, and after ``longest_minutes``, the next run goes on. With
    ``whole_partitions`` the rows of a partition wait until all of it is past retention. Legal holds may name the
    columns ``hold_columns``.
    """

    table: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$")]
    time_column: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$")]
    key_column: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$")]
    keep_days: Days
    batch_rows: Annotated[int, Field(ge=1, le=1_000_000)]
    archive_rows: Annotated[int, Field(ge=1, le=5_000_000)] = 100_000
    largest_replica_lag_seconds: Annotated[float, Field(gt=0)] = 10.0
    largest_replica_lag_bytes: Annotated[int, Field(gt=0)] = 256 * 1024 * 1024
    longest_pause_seconds: Annotated[float, Field(ge=0, le=86_400)] = 900.0
    longest_minutes: Annotated[float, Field(gt=0, le=50)] = 45.0  # the task that prunes has 60
    whole_partitions: bool = True
    hold_columns: list[Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$")]] = []


class Monthly(Section):
    """When the monthly checks of the platform's database speak up: days, bytes, hours, minutes."""

    wraparound_warning_days: Annotated[int, Field(ge=1)]
    wraparound_critical_days: Annotated[int, Field(ge=1)]
    partition_tables_larger_than_bytes: Annotated[int, Field(ge=1)]
    slot_retained_bytes: Annotated[int, Field(ge=1)]
    slot_unread_hours: Annotated[float, Field(gt=0, le=_YEAR_HOURS)]
    prepared_transaction_minutes: Annotated[int, Field(ge=1)]
    archive_sample: Annotated[int, Field(ge=1, le=1000)]


class Logs(Section):
    """How the platform's logs are rotated and how long rotated ones are kept; sizes in bytes, None is no limit."""

    keep_days: Days
    keep_files: Annotated[int, Field(ge=1)] | None
    keep_bytes: Annotated[int, Field(ge=1)] | None
    rotate_larger_than_bytes: Annotated[int, Field(ge=0)]
    rotate_again_larger_than_bytes: Annotated[int, Field(ge=1)]
    reopen_wait_seconds: Annotated[float, Field(ge=0, le=600)]
    logrotate_configuration: Path | None


class AirflowUpkeep(Section):
    """How long Airflow's own records and logs are kept, the bounds of their clean-up, what is right for its DAGs."""

    keep_days: Annotated[int, Field(ge=7, le=36_500)]
    batch_rows: Annotated[int, Field(ge=100, le=1000000)]
    most_minutes: Annotated[int, Field(ge=1, le=40)]  # its task has 60 and counts before and after
    removed_rows: Literal["drop", "export"]
    logs_keep_days: Annotated[int, Field(ge=2, le=36_500)]
    logs_keep_bytes: Annotated[int, Field(ge=1)] | None
    most_log_files: Annotated[int, Field(ge=1)]
    stuck_after_hours: Annotated[float, Field(gt=0, le=_YEAR_HOURS)]
    queued_too_long_minutes: Annotated[float, Field(gt=0, le=60 * _YEAR_HOURS)]
    paused_on_purpose: list[str]
    without_connections: list[Literal["airflow_db", "airflow_api"]]


class Leftovers(Section):
    """How many days findings, snapshots of the platform's database, and the definitions in those are kept."""

    findings_keep_days: Annotated[int, Field(ge=35, le=36_500)]  # monthly checks compare with their last
    snapshots_keep_days: Annotated[int, Field(ge=400, le=36_500)]  # forecasts look back as far
    definitions_keep_days: Days


class BusinessHours(Section):
    """Hours of the day in the platform's time zone, the first included and the last not; equal ones are none."""

    from_hour: Annotated[int, Field(ge=0, le=23)]
    to_hour: Annotated[int, Field(ge=0, le=24)]


class Vacuum(Section):
    """When tables are vacuumed and analyzed, and what that may cost. Shares are of autovacuum's own thresholds.

    Tables named in ``exclude``, as PostgreSQL writes them, are left to autovacuum unless in danger of wraparound.
    """

    due_share: Annotated[float, Field(gt=0, le=10)]
    freeze_share: Annotated[float, Field(gt=0, le=1)]
    window_minutes: Annotated[int, Field(ge=1, le=720)]
    tables_at_once: Annotated[int, Field(ge=1, le=32)]
    parallel_workers: Annotated[int, Field(ge=0, le=32)]
    buffer_megabytes: Annotated[int, Field(ge=1, le=16384)]
    cost_delay_milliseconds: Annotated[float, Field(ge=0, le=100)]  # PostgreSQL's own bounds
    business_hours: BusinessHours
    exclude: list[TableName] = []


class IndexReview(Section):
    """What the weekly review of indexes speaks up about: days, bytes, shares of a size."""

    unused_days: Days
    unused_minimum_bytes: Annotated[int, Field(ge=0)]
    bloat_minimum_bytes: Annotated[int, Field(ge=1)]
    bloat_minimum_share: Annotated[float, Field(gt=0, lt=1)]
    measure_at_most_bytes: Annotated[int, Field(ge=0)]
    measure_bytes_per_run: Annotated[int, Field(ge=0)]
    measure_minutes_per_run: Annotated[float, Field(ge=0, le=40)]  # its task has 60
    replicas: list[Annotated[str, Field(pattern=r"^platform_db_replica_[a-z0-9_]+$")]]


class QueryReview(Section):
    """Which queries the weekly review speaks up about: milliseconds, executions, shares of all time, planner costs."""

    mean_milliseconds: Annotated[float, Field(ge=0)]
    calls: Annotated[int, Field(ge=1)]
    share_of_total: Annotated[float, Field(gt=0, le=1)]
    most_queries: Annotated[int, Field(ge=1, le=200)]
    regression_ratio: Annotated[float, Field(gt=1)]
    regression_minimum_milliseconds: Annotated[float, Field(ge=0)]
    large_table_rows: Annotated[int, Field(ge=1)]
    advice_minimum_cost: Annotated[float, Field(ge=0)]
    advice_minimum_saving: Annotated[float, Field(gt=0, lt=1)]
    plan_seconds: Seconds
    baseline_days: Days
    keep_days: Annotated[int, Field(ge=14, le=36_500)]


class Reindex(Section):
    """Bounds of rebuilding bloated indexes: bytes, hours, seconds."""

    without_approval_up_to_bytes: Annotated[int, Field(ge=0)]
    most_indexes: Annotated[int, Field(ge=0, le=50)]
    approval_hours: Annotated[float, Field(gt=0, le=168)]
    wait_seconds: Annotated[float, Field(gt=0, le=7200)]


class LargeKeys(Section):
    """From which size on a key of the cache is large: one call for it holds all others up."""

    string_bytes: Annotated[int, Field(ge=1)]
    hash_fields: Annotated[int, Field(ge=1)]
    set_members: Annotated[int, Field(ge=1)]
    other_elements: Annotated[int, Field(ge=1)]


class Cache(Section):
    """How the cache is looked at, and what of it is worth a finding. Shares 0 to 1."""

    call_milliseconds: Annotated[float, Field(gt=0, le=8)]
    pause_milliseconds: Annotated[float, Field(ge=0, le=1000)]
    longest_pass_seconds: Annotated[float, Field(gt=0, le=3600)]
    most_prefixes: Annotated[int, Field(ge=1, le=1000)]
    large_keys: LargeKeys
    no_expiry_growth_keys: Annotated[int, Field(ge=1)]
    no_expiry_growth_share: Share
    hit_rate: Share
    hit_rate_minimum_requests: Annotated[int, Field(ge=1)]
    evictions_per_hour: Annotated[float, Field(ge=0)]
    memory_share: Share
    fragmentation_ratio: Annotated[float, Field(ge=1)]
    expired_stale_percent: Annotated[float, Field(ge=0, le=100)]


class Maintenance(Section):
    """When maintenance acts, and its bounds."""

    vacuum: Vacuum
    prune: list[Prune]
    logs: Logs
    cache: Cache
    airflow: AirflowUpkeep
    leftovers: Leftovers
    monthly: Monthly
    index_review: IndexReview
    query_review: QueryReview
    reindex: Reindex


class BackupSource(Section):
    """One kind of backup that is taken regularly, and how it is verified.

    ``files`` is the pattern of its names within the connection ``backups`` (formats custom, directory and base).
    Commands (format command) are lists of words that are run without a shell; in each word {backup} stands for the
    backup's name and {target} for the folder (or, when it restores a dump, the file) to restore to. ``wal_command``
    fetches a WAL file {wal} to {target} for the restored cluster in {data}. ``secrets`` names a connection whose extra
    fields become the commands' environment. ``superuser`` is the role that the cluster was made with, where no facts
    tell it.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    format: Literal["custom", "directory", "base", "command"]
    every_hours: Annotated[float, Field(gt=0, le=_YEAR_HOURS)]
    late_hours: Annotated[float, Field(ge=0, le=24 * 31)] = 2
    files: str = ""
    wal: str = ""
    facts_required: bool = True
    list_command: list[str] = []
    newest: str = ""
    verify_command: list[str] = []
    restore_command: list[str] = []
    wal_command: list[str] = []
    restores: Literal["cluster", "dump"] = "cluster"
    secrets: str = ""
    superuser: str = "postgres"

    @model_validator(mode="after")
    def _complete(self) -> BackupSource:
        if self.format != "command" and not self.files:
            raise ValueError("files is missing: the pattern of the backups' names within the connection backups")
        if self.format == "command":
            absent = [name for name in ("list_command", "newest", "restore_command") if not getattr(self, name)]
            if absent:
                raise ValueError(f"{', '.join(absent)} is missing, which a source of format command needs")
            groups = _named_groups(self.newest)
            if not {"backup", "finished"} <= groups:
                raise ValueError(
                    "newest must be a regular expression with the groups (?P<backup>…) and (?P<finished>…)"
                )
        return self


def _named_groups(pattern: str) -> set[str]:
    try:
        return set(re.compile(pattern).groupindex)
    except re.error:
        return set()


class Backups(Section):
    """Which backups there are, how their verification works and what it must reach."""

    sources: list[BackupSource]
    recovery_point_hours: Annotated[float, Field(gt=0, le=1_000_000)]
    recovery_time_minutes: Annotated[float, Field(gt=0, le=300)]  # a drill has six hours
    query: str
    row_count_tolerance: Share
    newest_row_columns: dict[str, str]
    jobs: Annotated[int, Field(ge=1, le=32)]
    scratch_folder: Path | None
    postgres_binaries: dict[int, Path]

    @field_validator("sources")
    @classmethod
    def _named_once(cls, value: list[BackupSource]) -> list[BackupSource]:
        names = [source.name for source in value]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"the source {sorted(twice)[0]} is there more than once")
        return value


class Restoration(Section):
    """What a backup has beside the databases: patterns of names within the connection ``backups``, or empty."""

    globals: str
    configuration: str


class Failover(Section):
    """What a failover may cost, in seconds."""

    unavailable_seconds: Seconds
    lost_seconds: Seconds


class ResponseMinutes(Section):
    """How soon somebody must have taken an incident of a class, in minutes."""

    p0: Annotated[float, Field(gt=0)]
    p1: Annotated[float, Field(gt=0)]
    p2: Annotated[float, Field(gt=0)]
    p3: Annotated[float, Field(gt=0)]


class Incidents(Section):
    """When an incident must be taken, and where signals wait while the warehouse is down: relative to the checkout."""

    response_minutes: ResponseMinutes
    spool: Path

    @field_validator("spool")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value if value.is_absolute() else _CHECKOUT / value


class Schedules(Section):
    """Cron expressions in the platform's time zone."""

    platform_watch: str
    incident_watch: str
    daily_metrics: str
    daily_maintenance: str
    weekly_maintenance: str
    weekly_backup_verification: str
    monthly_maintenance: str
    monthly_disaster_recovery: str

    @field_validator("*")
    @classmethod
    def _cron(cls, value: str) -> str:
        from croniter import CroniterBadDateError, croniter  # by which Airflow reads it

        if len(value.split()) != 5:
            raise ValueError("it is not a cron expression of five fields")
        try:
            croniter(value).get_next()
        except CroniterBadDateError:
            raise ValueError("it is a cron expression of days that never come") from None
        except ValueError:
            raise ValueError("it is not a cron expression: a field is out of range or no number") from None
        return value

    @field_validator("daily_metrics")
    @classmethod
    def _at_midnight(cls, value: str) -> str:
        if value.split() != ["0", "0", "*", "*", "*"]:
            raise ValueError("it must tick at every midnight (0 0 * * *), when the day that a run is about ends")
        return value


class Runs(Section):
    """How failed tasks are retried."""

    retries: Annotated[int, Field(ge=0, le=10)]
    retry_delay_seconds: Annotated[float, Field(ge=0, le=86_400)]
