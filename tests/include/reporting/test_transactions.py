"""Transactions and revenue of a day: by hand at the edges of the day, recounted over random events, and bad values."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from include.outcome import Completeness, ConfigurationError
from include.reporting import report_inputs, transactions
from include.reporting.figures import figure
from include.settings import settings
from include.warehouse import metrics, session
from include.warehouse.metrics import OUTCOMES
from include.window import day_window
from tests.include.reporting.contract_tables import contract, fill

# The day of the change to summer time: 23 hours, from 05:00 UTC of the 8th to 04:00 UTC of the 9th.
DAY = date(2026, 3, 8)
WINDOW = day_window(DAY, "America/New_York")
FIRST = datetime(2026, 3, 8, 5, 0, tzinfo=UTC)
AFTER = datetime(2026, 3, 9, 4, 0, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


@pytest.fixture
def platform(
    databases: Databases, warehouse: psycopg.Connection[Any], environment: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection[Any]]:
    with contract(databases, environment) as owner:
        yield owner


def by_outcome(warehouse: psycopg.Connection[Any]) -> dict[str, tuple[int, Decimal]]:
    found = warehouse.execute(
        "SELECT outcome, transactions, value_usd FROM ops.daily_transactions WHERE day = %s", (DAY,)
    )
    return {row[0]: row[1:] for row in found}


def by_kind(warehouse: psycopg.Connection[Any]) -> dict[str, tuple[int, Decimal]]:
    found = warehouse.execute("SELECT kind, fees, amount_usd FROM ops.daily_revenue WHERE day = %s", (DAY,))
    return {row[0]: row[1:] for row in found}


def state() -> metrics.SubjectState:
    return metrics.subject_states([DAY])[DAY]["transactions"]


def test_the_edges_of_the_day(warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]) -> None:
    before, last = FIRST - INSTANT, AFTER - INSTANT
    fill(platform, "transactions", [
        # id, created, completed, disputed, cancelled, failed, amount
        (1, FIRST, last, None, None, None, "100.105", None),  # created and completed: counts on both
        (2, before, FIRST, None, None, None, "20", None),  # created the day before
        (3, last, AFTER, None, None, None, "3", None),  # completed the day after
        (4, AFTER, None, None, None, None, "1000000", None),
        (5, before, before, FIRST, None, last, "0.5", None),  # disputed and failed
        (6, before, None, None, AFTER, AFTER, "7", None),
    ])  # fmt: skip
    fill(platform, "fees", [
        (1, "escrow", FIRST, "1.104"), (2, "escrow", last, "2.201"), (3, "refund", last, "-0.30"),
        (4, "escrow", AFTER, "50"), (5, "dispute", before, "50"),
    ])  # fmt: skip
    assert transactions.compute(WINDOW, "test") is True
    assert by_outcome(warehouse) == {
        "created": (2, Decimal("103.105")),
        "completed": (2, Decimal("120.105")),
        "disputed": (1, Decimal("0.50")),
        "cancelled": (0, Decimal("0.00")),
        "failed": (1, Decimal("0.50")),
    }
    assert by_kind(warehouse) == {"escrow": (2, Decimal("3.305")), "refund": (1, Decimal("-0.30"))}
    assert (state().state, state().completeness, state().reason) == (Completeness.COMPLETE, Decimal(1), "")


def test_an_empty_day_has_all_five_outcomes(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    fill(platform, "users", [(1, FIRST, None)])  # a young platform: it has users, and no transaction yet
    transactions.compute(WINDOW, "test")
    assert by_outcome(warehouse) == dict.fromkeys(OUTCOMES, (0, Decimal(0)))
    assert by_kind(warehouse) == {}
    assert (state().state, state().reason) == (Completeness.COMPLETE, "")
    assert transactions.compute(WINDOW, "again") is False


def test_a_platform_without_users_tells_nothing_of_transactions(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    transactions.compute(WINDOW, "test")
    assert by_outcome(warehouse) == {}
    assert "no row in operations.transactions and operations.fees" in state().reason
    fill(platform, "users", [(1, AFTER, None)])
    transactions.compute(WINDOW, "test")
    assert by_outcome(warehouse) == {}
    assert state().reason == "the source begins after the day 2026-03-08: operations.users at 2026-03-09 04:00 UTC"


def test_before_the_first_fee_transactions_are_told_and_revenue_is_absent(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    fill(platform, "transactions", [(1, FIRST, None, None, None, None, "10", None)])
    fill(platform, "fees", [(1, "escrow", AFTER, "1.10")])
    transactions.compute(WINDOW, "test")
    assert by_outcome(warehouse)["created"] == (1, Decimal(10))
    assert (state().state, state().completeness) == (Completeness.PARTIAL, Decimal("0.5"))
    assert state().reason == "the source begins after the day 2026-03-08: operations.fees at 2026-03-09 04:00 UTC"
    with session.transaction() as connection:
        inputs = report_inputs.read(connection, WINDOW, settings())
    found = {name: inputs.day.value(name) for name in ("transactions_created", "revenue", "fees")}
    assert found == {"transactions_created": 1, "revenue": None, "fees": None}
    shown = figure("revenue", "Revenue", inputs.day, inputs.history, 4)
    assert (shown.text, shown.reason, shown.is_missing) == ("not available", state().reason, True)


def test_a_correction_that_leaves_more_out_replaces_the_day(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    fill(platform, "transactions", [(1, FIRST, None, None, None, None, "10", None)])
    fill(platform, "fees", [(1, "escrow", FIRST, "1.10")])
    transactions.compute(WINDOW, "first")
    fill(platform, "transactions", [(2, FIRST, None, None, None, None, "20", None)])
    fill(platform, "fees", [(2, "escrow", FIRST, None)])  # its amount is not known yet
    assert transactions.compute(WINDOW, "corrected") is True
    assert by_outcome(warehouse)["created"] == (2, Decimal(30))
    assert (state().state, state().completeness) == (Completeness.PARTIAL, Decimal("0.75"))


def test_random_events_agree_with_a_recount(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    dice = random.Random(3)

    def moment() -> datetime | None:
        return FIRST + timedelta(seconds=dice.randint(-60_000, 140_000)) if dice.random() < 0.6 else None

    rows: list[tuple[Any, ...]] = [
        (n, *(moment() for _ in OUTCOMES), Decimal(dice.randint(1, 10**9)) / 100, None) for n in range(3000)
    ]
    fees = [(n, dice.choice(["escrow", "dispute", "refund"]), moment(), Decimal(dice.randint(-500, 9999)) / 100)
            for n in range(3000)]  # fmt: skip
    fill(platform, "transactions", list(rows))
    fill(platform, "fees", list(fees))
    transactions.compute(WINDOW, "test")
    for place, outcome in enumerate(OUTCOMES, start=1):
        amounts = [row[6] for row in rows if row[place] is not None and FIRST <= row[place] < AFTER]
        assert by_outcome(warehouse)[outcome] == (len(amounts), sum(amounts))
    for kind, found in by_kind(warehouse).items():
        charged = [row[3] for row in fees if row[1] == kind and row[2] is not None and FIRST <= row[2] < AFTER]
        assert found == (len(charged), sum(charged))
    assert set(by_kind(warehouse)) == {"escrow", "dispute", "refund"}


def test_an_amount_that_the_source_does_not_know_is_no_silent_zero(
    warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]
) -> None:
    fill(platform, "transactions", [(n, FIRST, None, None, None, None, "10" if n else None, None) for n in range(3)])
    fill(platform, "fees", [(1, None, FIRST, "2.00")])
    transactions.compute(WINDOW, "test")
    assert by_outcome(warehouse)["created"] == (3, Decimal(20))
    assert by_kind(warehouse) == {"(unnamed)": (1, Decimal(2))}
    assert (state().state, state().completeness) == (Completeness.PARTIAL, Decimal("0.75"))  # 3 of 4 amounts
    assert "no amount for 1 events of transactions and 0 fees" in state().reason


def test_a_missing_view_is_named(warehouse: psycopg.Connection[Any], platform: psycopg.Connection[Any]) -> None:
    platform.execute("DROP TABLE operations.fees")
    with pytest.raises(ConfigurationError, match=r"operations\.fees"):
        transactions.compute(WINDOW, "test")
    assert by_outcome(warehouse) == {}
