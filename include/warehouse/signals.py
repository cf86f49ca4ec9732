"""Writes ``ops.signal``: what callbacks saw. Insert-only; the idempotency key makes a repeated signal one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.outcome import IncidentClass

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True)
class Signal:
    """What a callback saw.

    ``idempotency_key`` names the event (a double firing has the same one), ``kind`` is task_failed, dag_failed or
    deadline_missed, ``occurred_at`` is an aware datetime, ``fingerprint`` says what it is about without times and
    values, ``title`` is one line for people and ``detail`` the facts (dag_id, run_id, task_id, try_number, error,
    log_url; ``affected`` names the affected system where it is not the DAG).
    """

    idempotency_key: str
    kind: str
    occurred_at: datetime
    fingerprint: str
    incident_class: IncidentClass
    title: str
    detail: dict[str, Any] = field(default_factory=dict)


_INSERT = """
    INSERT INTO ops.signal (idempotency_key, kind, occurred_at, fingerprint, class, title, detail)
    VALUES (%(idempotency_key)s, %(kind)s, %(occurred_at)s, %(fingerprint)s, %(class)s, %(title)s, %(detail)s)
    ON CONFLICT (idempotency_key) DO NOTHING
"""


def insert(connection: psycopg.Connection[Any], signals: Sequence[Signal]) -> int:
    """Write signals within the caller's transaction; return how many were not there yet."""
    from psycopg.types.json import Jsonb

    rows = [
        {
            "idempotency_key": signal.idempotency_key,
            "kind": signal.kind,
            "occurred_at": signal.occurred_at,
            "fingerprint": signal.fingerprint,
            "class": signal.incident_class.value,
            "title": signal.title,
            "detail": Jsonb(signal.detail),
        }
        for signal in signals
    ]
    with connection.cursor() as cursor:
        cursor.executemany(_INSERT, rows)
        return max(cursor.rowcount, 0)
