"""Bounds the statements of a part of a session in time, and gives the session its own bound back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

# pg_settings has its rows together before anything is set: the first column is the bound as it was.
_BOUND = (
    "SELECT setting, set_config('statement_timeout', least(nullif(setting::bigint, 0), %s)::text, false) "
    "FROM pg_settings WHERE name = 'statement_timeout'"
)


@contextmanager
def statements_bounded(connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """Let the server cancel a statement of this autocommit session within the block after ``seconds``.

    Where the session's own bound is shorter, that holds. Afterwards it is the only one again: RESET would take it away,
    as it is set by a statement too. Raises psycopg.Error.
    """
    row = connection.execute(_BOUND, (max(1, int(seconds * 1000)),)).fetchone()
    try:
        yield
    finally:
        if row and not connection.closed:
            connection.execute("SELECT set_config('statement_timeout', %s, false)", (row[0],))
