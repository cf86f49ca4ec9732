"""How long a component's outcome is known to last: a change that was seen, or a pause in which nobody watched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from fastapi.testclient import TestClient
from psycopg.types.json import Jsonb

from plugins.operations_board.warehouse import read
from tests.plugins.conftest import text_of
from tests.plugins.test_hours import query_under
from tests.plugins.test_pages import quiet

NOW = datetime(2026, 10, 9, 12, tzinfo=UTC)


def minutes(count: float) -> datetime:
    return NOW - timedelta(minutes=count)


OF_API = {"components": ["api"], "look_back": timedelta(days=2), "holds": timedelta(seconds=150), "now": NOW}


def probe(owner: psycopg.Connection, at: datetime, outcome: str, component: str = "api") -> None:
    owner.execute(
        "INSERT INTO ops.observation (signal, resource, observed_at, outcome) VALUES ('probe', %s, %s, %s)",
        (component, at, outcome),
    )


@pytest.mark.parametrize(
    ("probes", "changed_at", "seen_since"),
    [
        # (minutes ago, outcome), and what is known: the change, or how far back the same outcome was seen at least
        ([(3, "ok"), (2, "ok"), (1, "ok")], None, 3),
        ([(3, "critical"), (2, "ok"), (1, "ok")], 2, 2),
        ([(63, "ok"), (62, "ok"), (2, "ok"), (1, "ok")], None, 2),
        ([(62, "critical"), (2, "ok"), (1, "ok")], None, 2),
        ([(62, "ok"), (3, "critical"), (2, "ok"), (1, "ok")], 2, 2),
        ([(1, "unknown")], None, 1),
    ],
)
def test_a_pause_of_the_watch_is_a_break(
    warehouse: psycopg.Connection, probes: list[tuple[int, str]], changed_at: int | None, seen_since: int
) -> None:
    for ago, outcome in probes:
        probe(warehouse, minutes(ago), outcome)
    with read() as reader:
        [row] = reader.rows("components", **OF_API)
    assert row["changed_at"] == (None if changed_at is None else minutes(changed_at))
    assert row["seen_since"] == minutes(seen_since)


@pytest.mark.parametrize(
    ("seconds", "outcome", "since"),
    # A clock that is a little ahead of the board's is not wrong; one that jumped has seen nothing of now.
    [(4, "ok", NOW + timedelta(seconds=4)), (6, "critical", minutes(2)), (3600, "critical", minutes(2))],
)
def test_what_a_clock_that_jumped_has_left_is_not_the_latest(
    warehouse: psycopg.Connection, seconds: int, outcome: str, since: datetime
) -> None:
    for at in (minutes(2), minutes(1)):
        probe(warehouse, at, "critical")
    for ahead in (seconds, seconds + 60):
        probe(warehouse, NOW + timedelta(seconds=ahead), "ok")
    with read() as reader:
        [row] = reader.rows("components", **OF_API)
    assert (row["outcome"], row["seen_since"]) == (outcome, since)


def test_the_query_of_the_pager_tells_what_is_not_ok(warehouse: psycopg.Connection) -> None:
    """That of docs/operate.md, as the warehouse's reader runs it."""
    now = datetime.now(UTC)
    for component, ago, outcome in (
        ("frontend", 10, "ok"), ("api", 10, "critical"), ("api", -3600, "ok"), ("database", 200, "ok"),
        ("database", -60, "ok"), ("cache", 10, "warning"), ("chain", -3600, "ok"),
    ):  # fmt: skip
        probe(warehouse, now - timedelta(seconds=ago), outcome, component)
    _, _, query, *_ = query_under("How you learn of something").split(";")
    with read() as reader:
        found = {row["name"]: row["outcome"] for row in reader._connection.execute(query.encode())}
    assert found == {"api": "critical", "database": "ok", "cache": "warning", "chain": None}


def test_the_query_of_the_night_tells_what_nobody_works_on(warehouse: psycopg.Connection) -> None:
    """That of docs/operate.md: what nobody has taken, or what was seen again since somebody took it."""
    for number, (klass, state, taken, seen) in enumerate(
        [
            ("P1", "detected", None, 0), ("P2", "detected", None, 0), ("P1", "acknowledged", 600, 601),
            ("P0", "acknowledged", 600, 1), ("P1", "acknowledged", 600, 541), ("P1", "acknowledged", 600, 539),
            ("P1", "resolved", 600, 1), ("P1", "mitigated", 600, 1),
        ],
        start=1,
    ):  # fmt: skip
        warehouse.execute(
            "INSERT INTO ops.incident (incident_id, fingerprint, class, state, title, affected, detected_at,"
            " last_seen_at, acknowledged_at) VALUES (%(id)s, %(id)s, %(class)s, %(state)s, 't', 'a',"
            " now() - interval '1 day', now() - %(seen)s * interval '1 min', now() - %(taken)s * interval '1 min')",
            {"id": f"INC-2026-00{number}", "class": klass, "state": state, "taken": taken, "seen": seen},
        )
    _, query, *_ = query_under("How you learn of something").split(";")
    with read() as reader:
        found = [row["incident_id"][-1] for row in reader._connection.execute(query.encode())]
    assert sorted(found) == ["1", "4", "6", "8"]


@pytest.mark.airflow
@pytest.mark.parametrize(
    ("evidence", "word"),
    [
        ({"status": 403, "reason": "it answered 403"}, "refuses"), ({"status": 400}, "refuses"),
        ({"status": 399}, "slow"), ({"status": 200}, "slow"), ({}, "slow"), ({"status": "403"}, "slow"),
    ],
)  # fmt: skip
def test_a_warning_of_a_probe_is_slow_or_refuses(
    browser: TestClient, warehouse: psycopg.Connection, evidence: dict[str, object], word: str
) -> None:
    quiet(warehouse)
    warehouse.execute(
        "UPDATE ops.observation SET outcome = 'warning', value = 0.02, evidence = %s WHERE resource = 'chain'",
        (Jsonb(evidence),),
    )
    assert f"Chain ! {word} for at least 19 min, 0.02 s" in text_of(browser.get("").text)
