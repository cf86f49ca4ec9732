"""How long a component's outcome is known to last: a change that was seen, or a pause in which nobody watched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from plugins.operations_board.warehouse import read

NOW = datetime(2026, 10, 9, 12, tzinfo=UTC)


def minutes(count: float) -> datetime:
    return NOW - timedelta(minutes=count)


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
        warehouse.execute(
            "INSERT INTO ops.observation (signal, resource, observed_at, outcome) VALUES ('probe', 'api', %s, %s)",
            (minutes(ago), outcome),
        )
    with read() as reader:
        [row] = reader.rows("components", components=["api"], look_back=timedelta(days=2), holds=timedelta(seconds=150))
    assert row["changed_at"] == (None if changed_at is None else minutes(changed_at))
    assert row["seen_since"] == minutes(seen_since)
