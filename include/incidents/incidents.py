"""Turns signals into incidents, and records what people do with them."""

from __future__ import annotations

import getpass
import re
from typing import TYPE_CHECKING, Any

from include.incidents import signals
from include.outcome import ConfigurationError
from include.warehouse import incidents as warehouse_incidents
from include.warehouse.incidents import Incident, Waiting
from include.warehouse.session import transaction

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Incident", "acknowledge", "cancel", "drain_and_handle", "handle", "open_incidents", "resolve", "waiting"]

_HANDLER = "incident handler"
_OPEN = ("detected", "acknowledged", "mitigated")


def drain_and_handle() -> dict[str, Any]:
    """Bring spooled signals into the warehouse and make incidents of all that wait there; return what became of both.

    Those in the warehouse do not wait for the spool: where it cannot be drained they are handled before that is raised.
    Raises as ``signals.drain`` and ``handle`` do.
    """
    try:
        drained = signals.drain()
    finally:
        touched = handle()
    return {"drained": drained, "incidents": touched}


def handle() -> list[str]:
    """Make every waiting signal part of an incident; return the ids of the incidents that were opened or continued.

    Each fingerprint is one transaction: its open incident is continued (times seen, latest time, class raised when a
    signal is worse), without one a new incident is opened. Any number of handlers may work at once. Raises
    ConfigurationError or SourceUnavailable when the warehouse cannot be opened.
    """
    touched = []
    with transaction() as connection:
        for fingerprint in warehouse_incidents.pending_fingerprints(connection):
            if incident_id := warehouse_incidents.take_signals(connection, fingerprint, _HANDLER):
                touched.append(incident_id)
    return touched


def acknowledge(incident_id: str, actor: str, message: str = "") -> None:
    """Record that ``actor`` has taken an incident; one that was seen again since then can be taken again.

    Raises ConfigurationError when there is no such incident or when it is in another state.
    """
    _move(incident_id, ("detected",), "acknowledged", actor, message or f"Taken by {actor}.")


def resolve(incident_id: str, actor: str, message: str) -> None:
    """Record that an open incident is over and why; the next signal of its fingerprint opens a new one.

    Raises ConfigurationError when there is no such incident, when it is over already, or without a message.
    """
    if not message.strip():
        raise ConfigurationError(f"{incident_id} cannot be resolved without a message; say what ended it")
    _move(incident_id, _OPEN, "resolved", actor, message.strip())


def cancel(incident_id: str, actor: str, message: str) -> None:
    """Record that an open incident was a false alarm and why; no report counts it any more.

    Raises ConfigurationError when there is no such incident, when it is over already, or without a message.
    """
    if not message.strip():
        raise ConfigurationError(f"{incident_id} cannot be cancelled without a message; say why it was a false alarm")
    _move(incident_id, _OPEN, "cancelled", actor, message.strip())


def _move(incident_id: str, allowed: Sequence[str], state: str, actor: str, message: str) -> None:
    if not re.fullmatch(r"INC-\d{4}-\d{3,}", incident_id):
        raise ConfigurationError(f"'{incident_id}' is not an incident's id; write it as INC-2026-001")
    if not actor.strip():
        raise ConfigurationError(f"{incident_id} cannot become {state} without the name of who did it; give an actor")
    with (
        transaction() as connection,
        warehouse_incidents.locked(connection, incident_id) as before,
    ):
        if before is None:
            raise ConfigurationError(f"there is no incident {incident_id}; python -m include.incidents list shows them")
        taken_again = before.state == state == "acknowledged" and before.seen_again
        if before.state not in allowed and not taken_again:
            raise ConfigurationError(
                f"{incident_id} is {before.state} and cannot become {state}; that is possible from"
                f" {' or '.join(allowed)}"
            )
        warehouse_incidents.change_state(
            connection, incident_id, before=before.state, state=state, actor=actor.strip(), message=message
        )


def open_incidents() -> list[Incident]:
    """Return the open incidents, the worst first. Raises ConfigurationError or SourceUnavailable."""
    with transaction() as connection:
        return warehouse_incidents.open_incidents(connection)


def waiting() -> Waiting:
    """Return what is known of the signals that no incident has taken up. Raises as ``open_incidents`` does."""
    with transaction() as connection:
        return warehouse_incidents.waiting(connection)


def whoever_runs_this() -> str:
    """Return the login name of the person at the keyboard."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown person"
