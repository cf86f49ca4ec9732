"""Bounds that one run of maintenance may have of its own, beside those of config/operations.yaml.

An operator gives them with the parameter ``bounds`` of a DAG, by their keys in the section ``maintenance``:
``{"prune.batch_rows": 1000}``. A run may work in other portions, or keep for longer what it would delete; it cannot
keep less, nor rebuild more without approval, than is configured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

from pydantic import ValidationError

from include.maintenance_sections import Maintenance
from include.outcome import ConfigurationError
from include.sections import Section


class _Than(Enum):
    """How a run's own bound may differ from the configured one; None in either counts as larger than any number.

    The value is the word for what is refused: a bound that must be AT_LEAST the configured one is not "lower".
    """

    ANY = ""
    AT_LEAST = "lower"
    AT_MOST = "higher"


_DAILY = {
    "vacuum": {
        "due_share": _Than.ANY, "freeze_share": _Than.ANY, "parallel_workers": _Than.ANY, "buffer_megabytes": _Than.ANY,
        "cost_delay_milliseconds": _Than.ANY,
    },
    "prune": {
        "keep_days": _Than.AT_LEAST, "batch_rows": _Than.ANY, "archive_rows": _Than.ANY,
        "largest_replica_lag_seconds": _Than.ANY, "largest_replica_lag_bytes": _Than.ANY,
        "longest_pause_seconds": _Than.ANY, "longest_minutes": _Than.ANY,
    },
    "logs": {
        "keep_days": _Than.AT_LEAST, "keep_files": _Than.AT_LEAST, "keep_bytes": _Than.AT_LEAST,
        "rotate_larger_than_bytes": _Than.ANY, "rotate_again_larger_than_bytes": _Than.ANY,
        "reopen_wait_seconds": _Than.ANY,
    },
    "cache": {
        "call_milliseconds": _Than.ANY, "pause_milliseconds": _Than.ANY, "longest_pass_seconds": _Than.ANY,
        "most_prefixes": _Than.ANY,
    },
    "airflow": {
        "keep_days": _Than.AT_LEAST, "batch_rows": _Than.ANY, "most_minutes": _Than.ANY,
        "logs_keep_days": _Than.AT_LEAST, "logs_keep_bytes": _Than.AT_LEAST, "most_log_files": _Than.ANY,
    },
    "leftovers": {
        "findings_keep_days": _Than.AT_LEAST, "snapshots_keep_days": _Than.AT_LEAST,
        "definitions_keep_days": _Than.AT_LEAST,
    },
}  # fmt: skip
_WEEKLY = {
    "index_review": {
        "measure_at_most_bytes": _Than.ANY, "measure_bytes_per_run": _Than.ANY, "measure_minutes_per_run": _Than.ANY,
    },
    "query_review": {"most_queries": _Than.ANY, "plan_seconds": _Than.ANY, "keep_days": _Than.AT_LEAST},
    "reindex": {"without_approval_up_to_bytes": _Than.AT_MOST, "wait_seconds": _Than.ANY},
}  # fmt: skip
_ALL = _DAILY | _WEEKLY


def _keys(of: dict[str, dict[str, _Than]]) -> tuple[str, ...]:
    return tuple(f"{section}.{name}" for section, names in of.items() for name in names)


KEYS = {"daily_maintenance": _keys(_DAILY), "weekly_maintenance": _keys(_WEEKLY)}
"""Keys of the bounds that a run may have of its own, by its DAG."""


def schemas(dag_id: str, configured: Maintenance) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each bound that a run of a DAG may have of its own, by its key.

    With it Airflow refuses a wrong value when somebody triggers the run, before anything begins. It says the same as
    ``applied``, but for what the configuration says by then: each task asks that again. Bounds of pruning have no
    schema while no table is pruned. Raises KeyError for a DAG without such bounds.
    """
    return {key: _schema(configured, *key.split(".")) for key in KEYS[dag_id]}


def _schema(configured: Maintenance, place: str, name: str) -> dict[str, Any]:
    now: Section | list[Section] = getattr(configured, place)
    sections = now if isinstance(now, list) else [now]
    if not sections:
        return {}
    told = type(sections[0]).model_json_schema()["properties"][name]
    schema = {word: value for word, value in told.items() if word not in ("title", "default")}
    values = [getattr(section, name) for section in sections]
    match _ALL[place][name]:
        case _Than.AT_LEAST if None in values:
            return {"type": "null"}
        case _Than.AT_LEAST:
            return schema | {"minimum": max(values)}
        case _Than.AT_MOST:
            return schema | {"maximum": min(values)}
    return schema


def applied(configured: Maintenance, bounds: Mapping[str, Any]) -> Maintenance:
    """Return the section ``maintenance`` with a run's own bounds in it, each by its key within that section.

    A bound of pruning goes for every table that is pruned. Raises ConfigurationError, with one sentence, for a key that
    is no such bound, a value that the configuration would not take either, and one that would keep for less long
    or rebuild more without approval than is configured.
    """
    changed = configured
    for key, value in bounds.items():
        place, _, name = key.partition(".")
        if name not in _ALL.get(place, {}):
            raise ConfigurationError(
                f"the run's bounds name {key}, which a run cannot have of its own; trigger it without, or change "
                f"maintenance.{place} in the configuration; a run can have {', '.join(_keys(_ALL))}"
            )
        now: Section | list[Section] = getattr(changed, place)
        new = (
            [_changed(rule, key, name, value) for rule in now]
            if isinstance(now, list)
            else _changed(now, key, name, value)
        )
        changed = changed.model_copy(update={place: new})
    return changed


def _changed(section: Section, key: str, name: str, value: Any) -> Section:
    try:
        changed = type(section).model_validate(section.model_dump() | {name: value})
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ConfigurationError(
            f"the run's bound {key} is {value!r}: {message}; trigger the run again with another value"
        ) from None
    may_be = _ALL[key.partition(".")[0]][name]
    ours, configured = getattr(changed, name), getattr(section, name)
    lower, higher = _limit(ours) < _limit(configured), _limit(ours) > _limit(configured)
    if (may_be is _Than.AT_LEAST and lower) or (may_be is _Than.AT_MOST and higher):
        raise ConfigurationError(
            f"the run's bound {key} is {value!r}, {may_be.value} than the configured "
            f"{'absence of a limit' if configured is None else configured}; a run may be more careful than the "
            f"configuration, not less: trigger it with another value, or change maintenance.{key}"
        )
    return changed


def _limit(value: float | None) -> float:
    return math.inf if value is None else value
