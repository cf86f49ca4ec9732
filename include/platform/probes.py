"""Probes of the platform's components: one attempt to use each the way its users do, bounded in time.

A probe tells what it met. ``critical``: no answer in time, or one that says the component does not work, be it that the
address is not there (404, 410); ``warning``: an answer that is slow or that refuses the request; ``unknown``: the probe
could not be made, so that nothing is known.
Evidence names no address and no credential: endpoints of a chain carry their key in the path.
"""

from __future__ import annotations

import asyncio
import math
import re
import ssl
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import TypeAdapter

from include import connections
from include.masking import bounded
from include.outcome import ConfigurationError, Outcome, SourceUnavailable, recordable
from include.settings import settings
from include.web_addresses import page_url

if TYPE_CHECKING:
    import httpx

USER_AGENT = "gold-escrow-operations"
"""By this name the platform's logs, and our reading of them, tell probes from traffic."""

_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")  # never behind a proxy of the environment
_NOT_THERE = (404, 410)  # its users, who ask for the same address, get nothing either
_LARGEST_BODY = 4 * 1024 * 1024  # bytes; more of an answer is not read
_LONGEST_PATH = 200  # characters
_MOST_REDIRECTS = 20  # as browsers have it
_JSON: TypeAdapter[Any] = TypeAdapter(Any)
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,16}")

# Codes of JSON-RPC errors, most of which come with status 200.
_RPC_LIMITS = (-32005, -32029, 429)  # too many requests (EIP-1474, and as providers have it)
_RPC_REFUSALS = (401, 403)
_RPC_NO_METHOD = -32601


class Probe(NamedTuple):
    """What one attempt met; ``seconds`` is the response time, absent without an answer."""

    outcome: Outcome
    seconds: float | None
    evidence: dict[str, Any]


class _Answer(NamedTuple):
    status: int
    seconds: float
    body: bytes
    redirected_to: str | None  # the path of another page that redirects led to


class _RpcError(Exception):
    """A JSON-RPC error, of which nothing but its code is kept: the message may quote the endpoint or the key."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


def frontend() -> Probe:
    """GET / of the connection platform_web, following redirects as a browser does."""
    return _attempt(lambda: _web_page("/"))


def api() -> Probe:
    """GET the path in the extra ``api_path`` of the connection platform_web, /health by default.

    A redirect to another page is a warning: a login that answers 200 says nothing of what is behind it.
    """
    return _attempt(_api)


def database() -> Probe:
    """SELECT 1 through the connection platform_db, connecting included."""
    return _attempt(_select_one)


def cache() -> Probe:
    """PING the connection platform_redis."""
    return _attempt(_ping)


def chain() -> Probe:
    """Ask the connection platform_chain for its newest block and whether it is still catching up.

    Where its extra ``chain_id`` says which chain it is to be of, that too.
    """
    return _attempt(_newest_block)


PROBES: dict[str, Callable[[], Probe]] = {
    "frontend": frontend,
    "api": api,
    "database": database,
    "cache": cache,
    "chain": chain,
}
"""The probe of each component that ``platform.components`` may name."""


def _attempt(probe: Callable[[], Probe]) -> Probe:
    try:
        return probe()
    except ConfigurationError as error:
        return Probe(Outcome.UNKNOWN, None, {"reason": recordable(error)})
    except SourceUnavailable as error:
        return Probe(Outcome.CRITICAL, None, {"reason": recordable(error)})


def _timeout() -> float:
    return settings().watch.probe_timeout_seconds


def _answered(seconds: float, evidence: dict[str, Any]) -> Probe:
    """A sound answer: ok, or a warning when it took longer than the guide's limit."""
    limit = settings().alerts.response_seconds
    if seconds > limit:
        return Probe(Outcome.WARNING, seconds, {**evidence, "reason": f"it took longer than {limit:g} seconds"})
    return Probe(Outcome.OK, seconds, evidence)


def _api() -> Probe:
    found = _web_page(str(connections.details("platform_web").extra.get("api_path", "/health")))
    if "redirected_to" not in found.evidence or found.evidence["status"] >= 400:
        return found
    reason = "it was redirected to another page, perhaps a login; correct api_path of the connection platform_web"
    return Probe(Outcome.WARNING, found.seconds, {**found.evidence, "reason": reason})


def _web_page(path: str) -> Probe:
    answer = _exchange("platform_web", "GET", page_url("platform_web", path), _timeout(), follow_redirects=True)
    evidence = {"path": path.partition("?")[0], "status": answer.status}
    if answer.redirected_to is not None:
        evidence["redirected_to"] = answer.redirected_to
    if answer.status >= 400:
        return _refused(answer, evidence)
    return _answered(answer.seconds, evidence)


def _refused(answer: _Answer, evidence: dict[str, Any]) -> Probe:
    is_down = answer.status >= 500 or answer.status in _NOT_THERE
    outcome = Outcome.CRITICAL if is_down else Outcome.WARNING
    return Probe(outcome, answer.seconds, {**evidence, "reason": f"it answered {answer.status}"})


