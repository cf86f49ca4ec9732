"""Asks the platform's Redis: its counters and gauges, what it permits, and its errors in one sentence."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include import connections
from include.outcome import ConfigurationError, SourceUnavailable

if TYPE_CHECKING:
    import redis

CONNECTION = "platform_redis"
COUNTERS = (
    "hits", "misses", "evicted_keys", "expired_keys", "expired_time_cap_reached_count", "commands", "connections",
)  # fmt: skip
"""What only grows until the server restarts or its statistics are reset."""

_FRAGMENTATION_SAYS_SOMETHING_FROM_BYTES = 100 * 1024 * 1024  # below, the ratio is mostly the allocator's fixed cost
_NO_TOUCH_FROM = (7, 2)
_TRIED = {
    "eval": ("EVAL", "return 1", "0"),
    "scan": ("SCAN", "0", "MATCH", "no:such:key", "COUNT", "1"),  # it expires no key: the pass does, and measures it
    "pttl": ("PTTL", "no:such:key"),
    "type": ("TYPE", "no:such:key"),
    "memory|usage": ("MEMORY", "USAGE", "no:such:key"),
}


def client() -> redis.Redis:
    """Return a client with one connection of its own, so that what is set for it holds. Raises ConfigurationError."""
    return _with_errors("connection", connections.redis(CONNECTION).client)  # type: ignore[no-any-return]


def measure(server: redis.Redis) -> dict[str, Any]:
    """Counters (since the server's start or reset) and gauges of INFO; bytes, shares as percent where Redis says so.

    ``databases`` holds the number of keys of each database that has any, ``keys`` their sum. ``shards`` is how many
    the cluster has, 1 without one; None is not known.
    Raises SourceUnavailable or ConfigurationError.
    """
    info: Any = asked(server, "INFO")
    used = int(info["used_memory"])
    speaks = used >= _FRAGMENTATION_SAYS_SOMETHING_FROM_BYTES
    databases = {name[2:]: int(of["keys"]) for name, of in info.items() if re.fullmatch(r"db\d+", name)}
    return {
        "server": info["run_id"],
        "version": str(info["redis_version"]),
        "role": str(info["role"]),
        "uptime_seconds": int(info["uptime_in_seconds"]),
        "measured_at": datetime.now(UTC).isoformat(),
        "hits": int(info["keyspace_hits"]),
        "misses": int(info["keyspace_misses"]),
        "evicted_keys": int(info["evicted_keys"]),
        "expired_keys": int(info["expired_keys"]),
        "expired_time_cap_reached_count": int(info.get("expired_time_cap_reached_count", 0)),
        "commands": int(info["total_commands_processed"]),
        "connections": int(info["total_connections_received"]),
        "expired_stale_percent": float(info["expired_stale_perc"]),
        "used_memory_bytes": used,
        "maxmemory_bytes": int(info["maxmemory"]),
        "maxmemory_policy": info["maxmemory_policy"],
        "fragmentation_ratio": float(info["mem_fragmentation_ratio"]) if speaks else None,
        "fragmentation_note": "" if speaks else "the ratio says nothing below 100 MB of used memory",
        "keys": sum(databases.values()),
        "databases": databases,
        "cluster": (cluster := bool(int(info.get("cluster_enabled", 0)))),
        "shards": _shards(server) if cluster else 1,
    }


def _shards(server: Any) -> int | None:
    import redis as library

    try:
        told = re.search(r"^cluster_size:(\d+)", str(server.execute_command("CLUSTER", "INFO")), re.MULTILINE)
    except library.exceptions.ResponseError:  # not permitted
        return None
    except library.exceptions.RedisError as error:
        raise _sentence(error, "CLUSTER INFO") from None
    return int(told[1]) if told else None


def own_database(server: redis.Redis) -> int:
    """The number of the database that the connection names."""
    return int(server.connection_pool.connection_kwargs.get("db") or 0)


def select(server: Any, database: int) -> str:
    """Go on in another database; return why that is refused, or nothing. Raises SourceUnavailable."""
    import redis as library

    try:
        server.execute_command("SELECT", database)
    except library.exceptions.NoPermissionError:
        return "this login may not use SELECT; allow it by ACL SETUSER with +select"
    except library.exceptions.ResponseError:
        return "the server refuses to select it"
    except library.exceptions.RedisError as error:
        raise _sentence(error, "SELECT") from None
    return ""


def fragmentation_change(last: dict[str, Any] | None, now: dict[str, Any]) -> float | None:
    """How much the ratio grew since an earlier measurement; None where one is not known or the server restarted."""
    if last is None or last["server"] != now["server"]:
        return None
    before, after = last.get("fragmentation_ratio"), now["fragmentation_ratio"]
    return None if before is None or after is None else round(after - before, 4)


def gained(last: dict[str, Any] | None, now: dict[str, Any]) -> dict[str, Any]:
    """What the counters gained since an earlier measurement, and over how many seconds.

    Counters that began anew in between (another start of the server, or any of them has become less) are counted from
    zero: since the server's start, or since a reset at an unknown time, whose seconds are absent.
    """
    continued = last is not None and last["server"] == now["server"] and all(
        now[counter] >= last.get(counter, 0) for counter in COUNTERS
    )  # fmt: skip
    restarted = last is None or last["server"] != now["server"]
    base = last if last is not None and continued else dict.fromkeys(COUNTERS, 0)
    seconds: float | None = float(now["uptime_seconds"]) if restarted else None
    since = "the server's start" if restarted else "the reset of its counters"
    if last is not None and continued:
        since = "the last recorded act"
        begun = last.get("measured_at")  # acts of an earlier release do not tell it
        seconds = _seconds_between(begun, now["measured_at"]) if begun else None
    return {counter: now[counter] - base.get(counter, 0) for counter in COUNTERS} | {"since": since, "seconds": seconds}


def _seconds_between(begun: str, ended: str) -> float:
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds()


def leave_order_alone(server: Any, version: str) -> bool:
    """Keep what this client asks from counting as use of a key, where the server can (CLIENT NO-TOUCH, from 7.2)."""
    import redis as library

    if tuple(int(part) for part in version.split(".")[:2]) < _NO_TOUCH_FROM:
        return False
    try:
        server.execute_command("CLIENT", "NO-TOUCH", "ON")
    except library.exceptions.ResponseError:  # not permitted, or a relative of Redis without it
        return False
    return True


def refused_commands(server: Any, *, cluster_replica: bool = False) -> list[str]:
    """Return which of the commands of the pass over the keys this login may not use, as ACL names.

    The replica of a cluster sends whoever asks for a key to its primary, unless told by this connection that what it
    has itself will do.
    """
    import redis as library

    refused = []
    for name, command in (({"readonly": ("READONLY",)} if cluster_replica else {}) | _TRIED).items():
        try:
            # Undecoded: a name that is no text would otherwise be an error here.
            server.execute_command(*command, NEVER_DECODE=True)
        except library.exceptions.AskError:  # or MovedError: it may be used, and that key would be on another node
            continue
        except library.exceptions.ResponseError as error:
            text = str(error)
            # A login that is bound to some keys may well use the command; the pass itself sees which keys it may read.
            if "permissions to run" in text or "unknown command" in text.lower():
                refused.append(name)
            elif "permissions to access" not in text.lower():
                raise _sentence(error, name) from None
        except library.exceptions.RedisError as error:
            raise _sentence(error, name) from None
    return refused


def asked(server: Any, *command: str | bytes | float, **options: Any) -> Any:
    """Ask Redis; name what went wrong in one sentence (SourceUnavailable or ConfigurationError)."""
    return _with_errors(str(command[0]), lambda: server.execute_command(*command, **options))


def _with_errors(what: str, ask: Any) -> Any:
    import redis as library

    try:
        return ask()
    except library.exceptions.RedisError as error:
        raise _sentence(error, what) from None


def _sentence(error: Exception, what: str) -> ConfigurationError | SourceUnavailable:
    import redis as library

    if isinstance(error, (library.exceptions.AuthenticationError, library.exceptions.NoPermissionError)):
        return ConfigurationError(
            f"{CONNECTION} refused the command {what}: correct its login and password, or allow that command to it"
        )
    if isinstance(error, (library.exceptions.ConnectionError, library.exceptions.TimeoutError)):
        return SourceUnavailable(f"{CONNECTION} cannot be reached or did not answer in time ({what})")
    if any(word in str(error) for word in ("NOAUTH", "WRONGPASS", "NOPERM")):
        return ConfigurationError(f"{CONNECTION} refused the connection: correct its login and password")
    return SourceUnavailable(f"{CONNECTION} answered the command {what} with an error")
