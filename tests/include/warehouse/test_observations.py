"""Observations are written once, whatever is repeated."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from include.outcome import Outcome
from include.warehouse.observations import Observation, record

NOW = datetime(2026, 10, 3, 12, 0, tzinfo=UTC)


def observation(resource: str, outcome: Outcome = Outcome.OK, after: int = 0) -> Observation:
    at = NOW + timedelta(seconds=after)
    return Observation("probe", resource, at, outcome, 0.25, "seconds", {"status": 200, "text": 'a "quoted" one'})


def test_a_repeated_write_adds_nothing_and_changes_nothing(warehouse: psycopg.Connection[Any]) -> None:
    assert record([observation("api"), observation("cache")]) == 2
    assert record([observation("api", Outcome.CRITICAL), observation("api", after=60)]) == 1
    found = warehouse.execute(
        "SELECT resource, observed_at, outcome, value, unit, evidence FROM ops.observation ORDER BY 1, 2"
    ).fetchall()
    evidence = {"status": 200, "text": 'a "quoted" one'}
    assert found == [
        ("api", NOW, "ok", 0.25, "seconds", evidence),
        ("api", NOW + timedelta(minutes=1), "ok", 0.25, "seconds", evidence),
        ("cache", NOW, "ok", 0.25, "seconds", evidence),
    ]


def test_nothing_to_write(warehouse: psycopg.Connection[Any]) -> None:
    assert record([]) == 0


def test_an_absent_value_stays_absent(warehouse: psycopg.Connection[Any]) -> None:
    record([Observation("probe", "chain", NOW, Outcome.UNKNOWN, None, None, {})])
    assert warehouse.execute("SELECT value, unit FROM ops.observation").fetchall() == [(None, None)]


def test_what_the_warehouse_cannot_take_costs_no_other_observation(warehouse: psycopg.Connection[Any]) -> None:
    strange = {"nul": "a\x00b", "half": "a\ud800", "none": float("nan"), "long": "x" * 100_000}
    one = Observation("probe", "web", NOW, Outcome.WARNING, 0.25, "seconds", strange)
    assert record([one, observation("api")]) == 2
    row = warehouse.execute("SELECT evidence FROM ops.observation WHERE resource = 'web'").fetchone()
    assert row is not None
    evidence = row[0]
    assert (evidence["nul"], evidence["half"], evidence["none"]) == ("ab", "a?", "nan")
    assert len(evidence["long"]) < 20_000
