"""The escrow contract on a real node, and the history's transactions on it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from demo.databases import Databases
from demo.platform import chain_history, escrow, history
from demo.platform.escrow import Call, ChainError, Escrow, Rpc
from demo.processes import Processes
from demo.servers import Chain
from tests.run_folder import server_folder

FIRST, DAYS = date(2026, 10, 5), 4


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    """A node of the module's own: others would change balances and number their transactions meanwhile."""
    folder = server_folder("chain")
    processes = Processes(folder / "processes.json")
    try:
        yield Chain(processes, folder).start()
    finally:
        processes.stop_all()


@pytest.fixture
def rpc(chain: Chain) -> Iterator[Rpc]:
    with Rpc(chain.url) as found:
        yield found


def test_the_artefact_is_of_the_committed_source() -> None:
    artefact = json.loads(escrow.ARTEFACT.read_text())
    source = escrow.ARTEFACT.with_name("Escrow.sol").read_bytes()
    assert artefact["source_sha256"] == hashlib.sha256(source).hexdigest()
    assert artefact["compiler"] == "0.8.37"


def test_selectors_are_those_of_the_abi() -> None:
    from web3 import Web3

    artefact = json.loads(escrow.ARTEFACT.read_text())
    for signature, selector in artefact["selectors"].items():
        assert Web3.keccak(text=signature)[:4].hex() == selector


def balance(rpc: Rpc, account: str) -> int:
    return int(rpc.call("eth_getBalance", account, "latest"), 16)


def test_money_moves_as_agreed(rpc: Rpc) -> None:
    contract = Escrow.deploy(rpc)
    seller = contract.seller(2)
    before = balance(rpc, seller)
    assert contract.send(contract.deposit(1, 1, 2, 500))[1]
    assert balance(rpc, contract.address) == 500 * escrow.WEI_PER_CENT
    assert not contract.send(Call(contract.arbiter, contract.release(1, 1).data))[1]  # only the buyer, before a dispute
    assert contract.send(contract.release(1, 1))[1]
    assert balance(rpc, contract.address) == 0
    assert balance(rpc, seller) - before == 500 * escrow.WEI_PER_CENT
    assert not contract.send(contract.release(1, 1))[1]  # not twice
    assert not contract.send(contract.deposit(1, 1, 2, 500))[1]  # the number is used up


def test_disputes_are_settled_by_the_arbiter(rpc: Rpc) -> None:
    contract = Escrow.deploy(rpc)
    for number in (1, 2):
        assert contract.send(contract.deposit(number, 1, 2, 900))[1]
        assert not contract.send(contract.refund(number))[1]  # not disputed yet
        assert contract.send(contract.dispute(number, 1))[1]
        assert not contract.send(contract.dispute(number, 1))[1]
        assert not contract.send(contract.release(number, 1))[1]  # no longer the buyer's to decide
    assert not contract.send(Call(contract.buyer(1), contract.refund(1).data))[1]
    assert contract.send(contract.refund(1))[1]
    assert contract.send(contract.release(2, 1, disputed=True))[1]
    assert balance(rpc, contract.address) == 0


def test_a_payment_of_nothing_fails(rpc: Rpc) -> None:
    contract = Escrow.deploy(rpc)
    transaction_hash, succeeded = contract.send(contract.deposit(1, 1, 2, 0))
    assert not succeeded
    assert rpc.call("eth_getTransactionReceipt", transaction_hash)["status"] == "0x0"


def test_a_chain_that_is_away_or_refuses_is_said_so() -> None:
    with Rpc("http://127.0.0.1:9") as nowhere, pytest.raises(ChainError, match="does not answer"):
        nowhere.call("eth_chainId")


def test_a_refusal_names_the_method(rpc: Rpc) -> None:
    with pytest.raises(ChainError, match="eth_noSuchMethod"):
        rpc.call("eth_noSuchMethod")


@pytest.fixture
def old_chain(tmp_path: Path) -> Iterator[Chain]:
    processes = Processes(tmp_path / "processes.json")
    genesis = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC) - timedelta(days=1)
    yield Chain(processes, tmp_path / "chain", genesis=genesis).start()
    processes.stop_all()


