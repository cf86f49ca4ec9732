"""Performs the history's transactions on the chain, in blocks that bear the times of the past."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Any

from demo.platform import rhythm
from demo.platform.escrow import Call, ChainError, Escrow, Rpc
from demo.platform.trades import Trades

if TYPE_CHECKING:
    import psycopg

_BATCH = 500
_HASH_COLUMN = {
    "funded": "chain_transaction_hash", "failed": "chain_transaction_hash", "disputed": "dispute_chain_hash",
    "completed": "settlement_chain_hash", "refunded": "settlement_chain_hash",
}  # fmt: skip


def perform(url: str, trades: Trades, *, since: date, block_seconds: int = 3600) -> str:
    """Make the deposits, disputes, releases and refunds of what was created from ``since`` on, with their hashes.

    Blocks span ``block_seconds`` of the past at most and bear the time of their last transaction, which becomes the
    time of all its transactions in ``trades`` too; on a chain that is ahead of the past, blocks follow each other by a
    second and ``trades`` keeps its times. A failed transaction is a deposit of nothing, which the contract
    refuses. Afterwards the chain mines each transaction at once, at the present time.
    Returns the contract's address. Raises ChainError, also when a receipt is not what the history says.
    """
    with Rpc(url, timeout_seconds=60) as rpc:
        return _perform(rpc, trades, since, block_seconds)


def renew(url: str, connection: psycopg.Connection[Any]) -> int | None:
    """Deploy the contract anew on a chain that has lost it, and make the deposits that are still open once more.

    Returns how many there were; None when nothing is lost. Raises ChainError, also when a deposit fails.
    """
    noted = connection.execute("SELECT address FROM escrow_contracts ORDER BY deployed_at DESC LIMIT 1").fetchone()
    with Rpc(url, timeout_seconds=60) as rpc:
        if noted is None or rpc.call("eth_getCode", noted[0], "latest") not in (None, "0x"):
            return None
        escrow = Escrow.deploy(rpc)
        connection.execute("INSERT INTO escrow_contracts (address) VALUES (%s)", (escrow.address,))
        rows = connection.execute(
            """SELECT transaction_id, buyer_id, seller_id, (amount_usd * 100)::bigint, disputed_at IS NOT NULL
               FROM transactions WHERE funded_at IS NOT NULL AND chain_transaction_hash IS NOT NULL
               AND num_nonnulls(completed_at, refunded_at, cancelled_at, failed_at) = 0 ORDER BY transaction_id"""
        ).fetchall()
        for number, buyer, seller, cents, disputed in rows:
            deposit, made = escrow.send(escrow.deposit(number, buyer, seller, cents))
            dispute = None
            if made and disputed:
                dispute, made = escrow.send(escrow.dispute(number, buyer))
            if not made:
                raise ChainError(f"the deposit of transaction {number} could not be made once more")
            connection.execute(
                "UPDATE transactions SET chain_transaction_hash = %s, dispute_chain_hash = %s "
                "WHERE transaction_id = %s",
                (deposit, dispute, number),
            )
    return len(rows)


def _perform(rpc: Rpc, trades: Trades, since: date, block_seconds: int) -> str:
    steps_begin = rhythm.start_of(since) // 1000
    if _head(rpc) < steps_begin - 1:
        rpc.call("evm_setNextBlockTimestamp", steps_begin - 1)
    escrow = Escrow.deploy(rpc)
    expected: dict[str, bool] = {}
    nonces: Counter[str] = Counter()
    for account, nonce in zip(
        escrow.accounts,
        rpc.batch([("eth_getTransactionCount", [account, "latest"]) for account in escrow.accounts]),
        strict=True,
    ):
        nonces[account] = int(nonce, 16)
    head = _head(rpc)
    in_the_past = head < steps_begin
    rpc.call("evm_setAutomine", False)
    try:
        for block in _blocks(_steps(escrow, trades, since), block_seconds):
            calls = []
            for _, _, _, call in block:
                calls.append(("eth_sendTransaction", [escrow.transaction(call, nonces[call.sender])]))
                nonces[call.sender] += 1
            sent = rpc.batch(calls)
            head = max(head + 1, block[-1][0] // 1000)
            rpc.call("evm_mine", head)
            for (_, place, kind, _), transaction_hash in zip(block, sent, strict=True):
                expected[transaction_hash] = kind != "failed"
                trades.hashes[_HASH_COLUMN[kind]][place] = transaction_hash
                if in_the_past:
                    getattr(trades, kind)[place] = head * 1000
    finally:
        rpc.call("evm_setAutomine", True)
        rpc.call("evm_setTime", max(head + 1, int(time.time())))
    _verify(rpc, expected)
    return escrow.address


def _head(rpc: Rpc) -> int:
    return int(rpc.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)


_Step = tuple[int, int, str, Call]


def _steps(escrow: Escrow, trades: Trades, since: date) -> list[_Step]:
    """Return time, place, kind and call of everything that happens on the chain, in the order of time."""
    found: list[_Step] = []
    wanted = trades.created >= rhythm.start_of(since)
    columns = zip(
        trades.ids.tolist(), trades.buyers.tolist(), trades.sellers.tolist(), trades.cents.tolist(), strict=True
    )
    people = list(columns)
    disputed = rhythm.happened(trades.disputed)
    for kind in ("funded", "failed", "disputed", "completed", "refunded"):
        times = getattr(trades, kind)
        for place in (wanted & rhythm.happened(times)).nonzero()[0].tolist():
            number, buyer, seller, cents = people[place]
            if kind in ("funded", "failed"):
                call = escrow.deposit(number, buyer, seller, cents if kind == "funded" else 0)
            elif kind == "disputed":
                call = escrow.dispute(number, buyer)
            elif kind == "completed":
                call = escrow.release(number, buyer, disputed=bool(disputed[place]))
            else:
                call = escrow.refund(number)
            found.append((int(times[place]), place, kind, call))
    return sorted(found, key=lambda step: step[:2])


def _blocks(steps: list[_Step], block_seconds: int) -> Iterator[list[_Step]]:
    """Yield steps block by block; two steps of one transaction never share a block."""
    block: list[_Step] = []
    for step in steps:
        full = block and step[0] - block[0][0] >= block_seconds * 1000
        if full or any(step[1] == other[1] for other in block):
            yield block
            block = []
        block.append(step)
    if block:
        yield block


def _verify(rpc: Rpc, expected: dict[str, bool]) -> None:
    """Read every receipt back. Raises ChainError for the first that is missing or of the wrong status."""
    hashes = list(expected)
    for first in range(0, len(hashes), _BATCH):
        part = hashes[first : first + _BATCH]
        receipts = rpc.batch([("eth_getTransactionReceipt", [one]) for one in part])
        for one, receipt in zip(part, receipts, strict=True):
            if receipt is None or (receipt["status"] == "0x1") != expected[one]:
                status = "no receipt" if receipt is None else f"status {receipt['status']}"
                raise ChainError(f"transaction {one} has {status}, which the history does not expect")
