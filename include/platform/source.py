"""Reads the source contract: one read-only transaction that sees the platform's database as it is at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from include import connections
from include.outcome import ConfigurationError, SourceUnavailable
from include.platform import contract

if TYPE_CHECKING:
    import psycopg

SOURCE = "platform_db"


@contextmanager
def snapshot(*views: str, connection_id: str = SOURCE) -> Iterator[psycopg.Connection[Any]]:
    """Open a read-only transaction in UTC whose statements all see the same state of the database.

    ``views`` are those of the source contract that will be read (all of it when none is named). They are checked
    first, so that a column of a wrong type, say a time without its zone, is an error and not a wrong figure. Raises
    ConfigurationError when a view, a column or a privilege of the contract is missing, in one sentence that names it;
    SourceUnavailable when the database cannot be reached, is lost or is too slow.
    """
    import psycopg
    from psycopg import errors

    try:
        with connections.postgres(connection_id) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            contract.require(connection, *views)
            yield connection
    except (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction, errors.InvalidSchemaName) as error:
        raise ConfigurationError(
            f"the source contract of {connection_id} is not met: {_message(error)}; "
            "create what is missing and run python -m include.platform check"
        ) from None
    except errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"the role of {connection_id} may not read the source contract: {_message(error)}; "
            "grant SELECT on it and run python -m include.platform check"
        ) from None
    except errors.DataError as error:
        raise ConfigurationError(
            f"a value in the source contract of {connection_id} is of the wrong kind: {_message(error)}; "
            "run python -m include.platform check"
        ) from None
    except psycopg.OperationalError as error:
        raise SourceUnavailable(f"{connection_id} was lost or took too long: {_message(error)}") from None


def _message(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error).strip().split("\n", 1)[0]
