"""The sections of the configuration: every key with its type and bounds. settings.py reads them.

Durations bear their unit in their names; shares are 0 to 1.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

ROOT = Path(__file__).resolve().parent.parent

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Days = Annotated[int, Field(ge=1, le=36_500)]
YEAR_HOURS = 24 * 366
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
    """How components are probed, in seconds. ``chain_head_seconds``: how old the chain's newest block may be."""

    # The task of the watch has 50 seconds; starting it, a grace of 5 for the probes and recording need the rest.
    longest_attempts_seconds: ClassVar[float] = 35.0

    observation_holds_seconds: Seconds
    probe_timeout_seconds: Seconds
    confirm_failure_after_seconds: Annotated[float, Field(ge=0)]
    chain_head_seconds: Seconds | None = None

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

    high: Annotated[int, Field(gt=0, le=YEAR_HOURS)]
    medium: Annotated[int, Field(gt=0, le=YEAR_HOURS)]
    low: Annotated[int, Field(gt=0, le=YEAR_HOURS)]


class Support(Section):
    """Support targets."""

    response_hours: ResponseHours


class Reports(Section):
    """Where reports go, what their figures are compared with, and for how long their days follow late rows."""

    folder: str
    comparison_weeks: Annotated[int, Field(ge=1, le=52)]
    chart_days: Annotated[int, Field(ge=7, le=366)]
    late_rows_days: Annotated[int, Field(ge=0, le=31)] = 7


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
    every_hours: Annotated[float, Field(gt=0, le=YEAR_HOURS)]
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
    """What a backup has beside the databases: patterns of names within the connection ``backups``, or empty.

    ``archives_minutes`` is for how long archives are restored, the newest first.
    """

    globals: str
    configuration: str
    archives_minutes: Annotated[float, Field(gt=0, le=240)] = 60  # a drill has six hours


class Failover(Section):
    """What a failover may cost, in seconds."""

    unavailable_seconds: Seconds
    lost_seconds: Seconds


class ResponseMinutes(Section):
    """How soon somebody must have taken an incident of a class, in minutes."""

    p0: Annotated[float, Field(gt=0)] = 15
    p1: Annotated[float, Field(gt=0)] = 60
    p2: Annotated[float, Field(gt=0)] = 240
    p3: Annotated[float, Field(gt=0)] = 1440


class Incidents(Section):
    """When an incident must be taken, and where signals wait while the warehouse is down: relative to the checkout."""

    response_minutes: ResponseMinutes = ResponseMinutes()
    spool: Path

    @field_validator("spool")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value if value.is_absolute() else ROOT / value


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
