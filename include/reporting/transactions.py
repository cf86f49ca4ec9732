"""The subject transactions: what happened to escrow transactions in one day, and the fees charged in it."""

from __future__ import annotations

from datetime import datetime

from include.platform import source
from include.reporting.extent import Begins, Extent, extent
from include.reporting.subject import Found, begins, compute_day, untold
from include.warehouse.metrics import OUTCOMES, TableRows
from include.warehouse.statements import statements
from include.window import Window

_STATEMENTS = statements(__file__)


def compute(window: Window, run_id: str) -> bool:
    """Compute the transactions and the revenue of one day and write them; tell whether they changed.

    Raises ConfigurationError when the source contract or the warehouse is not as it must be, SourceUnavailable when
    one of them cannot be reached.
    """
    return compute_day(window, run_id, "transactions", _read)


def _read(window: Window, now: datetime) -> Found:
    bounds = {"start": window.start, "end": window.end}
    with source.snapshot("transactions", "fees") as connection:
        events = {row[0]: row[1:] for row in connection.execute(_STATEMENTS["transactions"], bounds)}
        revenue = connection.execute(_STATEMENTS["revenue"], bounds).fetchall()
        oldest = begins(connection, _STATEMENTS["begins"])
    tables = {
        "daily_transactions": TableRows(
            ("outcome", "transactions", "value_usd"), [(outcome, *events[outcome][:2]) for outcome in OUTCOMES]
        ),
        "daily_revenue": TableRows(("kind", "fees", "amount_usd"), [tuple(row[:3]) for row in revenue]),
    }
    without_amount = {
        "transactions_without_amount": sum(row[2] for row in events.values()),
        "fees_without_amount": sum(row[3] for row in revenue),
    }
    judged = _judge(window, now, oldest, tables, without_amount)
    return Found(tables, without_amount | untold(judged), judged)


def _judge(
    window: Window, now: datetime, oldest: Begins, tables: dict[str, TableRows], detail: dict[str, int]
) -> Extent:
    """An amount that the source does not know is counted as an event but its value is not in the sums.

    The first fee follows the first transaction by days: transactions can be told without any fee.
    """
    events = sum(row[1] for table in tables.values() for row in table.rows)
    left_out = sum(detail.values())
    why = (
        f"the source gives no amount for {detail['transactions_without_amount']} events of transactions and "
        f"{detail['fees_without_amount']} fees, so the values leave them out"
    )
    return extent(window, now, oldest, optional=("fees",), counted=events - left_out, left_out=left_out, why=why)
