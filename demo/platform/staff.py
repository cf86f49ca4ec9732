"""What the platform's own people do: answer tickets, and see to it that open transactions come to an end."""

from __future__ import annotations

from demo.platform.api import Refused
from demo.platform.store import Pool, Row, plain

LISTED = 200
"""How many rows a list shows at most: the oldest."""


def open_transactions(pool: Pool) -> list[Row]:
    """Return the oldest transactions that have not ended, with the times they have reached so far."""
    with pool.transaction() as connection:
        rows = connection.execute(
            """SELECT transaction_id, created_at, funded_at, disputed_at FROM transactions
               WHERE num_nonnulls(completed_at, refunded_at, cancelled_at, failed_at) = 0
               ORDER BY transaction_id LIMIT %s""",
            (LISTED,),
        ).fetchall()
    return list(plain(rows))


def open_tickets(pool: Pool) -> list[Row]:
    """Return the oldest tickets that are not resolved."""
    with pool.transaction() as connection:
        rows = connection.execute(
            """SELECT ticket_id, priority, created_at, first_response_at FROM support_tickets
               WHERE resolved_at IS NULL ORDER BY ticket_id LIMIT %s""",
            (LISTED,),
        ).fetchall()
    return list(plain(rows))


def attend(pool: Pool, number: int, *, resolved: bool) -> Row:
    """Answer a ticket, or resolve it, once: a time that is set stays. Refused (404) when there is none."""
    with pool.transaction() as connection:
        found = connection.execute(
            """UPDATE support_tickets SET first_response_at = coalesce(first_response_at, now()),
                      resolved_at = CASE WHEN %(resolved)s THEN coalesce(resolved_at, now()) ELSE resolved_at END
               WHERE ticket_id = %(number)s RETURNING ticket_id, first_response_at, resolved_at""",
            {"number": number, "resolved": resolved},
        ).fetchone()
    if found is None:
        raise Refused(404, f"there is no ticket {number}")
    return found
