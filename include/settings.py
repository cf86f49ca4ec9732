"""Every threshold of the guide, typed and validated, read from config/operations.yaml and the environment.

The file's place can be changed with OPERATIONS_CONFIG; a single key with OPERATIONS__SECTION__KEY.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from include import sections
from include.outcome import ConfigurationError

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_FILE = ROOT / "config" / "operations.yaml"


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        env_prefix="OPERATIONS__",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    platform: sections.Platform
    targets: sections.Targets
    alerts: sections.Alerts
    watch: sections.Watch
    traffic: sections.Traffic
    support: sections.Support
    reports: sections.Reports
    maintenance: sections.Maintenance
    backups: sections.Backups
    restoration: sections.Restoration
    failover: sections.Failover
    incidents: sections.Incidents
    schedules: sections.Schedules
    runs: sections.Runs

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
        return (init_settings, env_settings, InitSettingsSource(settings_cls, _read(configuration_file())))


def configuration_file() -> Path:
    """Return the path of the configuration, which may be elsewhere (OPERATIONS_CONFIG)."""
    return Path(os.environ.get("OPERATIONS_CONFIG", DEFAULT_FILE))


def _read(path: Path) -> dict[str, Any]:
    # PyYAML's parser in C reads the file ten times faster than the one in Python, which is the fallback.
    content = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    return content or {}


def load(**overrides: Any) -> Settings:
    """Read and check the configuration.

    ``overrides`` replace whole sections, for tests. Raises ConfigurationError with one sentence that names the
    first wrong key and the remedy.
    """
    path = configuration_file()
    if not path.is_file():
        raise ConfigurationError(f"the configuration file {path} does not exist; set OPERATIONS_CONFIG to its place")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise ConfigurationError(_sentence(path, error)) from None
    except yaml.YAMLError as error:
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
