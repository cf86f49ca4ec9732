"""Escrow transactions of the history, with their fees: generated for all days at once, for many days see their end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from demo.platform import rhythm
from demo.platform.rhythm import HOUR, MINUTE, Array

PER_DAY = 89
MEAN_AMOUNT_USD = 25_800
"""2.3 million dollars a day over 89 transactions (operations guide, "System Health Report")."""
LEAD_DAYS = 21
"""Days before the history in which transactions were already created, so that its first days complete some."""
_STATES = ("funded", "disputed", "completed", "refunded", "cancelled", "failed")


@dataclass
class Trades:
    """Transactions in the order of their creation, one array element each; times that never came are absent."""

    ids: Array
    buyers: Array
    sellers: Array
    cents: Array
    created: Array
    funded: Array
    disputed: Array
    completed: Array
    refunded: Array
    cancelled: Array
    failed: Array
    hashes: dict[str, list[str | None]]

    def rows(self) -> list[str]:
        """Return the lines that COPY reads, columns as in ``COLUMNS``."""
        columns = [
            self.ids.tolist(),
            self.buyers.tolist(),
            self.sellers.tolist(),
            dollars(self.cents),
            rhythm.timestamps(self.created),
            *(rhythm.timestamps(getattr(self, state)) for state in _STATES),
            *([value or r"\N" for value in self.hashes[column]] for column in HASH_COLUMNS),
        ]
        return ["\t".join(map(str, row)) + "\n" for row in zip(*columns, strict=True)]


HASH_COLUMNS = ("chain_transaction_hash", "dispute_chain_hash", "settlement_chain_hash")
"""What keeps the hashes of deposits, of disputes, and of releases and refunds."""
COLUMNS = (
    "transaction_id, buyer_id, seller_id, amount_usd, created_at, funded_at, disputed_at, completed_at, refunded_at, "
    f"cancelled_at, failed_at, {', '.join(HASH_COLUMNS)}"
)


def dollars(cents: Array) -> list[str]:
    """Return amounts in cents as exact dollar texts."""
    return [f"{'-' if value < 0 else ''}{abs(value) // 100}.{abs(value) % 100:02d}" for value in cents.tolist()]


def generate(
    days: list[date],
    *,
    origin: date,
    scale: int,
    seed: int,
    users: int,
    first_id: int,
    end: date,
    closed: list[rhythm.Outage],
) -> Trades:
    """Return the transactions created on ``days`` between ``users`` users.

    Nothing happens during a closure (``closed``), and what lies at or after the day ``end`` has not happened yet.
    """
    parts = [_day(day, origin, scale, seed, users) for day in days]
    created, buyers, sellers, cents, fate, delays = (
        np.concatenate([part[column] for part in parts]) for column in range(6)
    )
    trades = _fates(created, fate, delays)
    trades.ids = np.arange(first_id, first_id + len(created))
    trades.buyers, trades.sellers, trades.cents = buyers, sellers, cents
    horizon = rhythm.start_of(end)
    for state in ("created", *_STATES):
        times = rhythm.postpone(getattr(trades, state), closed)
        setattr(trades, state, np.where(times < horizon, times, rhythm.absent(1)))
    return trades


def _day(day: date, origin: date, scale: int, seed: int, users: int) -> tuple[Array, Array, Array, Array, Array, Array]:
    random = rhythm.generator(seed, day, "transactions")
    count = max(round(PER_DAY * scale * rhythm.volume(day, origin) * (1 + 0.05 * random.standard_normal())), 0)
    buyers = random.integers(1, users + 1, count)
    sellers = (buyers + random.integers(1, users, count) - 1) % users + 1
    sigma = 1.0
    amounts = random.lognormal(np.log(MEAN_AMOUNT_USD) - sigma**2 / 2, sigma, count)
    cents = np.clip(amounts * 100, 5_000, 200_000_000).astype(np.int64)
    delays = np.column_stack(
        [
            random.integers(1 * MINUTE, 20 * MINUTE, count),  # until the deposit is confirmed or fails
            np.clip(random.lognormal(np.log(20), 0.8, count), 0.2, 240) * HOUR,  # from there to release or dispute
            random.integers(12 * HOUR, 96 * HOUR, count),  # from the dispute to the arbiter's decision
        ]
    ).astype(np.int64)
    return rhythm.moments(random, day, count), buyers, sellers, cents, random.random(count), delays


def _fates(created: Array, fate: Array, delays: Array) -> Trades:
    """Decide: 2 % fail, 1.5 % are cancelled, 2.5 % disputed (two fifths of them refunded), the rest complete."""
    never = rhythm.absent(len(created))
    failed, cancelled, disputed = fate < 0.02, (fate >= 0.02) & (fate < 0.035), (fate >= 0.035) & (fate < 0.06)
    refunded = (fate >= 0.035) & (fate < 0.045)
    confirmed = created + delays[:, 0]
    turning = confirmed + delays[:, 1]
    settled = turning + delays[:, 2]
    funded = ~failed & ~cancelled
    empty = np.zeros(0, dtype=np.int64)
    return Trades(
        ids=empty,
        buyers=empty,
        sellers=empty,
        cents=empty,
        created=created,
        funded=np.where(funded, confirmed, never),
        disputed=np.where(disputed, turning, never),
        completed=np.where(funded & ~disputed, turning, np.where(disputed & ~refunded, settled, never)),
        refunded=np.where(refunded, settled, never),
        cancelled=np.where(cancelled, confirmed, never),
        failed=np.where(failed, confirmed, never),
        hashes={column: [None] * len(created) for column in HASH_COLUMNS},
    )


def escrow_fee(cents: Array) -> Array:
    """Return the fee of a completed transaction in cents: 1.5 %, rounded down."""
    return cents * 15 // 1000


def dispute_fee(cents: Array) -> Array:
    """Return the fee of a disputed transaction in cents: 1 %, at least 25 dollars."""
    found: Array = np.maximum(cents // 100, 2_500)
    return found


def fees(trades: Trades) -> tuple[Array, list[str], Array, Array]:
    """Return transaction, kind, time and cents of every fee in the order of time; a refund is negative."""
    parts = []
    for kind, times, cents in (
        ("escrow", trades.completed, escrow_fee(trades.cents)),
        ("dispute", trades.disputed, dispute_fee(trades.cents)),
        ("refund", trades.refunded, -dispute_fee(trades.cents)),
    ):
        there = rhythm.happened(times)
        parts.append((trades.ids[there], np.full(there.sum(), kind, dtype=object), times[there], cents[there]))
    ids, kinds, times, cents = (np.concatenate([part[column] for part in parts]) for column in range(4))
    order = np.lexsort((ids, times))
    return ids[order], kinds[order].tolist(), times[order], cents[order]


def lead_days(first_day: date) -> list[date]:
    """Return the days before the history on which transactions were created that end within it."""
    return [first_day - timedelta(days=number) for number in range(LEAD_DAYS, 0, -1)]
