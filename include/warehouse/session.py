"""One transaction on the warehouse. Its failures are told apart: what a person must mend, and what passes by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from include import connections
from include.outcome import ConfigurationError, SourceUnavailable
from include.warehouse.statements import one_row

if TYPE_CHECKING:
    import psycopg

_LONGEST_IDLE_SECONDS = 30.0  # a connection that was unused for longer may have been cut by what lies between
CLOCKS_APART = timedelta(minutes=5)
"""Clocks of machines that are kept right differ by less."""


@dataclass
class _Kept:
    connection: psycopg.Connection[Any] | None = None
    used_at: float = 0.0
    in_use: bool = False


_KEPT: ContextVar[dict[str, _Kept] | None] = ContextVar("kept_warehouse_connections", default=None)


@contextmanager
def kept_open() -> Iterator[None]:
    """Let the transactions of this thread within the block share one connection instead of opening one each."""
    if _KEPT.get() is not None:
        yield
        return
    kept: dict[str, _Kept] = {}
    token = _KEPT.set(kept)
    try:
        yield
    finally:
        _KEPT.reset(token)
        for one in kept.values():
            if one.connection is not None:
                one.connection.close()


@contextmanager
def _connection(connection_id: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection for one transaction: committed when the block ends well, rolled back otherwise."""
    import psycopg

    mine = None if (kept := _KEPT.get()) is None else kept.setdefault(connection_id, _Kept())
    if mine is None or mine.in_use:  # a transaction within another stays one of its own
        with connections.postgres(connection_id) as connection:
            yield connection
        return
    stale = time.monotonic() - mine.used_at > _LONGEST_IDLE_SECONDS
    if mine.connection is None or mine.connection.closed or stale:
        if mine.connection is not None:
            mine.connection.close()
        mine.connection = connections.postgres(connection_id)
    mine.in_use = True
    try:
        yield mine.connection
        mine.connection.commit()
    except BaseException:
        try:
            mine.connection.rollback()
        except psycopg.OperationalError:  # it was lost, or the task's time limit came amid a statement: it is of no use
            mine.connection.close()
        raise
    finally:
        mine.in_use, mine.used_at = False, time.monotonic()


@contextmanager
def errors_named(connection_id: str = "warehouse") -> Iterator[None]:
    """Turn what psycopg raises of the warehouse into an error that says what a person can do.

    Raises ConfigurationError when the schema or a privilege is missing, SourceUnavailable when the warehouse is lost.
    """
    import psycopg

    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName) as error:
        raise ConfigurationError(
            f"the warehouse is not migrated ({_first_line(error)}); run python -m include.warehouse migrate"
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"the role of the connection {connection_id} lacks a privilege ({_first_line(error)}); "
            "run python -m include.warehouse migrate as the warehouse's owner, which grants it"
        ) from error
    except psycopg.OperationalError as error:
        raise SourceUnavailable(
            f"the connection {connection_id} was lost or timed out: {_first_line(error)}"
        ) from error


@contextmanager
def transaction(connection_id: str = "warehouse") -> Iterator[psycopg.Connection[Any]]:
    """Open a warehouse connection in UTC and commit when the block ends well; roll back otherwise.

    Raises as ``errors_named`` does, and SourceUnavailable when the warehouse cannot be reached.
    """
    with errors_named(connection_id), _connection(connection_id) as connection:
        yield connection


def present() -> datetime:
    """Return the present moment in UTC by this machine's clock, to tell what is old enough to be deleted.

    Raises ConfigurationError when the warehouse's clock is more than five minutes apart from it, and otherwise as
    ``transaction`` does.
    """
    with transaction() as connection:
        [theirs] = one_row(connection, "SELECT clock_timestamp()")
        now = datetime.now(UTC)
    theirs = theirs.astimezone(UTC)
    if abs(now - theirs) > CLOCKS_APART:
        raise ConfigurationError(
            f"this worker's clock says {now:%Y-%m-%d %H:%M} UTC but the warehouse's {theirs:%Y-%m-%d %H:%M} UTC, so "
            "what is old cannot be told and nothing is deleted; set the clock that is wrong"
        )
    return now


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
