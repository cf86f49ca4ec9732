"""Writes ``ops.legal_hold``: rows that must not be deleted, whatever their age."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.outcome import ConfigurationError
from include.warehouse import session
from include.warehouse.statements import columns, one_row, statements

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True)
class LegalHold:
    """One hold. It applies to the rows that meet all of its conditions; None is no condition.

    ``time_from`` (included) and ``time_until`` (not included) are aware datetimes, keys and the value are texts, both
    keys are included.
    """

    legal_hold_id: int
    source_table: str
    time_from: datetime | None
    time_until: datetime | None
    key_from: str | None
    key_to: str | None
    column_name: str | None
    column_value: str | None
    reason: str
    placed_by: str
    created_at: datetime
    released_at: datetime | None


_STATEMENTS = statements(__file__, columns(LegalHold))


def place(conditions: dict[str, Any], reason: str, placed_by: str) -> LegalHold:
    """Place a hold. ``conditions`` has the fields source_table to column_value of LegalHold.

    Raises as ``session.transaction`` does, and psycopg.errors.CheckViolation for what the table refuses: no reason,
    nobody who places it, times that hold nothing, a column without its value.
    """
    empty = dict.fromkeys(("time_from", "time_until", "key_from", "key_to", "column_name", "column_value"))
    values = empty | conditions | {"reason": reason, "placed_by": placed_by}
    with session.transaction() as connection:
        return LegalHold(*one_row(connection, _STATEMENTS["place"], values))


def release(legal_hold_id: int, released_by: str) -> LegalHold:
    """End a hold. Raises ConfigurationError when none with this number is in force.

    Otherwise raises as ``session.transaction`` does.
    """
    with session.transaction() as connection:
        row = connection.execute(_STATEMENTS["release"], {"id": legal_hold_id, "by": released_by}).fetchone()
    if row is None:
        raise ConfigurationError(f"no legal hold {legal_hold_id} is in force; correct its number")
    return LegalHold(*row)


@session.errors_named()
def active(connection: psycopg.Connection[Any], *source_tables: str) -> tuple[LegalHold, ...]:
    """Return the holds in force on some tables, on any without one, by number.

    Raises as ``session.errors_named`` does.
    """
    return tuple(LegalHold(*row) for row in connection.execute(_STATEMENTS["active"], {"tables": list(source_tables)}))


def all_active() -> tuple[LegalHold, ...]:
    """Return the holds in force on any table, by number. Raises as ``session.transaction`` does."""
    with session.transaction() as connection:
        return active(connection)
