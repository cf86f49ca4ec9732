"""Writes ``ops.observation``: one measured value of one signal on one resource at one time."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NamedTuple

from include.masking import bounded_facts
from include.outcome import Outcome
from include.warehouse import session


class Observation(NamedTuple):
    """One observation; ``observed_at`` is an aware datetime, ``value`` is absent when nothing was measured."""

    signal: str
    resource: str
    observed_at: datetime
    outcome: Outcome
    value: float | None
    unit: str | None
    evidence: dict[str, Any]


def record(observations: list[Observation]) -> int:
    """Write observations in one transaction and return how many were new.

    An observation of the same signal, resource and time is there already and stays as it is. Raises
    ConfigurationError and SourceUnavailable as ``session.transaction`` does.
    """
    columns = [list(column) for column in zip(*map(_as_row, observations), strict=True)]
    if not columns:
        return 0
    with session.transaction() as connection:
        return connection.execute(
            "INSERT INTO ops.observation (signal, resource, observed_at, outcome, value, unit, evidence)"
            " SELECT * FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::float8[], %s::text[],"
            " %s::jsonb[]) ON CONFLICT DO NOTHING",
            columns,
        ).rowcount


def _as_row(one: Observation) -> tuple[Any, ...]:
    return (
        one.signal,
        one.resource,
        one.observed_at,
        one.outcome.value,
        one.value,
        one.unit,
        json.dumps(bounded_facts(one.evidence)),  # one that the warehouse could not take would cost all the others
    )
