"""Probes of the platform's components: one attempt to use each the way its users do, bounded in time.

A probe tells what it met. ``critical``: no answer in time, or one that says the component does not work, be it that the
address is not there (404, 410); ``warning``: an answer that is slow or that refuses the request; ``unknown``: the probe
could not be made, so that nothing is known.
Evidence names no address and no credential: endpoints of a chain carry their key in the path.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from include import connections
from include.outcome import ConfigurationError, Outcome, SourceUnavailable, recordable
from include.settings import settings

USER_AGENT = "gold-escrow-operations"
"""By this name the platform's logs, and our reading of them, tell probes from traffic."""

_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")  # never behind a proxy of the environment
_NOT_THERE = (404, 410)  # its users, who ask for the same address, get nothing either
_LARGEST_BODY = 4 * 1024 * 1024  # bytes; more of an answer is not read


class Probe(NamedTuple):
    """What one attempt met; ``seconds`` is the response time, absent without an answer."""

    outcome: Outcome
    seconds: float | None
    evidence: dict[str, Any]


class _Answer(NamedTuple):
    status: int
    seconds: float
    body: bytes


def frontend() -> Probe:
    """GET / of the connection platform_web, following redirects as a browser does."""
    return _attempt(lambda: _web_page("/"))


def api() -> Probe:
    """GET the path in the extra ``api_path`` of the connection platform_web, /health by default."""
    return _attempt(lambda: _web_page(str(connections.details("platform_web").extra.get("api_path", "/health"))))


def database() -> Probe:
    """SELECT 1 through the connection platform_db, connecting included."""
    return _attempt(_select_one)


def cache() -> Probe:
    """PING the connection platform_redis."""
    return _attempt(_ping)


def chain() -> Probe:
    """Ask the connection platform_chain for the number of its newest block."""
    return _attempt(_block_number)


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


def _web_page(path: str) -> Probe:
    url = connections.web_url("platform_web") + "/" + path.lstrip("/")
    answer = _exchange("platform_web", "GET", url)
    evidence = {"path": path, "status": answer.status}
    if answer.status >= 400:
        return _refused(answer, evidence)
    return _answered(answer.seconds, evidence)


def _refused(answer: _Answer, evidence: dict[str, Any]) -> Probe:
    is_down = answer.status >= 500 or answer.status in _NOT_THERE
    outcome = Outcome.CRITICAL if is_down else Outcome.WARNING
    return Probe(outcome, answer.seconds, {**evidence, "reason": f"it answered {answer.status}"})


def _block_number() -> Probe:
    import json

    question = {"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}
    answer = _exchange("platform_chain", "POST", connections.web_url("platform_chain"), json=question)
    evidence: dict[str, Any] = {"status": answer.status}
    if answer.status in (401, 403):
        raise ConfigurationError(
            f"platform_chain refuses the probe's credentials (status {answer.status}); correct the connection"
        )
    if answer.status >= 400:
        return _refused(answer, evidence)
    try:
        block = int(json.loads(answer.body)["result"], 16)
    except (ValueError, KeyError, TypeError):
        return Probe(Outcome.CRITICAL, answer.seconds, {**evidence, "reason": "it answered without a block number"})
    return _answered(answer.seconds, {**evidence, "block": block})


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
        raise SourceUnavailable(f"platform_redis gave no answer ({type(error).__name__})") from None
    finally:
        client.close()
    return _answered(time.monotonic() - begun, {})


def _exchange(connection_id: str, method: str, url: str, **content: Any) -> _Answer:
    """Make one HTTP request, the reading of its answer included, within the probe's time limit.

    The limit holds for the whole exchange (httpx's own holds for each step of it): a server that sends one byte a
    second does not answer in time. Raises SourceUnavailable without an answer.
    """
    import httpx

    try:
        return asyncio.run(asyncio.wait_for(_request(connection_id, method, url, **content), _timeout()))
    except (TimeoutError, httpx.TimeoutException):
        raise SourceUnavailable(f"{connection_id} gave no answer within {_timeout():g} seconds") from None
    except httpx.UnsupportedProtocol:
        raise ConfigurationError(f"the connection {connection_id} is no HTTP address; correct it") from None
    except httpx.HTTPError as error:
        raise SourceUnavailable(f"{connection_id} gave no answer ({type(error).__name__})") from None
    except httpx.InvalidURL:
        raise ConfigurationError(f"the address of the connection {connection_id} is not valid; correct it") from None


async def _request(connection_id: str, method: str, url: str, **content: Any) -> _Answer:
    import httpx

    found = connections.details(connection_id)
    begun = time.monotonic()
    async with (
        httpx.AsyncClient(
            timeout=_timeout(),
            follow_redirects=True,
            headers={"User-Agent": USER_AGENT},
            auth=httpx.BasicAuth(found.login, found.password) if found.login else None,
            trust_env=found.host not in _THIS_MACHINE,
        ) as client,
        client.stream(method, url, **content) as response,
    ):
        body = bytearray()
        async for part in response.aiter_bytes():
            body += part
            if len(body) > _LARGEST_BODY:
                break
        return _Answer(response.status_code, time.monotonic() - begun, bytes(body))
