"""One transaction on the warehouse. Its failures are told apart: what a person must mend, and what passes by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from include import connections
from include.outcome import ConfigurationError, SourceUnavailable

if TYPE_CHECKING:
    import psycopg


@contextmanager
def transaction(connection_id: str = "warehouse") -> Iterator[psycopg.Connection[Any]]:
    """Open a warehouse connection in UTC and commit when the block ends well; roll back otherwise.

    Raises ConfigurationError when the schema or a privilege is missing, SourceUnavailable when the warehouse cannot
    be reached or is lost on the way.
    """
    import psycopg

    try:
        with connections.postgres(connection_id) as connection:
            yield connection
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName) as error:
        raise ConfigurationError(f"the warehouse is not migrated ({_first_line(error)}); run its migrations") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"the role of the connection {connection_id} lacks a privilege ({_first_line(error)}); "
            "run the migrations as the warehouse's owner, which grant it"
        ) from error
    except psycopg.OperationalError as error:
        raise SourceUnavailable(
            f"the connection {connection_id} was lost or timed out: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
