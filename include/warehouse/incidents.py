"""Writes ``ops.incident`` and its links, numbers and timeline. The statements stand in incidents.sql.

Each function is one transaction of its own, unless the caller has one open.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.warehouse.statements import one_row, statements

if TYPE_CHECKING:
    import psycopg

LAST_TITLE = """(
    SELECT s.title FROM ops.signal s
    WHERE s.fingerprint = incident.fingerprint AND least(s.occurred_at, s.received_at) <= incident.last_seen_at
    ORDER BY least(s.occurred_at, s.received_at) DESC, s.signal_id DESC LIMIT 1
)"""
"""SQL, within a query of ``ops.incident``: the title of the latest signal of the incident."""
_STATEMENTS = statements(__file__)
OPEN = _STATEMENTS["open"].replace("{last_title}", LAST_TITLE)
"""SQL: the open incidents, the worst first, then the oldest; its columns are the fields of ``Incident``."""
WAITING = _STATEMENTS["waiting"]
"""SQL: the signals that no incident has taken up: how many, since when the first waits, and how long."""
LONG_WAITING = timedelta(minutes=10)
"""Signals are taken up every minute; one that waits longer means that nobody does that."""
_LOCK_SEED = 7_041_777  # any constant: keeps these locks apart from other users of advisory locks
_OPEN = "state IN ('detected', 'acknowledged', 'mitigated')"


def is_seen_again(last_seen_at: datetime, acknowledged_at: datetime | None) -> bool:
    """Return whether an incident was seen after somebody took it; both times are aware."""
    return acknowledged_at is not None and last_seen_at > acknowledged_at


@dataclass(frozen=True)
class Incident:
    """An open incident; times are aware datetimes in UTC, ``occurrences`` counts its signals.

    ``title`` is that of its first signal, ``last_title`` that of its latest.
    """

    incident_id: str
    incident_class: str
    state: str
    title: str
    affected: str
    detected_at: datetime
    last_seen_at: datetime
    occurrences: int
    acknowledged_at: datetime | None
    last_title: str

    @property
    def seen_again(self) -> bool:
        """Whether it was seen after somebody took it."""
        return is_seen_again(self.last_seen_at, self.acknowledged_at)


@dataclass(frozen=True)
class Waiting:
    """The signals that no incident has taken up: how many, since when (UTC) the first, and whether that is too long."""

    signals: int
    since: datetime | None
    too_long: bool


@dataclass(frozen=True)
class Held:
    """What an incident's locked row says: its state, and whether it was seen after somebody took it."""

    state: str
    seen_again: bool


def pending_fingerprints(connection: psycopg.Connection[Any]) -> list[str]:
    """Return what the signals without an incident are about, the longest waiting first."""
    with connection.transaction():
        return [fingerprint for (fingerprint,) in connection.execute(_STATEMENTS["pending"])]


def take_signals(connection: psycopg.Connection[Any], fingerprint: str, actor: str) -> str | None:
    """Make the waiting signals of one fingerprint part of its open incident, in one transaction.

    Without an open incident a new one is opened and numbered. The end of a run whose failed task was told before is no
    news: it goes to the incident of the task, open or not. Returns the id of the incident that has the news, or None
    when there are none or another handler has these signals in hand. The claim is an advisory lock on the fingerprint
    and not a row lock: locking rows takes the privilege to change them, which no role has on ``ops.signal``.
    """
    with connection.transaction():
        claimed = connection.execute(
            "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, %s))", (fingerprint, _LOCK_SEED)
        ).fetchone()
        if not (claimed and claimed[0]):
            return None
        waiting = connection.execute(_STATEMENTS["sorted"], {"fingerprint": fingerprint}).fetchall()
        incident_id = None
        if news := [signal_id for signal_id, told in waiting if told is None]:
            given = {"fingerprint": fingerprint, "actor": actor, "news": news}
            incident_id = _open_incident(connection, fingerprint) or _create(connection, given)
            connection.execute(_STATEMENTS["attach"], given | {"incident_id": incident_id})
        if ends := {signal_id: told for signal_id, told in waiting if told is not None}:
            ended = {"ends": list(ends), "told": list(ends.values()), "actor": actor}
            connection.execute(_STATEMENTS["hold"], ended)
            connection.execute(_STATEMENTS["end_runs"], ended)
    return incident_id


def _open_incident(connection: psycopg.Connection[Any], fingerprint: str) -> str | None:
    found = connection.execute(
        f"SELECT incident_id FROM ops.incident WHERE fingerprint = %s AND {_OPEN} FOR UPDATE",  # noqa: S608 - a constant
        (fingerprint,),
    ).fetchone()
    return str(found[0]) if found else None


def _create(connection: psycopg.Connection[Any], given: dict[str, Any]) -> str:
    """Open an incident, or find the one that somebody else opened in this very moment."""
    import psycopg

    while True:
        with connection.transaction() as attempt:
            if row := connection.execute(_STATEMENTS["create"], given).fetchone():
                return str(row[0])
            raise psycopg.Rollback(attempt)  # gives the number back
        if (other := _open_incident(connection, given["fingerprint"])) is not None:
            return other


@contextmanager
def locked(connection: psycopg.Connection[Any], incident_id: str) -> Iterator[Held | None]:
    """Hold an incident's row for one transaction; gives what it says, or None when there is no such incident."""
    with connection.transaction():
        found = connection.execute(
            "SELECT state, last_seen_at, acknowledged_at FROM ops.incident WHERE incident_id = %s FOR UPDATE",
            (incident_id,),
        ).fetchone()
        yield Held(found[0], is_seen_again(*found[1:])) if found else None


def change_state(
    connection: psycopg.Connection[Any], incident_id: str, *, before: str, state: str, actor: str, message: str
) -> None:
    """Move an incident whose row is locked from ``before`` to ``state`` and add that to its timeline."""
    connection.execute(
        _STATEMENTS["change_state"],
        {"incident_id": incident_id, "before": before, "state": state, "actor": actor, "message": message},
    )


def waiting(connection: psycopg.Connection[Any]) -> Waiting:
    """Return what is known of the signals that no incident has taken up yet."""
    with connection.transaction():
        signals, since, waited = one_row(connection, WAITING)
    return Waiting(signals, since, waited is not None and waited > LONG_WAITING)


def open_incidents(connection: psycopg.Connection[Any]) -> list[Incident]:
    """Return the open incidents, the worst first, then the oldest."""
    with connection.transaction():
        return [Incident(*row) for row in connection.execute(OPEN)]
