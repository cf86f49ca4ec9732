"""Records what callbacks saw, whatever the state of the warehouse, and moves what had to wait into it."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any

from include import connections
from include.incidents import spool
from include.masking import bounded, bounded_facts
from include.outcome import ConfigurationError
from include.settings import settings
from include.warehouse import signals as warehouse_signals
from include.warehouse.session import transaction
from include.warehouse.signals import Signal

if TYPE_CHECKING:
    import psycopg

__all__ = ["Signal", "drain", "record"]

_log = logging.getLogger(__name__)
_TIMEOUT = timedelta(seconds=2)
_AT_MOST_SECONDS = 5.0  # for all of it: name look-up and a network that swallows packets know no other limit
_LONGEST_KEY = 1000  # characters; the index refuses keys beyond 2,700 bytes


def record(signal: Signal) -> str:
    """Keep a signal: in the warehouse, or on the disk while the warehouse is away.

    Made for Airflow's callbacks: it never raises and is done within seconds (connect and statement timeout 2 s, 5 s
    in all). The same idempotency key twice is one signal. Texts are bounded and secrets in them masked. Returns
    ``recorded``, ``spooled``, or ``lost`` when neither worked; then the whole signal stands on standard error.
    """
    try:
        signal = _storable(signal)
        if _succeeds_within(_AT_MOST_SECONDS, lambda: _insert_one(signal)):
            return "recorded"
        spool.append(settings().incidents.spool, signal)
    except Exception as error:  # a callback that raises would hide the failure that it reports
        _say_lost(signal, error)
        return "lost"
    _log.warning("The warehouse did not take the signal %s; it waits in the spool.", signal.idempotency_key)
    return "spooled"


def _storable(signal: Signal) -> Signal:
    occurred_at = signal.occurred_at if signal.occurred_at.tzinfo else signal.occurred_at.replace(tzinfo=UTC)
    return replace(
        signal,
        idempotency_key=_key(signal.idempotency_key),
        kind=bounded(signal.kind, 100),
        occurred_at=occurred_at.astimezone(UTC),
        fingerprint=_key(signal.fingerprint),
        title=bounded(" ".join(signal.title.split()), 300),
        detail=bounded_facts(dict(signal.detail)),
    )


def _key(text: str) -> str:
    """Return a key as it is, or its beginning and its digest where it is too long for the index."""
    text = text.encode("utf-8", "replace").decode().replace("\x00", "")
    if len(text.encode()) <= _LONGEST_KEY:
        return text
    return f"{text[:200]}…{hashlib.sha256(text.encode()).hexdigest()}"


def _insert_one(signal: Signal) -> None:
    connection = connections.postgres(
        "warehouse", statement_timeout=_TIMEOUT, connect_timeout_seconds=int(_TIMEOUT.total_seconds())
    )
    with connection:
        warehouse_signals.insert(connection, [signal])


def _succeeds_within(seconds: float, work: Callable[[], None]) -> bool:
    """Tell whether the work was done in time without an error. It goes on in a daemon thread when it was not."""
    done: list[bool] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            _log.info("The warehouse did not take a signal: %s", bounded(str(error), 300))
        else:
            done.append(True)

    thread = Thread(target=run, name="record-signal", daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(done)


def _say_lost(signal: Signal, error: Exception) -> None:
    try:
        facts = bounded_facts(vars(signal))
        print(f"LOST SIGNAL ({bounded(str(error), 300)}): {json.dumps(facts)}", file=sys.stderr, flush=True)
    except Exception:
        _log.critical("A signal was lost and could not be written out.")


def drain() -> dict[str, int]:
    """Move the spooled signals into the warehouse, each exactly once.

    Killed anywhere and repeated it gives the same rows. A line that cannot be used is kept in the spool's ``.broken``
    file with the reason. Returns ``recorded``, ``known_already``, ``broken`` and ``files``. Raises ConfigurationError
    or SourceUnavailable when the warehouse cannot be opened; the spool is then untouched. Raises ConfigurationError
    when the spool cannot be read or written; what it holds waits there.
    """
    path = settings().incidents.spool
    with transaction() as connection:
        try:
            return spool.drain(path, lambda signals: _insert_all(connection, signals))
        except OSError as error:
            raise ConfigurationError(
                f"the spool {path} cannot be drained ({error.strerror or type(error).__name__}); let this user read and"
                " write its folder, on a disk with free space"
            ) from error


def _insert_all(connection: psycopg.Connection[Any], signals: Sequence[Signal]) -> tuple[int, list[tuple[int, str]]]:
    """Insert and commit; a signal that the warehouse refuses is left out and named by its position and reason."""
    import psycopg

    refused: list[tuple[int, str]] = []
    try:
        with connection.transaction():
            recorded = warehouse_signals.insert(connection, signals)
    except (psycopg.DataError, psycopg.IntegrityError):
        recorded = 0
        for position, signal in enumerate(signals):
            try:
                with connection.transaction():
                    recorded += warehouse_signals.insert(connection, [signal])
            except (psycopg.DataError, psycopg.IntegrityError) as error:
                refused.append((position, f"the warehouse refused it: {bounded(str(error), 300)}"))
    return recorded, refused