def test_hashes_of_the_history_have_receipts(
    old_chain: Chain, new_escrow: Callable[[], str], databases: Databases, tmp_path: Path
) -> None:
    url = databases.url(new_escrow(), "escrow_owner")
    history.generate(url, None, tmp_path / "logs", first_day=FIRST, days=DAYS, chain_url=old_chain.url)
    with psycopg.connect(url, options="-c timezone=UTC") as connection, Rpc(old_chain.url) as rpc:
        rows = connection.execute(
            """SELECT chain_transaction_hash, funded_at, failed_at FROM transactions
               WHERE created_at >= %s AND (funded_at IS NOT NULL OR failed_at IS NOT NULL)""",
            (FIRST,),
        ).fetchall()
        assert len(rows) > 80 * DAYS
        assert any(failed for _, _, failed in rows)
        receipts = rpc.batch([("eth_getTransactionReceipt", [row[0]]) for row in rows])
        for (_, funded, _), receipt in zip(rows, receipts, strict=True):
            assert receipt["status"] == ("0x1" if funded else "0x0")
        # The block bears the time that the database gives the deposit.
        blocks = rpc.batch([("eth_getBlockByNumber", [receipt["blockNumber"], False]) for receipt in receipts[:50]])
        for (_, funded, failed), block in zip(rows, blocks, strict=False):
            assert datetime.fromtimestamp(int(block["timestamp"], 16), UTC) == (funded or failed)
        without = connection.execute(
            "SELECT count(chain_transaction_hash) FROM transactions WHERE funded_at IS NULL AND failed_at IS NULL"
        ).fetchone()
        assert without == (0,)
        # Disputes, releases and refunds too, each at the time that the database gives it.
        later = connection.execute(
            """SELECT hash, at FROM transactions, LATERAL (VALUES
                   (dispute_chain_hash, disputed_at), (settlement_chain_hash, coalesce(completed_at, refunded_at))
               ) AS step (hash, at) WHERE created_at >= %s AND (hash IS NOT NULL OR at IS NOT NULL)""",
            (FIRST,),
        ).fetchall()
        receipts = rpc.batch([("eth_getTransactionReceipt", [row[0]]) for row in later])
        assert len(later) > 60 * DAYS
        assert {receipt["status"] for receipt in receipts} == {"0x1"}
        blocks = rpc.batch([("eth_getBlockByNumber", [receipt["blockNumber"], False]) for receipt in receipts])
        assert all(
            datetime.fromtimestamp(int(block["timestamp"], 16), UTC) == at
            for (_, at), block in zip(later, blocks, strict=True)
        )
        held = connection.execute(
            """SELECT sum(amount_usd * 100)::bigint FROM transactions WHERE chain_transaction_hash IS NOT NULL
               AND failed_at IS NULL AND completed_at IS NULL AND refunded_at IS NULL"""
        ).fetchone()
        address = connection.execute("SELECT address FROM escrow_contracts").fetchone()
        assert held
        assert address
        assert balance(rpc, address[0]) == held[0] * escrow.WEI_PER_CENT
        # Afterwards the chain is back in the present and mines at once.
        contract = Escrow(rpc, address[0])
        assert contract.send(contract.deposit(10**9, 1, 2, 100))[1]
        newest = rpc.call("eth_getBlockByNumber", "latest", False)
        assert abs(int(newest["timestamp"], 16) - datetime.now(UTC).timestamp()) < 60


def test_on_a_chain_that_is_ahead_the_hashes_are_real_too(
    chain: Chain, new_escrow: Callable[[], str], databases: Databases, tmp_path: Path
) -> None:
    url = databases.url(new_escrow(), "escrow_owner")
    history.generate(url, None, tmp_path, first_day=FIRST, days=1, chain_url=chain.url)
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            """SELECT chain_transaction_hash FROM transactions
               WHERE failed_at IS NULL AND chain_transaction_hash IS NOT NULL"""
        ).fetchall()
    assert len(rows) > 50
    with Rpc(chain.url) as rpc:
        receipts = rpc.batch([("eth_getTransactionReceipt", list(row)) for row in rows])
    assert {receipt["status"] for receipt in receipts} == {"0x1"}


def test_a_chain_that_is_killed_keeps_what_it_had(tmp_path: Path) -> None:
    processes = Processes(tmp_path / "processes.json")
    chain = Chain(processes, tmp_path / "chain", save_every_seconds=1).start()
    try:
        with Rpc(chain.url) as rpc:
            address = Escrow.deploy(rpc).address
        deployed = time.time_ns()
        state = tmp_path / "chain" / "state.json"
        while not (state.exists() and state.stat().st_mtime_ns > deployed and state.read_bytes().endswith(b"}")):
            time.sleep(0.1)
        assert chain.process
        chain.process.popen.kill()
        chain.process.popen.wait()
        with Rpc(chain.start().url) as rpc:
            assert rpc.call("eth_getCode", address, "latest") != "0x"
        chain.process.popen.kill()
        chain.process.popen.wait()
        state.write_text('{"block":')  # killed while it wrote
        with Rpc(chain.start().url) as rpc:
            assert rpc.call("eth_getCode", address, "latest") == "0x"
    finally:
        processes.stop_all()


def test_a_lost_contract_is_deployed_anew_with_its_open_deposits(
    rpc: Rpc, chain: Chain, new_escrow: Callable[[], str], databases: Databases
) -> None:
    with psycopg.connect(databases.url(new_escrow(), "escrow_owner"), autocommit=True) as connection:
        assert chain_history.renew(chain.url, connection) is None, "a platform without a chain"
        connection.execute(
            "INSERT INTO users (email, full_name, registered_at) VALUES ('a', 'A', now()), ('b', 'B', now())"
        )
        connection.execute("INSERT INTO escrow_contracts VALUES (%s, now() - interval '1 day')", ("0x" + "12" * 20,))
        for times in ("NULL, NULL, NULL", "now(), NULL, NULL", "now(), now(), NULL", "now(), NULL, now()"):
            connection.execute(
                f"""INSERT INTO transactions (buyer_id, seller_id, amount_usd, created_at, chain_transaction_hash,
                                              funded_at, disputed_at, completed_at)
                    VALUES (1, 2, 5.25, now(), '0x' || md5('{times}') || md5('{times}'), {times})""".encode()
            )
        assert chain_history.renew(chain.url, connection) == 2
        rows = connection.execute("SELECT address FROM escrow_contracts ORDER BY deployed_at").fetchall()
        contract = Escrow(rpc, rows[1][0])
        assert balance(rpc, contract.address) == 2 * 525 * escrow.WEI_PER_CENT
        assert contract.send(contract.release(2, 1))[1]
        assert contract.send(contract.refund(3))[1]
        hashes = connection.execute(
            "SELECT chain_transaction_hash FROM transactions ORDER BY transaction_id"
        ).fetchall()
        receipts = rpc.batch([("eth_getTransactionReceipt", [one]) for (one,) in hashes])
        assert [receipt is not None for receipt in receipts] == [False, True, True, False]
        disputes = connection.execute("SELECT transaction_id FROM transactions WHERE dispute_chain_hash IS NOT NULL")
        assert disputes.fetchall() == [(3,)]
        assert chain_history.renew(chain.url, connection) is None
