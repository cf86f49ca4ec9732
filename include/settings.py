"""Every threshold of the guide, typed and validated, read from config/operations.yaml and the environment.

The file's place can be changed with OPERATIONS_CONFIG; a single key with OPERATIONS__SECTION__KEY.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource
from yaml import YAMLError

from include.outcome import ConfigurationError

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_FILE = ROOT / "config" / "operations.yaml"

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A part of the configuration; a key that it does not know is an error, not a silent typo."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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

    observation_holds_seconds: Seconds
    probe_timeout_seconds: Seconds
    confirm_failure_after_seconds: Annotated[float, Field(ge=0)]


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

    high: Annotated[int, Field(gt=0)]
    medium: Annotated[int, Field(gt=0)]
    low: Annotated[int, Field(gt=0)]


class Support(Section):
    """Support targets."""

    response_hours: ResponseHours


class Reports(Section):
    """Where reports go and what their figures are compared with."""

    folder: str
    comparison_weeks: Annotated[int, Field(ge=1, le=52)]
    chart_days: Annotated[int, Field(ge=7, le=366)]


class Prune(Section):
    """Retention of one table: rows older than ``keep_days`` are archived and deleted."""

    table: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$")]
    time_column: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$")]
    key_column: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$")]
    keep_days: Annotated[int, Field(ge=1)]
    batch_rows: Annotated[int, Field(ge=1, le=1_000_000)]


class Maintenance(Section):
    """When maintenance acts, and its bounds."""

    vacuum_dead_share: Share
    vacuum_dead_minimum: Annotated[int, Field(ge=0)]
    analyze_changed_share: Share
    analyze_changed_minimum: Annotated[int, Field(ge=0)]
    prune: list[Prune]
    logs_keep_days: Annotated[int, Field(ge=1)]
    rotate_logs_larger_than_bytes: Annotated[int, Field(ge=0)]


class Incidents(Section):
    """Where signals wait while the warehouse is down; a relative path is within the checkout."""

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

    @field_validator("*")
    @classmethod
    def _five_fields(cls, value: str) -> str:
        if len(value.split()) != 5:
            raise ValueError("it is not a cron expression of five fields")
        return value

    @field_validator("daily_metrics")
    @classmethod
    def _at_midnight(cls, value: str) -> str:
        if value.split()[:2] != ["0", "0"]:
            raise ValueError("it must tick at midnight (0 0 * * *), when the day that a run is about ends")
        return value


class Runs(Section):
    """How failed tasks are retried."""

    retries: Annotated[int, Field(ge=0, le=10)]
    retry_delay_seconds: Annotated[float, Field(ge=0)]


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        env_prefix="OPERATIONS__",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    platform: Platform
    targets: Targets
    alerts: Alerts
    watch: Watch
    traffic: Traffic
    support: Support
    reports: Reports
    maintenance: Maintenance
    incidents: Incidents
    schedules: Schedules
    runs: Runs

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class names it
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file."""
        return (init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=_file()))


def _file() -> Path:
    return Path(os.environ.get("OPERATIONS_CONFIG", DEFAULT_FILE))


def load(**overrides: Any) -> Settings:
    """Read and check the configuration.

    ``overrides`` replace whole sections, for tests. Raises ConfigurationError with one sentence that names the
    first wrong key and the remedy.
    """
    path = _file()
    if not path.is_file():
        raise ConfigurationError(f"the configuration file {path} does not exist; set OPERATIONS_CONFIG to its place")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise ConfigurationError(_sentence(path, error)) from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"{path.name} is not valid YAML{where}; correct its indentation or quoting") from None


def _sentence(path: Path, error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    variable = "OPERATIONS__" + "__".join(str(part) for part in first["loc"]).upper()
    if first["type"] == "missing":
        return f"{path.name}: the key {key} is missing; add it (or set {variable})"
    if first["type"] == "extra_forbidden":
        return f"{path.name}: the key {key} is not known; remove it or correct its spelling"
    message = first["msg"].removeprefix("Value error, ")
    return f"{path.name}: {key} is {first['input']!r}: {message}; correct it there (or in {variable})"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the configuration of this process, read once. Raises ConfigurationError as ``load`` does."""
    return load()
