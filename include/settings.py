"""Every threshold and setting, typed and validated, read from config/operations.yaml and the environment.

The file's place can be changed with OPERATIONS_CONFIG; a single key with OPERATIONS__SECTION__KEY.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from include import maintenance_sections, run_bounds, sections
from include.outcome import ConfigurationError

ROOT = sections.ROOT
DEFAULT_FILE = ROOT / "config" / "operations.yaml"


class _Environment(EnvSettingsSource):
    """The environment, where a list that is no JSON stays the text that it is: the section's checks name its key."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


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
    maintenance: maintenance_sections.Maintenance
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
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class names it
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file."""
        return (
            init_settings,
            _Environment(settings_cls),
            InitSettingsSource(settings_cls, _read(configuration_file())),
        )


def configuration_file() -> Path:
    """Return the path of the configuration, which may be elsewhere (OPERATIONS_CONFIG)."""
    return Path(os.environ.get("OPERATIONS_CONFIG", DEFAULT_FILE))


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError(f"{path.name} is not UTF-8 at line {line}; save it in that encoding") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}); correct its permissions") from None
    try:
        content = _parsed(path, text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"{path.name} is not valid YAML{where}; correct its indentation or quoting") from None
    except ValueError as error:  # a value that looks like a date or number and is none: 2026-02-30
        raise ConfigurationError(
            f"{path.name} holds a value that cannot be read ({error}); correct or quote it"
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigurationError(
            f"{path.name} is not a list of sections by their names; correct it after the one that ships (platform: …)"
        )
    return content


def _parsed(path: Path, text: str) -> Any:
    # PyYAML's parser in C reads the file ten times faster than the one in Python, which is the fallback.
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_twins(path, node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _refuse_twins(path: Path, top: yaml.Node) -> None:
    """Raise for a key that stands twice in one section: YAML forbids it, and the parser would take the last."""
    waiting, seen = [("", top)], set()
    while waiting:
        place, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(f"{place}{number}.", child) for number, child in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                name, line = str(key.value), key.start_mark.line + 1
                if (first := lines.setdefault(name, line)) != line:
                    raise ConfigurationError(
                        f"{path.name}: the key {place}{name} is there twice, at lines {first} and {line}; remove one"
                    )
                waiting.append((f"{place}{name}.", value))


def _refuse_unknown_sections() -> None:
    """Raise for a variable of the environment whose section does not exist: pydantic would pass it over in silence."""
    prefix = str(Settings.model_config["env_prefix"])
    for name in sorted(os.environ):
        section = name.upper().removeprefix(prefix).split("__")[0].lower()
        if name.upper().startswith(prefix) and section not in Settings.model_fields:
            raise ConfigurationError(
                f"the environment variable {name} names no section of the configuration; remove it or correct it, "
                f"the sections are {', '.join(Settings.model_fields)}"
            )


def load(**overrides: Any) -> Settings:
    """Read and check the configuration.

    ``overrides`` replace whole sections, for tests. Raises ConfigurationError with one sentence that names the
    first wrong key and the remedy.
    """
    path = configuration_file()
    if not path.is_file():
        raise ConfigurationError(f"the configuration file {path} does not exist; set OPERATIONS_CONFIG to its place")
    _refuse_unknown_sections()
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise ConfigurationError(_sentence(path, error)) from None


def _sentence(path: Path, error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    variable = "OPERATIONS__" + "__".join(str(part) for part in first["loc"]).upper()
    if first["type"] == "missing":
        return f"{path.name}: the key {key} is missing; add it (or set {variable})"
    if first["type"] == "extra_forbidden":
        return f"{path.name}: the key {key} is not known; remove it or correct its spelling"
    message = first["msg"].removeprefix("Value error, ")
    whole = isinstance(first["input"], dict)  # a section whose keys do not fit together: the message names them
    form = ", as JSON" if whole or first["type"] in ("list_type", "dict_type", "model_type") else ""
    given = "" if whole else f" is {first['input']!r}"
    return f"{path.name}: {key}{given}: {message}; correct it there (or in {variable}{form})"


_bounds_of_run: dict[str, Any] = {}


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the configuration of this process, read once, with the bounds of its run (``use_bounds``) in it.

    Raises ConfigurationError as ``load`` and ``run_bounds.applied`` do.
    """
    found = load()
    if not _bounds_of_run:
        return found
    return found.model_copy(update={"maintenance": run_bounds.applied(found.maintenance, _bounds_of_run)})


def use_bounds(bounds: Mapping[str, Any]) -> None:
    """Let the configuration of this process have a run's own bounds from here on, in place of those of an earlier run.

    ``bounds`` are keys of run_bounds.py with their values; empty, the configuration is as it was read. Raises
    ConfigurationError as ``settings`` does, and then the process has none.
    """
    if bounds == _bounds_of_run:
        return
    _bounds_of_run.clear()
    settings.cache_clear()
    _bounds_of_run.update(bounds)
    try:
        settings()
    except ConfigurationError:
        _bounds_of_run.clear()
        raise
