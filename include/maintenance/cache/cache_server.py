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
_COUNTER_NAMES = {
    "hits": "keyspace_hits", "misses": "keyspace_misses", "evicted_keys": "evicted_keys",
    "expired_keys": "expired_keys", "expired_time_cap_reached_count": "expired_time_cap_reached_count",
    "commands": "total_commands_processed", "connections": "total_connections_received",
}  # fmt: skip
COUNTERS = tuple(_COUNTER_NAMES)
"""What only grows until the server restarts or its statistics are reset."""

_FRAGMENTATION_SAYS_SOMETHING_FROM_BYTES = 100 * 1024 * 1024  # below, the ratio is mostly the allocator's fixed cost
_NO_TOUCH_FROM = (7, 2)
_START_IS_TOLD_WITHIN_SECONDS = 5  # uptime is in whole seconds, and clocks are set
_PASSING = ("LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "READONLY")
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

    What INFO of a relative of Redis, or of a service that runs one, does not tell is None. ``databases`` holds the
    number of keys of each database that has any, ``keys`` their sum, ``keys_with_expiry`` those that have one. In a
    cluster ``node`` is the node's name; ``shards`` is how many it has, 1 without one. None is not known.
    Raises SourceUnavailable, or ConfigurationError, also for a server that does not tell its memory.
    """
    info: Any = asked(server, "INFO")
    used = _number(info, "used_memory")
    if used is None:
        raise ConfigurationError(
            f"INFO of {CONNECTION} does not tell used_memory, so that nothing is known of it: let the connection lead "
            "to the server itself, and its login use all of INFO"
        )
    speaks = used >= _FRAGMENTATION_SAYS_SOMETHING_FROM_BYTES
    databases = {name[2:]: dict(of) for name, of in info.items() if re.fullmatch(r"db\d+", name)}
    expiring = [_number(of, "expires") for of in databases.values()]
    keys = {name: int(of["keys"]) for name, of in databases.items()}
    return {
        "server": info.get("run_id"),
        "version": str(info.get("redis_version", "")),
        "role": info.get("role"),
        "uptime_seconds": _number(info, "uptime_in_seconds"),
        "measured_at": datetime.now(UTC).isoformat(),
        **{counter: _number(info, name) for counter, name in _COUNTER_NAMES.items()},
        "expired_stale_percent": _number(info, "expired_stale_perc", float),
        "used_memory_bytes": used,
        "maxmemory_bytes": _number(info, "maxmemory"),
        "maxmemory_policy": info.get("maxmemory_policy"),
        "fragmentation_ratio": _number(info, "mem_fragmentation_ratio", float) if speaks else None,
        "fragmentation_note": "" if speaks else "the ratio says nothing below 100 MB of used memory",
        "keys": sum(keys.values()),
        "keys_with_expiry": None if None in expiring else sum(each or 0 for each in expiring),
        "databases": keys,
        "cluster": (cluster := bool(_number(info, "cluster_enabled"))),
        "node": _of_cluster(server, "MYID", r"(\w+)") if cluster else None,
        "shards": _shards(server) if cluster else 1,
    }


def _number(told: Any, name: str, kind: type[int] | type[float] = int) -> Any:
    """A number that INFO tells; None where it does not, or says something else."""
    try:
        return kind(told[name])
    except (KeyError, ValueError, TypeError):
        return None


def _shards(server: Any) -> int | None:
    told = _of_cluster(server, "INFO", r"cluster_size:(\d+)")
    return int(told) if told else None


def _of_cluster(server: Any, what: str, pattern: str) -> str | None:
    """What a node says of its cluster; None where it does not."""
    import redis as library

    try:
        told = re.search(f"^{pattern}", str(server.execute_command("CLUSTER", what)), re.MULTILINE)
    except library.exceptions.ResponseError:  # not permitted
        return None
    except library.exceptions.RedisError as error:
        raise _sentence(error, f"CLUSTER {what}") from None
    return told[1] if told else None


def is_same(last: dict[str, Any] | None, now: dict[str, Any]) -> bool:
    """Whether two measurements are surely of one run of one server: by its name, else by when it was started."""
    if last is None:
        return False
    if now["server"] is not None or last["server"] is not None:
        return bool(last["server"] == now["server"])
    if last.get("uptime_seconds") is None or now["uptime_seconds"] is None:
        return False
    between = _seconds_between(last["measured_at"], now["measured_at"])
    apart: float = now["uptime_seconds"] - last["uptime_seconds"] - between
    return abs(apart) <= _START_IS_TOLD_WITHIN_SECONDS


def is_same_node(last: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether two measurements are surely of the same keys: a cluster's address may lead to any of its nodes."""
    if not now["cluster"] or is_same(last, now):
        return True
    return now["node"] is not None and last.get("node") == now["node"]


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
    if last is None or not is_same(last, now):
        return None
    before, after = last.get("fragmentation_ratio"), now["fragmentation_ratio"]
    return None if before is None or after is None else round(after - before, 4)


def gained(last: dict[str, Any] | None, now: dict[str, Any]) -> dict[str, Any]:
    """What the counters gained since an earlier measurement, and over how many seconds; None is not told.

    Counters that began anew in between (another start of the server, or any of them has become less) are counted from
    zero: since the server's start, or since a reset at an unknown time, whose seconds are absent.
    """
    restarted = not is_same(last, now)
    continued = last is not None and not restarted and all(
        now[counter] is not None and now[counter] >= before
        for counter in COUNTERS if (before := last.get(counter)) is not None
    )  # fmt: skip
    base = last if last is not None and continued else {}
    seconds: float | None = now["uptime_seconds"] if restarted else None
    since = "the server's start" if restarted else "the reset of its counters"
    if last is not None and continued:
        since = "the last recorded act"
        begun = last.get("measured_at")  # acts of an earlier release do not tell it
        seconds = _seconds_between(begun, now["measured_at"]) if begun else None
    more = {counter: None if now[counter] is None else now[counter] - (base.get(counter) or 0) for counter in COUNTERS}
    return more | {"since": since, "seconds": None if seconds is None else float(seconds)}


def _seconds_between(begun: str, ended: str) -> float:
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds()


def leave_order_alone(server: Any, version: str) -> bool:
    """Keep what this client asks from counting as use of a key, where the server can (CLIENT NO-TOUCH, from 7.2)."""
    import redis as library

    number = re.match(r"(\d+)\.(\d+)", version)
    if number is None or (int(number[1]), int(number[2])) < _NO_TOUCH_FROM:
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
            if _is_passing(error):
                raise _sentence(error, name) from None
            # A login that is bound to some keys may well use the command; the pass itself sees which keys it may read.
            # All else that is said to these harmless commands refuses them: services and relatives word it freely.
            if "permissions to access" not in str(error).lower():
                refused.append(name)
        except library.exceptions.RedisError as error:
            raise _sentence(error, name) from None
    return refused


def _is_passing(error: Exception) -> bool:
    """Whether an answer is about the server's state and not about the command: later it may be another one."""
    import redis as library

    of_state = (
        library.exceptions.ClusterDownError, library.exceptions.TryAgainError, library.exceptions.ReadOnlyError,
        library.exceptions.BusyLoadingError,
    )  # fmt: skip
    return isinstance(error, of_state) or str(error).split(" ")[0] in _PASSING


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
