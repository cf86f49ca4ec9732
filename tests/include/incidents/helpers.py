"""What the tests of this room share."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from include.incidents.signals import Signal
from include.outcome import IncidentClass

NOON = datetime(2026, 10, 3, 12, tzinfo=UTC)


def signal(number: int = 1, **changes: Any) -> Signal:
    """A signal of its own, ``number`` minutes after noon."""
    given: dict[str, Any] = {
        "idempotency_key": f"airflow:daily_metrics:run-{number}:users:-1:1:task_failed",
        "kind": "task_failed",
        "occurred_at": NOON + timedelta(minutes=number),
        "fingerprint": "airflow:daily_metrics",
        "incident_class": IncidentClass.P2,
        "title": f"daily_metrics: task users failed ({number})",
        "detail": {"dag_id": "daily_metrics", "run_id": f"run-{number}"},
    }
    return Signal(**(given | changes))


def rows(connection: psycopg.Connection, query: str) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    return connection.execute(query).fetchall()