def _newest_block() -> Probe:
    begun = time.monotonic()
    wanted = _wanted_chain()
    answer = _ask_chain("eth_getBlockByNumber", ["latest", False], _timeout())
    evidence: dict[str, Any] = {"status": answer.status}
    if answer.status in (401, 403):
        raise _chain_credentials(f"status {answer.status}")
    if 300 <= answer.status < 400:
        raise ConfigurationError(f"platform_chain is redirected (status {answer.status}); correct its address")
    if answer.status >= 400:
        return _refused(answer, evidence)
    try:
        found = _result(answer.body)
        block, at = _quantity(found["number"]), _quantity(found["timestamp"])
    except _RpcError as error:
        return _rpc_refused(answer, evidence, error.code)
    except (ValueError, KeyError, TypeError):
        return Probe(Outcome.CRITICAL, answer.seconds, {**evidence, "reason": "it answered without a block"})
    evidence |= {"block": block, "block_age_seconds": round(time.time()) - at}
    ends = begun + _timeout()  # of the whole probe: what it asks beside does not lengthen it
    if wanted is not None:
        told = _number(_side_answer("eth_chainId", ends))
        if told is not None and told != wanted:
            raise ConfigurationError(
                f"platform_chain leads to the chain {told} and not to {wanted}; correct its address or its chain_id"
            )
        evidence["chain_id"] = told
    return _judged(answer.seconds, evidence, _side_answer("eth_syncing", ends))


def _judged(seconds: float, evidence: dict[str, Any], syncing: Any) -> Probe:
    """Judge a node that has told its newest block; ``syncing`` is its answer to eth_syncing, None without one."""
    limit = settings().watch.chain_head_seconds
    if syncing is None:
        evidence["syncing"] = None  # it was not told
    if limit is not None and evidence["block_age_seconds"] > limit:
        reason = f"its newest block is older than {limit:g} seconds (watch.chain_head_seconds)"
        return Probe(Outcome.CRITICAL, seconds, {"syncing": bool(syncing), **evidence, "reason": reason})
    if syncing:  # an object with its progress; false when it is not
        if isinstance(syncing, dict) and (highest := _number(syncing.get("highestBlock"))) is not None:
            evidence["highest_block"] = highest
        outcome = Outcome.WARNING if evidence["block"] else Outcome.CRITICAL  # at block 0 it knows nothing yet
        reason = "it is still catching up with its chain"
        return Probe(outcome, seconds, {**evidence, "syncing": True, "reason": reason})
    if evidence.get("chain_id", 0) is None:
        return Probe(Outcome.WARNING, seconds, {**evidence, "reason": "it did not tell the id of its chain"})
    return _answered(seconds, evidence)


def _wanted_chain() -> int | None:
    given = connections.details("platform_chain").extra.get("chain_id")
    if given in (None, ""):
        return None
    try:
        return int(str(given), 0)
    except ValueError:
        raise ConfigurationError("the chain_id of the connection platform_chain is not a number; correct it") from None


def _ask_chain(method: str, parameters: list[Any], seconds: float) -> _Answer:
    question = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    # A redirect would make a GET of it, which no node understands.
    return _exchange(
        "platform_chain", "POST", page_url("platform_chain"), seconds, follow_redirects=False, json=question
    )


def _side_answer(method: str, ends: float) -> Any:
    """What a node answers until ``ends`` to a question beside the main one; None when it does not: some never do."""
    left = ends - time.monotonic()
    if left <= 0:
        return None
    try:
        return _result(_ask_chain(method, [], left).body)
    except (SourceUnavailable, _RpcError, ValueError, KeyError):
        return None


def _result(body: bytes) -> Any:
    """Return the result of a JSON-RPC answer. Raises _RpcError; ValueError or KeyError when it is no such answer."""
    # Its depth is bounded whatever this process allows Python: libraries of the chain allow 100,000, and json crashes.
    told = _JSON.validate_json(body)
    if not isinstance(told, dict):
        raise ValueError("a JSON-RPC answer is an object")
    if (error := told.get("error")) is not None:
        code = error.get("code") if isinstance(error, dict) else None
        raise _RpcError(code if isinstance(code, int) and abs(code) < 2**31 else None)
    return told["result"]


def _quantity(text: Any) -> int:
    """Read a quantity of JSON-RPC, 0x…, of 64 bits. Raises ValueError or TypeError."""
    if not _QUANTITY.fullmatch(text):
        raise ValueError("no number of JSON-RPC that can be kept")
    return int(text, 16)


def _number(text: Any) -> int | None:
    try:
        return _quantity(text)
    except (ValueError, TypeError):
        return None


