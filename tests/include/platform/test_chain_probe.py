"""The probe of the chain against a real node, and against endpoints that answer as providers do."""

from __future__ import annotations

import gzip
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.processes import Processes, free_port
from demo.servers import Chain
from include.outcome import Outcome
from include.platform import probes
from include.settings import settings
from tests.include.platform.web_server import Behaviour, web_server

CHAIN = "AIRFLOW_CONN_PLATFORM_CHAIN"
LIMIT = 1.0  # seconds


@pytest.fixture(autouse=True)
def _limits(environment: pytest.MonkeyPatch) -> Iterator[None]:
    """Far above what a probe takes, also on a busy machine."""
    _set(environment, PROBE_TIMEOUT_SECONDS="10")
    environment.setenv("OPERATIONS__ALERTS__RESPONSE_SECONDS", "5")
    settings.cache_clear()
    yield
    settings.cache_clear()


def _set(environment: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        environment.setenv(f"OPERATIONS__WATCH__{name}", value)
    settings.cache_clear()


def _answer(result: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()


def _error(code: Any) -> bytes:
    return json.dumps(
        {"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "secret-word is over its quota"}}
    ).encode()


def _block(number: int, *, age: float = 0) -> bytes:
    return _answer({"number": hex(number), "timestamp": hex(int(time.time() - age)), "transactions": ["0xab"]})


@pytest.fixture
def provider(environment: pytest.MonkeyPatch) -> Iterator[Behaviour]:
    """An endpoint at block 16, not syncing, of the chain 1."""
    with web_server() as behaviour:
        behaviour.bodies = {
            "eth_getBlockByNumber": _block(16),
            "eth_syncing": _answer(False),
            "eth_chainId": _answer("0x1"),
        }
        environment.setenv(CHAIN, behaviour.url)
        yield behaviour


# ----------------------------------------------------------------------------------------------- a real node
def test_a_node_that_answers_and_then_is_stopped(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    processes = Processes(tmp_path / "processes.json")
    node = Chain(processes, tmp_path / "chain").start()
    environment.setenv(CHAIN, node.url)
    found = probes.chain()
    age = found.evidence.pop("block_age_seconds")
    assert (found.outcome, found.evidence) == (Outcome.OK, {"status": 200, "block": 0})
    assert 0 <= age < 60
    node.stop()
    assert probes.chain().outcome is Outcome.CRITICAL


def test_a_node_that_makes_no_more_blocks_is_critical_where_their_age_is_judged(
    tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    processes = Processes(tmp_path / "processes.json")
    node = Chain(processes, tmp_path / "chain", genesis=datetime.now(UTC) - timedelta(hours=1)).start()
    environment.setenv(CHAIN, node.url)
    try:
        assert probes.chain().outcome is Outcome.OK, "a test chain makes blocks only for transactions"
        _set(environment, CHAIN_HEAD_SECONDS="120")
        found = probes.chain()
        assert found.outcome is Outcome.CRITICAL
        assert found.evidence["reason"] == "its newest block is older than 120 seconds (watch.chain_head_seconds)"
        assert 3600 <= found.evidence["block_age_seconds"] < 3700
        for method, parameters in (("evm_setNextBlockTimestamp", [int(time.time())]), ("evm_mine", [])):
            httpx.post(node.url, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters})
        found = probes.chain()
        assert (found.outcome, found.evidence["block"]) == (Outcome.OK, 1)
    finally:
        processes.stop_all()


@pytest.mark.parametrize("given", ["31337", "0x7a69"])
def test_a_node_of_the_chain_that_is_meant(
    environment: pytest.MonkeyPatch, servers: dict[str, Any], given: str
) -> None:
    environment.setenv(CHAIN, f"http://127.0.0.1:{servers['chain']}?chain_id={given}")
    found = probes.chain()
    assert (found.outcome, found.evidence["chain_id"]) == (Outcome.OK, 31337)


def test_a_node_of_another_chain_says_nothing_of_the_platforms(
    environment: pytest.MonkeyPatch, servers: dict[str, Any]
) -> None:
    environment.setenv(CHAIN, f"http://127.0.0.1:{servers['chain']}?chain_id=1")
    found = probes.chain()
    assert (found.outcome, found.evidence["reason"]) == (
        Outcome.UNKNOWN,
        "platform_chain leads to the chain 31337 and not to 1; correct its address or its chain_id",
    )
    environment.setenv(CHAIN, f"http://127.0.0.1:{servers['chain']}?chain_id=mainnet")
    found = probes.chain()
    assert (found.outcome, found.evidence["reason"]) == (
        Outcome.UNKNOWN, "the chain_id of the connection platform_chain is not a number; correct it",
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------- providers
@pytest.mark.parametrize(("block", "outcome"), [(16, Outcome.WARNING), (0, Outcome.CRITICAL)])
def test_a_node_that_is_catching_up(provider: Behaviour, block: int, outcome: Outcome) -> None:
    provider.bodies["eth_getBlockByNumber"] = _block(block)
    provider.bodies["eth_syncing"] = _answer({"currentBlock": hex(block), "highestBlock": "0x1000"})
    found = probes.chain()
    assert (found.outcome, found.evidence["reason"]) == (outcome, "it is still catching up with its chain")
    assert (found.evidence["block"], found.evidence["highest_block"]) == (block, 4096)


def test_what_a_provider_does_not_tell_beside_its_block_is_no_outage(
    provider: Behaviour, environment: pytest.MonkeyPatch
) -> None:
    provider.bodies["eth_syncing"] = provider.bodies["eth_chainId"] = _error(-32601)
    assert probes.chain().outcome is Outcome.OK
    environment.setenv(CHAIN, f"{provider.url}?chain_id=1")
    found = probes.chain()
    assert (found.outcome, found.evidence["reason"]) == (Outcome.WARNING, "it did not tell the id of its chain")


def test_the_questions_beside_share_the_time_of_the_probe(provider: Behaviour, environment: pytest.MonkeyPatch) -> None:
    _set(environment, PROBE_TIMEOUT_SECONDS=str(LIMIT))
    environment.setenv(CHAIN, f"{provider.url}?chain_id=1")
    provider.delays = {"eth_chainId": 0.7 * LIMIT, "eth_syncing": 30}
    begun = time.monotonic()
    found = probes.chain()
    assert time.monotonic() - begun < 3 * LIMIT
    assert (found.outcome, found.evidence["block"]) == (Outcome.OK, 16)
    assert found.seconds is not None
    assert found.seconds < 0.7 * LIMIT, "the response time is that of the main question"


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, b"<html>", Outcome.CRITICAL),
        (200, b"[1]", Outcome.CRITICAL),
        (200, b"{}", Outcome.CRITICAL),
        (200, _answer(None), Outcome.CRITICAL),
        (200, _answer("0x10"), Outcome.CRITICAL),
        (200, _answer({"number": "0x" + "f" * 5000, "timestamp": "0x1"}), Outcome.CRITICAL),
        (502, b"", Outcome.CRITICAL),
        (404, b"", Outcome.CRITICAL),
        (429, b"", Outcome.WARNING),
        (401, b"", Outcome.UNKNOWN),
    ],
)
def test_answers_without_a_block(provider: Behaviour, status: int, body: bytes, outcome: Outcome) -> None:
    provider.statuses, provider.bodies["eth_getBlockByNumber"] = [status], body
    assert probes.chain().outcome is outcome
    assert [request[0] for request in provider.requests] == ["POST"]


@pytest.mark.parametrize(
    ("code", "outcome", "reason"),
    [
        (-32005, Outcome.WARNING, "it answered with the JSON-RPC error -32005"),
        (-32029, Outcome.WARNING, "it answered with the JSON-RPC error -32029"),
        (429, Outcome.WARNING, "it answered with the JSON-RPC error 429"),
        (-32000, Outcome.CRITICAL, "it answered with the JSON-RPC error -32000"),
        (-32600, Outcome.CRITICAL, "it answered with the JSON-RPC error -32600"),
        ("secret-word", Outcome.CRITICAL, "it answered with a JSON-RPC error"),
        (
            401,
            Outcome.UNKNOWN,
            "platform_chain refuses the probe's credentials (JSON-RPC error 401); correct the connection",
        ),
        (
            403,
            Outcome.UNKNOWN,
            "platform_chain refuses the probe's credentials (JSON-RPC error 403); correct the connection",
        ),
        (
            -32601,
            Outcome.UNKNOWN,
            "platform_chain does not answer eth_getBlockByNumber (JSON-RPC error -32601); correct its address, or let "
            "the endpoint permit it",
        ),
    ],
)
def test_errors_of_json_rpc_come_with_status_200(
    provider: Behaviour, code: int | str, outcome: Outcome, reason: str
) -> None:
    provider.bodies["eth_getBlockByNumber"] = _error(code)
    found = probes.chain()
    assert (found.outcome, found.evidence["reason"]) == (outcome, reason)
    if outcome is not Outcome.UNKNOWN:
        assert found.evidence["rpc_code"] == (code if isinstance(code, int) else None)
    assert "secret-word" not in json.dumps(found.evidence)


def test_an_endpoint_that_has_moved_is_an_address_to_correct(provider: Behaviour) -> None:
    provider.statuses, provider.headers = [301, 200], {"Location": f"{provider.url}/v2/secret-word"}
    found = probes.chain()
    assert (found.outcome, found.evidence["reason"]) == (
        Outcome.UNKNOWN, "platform_chain is redirected (status 301); correct its address",
    )  # fmt: skip
    assert [request[:2] for request in provider.requests] == [("POST", "/")]


def test_the_key_in_an_endpoint_stays_out_of_the_evidence(environment: pytest.MonkeyPatch) -> None:
    environment.setenv(CHAIN, f"http://127.0.0.1:{free_port()}/v2/secret-word")
    found = probes.chain()
    assert found.outcome is Outcome.CRITICAL
    assert "secret-word" not in json.dumps(found.evidence)


@pytest.mark.parametrize(
    "number",
    ["0x1_0", "1f", " 0x1", "0x", "-0x1", "0x1ffffffffffffffff", "0x" + "0" * 5000 + "1", "0x\u0661", 5, None, ["0x1"]],
)
def test_what_is_no_number_of_a_block(provider: Behaviour, number: Any) -> None:
    provider.bodies["eth_getBlockByNumber"] = _answer({"number": number, "timestamp": hex(int(time.time()))})
    found = probes.chain()
    assert (found.outcome, found.evidence["reason"]) == (Outcome.CRITICAL, "it answered without a block")


@pytest.fixture
def deep_recursion() -> Iterator[None]:
    """What libraries of the chain allow in a process that has loaded them."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.parametrize("packed", [True, False])
def test_a_packed_answer_or_a_deep_one_is_none(provider: Behaviour, packed: bool, deep_recursion: None) -> None:
    provider.headers = {"Content-Encoding": "gzip"} if packed else {}
    body = gzip.compress(_block(16)) if packed else b"[" * 1_000_000
    provider.bodies["eth_getBlockByNumber"] = body
    found = probes.chain()
    assert (found.outcome, found.evidence["reason"]) == (Outcome.CRITICAL, "it answered without a block")
