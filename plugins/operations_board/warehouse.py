"""Reads the warehouse as its reader role, and says in people's words why it could not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include import connections
from include.outcome import ConfigurationError, SourceUnavailable
from include.reporting.figures import ENOUGH, OUTCOME_COLUMNS
from include.warehouse import drills, incidents

if TYPE_CHECKING:
    import psycopg

Row = dict[str, Any]
"""One row of a query by column name."""

SQL = Path(__file__).resolve().parent / "sql"
STATEMENT_TIMEOUT = timedelta(seconds=5)
CONNECT_SECONDS = 5
MOST_READERS = 4
"""Pages that read at once. Airflow's API shares its threads with the board; a slow warehouse must not take them all."""
QUEUE_SECONDS = 2.0
_SHARED = {"{outcome_columns}": OUTCOME_COLUMNS, "{enough}": f"{ENOUGH}", "{last_title}": incidents.LAST_TITLE}
_OF_THE_WAREHOUSE = {
    "open_incidents": incidents.OPEN, "waiting_signals": incidents.WAITING, "drill_stages": drills.STAGES,
}  # fmt: skip
"""Queries that the warehouse's own modules run too."""

_readers = threading.BoundedSemaphore(MOST_READERS)
_started_at = datetime.now(UTC)
_last_read_at: datetime | None = None


class WarehouseAway(Exception):
    """The warehouse cannot be read.

    ``reason`` is one sentence that names what is wrong, ``remedy`` what a person can do about it, ``last_read_at``
    (UTC) when this process last read it and ``started_at`` (UTC) since when this process has tried.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy
        self.last_read_at, self.started_at = _last_read_at, _started_at


class Reader:
    """Runs queries in one read-only transaction, so that a page agrees with itself."""

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self._connection = connection

    def rows(self, query: str, **parameters: Any) -> list[Row]:
        """Return all rows of the query in the file ``query``.sql, or of the one of the warehouse."""
        text = _OF_THE_WAREHOUSE.get(query) or (SQL / f"{query}.sql").read_text()
        for name, sql in _SHARED.items():
            text = text.replace(name, sql)
        return self._connection.execute(text.encode(), parameters).fetchall()

    def row(self, query: str, **parameters: Any) -> Row | None:
        """Return the first row, or None when there is none."""
        return next(iter(self.rows(query, **parameters)), None)


@contextmanager
def read() -> Iterator[Reader]:
    """Open the warehouse for one page. Raises WarehouseAway when it is not defined, down, not migrated or too slow."""
    import psycopg
    from psycopg.rows import dict_row

    global _last_read_at
    if not _readers.acquire(timeout=QUEUE_SECONDS):
        raise WarehouseAway(
            "The operations warehouse answers too slowly for all the pages that wait for it.",
            "Try again in a minute. If it stays slow, look for long-running queries on the warehouse's server.",
        )
    try:
        connection = connections.postgres(
            "warehouse_reader", statement_timeout=STATEMENT_TIMEOUT, connect_timeout_seconds=CONNECT_SECONDS
        )
        connection.row_factory = dict_row
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with connection:
            yield Reader(connection)
        _last_read_at = datetime.now(UTC)
    except (ConfigurationError, SourceUnavailable, psycopg.Error) as error:
        raise _explained(error) from error
    finally:
        _readers.release()


def _explained(error: Exception) -> WarehouseAway:
    from psycopg import errors

    if isinstance(error, ConfigurationError):
        return WarehouseAway(
            _sentence(str(error)), "Correct the connection warehouse_reader; the board reads it again with every page."
        )
    if isinstance(error, SourceUnavailable):
        return WarehouseAway(
            _sentence(str(error)),
            "Check that the warehouse's server runs and that this host may reach it, then load this page again.",
        )
    if isinstance(error, errors.UndefinedTable | errors.InvalidSchemaName | errors.UndefinedColumn):
        return WarehouseAway(
            "The operations warehouse is not migrated to the schema that this board reads.",
            "Run the migration as the warehouse's owner: python -m include.warehouse migrate.",
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return WarehouseAway(
            "The role of the connection warehouse_reader may not read the operations warehouse.",
            "Run the migration again as the warehouse's owner; it grants what the reader needs.",
        )
    if isinstance(error, errors.QueryCanceled):
        return WarehouseAway(
            f"The operations warehouse did not answer within {STATEMENT_TIMEOUT.total_seconds():.0f} seconds.",
            "Try again in a minute. If it stays slow, look for long-running queries on the warehouse's server.",
        )
    return WarehouseAway(
        f"The operations warehouse broke off while it was read ({type(error).__name__}).",
        "Load this page again. If it stays, read the log of the API server and of the warehouse's server.",
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