def _rpc_refused(answer: _Answer, evidence: dict[str, Any], code: int | None) -> Probe:
    """What a JSON-RPC error says of a node, as the status of HTTP that means the same."""
    if code in _RPC_REFUSALS:
        raise _chain_credentials(f"JSON-RPC error {code}")
    if code == _RPC_NO_METHOD:
        raise ConfigurationError(
            "platform_chain does not answer eth_getBlockByNumber (JSON-RPC error -32601); correct its address, or let "
            "the endpoint permit it"
        )
    outcome = Outcome.WARNING if code in _RPC_LIMITS else Outcome.CRITICAL
    reason = "it answered with a JSON-RPC error" if code is None else f"it answered with the JSON-RPC error {code}"
    return Probe(outcome, answer.seconds, {**evidence, "rpc_code": code, "reason": reason})


def _chain_credentials(said: str) -> ConfigurationError:
    return ConfigurationError(f"platform_chain refuses the probe's credentials ({said}); correct the connection")


def _select_one() -> Probe:
    import psycopg

    begun = time.monotonic()
    limit = timedelta(seconds=_timeout())
    try:
        with connections.postgres(
            "platform_db",
            autocommit=True,
            statement_timeout=limit,
            connect_timeout_seconds=max(2, math.ceil(_timeout())),  # libpq knows no shorter one
        ) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        raise SourceUnavailable(f"platform_db was lost or too slow ({type(error).__name__})") from None
    return _answered(time.monotonic() - begun, {})


def _ping() -> Probe:
    from redis import exceptions

    begun = time.monotonic()
    client = connections.redis(timeout_seconds=_timeout())
    try:
        client.ping()
    except (exceptions.AuthenticationError, exceptions.NoPermissionError):
        raise ConfigurationError("platform_redis refuses the probe's credentials; correct the connection") from None
    except exceptions.RedisError as error:
        _tell_certificate("platform_redis", error)
        raise SourceUnavailable(f"platform_redis gave no answer ({type(error).__name__})") from None
    finally:
        client.close()
    return _answered(time.monotonic() - begun, {})


def _tell_certificate(connection_id: str, error: BaseException) -> None:
    """Raise SourceUnavailable with what is wrong with a certificate, if that lies behind an error of a library."""
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, ssl.SSLCertVerificationError):
        behind = behind.__cause__ or behind.__context__
    if behind is not None:
        said = behind.verify_message.partition(", certificate is not valid for")[0]  # what follows is the address
        raise SourceUnavailable(
            f"{connection_id} has a certificate that cannot be verified ({said}); mend it, or let this machine know "
            "who issued it"
        ) from None


def _exchange(
    connection_id: str, method: str, url: str, seconds: float, *, follow_redirects: bool, **content: Any
) -> _Answer:
    """Make one HTTP request, the reading of its answer included, within ``seconds``.

    The limit holds for the whole exchange (httpx's own holds for each step of it): a server that sends one byte a
    second does not answer in time. Raises SourceUnavailable without an answer.
    """
    import httpx

    request = _request(connection_id, method, url, seconds, follow_redirects, **content)
    try:
        return asyncio.run(asyncio.wait_for(request, seconds))
    except (TimeoutError, httpx.TimeoutException):
        raise SourceUnavailable(f"{connection_id} gave no answer within {seconds:g} seconds") from None
    except httpx.UnsupportedProtocol:
        raise ConfigurationError(f"the connection {connection_id} is no HTTP address; correct it") from None
    except httpx.HTTPError as error:
        _tell_certificate(connection_id, error)
        raise SourceUnavailable(f"{connection_id} gave no answer ({type(error).__name__})") from None
    except httpx.InvalidURL:
        raise ConfigurationError(f"the address of the connection {connection_id} is not valid; correct it") from None


async def _request(
    connection_id: str, method: str, url: str, seconds: float, follow_redirects: bool, **content: Any
) -> _Answer:
    """Make the request, and those that redirects ask for; httpx would unpack the bodies of these without a limit.

    A body comes as it was sent: a packed one, which was not asked for, counts as none.
    """
    import httpx

    found = connections.details(connection_id)
    begun = time.monotonic()
    async with httpx.AsyncClient(
        timeout=seconds,
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        trust_env=httpx.URL(url).host not in _THIS_MACHINE,
    ) as client:
        asked = request = client.build_request(method, url, **content)
        auth = httpx.BasicAuth(found.login, found.password) if found.login else None
        for _ in range(_MOST_REDIRECTS + 1):
            response = await client.send(request, stream=True, auth=auth)
            try:
                if not follow_redirects or response.next_request is None:
                    body = await _body(response)
                    page = _other_page(asked.url, response.url)
                    return _Answer(response.status_code, time.monotonic() - begun, body, page)
                request, auth = response.next_request, None  # it has the login where it stays with the host
            finally:
                await response.aclose()
        raise httpx.TooManyRedirects("it leads from page to page", request=request)


async def _body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > _LARGEST_BODY:
            break
    is_packed = response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")
    return b"" if is_packed else bytes(body)


def _other_page(first: httpx.URL, last: httpx.URL) -> str | None:
    """The path, without its query, that redirects led to; None when they changed no more than the way to the page."""
    asked, answered = ((one.host.removeprefix("www."), one.path.rstrip("/")) for one in (first, last))
    return None if asked == answered else bounded(last.path, _LONGEST_PATH)
