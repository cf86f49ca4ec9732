"""Measures the platform's Redis: hit rate, evictions, memory, keys without expiry. Guide, "Cache Management".

Expired keys cannot be listed. Redis removes one when it is touched, so a SCAN over all keys sweeps the expired ones;
its effect is measured as the difference of Redis's own counters.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from include import connections
from include.outcome import ConfigurationError, SourceUnavailable
from include.warehouse import actions

if TYPE_CHECKING:
    import redis

CONNECTION = "platform_redis"
_KIND = "cache_statistics"
_KEYS_PER_CALL = 500  # a hint to SCAN; keeps each call well under a millisecond of the server's time
_LARGEST_NUMBER_OF_PREFIXES = 100
_OTHER = "(other)"
_LONGEST_SCAN_SECONDS = 120.0
_FRAGMENTATION_SAYS_SOMETHING_FROM_BYTES = 100 * 1024 * 1024  # below, the ratio is mostly the allocator's fixed cost


def statistics(run_id: str, dry_run: bool = False) -> dict[str, Any]:
    """Measure the cache, sweep its expired keys, and record both as one act.

    Hits, misses, evictions and expirations are counted since the last recorded act, or since the server started when
    it has restarted (or its counters were reset) since; a hit rate without requests is absent (None). Keys are
    counted per prefix, which ends at the first colon. A dry run stops after the first measurement. Returns the act's
    summary with ``hit_rate`` (0 to 1) and ``keys``. Raises SourceUnavailable or ConfigurationError.
    """
    action = actions.plan(_KIND, CONNECTION, run_id, dry_run=dry_run, plan={"keys_per_call": _KEYS_PER_CALL})
    if action.done:
        return _summary(action)
    with actions.failures_recorded(action):
        last = actions.last_proven(_KIND, CONNECTION)
        client = _client()
        before = _measure(client)
        if dry_run:
            return action.summary() | {"keys": before["keys"]}
        action = actions.applying(action)
        keys = _scan(client)
        after = _measure(client)
    proof = {
        "before": before,
        "after": after,
        # Up to the scan and not further: Redis counts the scan's own look at each key as a hit.
        "since_last": _since(last.proof["after"] if last and last.proof else None, before),
        # The server's own expiry goes on during the scan, so this is what both removed together.
        "sweep": {"expired_keys": after["expired_keys"] - before["expired_keys"]} | _released(before, after),
        "keys": keys,
    }
    reason = "" if keys["complete"] else f"not all keys were counted within {_LONGEST_SCAN_SECONDS:.0f} s"
    return _summary(actions.prove(action, proof, {"keys_visited": keys["visited"], "calls": keys["calls"]}, reason))


def _client() -> redis.Redis:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    client = connections.redis(CONNECTION)
    client.set_retry(Retry(NoBackoff(), 1))  # the task itself is tried again
    return client


def _measure(client: redis.Redis) -> dict[str, Any]:
    """Counters (since the server's start or reset) and gauges of INFO; bytes, shares as percent where Redis says so."""
    info: Any = _asked(client, "info")
    used = int(info["used_memory"])
    speaks = used >= _FRAGMENTATION_SAYS_SOMETHING_FROM_BYTES
    return {
        "server": info["run_id"],
        "hits": int(info["keyspace_hits"]),
        "misses": int(info["keyspace_misses"]),
        "evicted_keys": int(info["evicted_keys"]),
        "expired_keys": int(info["expired_keys"]),
        "expired_stale_percent": float(info["expired_stale_perc"]),
        "used_memory_bytes": used,
        "maxmemory_bytes": int(info["maxmemory"]),
        "maxmemory_policy": info["maxmemory_policy"],
        "fragmentation_ratio": float(info["mem_fragmentation_ratio"]) if speaks else None,
        "fragmentation_note": "" if speaks else "the ratio says nothing below 100 MB of used memory",
        "keys": int(_asked(client, "dbsize")),
    }


def _since(last: dict[str, Any] | None, now: dict[str, Any]) -> dict[str, Any]:
    """What the counters gained since the last act; from zero when they began anew."""
    counters = ("hits", "misses", "evicted_keys", "expired_keys")
    continued = last is not None and last["server"] == now["server"] and all(now[c] >= last[c] for c in counters)
    gained = {counter: now[counter] - (last[counter] if last and continued else 0) for counter in counters}
    requests = gained["hits"] + gained["misses"]
    since = "the last recorded act" if continued else "the server's start or the reset of its counters"
    return gained | {"hit_rate": round(gained["hits"] / requests, 6) if requests else None, "since": since}


def _released(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    return {
        "keys_released": before["keys"] - after["keys"],
        "bytes_released": before["used_memory_bytes"] - after["used_memory_bytes"],
    }


def _scan(client: redis.Redis) -> dict[str, Any]:
    """Visit every key once (SCAN may show one twice while the table grows) and count them by prefix and expiry."""
    with_expiry: Counter[str] = Counter()
    without_expiry: Counter[str] = Counter()
    cursor, calls, visited, begun = 0, 0, 0, time.monotonic()
    complete, known = False, set[str]()
    while not complete and time.monotonic() - begun < _LONGEST_SCAN_SECONDS:
        cursor, found = _asked(client, "scan", cursor=cursor, count=_KEYS_PER_CALL)
        calls += 1
        for key, seconds in zip(found, _times_to_live(client, found), strict=True):
            if seconds == -2:  # expired between the two questions
                continue
            visited += 1
            kind = without_expiry if seconds == -1 else with_expiry
            kind[_prefix(key, known)] += 1
        complete = cursor == 0
    prefixes = {
        prefix: {"with_expiry": with_expiry[prefix], "without_expiry": without_expiry[prefix]}
        for prefix in sorted(with_expiry.keys() | without_expiry.keys())
    }
    return {
        "visited": visited,
        "with_expiry": with_expiry.total(),
        "without_expiry": without_expiry.total(),
        "by_prefix": prefixes,
        "calls": calls,
        "complete": complete,
    }


def _times_to_live(client: redis.Redis, keys: list[str]) -> list[int]:
    """Seconds to live of each key; -1 without expiry, -2 when it is gone. TTL leaves the eviction order alone."""
    if not keys:
        return []
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.ttl(key)
    return list(_asked(pipeline, "execute"))


def _prefix(key: str, known: set[str]) -> str:
    """The key's prefix, or "(other)" once the largest number of prefixes is known."""
    prefix = key.partition(":")[0] if ":" in key else "(none)"
    if prefix not in known and len(known) >= _LARGEST_NUMBER_OF_PREFIXES:
        return _OTHER
    known.add(prefix)
    return prefix


def _asked(client: Any, command: str, **arguments: Any) -> Any:
    """Ask Redis; name what went wrong in one sentence."""
    import redis as library

    try:
        return getattr(client, command)(**arguments)
    except (library.exceptions.AuthenticationError, library.exceptions.NoPermissionError):
        raise ConfigurationError(
            f"{CONNECTION} refused the command {command}: correct its login and password, or allow that command to it"
        ) from None
    except (library.exceptions.ConnectionError, library.exceptions.TimeoutError):
        raise SourceUnavailable(f"{CONNECTION} cannot be reached or did not answer in time ({command})") from None
    except library.exceptions.ResponseError as error:
        if "NOAUTH" in str(error) or "WRONGPASS" in str(error) or "NOPERM" in str(error):
            raise ConfigurationError(f"{CONNECTION} refused the connection: correct its login and password") from None
        raise SourceUnavailable(f"{CONNECTION} answered the command {command} with an error") from None


def _summary(action: actions.Action) -> dict[str, Any]:
    proof = action.proof or {}
    return action.summary() | {"hit_rate": proof["since_last"]["hit_rate"], "keys": proof["after"]["keys"]}
