"""The sections of the configuration under ``maintenance``: every key with its type and bounds.

Durations bear their unit in their names; shares are 0 to 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from include.sections import YEAR_HOURS, Days, Seconds, Section, Share, TableName


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
    archive_rows: Annotated[int, Field(ge=1, le=5_000_000)] = 150_000
    largest_replica_lag_seconds: Annotated[float, Field(gt=0)] = 10.0
    largest_replica_lag_bytes: Annotated[int, Field(gt=0)] = 256 * 1024 * 1024
    longest_pause_seconds: Annotated[float, Field(ge=0, le=86_400)] = 900.0
    longest_minutes: Annotated[float, Field(gt=0, le=50)] = 45.0  # the task that prunes has 60
    whole_partitions: bool = True
    hold_columns: list[Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$")]] = Field(default_factory=list)


class Monthly(Section):
    """When the monthly checks of the platform's database speak up: days, shares, bytes, hours, minutes."""

    wraparound_warning_days: Annotated[int, Field(ge=1)]
    wraparound_critical_days: Annotated[int, Field(ge=1)]
    key_warning_share: Share
    key_critical_share: Share
    key_warning_days: Days
    key_critical_days: Days
    partition_tables_larger_than_bytes: Annotated[int, Field(ge=1)]
    slot_retained_bytes: Annotated[int, Field(ge=1)]
    slot_unread_hours: Annotated[float, Field(gt=0, le=YEAR_HOURS)]
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
    stuck_after_hours: Annotated[float, Field(gt=0, le=YEAR_HOURS)]
    queued_too_long_minutes: Annotated[float, Field(gt=0, le=60 * YEAR_HOURS)]
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

    @model_validator(mode="after")
    def _in_order(self) -> BusinessHours:
        if self.from_hour > self.to_hour:
            raise ValueError("from_hour is later than to_hour: business hours lie within one day")
        return self


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
    cost_delay_milliseconds: Annotated[float, Field(ge=0, le=100)] = 0.0  # PostgreSQL's own bounds
    business_hours: BusinessHours
    exclude: list[TableName] = Field(default_factory=list)


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
