"""The escrow contract on the chain: deploys it and calls it over JSON-RPC, with the node's own unlocked accounts."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ARTEFACT = Path(__file__).parent / "contracts" / "Escrow.json"
WEI_PER_CENT = 2_500_000_000_000
"""4,000 dollars per ether."""
GAS = 250_000
"""Given with every call, so that a failing one is mined instead of being refused by an estimate."""
BUYERS, SELLERS = 4, 4
_FUNDS = 10**24


class ChainError(Exception):
    """The chain cannot be reached, or answered with an error. The message says which."""


class Rpc:
    """A JSON-RPC endpoint."""

    def __init__(self, url: str, *, timeout_seconds: float = 20.0) -> None:
        """Talk to ``url``; nothing is sent yet."""
        self._client = httpx.Client(base_url=url, timeout=timeout_seconds, trust_env=False)

    def close(self) -> None:
        """Close the connections to the endpoint."""
        self._client.close()

    def __enter__(self) -> Rpc:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, *params: Any) -> Any:
        """Return the result of one call. Raises ChainError."""
        return self.batch([(method, list(params))])[0]

    def batch(self, calls: list[tuple[str, list[Any]]]) -> list[Any]:
        """Return the results of several calls sent at once, in their order. Raises ChainError."""
        body = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            for number, (method, params) in enumerate(calls)
        ]
        try:
            answers = self._client.post("", json=body if len(body) > 1 else body[0]).raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise ChainError(f"the chain endpoint does not answer: {type(error).__name__}") from None
        found: list[Any] = [None] * len(calls)
        for answer in answers if isinstance(answers, list) else [answers]:
            if "error" in answer:
                raise ChainError(f"the chain refused {calls[answer['id']][0]}: {answer['error'].get('message')}")
            found[answer["id"]] = answer["result"]
        return found


@dataclass(frozen=True)
class Call:
    """One call of the contract, ready to be sent."""

    sender: str
    data: str
    value: int = 0


class Escrow:
    """A deployed escrow contract. Platform users share the node's accounts: four buy, four sell, one is the arbiter."""

    def __init__(self, rpc: Rpc, address: str) -> None:
        """Use the contract at ``address``. Raises ChainError when the node has too few accounts."""
        self.rpc, self.address = rpc, address
        self._selectors: dict[str, str] = {
            signature.split("(")[0]: selector for signature, selector in _artefact()["selectors"].items()
        }
        self.accounts = _accounts(rpc)

    @classmethod
    def deploy(cls, rpc: Rpc) -> Escrow:
        """Deploy the contract, fund the accounts and return it. Raises ChainError."""
        accounts = _accounts(rpc)
        rpc.batch([("anvil_setBalance", [account, hex(_FUNDS)]) for account in accounts])
        transaction = {"from": accounts[0], "data": _artefact()["bytecode"], "gas": hex(3_000_000)}
        transaction_hash = rpc.call("eth_sendTransaction", transaction)
        receipt = wait_for_receipt(rpc, transaction_hash)
        if receipt["status"] != "0x1":
            raise ChainError("the escrow contract could not be deployed")
        return cls(rpc, receipt["contractAddress"])

    @property
    def arbiter(self) -> str:
        """The account that settles disputes; it deployed the contract."""
        return self.accounts[0]

    def buyer(self, user: int) -> str:
        """Return the account that a user buys with."""
        return self.accounts[1 + user % BUYERS]

    def seller(self, user: int) -> str:
        """Return the account that a user sells with."""
        return self.accounts[1 + BUYERS + user % SELLERS]

    def deposit(self, number: int, buyer: int, seller: int, cents: int) -> Call:
        """The buyer's payment of transaction ``number``; the contract refuses a payment of nothing."""
        data = self._data("deposit", number, int(self.seller(seller), 16))
        return Call(self.buyer(buyer), data, cents * WEI_PER_CENT)

    def release(self, number: int, buyer: int, *, disputed: bool = False) -> Call:
        """The release to the seller: by the buyer, or by the arbiter after a dispute."""
        return Call(self.arbiter if disputed else self.buyer(buyer), self._data("release", number))

    def dispute(self, number: int, buyer: int) -> Call:
        """The buyer's call for the arbiter."""
        return Call(self.buyer(buyer), self._data("dispute", number))

    def refund(self, number: int) -> Call:
        """The arbiter's payment back to the buyer."""
        return Call(self.arbiter, self._data("refund", number))

    def transaction(self, call: Call, nonce: int | None = None) -> dict[str, str]:
        """Return a call as the parameter of eth_sendTransaction."""
        found = {"from": call.sender, "to": self.address, "data": call.data, "value": hex(call.value), "gas": hex(GAS)}
        return found if nonce is None else found | {"nonce": hex(nonce)}

    def send(self, call: Call) -> tuple[str, bool]:
        """Send a call, wait until it is mined and return its hash and whether it succeeded. Raises ChainError."""
        transaction_hash = self.rpc.call("eth_sendTransaction", self.transaction(call))
        return transaction_hash, wait_for_receipt(self.rpc, transaction_hash)["status"] == "0x1"

    def _data(self, function: str, *words: int) -> str:
        return "0x" + self._selectors[function] + "".join(f"{word:064x}" for word in words)


def wait_for_receipt(rpc: Rpc, transaction_hash: str, seconds: float = 10.0) -> dict[str, Any]:
    """Return the receipt of a transaction. Raises ChainError when it is not mined in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        receipt: dict[str, Any] | None = rpc.call("eth_getTransactionReceipt", transaction_hash)
        if receipt:
            return receipt
        time.sleep(0.05)
    raise ChainError(f"transaction {transaction_hash} was not mined within {seconds:.0f} s")


def _artefact() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ARTEFACT.read_text(encoding="utf-8"))
    return found


def _accounts(rpc: Rpc) -> list[str]:
    found: list[str] = rpc.call("eth_accounts")
    if len(found) < 1 + BUYERS + SELLERS:
        raise ChainError(f"the chain has {len(found)} unlocked accounts; the platform needs {1 + BUYERS + SELLERS}")
    return found
