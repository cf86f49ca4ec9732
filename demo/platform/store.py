"""What the web application stands on: a small pool of database connections, and a cache that may be away."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
from psycopg.rows import dict_row

if TYPE_CHECKING:
    import redis

Row = dict[str, Any]
Connection = psycopg.Connection[Row]


class Unavailable(Exception):
    """Something that the application stands on is away: ``what`` it is and ``where``, without credentials."""

    def __init__(self, what: str, where: str, cause: Exception) -> None:
        super().__init__(f"{what} at {where} is not available")
        self.what, self.where, self.cause = what, where, type(cause).__name__


def without_credentials(url: str) -> str:
    """Return a URL without user, password and parameters."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def plain(value: Any) -> Any:
    """Return rows as JSON has them (times in ISO 8601, amounts as texts), so that cached and fresh ones are alike."""
    return json.loads(json.dumps(value, default=lambda one: one.isoformat() if isinstance(one, datetime) else str(one)))


class Pool:
    """At most ``size`` connections, opened when needed; a broken one is closed and replaced."""

    def __init__(self, url: str, size: int = 8) -> None:
        """Lead to the database at ``url``; nothing is opened yet."""
        self.url, self.where = url, without_credentials(url)
        self._slots: queue.LifoQueue[Connection | None] = queue.LifoQueue()
        for _ in range(size):
            self._slots.put(None)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Lend a connection for one transaction: committed at its end, rolled back on an exception.

        Raises Unavailable when the database cannot be reached or is lost, or all connections are busy for 5 s.
        """
        try:
            connection = self._slots.get(timeout=5)
        except queue.Empty as error:
            raise Unavailable("the database's connection pool", self.where, error) from None
        try:
            if connection is None or connection.closed:
                connection = self._connect()
            with connection.transaction():
                yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if connection is not None:
                with suppress(psycopg.Error):
                    connection.close()
            connection = None
            raise Unavailable("the database", self.where, error) from None
        finally:
            self._slots.put(connection)

    def _connect(self) -> Connection:
        return psycopg.connect(
            self.url,
            autocommit=True,
            row_factory=dict_row,
            connect_timeout=3,
            application_name="gold-escrow-web",
            options="-c timezone=UTC -c statement_timeout=5000",
        )

    def close(self) -> None:
        """Close the connections that are not lent."""
        with suppress(queue.Empty):
            while True:
                if (connection := self._slots.get_nowait()) is not None:
                    connection.close()


class Cache:
    """Redis as a cache. While it is away, nothing is found and nothing is kept; ``complain`` is told twice a minute."""

    def __init__(self, url: str | None, complain: Callable[[str], None]) -> None:
        """Lead to the Redis at ``url``; without one there is no cache."""
        self._client: redis.Redis | None = None
        self._complain, self._complained = complain, -60.0
        if url:
            import redis

            self._client = redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, decode_responses=True)

    def get(self, key: str) -> Any:
        """Return what was kept under a key, or None."""
        found = self._try(lambda client: client.get(key))
        return None if found is None else json.loads(found)

    def put(self, key: str, value: Any, seconds: int | None) -> None:
        """Keep a value for ``seconds``; with None until it is replaced or dropped."""
        text = json.dumps(value)
        self._try(lambda client: client.set(key, text, ex=seconds))

    def drop(self, *keys: str) -> None:
        """Forget keys."""
        self._try(lambda client: client.delete(*keys))

    def count(self, key: str) -> None:
        """Add one to a counter that never expires."""
        self._try(lambda client: client.incr(key))

    def _try(self, act: Callable[[redis.Redis], Any]) -> Any:
        if self._client is None:
            return None
        import redis

        try:
            return act(self._client)
        except redis.RedisError as error:
            if time.monotonic() - self._complained > 30:
                self._complained = time.monotonic()
                self._complain(f"the cache is not available: {type(error).__name__}")
            return None
