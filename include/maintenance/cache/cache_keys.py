"""Looks at every key of the platform's Redis once, on the server, in slices too short to be felt.

Each slice is one call of cache_keys.lua: pages of SCAN with type, expiry and memory of their keys, added up there, so
that a million keys cost a thousand short answers. The clock of the server ends a slice; the number of pages is bounded
too, and follows the time that the last slices took there, however far away the server is. Redis removes an expired key
when SCAN meets it, so the pass is also the sweep. The database of the connection is visited first, then the others that
hold keys: theirs are told apart by the database's name, "db1 session".
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.maintenance.cache import cache_server
from include.maintenance_sections import Cache
from include.masking import mask_sample

if TYPE_CHECKING:
    import redis

EXPIRIES = ("none", "under 1 hour", "under 1 day", "under 7 days", "7 days and more")
OTHER, NO_PREFIX = "(other)", "(none)"
LARGE_KEYS_KEPT = 20

_SCRIPT = Path(__file__).with_name("cache_keys.lua").read_text()
_KEYS_PER_PAGE = 50  # the clock is looked at after each page
_MOST_PAGES = 5_000
_ROUND_TRIPS = 5
_PREFIXES_COUNTED = 10_000  # those with the most memory are reported
_LONGEST_NAME = 120
_TIME_IS_OVER = "the time of the pass was over"


@dataclass
class Keyspace:
    """What a pass saw. ``groups`` holds keys and bytes by expiry (its place in EXPIRIES), type and prefix.

    ``refused_keys`` may not be read by this login. Times are milliseconds: of the longest slice by the server's own
    clock (None where this login may not ask it) and as the caller waited for it. ``complete`` tells whether all keys
    were visited, ``not_visited`` why other databases were not, by number; ``databases`` has the number of those that a
    prefix as it is told belongs to.
    """

    memory_known: bool
    visited: int = 0
    refused_keys: int = 0
    calls: int = 0
    seconds: float = 0.0
    longest_server_milliseconds: float | None = None
    longest_call_milliseconds: float = 0.0
    complete: bool = False
    not_visited: dict[str, str] = field(default_factory=dict)
    databases: dict[str, int] = field(default_factory=dict)
    groups: dict[tuple[int, str, str], list[int]] = field(default_factory=dict)
    largest: dict[str, dict[str, Any]] = field(default_factory=dict)
    large: list[dict[str, Any]] = field(default_factory=list)
    large_by_type: Counter[str] = field(default_factory=Counter)

    def facts(self, most_prefixes: int) -> dict[str, Any]:
        """The pass as JSON-able facts; bytes are None where memory may not be measured."""
        without = sum(keys for (expiry, _, _), (keys, _) in self.groups.items() if expiry == 0)
        longest = self.longest_server_milliseconds
        return {
            "visited": self.visited,
            "with_expiry": self.visited - without,
            "without_expiry": without,
            "refused_keys": self.refused_keys,
            "by_prefix": self._by_prefix(most_prefixes),
            "by_type": self._sums((kind, group) for (_, kind, _), group in self.groups.items()),
            "by_expiry": self._sums((EXPIRIES[expiry], group) for (expiry, _, _), group in self.groups.items()),
            "largest_by_type": dict(sorted(self.largest.items())),
            "large_keys": self.large,
            "large_keys_by_type": dict(sorted(self.large_by_type.items())),
            "memory_known": self.memory_known,
            "complete": self.complete and not self.not_visited,
            "not_visited": self.not_visited,
            "calls": self.calls,
            "seconds": round(self.seconds, 3),
            "longest_server_milliseconds": None if longest is None else round(longest, 3),
            "longest_call_milliseconds": round(self.longest_call_milliseconds, 3),
        }

    def _sums(self, pairs: Iterable[tuple[str, list[int]]]) -> dict[str, dict[str, int | None]]:
        sums: dict[str, list[int]] = {}
        for name, (keys, size) in pairs:
            one = sums.setdefault(name, [0, 0])
            one[0] += keys
            one[1] += size
        return {name: {"keys": keys, "bytes": self._bytes(size)} for name, (keys, size) in sorted(sums.items())}

    def _by_prefix(self, most: int) -> dict[str, dict[str, int | None]]:
        """Keys and bytes by prefix: of those with the most memory each, of all others together."""
        weights: Counter[str] = Counter()
        for (_, _, prefix), (keys, size) in self.groups.items():
            weights[prefix] += size if self.memory_known else keys
        named = set(sorted(weights.keys() - {OTHER}, key=lambda prefix: (-weights[prefix], prefix))[:most])
        sums: dict[str, list[int]] = {}
        for (expiry, _, prefix), (keys, size) in self.groups.items():
            one = sums.setdefault(prefix if prefix in named else OTHER, [0, 0, 0, 0])
            one[1 if expiry == 0 else 0] += keys
            one[2] += size
            one[3] += size if expiry == 0 else 0
        return {
            prefix: {
                "with_expiry": with_expiry,
                "without_expiry": without,
                "bytes": self._bytes(size),
                "bytes_without_expiry": self._bytes(lasting),
                **({"database": self.databases[prefix]} if prefix in self.databases else {}),
            }
            for prefix, (with_expiry, without, size, lasting) in sorted(sums.items())
        }

    def _bytes(self, size: int) -> int | None:
        return size if self.memory_known else None


def look_at_all(server: redis.Redis, limits: Cache, *, memory: bool, others: Sequence[int] = ()) -> Keyspace:
    """Visit every key (SCAN may show one twice while the table grows) and add up what it is.

    ``others`` are databases to visit after that of the connection. Ends early, with ``complete`` False, after
    ``limits.longest_pass_seconds`` for all of them. Raises SourceUnavailable or ConfigurationError.
    """
    found = Keyspace(memory_known=memory)
    prefixes: dict[tuple[int | None, bytes], str] = {}
    begun = time.monotonic()
    ends_at = begun + limits.longest_pass_seconds
    found.complete = _look_at_one(server, limits, found, prefixes, None, ends_at)
    for database in others:
        if refused := _TIME_IS_OVER if time.monotonic() >= ends_at else cache_server.select(server, database):
            found.not_visited[str(database)] = refused
        elif not _look_at_one(server, limits, found, prefixes, database, ends_at):
            found.complete = False
    found.seconds = time.monotonic() - begun
    return found


def _look_at_one(
    server: redis.Redis,
    limits: Cache,
    found: Keyspace,
    prefixes: dict[tuple[int | None, bytes], str],
    database: int | None,
    ends_at: float,
) -> bool:
    """Visit the keys of the selected database until the time is over; return whether all were visited."""
    large = limits.large_keys
    sizes = (large.string_bytes, large.hash_fields, large.set_members, large.other_elements)
    aim, memory = limits.call_milliseconds, "yes" if found.memory_known else "no"
    cursor, pages, complete = b"0", 1, False
    round_trip: float | None = None
    while not complete and time.monotonic() < ends_at:
        arguments = (cursor, _KEYS_PER_PAGE, pages, aim / 1000, memory, *sizes)
        asked_at = time.monotonic()
        # Names of keys may be any bytes.
        answer = cache_server.asked(server, "EVAL", _SCRIPT, 0, *arguments, NEVER_DECODE=[])
        waited = (time.monotonic() - asked_at) * 1000
        cursor, seconds, seen, refused, groups, largest, over = answer
        found.calls += 1
        found.visited += seen
        found.refused_keys += refused
        found.longest_call_milliseconds = max(found.longest_call_milliseconds, waited)
        if not seconds:  # nobody but the caller knows how long it took
            round_trip = min(waited, _round_trip(server) if round_trip is None else round_trip)
            took = waited - round_trip
        else:
            took = float(seconds) * 1000
            found.longest_server_milliseconds = max(found.longest_server_milliseconds or 0.0, took)
        _add(found, prefixes, database, groups, largest, over)
        complete = cursor == b"0"
        if took < aim / 2:
            pages = min(pages * 2, _MOST_PAGES)
        elif took > aim * 1.5:
            pages = max(pages // 2, 1)
        if limits.pause_milliseconds and not complete:
            time.sleep(limits.pause_milliseconds / 1000)
    return complete


def _round_trip(server: redis.Redis) -> float:
    """The smallest time in milliseconds that the server takes to answer a script that does nothing."""
    waits = []
    for _ in range(_ROUND_TRIPS):
        asked_at = time.monotonic()
        cache_server.asked(server, "EVAL", "return 1", 0)
        waits.append((time.monotonic() - asked_at) * 1000)
    return min(waits)


def sweep_only(server: redis.Redis, limits: Cache, others: Sequence[int] = ()) -> dict[str, Any]:
    """Visit every key by SCAN alone, so that expired ones go, where the server may not look at keys for this login."""
    calls, visited, longest, begun = 0, 0, 0.0, time.monotonic()
    not_visited: dict[str, str] = {}
    complete, ends_at = True, begun + limits.longest_pass_seconds
    for database in (None, *others):
        over = time.monotonic() >= ends_at
        if database is not None and (refused := _TIME_IS_OVER if over else cache_server.select(server, database)):
            not_visited[str(database)] = refused
            continue
        cursor, begins = b"0", True
        while (begins or int(cursor) != 0) and time.monotonic() < ends_at:
            asked_at = time.monotonic()
            cursor, keys = cache_server.asked(server, "SCAN", cursor, "COUNT", 500, NEVER_DECODE=[])
            longest = max(longest, (time.monotonic() - asked_at) * 1000)
            calls, visited, begins = calls + 1, visited + len(keys), False
        complete = complete and not begins and int(cursor) == 0
    return {
        "visited": visited,
        "complete": complete and not not_visited,
        "not_visited": not_visited,
        "calls": calls,
        "seconds": round(time.monotonic() - begun, 3),
        "longest_call_milliseconds": round(longest, 3),
    }


def _add(
    found: Keyspace,
    prefixes: dict[tuple[int | None, bytes], str],
    database: int | None,
    groups: Any,
    largest: Any,
    over: Any,
) -> None:
    of_other = {} if database is None else {"database": database}
    for line in groups.splitlines():
        keys, size, name = line.split(b" ", 2)
        kind, colon, prefix = name[1:].partition(b":")
        known = _prefix(found, prefixes, database, prefix if colon else None)
        one = found.groups.setdefault((int(name[:1]), kind.decode(), known), [0, 0])
        one[0] += int(keys)
        one[1] += int(float(size))
    for kind, size, key in largest:
        if size > found.largest.get(kind.decode(), {"bytes": 0})["bytes"]:
            found.largest[kind.decode()] = {"key": readable(key), "bytes": size, **of_other}
    for kind, size, elements, key in over:
        found.large_by_type[kind.decode()] += 1
        one_key = {"key": readable(key), "type": kind.decode(), "bytes": size, "elements": elements}
        found.large.append(one_key | of_other)
    found.large.sort(key=lambda one: (-one["bytes"], one["key"]))
    del found.large[LARGE_KEYS_KEPT:]


def _prefix(
    found: Keyspace, known: dict[tuple[int | None, bytes], str], database: int | None, raw: bytes | None
) -> str:
    """The prefix as it is shown, or "(other)" once very many are known; None is that of names without a colon."""
    if raw is None:
        name = NO_PREFIX
    elif (database, raw) in known:
        return known[database, raw]
    elif len(known) >= _PREFIXES_COUNTED:
        return OTHER
    else:
        name = readable(raw) or "(empty)"
    if database is not None:
        name = f"db{database} {name}"
        found.databases[name] = database
    if raw is not None:
        known[database, raw] = name
    return name


def readable(name: bytes) -> str:
    """Return the name of a key as text for people: without control characters and anything that looks like a secret."""
    return mask_sample(name.decode(errors="backslashreplace"), _LONGEST_NAME)
