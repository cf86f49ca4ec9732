"""What the cache's figures mean: findings on hit rate, evictions, memory, expiry, keys without it, large keys, latency.

Where the thresholds of the configuration come from stands beside them. What was not measured is unknown, never ok.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

from include.maintenance.cache.cache_keys import LARGE_KEYS_KEPT, NO_PREFIX, OTHER
from include.maintenance.cache.cache_server import CONNECTION, is_same_node
from include.maintenance_sections import Cache
from include.outcome import Outcome
from include.warehouse.findings import Finding

CHECKS = (
    "cache_hit_rate", "cache_evictions", "cache_fragmentation", "cache_expiry", "cache_keys_without_expiry",
    "cache_large_keys", "cache_latency",
)  # fmt: skip

_SAMPLES = 1000  # elements of a key that are measured; all of a large one would keep everybody waiting
_MOST_NAMED = 3  # databases that were not visited
_LONGEST_SLICE_MILLISECONDS = 10.0  # what the collection promises of any call to the platform's Redis
_HARDLY_ANY = 0.01  # of the keys: what these give back is soon used up
_SWAPPED_BELOW = 0.9  # of its data in memory: less than this is no rounding of the machine's figures
_ANY_KEY_MAY_GO = (
    "\n# or give more keys an expiry; only where all of them are copies, any may go instead:"
    "\n# redis-cli CONFIG SET maxmemory-policy allkeys-lru"
)
_UNITS = {"string": "bytes", "hash": "fields", "set": "members", "zset": "members", "list": "elements"}


def all_findings(proof: dict[str, Any], before: dict[str, Any] | None, limits: Cache) -> dict[str, list[Finding]]:
    """Return the findings of each of CHECKS from an act's proof and the proof of the act before it, if any."""
    since, server, keys = proof["since_last"], proof["after"], proof["keys"]
    found = {
        "cache_hit_rate": [_hit_rate(since, limits)],
        "cache_evictions": [_evictions(since, server, limits)],
        "cache_fragmentation": [_fragmentation(since, server, limits)],
        "cache_expiry": [_expiry(proof, limits)],
        "cache_keys_without_expiry": _without_expiry(keys, before, server, limits),
        "cache_large_keys": _large(keys),
        "cache_latency": [_latency(keys)],
    }
    return {check: [*of_node, *_other_shards(server)] for check, of_node in found.items()}


def not_visited(keys: dict[str, Any]) -> str:
    """Which other databases were not visited, and why; empty when all were."""
    told = [f"database {name} was not visited: {why}" for name, why in (keys.get("not_visited") or {}).items()]
    return "; ".join([*told[:_MOST_NAMED], f"and {len(told) - _MOST_NAMED} more"] if len(told) > _MOST_NAMED else told)


def not_told(*names: str) -> str:
    """What is not known where the INFO of a relative of Redis, or of a service, lacks fields."""
    return f"INFO of this server does not tell {', '.join(names)}"


def _other_shards(server: dict[str, Any]) -> list[Finding]:
    """What one node of a cluster says holds for its own keys only."""
    if (shards := server["shards"]) == 1:
        return []
    many = f"{shards} shards" if shards else "shards whose number is not known"
    text = f"{CONNECTION} is one node of a cluster of {many}: the others are neither swept nor looked at"
    return [Finding("other shards", Outcome.UNKNOWN, text, {"shards": shards})]


def _one(outcome: Outcome, summary: str, evidence: dict[str, Any], remedy: str = "") -> Finding:
    return Finding(CONNECTION, outcome, summary, evidence, remedy)


def _hit_rate(since: dict[str, Any], limits: Cache) -> Finding:
    rate = since["hit_rate"]
    evidence = {name: since[name] for name in ("hits", "misses", "hit_rate", "since", "seconds")}
    if since["hits"] is None or since["misses"] is None:
        return _one(Outcome.UNKNOWN, not_told("keyspace_hits", "keyspace_misses"), evidence)
    requests = since["hits"] + since["misses"]
    if rate is None and requests:
        return _one(Outcome.UNKNOWN, f"the hit rate is not known: {since['hit_rate_note']}", evidence)
    if requests < limits.hit_rate_minimum_requests:
        return _one(
            Outcome.NOT_APPLICABLE, f"{requests} requests since {since['since']}: too few for a hit rate", evidence
        )
    outcome = Outcome.OK if rate >= limits.hit_rate else Outcome.WARNING
    text = f"{rate:.1%} of {requests} requests since {since['since']} were hits"
    if outcome is Outcome.WARNING:
        text += f", below {limits.hit_rate:.0%}: keys expire or are evicted too early, or what is asked for is not kept"
    return _one(outcome, text, evidence)


def _evictions(since: dict[str, Any], server: dict[str, Any], limits: Cache) -> Finding:
    most, used, policy = server["maxmemory_bytes"], server["used_memory_bytes"], server["maxmemory_policy"]
    hours = since["seconds"] / 3600 if since["seconds"] else None
    evicted = since["evicted_keys"]
    evidence = {
        "evicted_keys": evicted,
        "since": since["since"],
        "hours": round(hours, 2) if hours else None,
        "used_memory_bytes": used,
        "maxmemory_bytes": most,
        "maxmemory_policy": policy,
        "keys": server["keys"],
        "keys_with_expiry": server["keys_with_expiry"],
    }
    absent = [name for name, told in (("evicted_keys", evicted), ("maxmemory", most), ("maxmemory_policy", policy))
              if told is None]  # fmt: skip
    remedy = _more_memory(round(max(most, used) * 1.25)) if most else ""
    full = f"{used / most:.0%} of maxmemory is used" if most and used > most * limits.memory_share else ""
    if full and (why := _refuses_when_full(server)):
        if policy != "noeviction":
            remedy += _ANY_KEY_MAY_GO
        return _one(Outcome.CRITICAL, f"{full}: when it is full writes fail{why}", evidence, remedy)
    if evicted and hours is None:
        return _one(Outcome.WARNING, f"{evicted} keys were evicted since {since['since']}", evidence, remedy)
    if evicted and evicted / (hours or 1) > limits.evictions_per_hour:
        text = f"{evicted} keys were evicted in {hours:.1f} hours to make room (policy {policy})"
        return _one(Outcome.WARNING, text, evidence, remedy)
    if full:
        return _one(Outcome.WARNING, full, evidence, remedy)
    if absent:
        return _one(Outcome.UNKNOWN, not_told(*absent), evidence)
    return _one(Outcome.OK, f"{evicted} keys were evicted since {since['since']}", evidence)


def _refuses_when_full(server: dict[str, Any]) -> str:
    """Why a full cache has nothing to evict and refuses writes, with a comma before it; empty when it has."""
    policy, keys, expiring = server["maxmemory_policy"] or "", server["keys"], server["keys_with_expiry"]
    if policy == "noeviction":
        return ", as nothing is evicted (policy noeviction)"
    if not policy.startswith("volatile-") or expiring is None or expiring > keys * _HARDLY_ANY:
        return ""
    return (
        f", as policy {policy} evicts only keys with an expiry, and {expiring} of {keys} have one "
        "(expires of redis-cli INFO keyspace)"
    )


def _more_memory(size: int) -> str:
    """How to give Redis more memory, as a comment: more than the machine has gets it killed, less than now evicts."""
    return (
        "# first see that the machine has that much to spare (total_system_memory of redis-cli INFO memory), or its "
        "kernel ends Redis,\n"
        "# and that maxmemory is still lower than this (redis-cli CONFIG GET maxmemory), or keys are evicted:\n"
        f"# redis-cli CONFIG SET maxmemory {size}"
    )


def _fragmentation(since: dict[str, Any], server: dict[str, Any], limits: Cache) -> Finding:
    ratio, change = server["fragmentation_ratio"], since["fragmentation_ratio_change"]
    evidence = {
        "fragmentation_ratio": ratio,
        "fragmentation_ratio_change": change,
        "used_memory_bytes": server["used_memory_bytes"],
    }
    if ratio is None and server["fragmentation_note"]:
        return _one(Outcome.NOT_APPLICABLE, server["fragmentation_note"], evidence)
    if ratio is None:
        return _one(Outcome.UNKNOWN, not_told("mem_fragmentation_ratio"), evidence)
    text = f"the process takes {ratio:.2f} times the memory of its data"
    if change is not None:
        text += f" ({change:+.2f} since the last recorded act)"
    if ratio < _SWAPPED_BELOW:
        text += ": the machine has swapped out a part of it, and whoever asks for that waits for the disk"
        return _one(Outcome.WARNING, text, evidence, _less_swap(server["used_memory_bytes"]))
    if ratio <= limits.fragmentation_ratio:
        return _one(Outcome.OK, text, evidence)
    wasted = round(server["used_memory_bytes"] * (ratio - 1))
    text += f": {wasted} bytes are lost to fragmentation"
    return Finding(
        CONNECTION, Outcome.WARNING, text, evidence, "redis-cli CONFIG SET activedefrag yes", {"bytes": wasted}
    )


def _less_swap(used: int) -> str:
    """How Redis is kept in memory, as a comment: a limit below what it holds evicts keys."""
    return (
        "# see what of Redis is swapped out, and what else takes the machine's memory:\n"
        "# grep VmSwap /proc/$(pidof redis-server)/status; free -m\n"
        "# then give the machine more memory, or Redis less; this evicts keys, or refuses writes, by its policy:\n"
        f"# redis-cli CONFIG SET maxmemory {round(used * _SWAPPED_BELOW)}"
    )


def _expiry(proof: dict[str, Any], limits: Cache) -> Finding:
    before, after, sweep = proof["before"], proof["after"], proof["sweep"]
    # Redis's estimate is smoothed over its last looks, so that after the sweep it still tells of what was before.
    stale = before["expired_stale_percent"]
    went = sweep["expired_keys"]
    evidence = {
        "expired_stale_percent_before": stale,
        "expired_stale_percent_after": after["expired_stale_percent"],
        "expired_time_cap_reached_count": proof["since_last"]["expired_time_cap_reached_count"],
        "swept_keys": sweep["expired_keys"],
        "complete": proof["keys"]["complete"],
    }
    if not sweep["possible"]:
        return _one(Outcome.NOT_APPLICABLE if after["role"] else Outcome.UNKNOWN, sweep["note"], evidence)
    if stale is None:
        return _one(Outcome.UNKNOWN, not_told("expired_stale_perc"), evidence)
    if went is None:
        why = not_told("expired_keys" if after["expired_keys"] is None else "run_id")
        return _one(Outcome.UNKNOWN, why, evidence)
    if stale > limits.expired_stale_percent:
        text = (
            f"before the sweep {stale:.0f} % of the keys with an expiry were expired and still held; the sweep removed "
            f"{went}: Redis's own expiry falls behind"
        )
        return _one(Outcome.WARNING, text, evidence, "redis-cli CONFIG SET active-expire-effort 5")
    if not proof["keys"]["complete"]:
        return _one(Outcome.UNKNOWN, _not_swept(proof["keys"]), evidence)
    return _one(Outcome.OK, f"{went} expired keys went during the sweep", evidence)


def _not_swept(keys: dict[str, Any]) -> str:
    """Why SCAN did not meet all keys."""
    if elsewhere := not_visited(keys):
        return elsewhere
    if keys.get("scan_refused"):
        return f"expired keys were not swept: {keys['note']}"
    why = f" by SCAN alone ({keys['note']})" if "note" in keys else ""
    return f"the sweep of expired keys{why} ran out of time before the last key"


def _without_expiry(
    keys: dict[str, Any], last: dict[str, Any] | None, server: dict[str, Any], limits: Cache
) -> list[Finding]:
    """Name the prefixes whose keys without expiry grow: they fill the cache, and no expiry ever takes them."""
    if unknown := _not_seen(keys):
        return [_one(Outcome.UNKNOWN, f"keys without expiry are not known: {unknown}", {})]
    evidence = {
        "keys_without_expiry": keys["without_expiry"],
        "keys": keys["visited"],
        "maxmemory_policy": server["maxmemory_policy"],
    }
    total = f"{keys['without_expiry']} of {keys['visited']} keys have no expiry"
    before = last["keys"] if last else {}
    if last and not is_same_node(last["after"], server):
        text = f"{total}; how they grow is not known, as they may be those of another node than last time"
        return [_one(Outcome.NOT_APPLICABLE, text, evidence)]
    comparable = before.get("database", keys["database"]) == keys["database"]
    if not comparable or not before.get("complete") or "by_prefix" not in before:
        return [_one(Outcome.NOT_APPLICABLE, f"{total}; how they grow is known next time", evidence)]
    found = []
    for prefix, now in keys["by_prefix"].items():
        if prefix == OTHER or (prefix not in before["by_prefix"] and OTHER in before["by_prefix"]):
            continue  # other prefixes than then may stand behind it
        if "database" in now and "not_visited" not in before:
            continue  # an earlier release did not visit other databases
        earlier = before["by_prefix"].get(prefix, {}).get("without_expiry", 0)
        growth = now["without_expiry"] - earlier
        if growth >= limits.no_expiry_growth_keys and growth >= earlier * limits.no_expiry_growth_share:
            found.append(_growing(prefix, now, earlier, keys["database"]))
    return [*found, _one(Outcome.OK, total, evidence)]


def _growing(prefix: str, now: dict[str, Any], earlier: int, own: int) -> Finding:
    keys, size = now["without_expiry"], now["bytes_without_expiry"]
    growth = keys - earlier
    evidence = {"keys_without_expiry": keys, "keys_without_expiry_before": earlier, "bytes_without_expiry": size}
    return Finding(
        f"prefix {prefix}",
        Outcome.WARNING,
        f"{growth} keys without expiry were added under {prefix} (now {keys}); let what writes them set an expiry",
        evidence,
        _set_expiry(prefix.removeprefix(f"db{now['database']} ") if "database" in now else prefix, _program(now, own)),
        None if size is None else {"bytes": round(size * growth / keys)},
    )


def _program(told: dict[str, Any], own: int) -> str:
    """How redis-cli is called for the database that something told belongs to; ``own`` is the connection's."""
    database = told.get("database", own)
    return f"redis-cli -n {database}" if database else "redis-cli"


def _set_expiry(prefix: str, program: str) -> str:
    """How the prefix's keys are made to expire: a comment, as it deletes them. Empty where its name is not shown."""
    if prefix == NO_PREFIX:
        keys = f"{program} --scan | LC_ALL=C grep -v :"
    elif re.fullmatch(r"[\w.@/+=-]{1,119}", prefix):  # no pattern, and neither masked nor escaped nor cut off
        keys = f"{program} --scan --pattern {shlex.quote(f'{prefix}:*')}"
    else:
        return ""
    set_it = f'if [ "$({program} TTL "$key")" = -1 ]; then {program} EXPIRE "$key" 604800; fi'
    return (
        "# first find out what these keys hold: a ledger, a queue or flags must stay, and an expiry deletes them\n"
        "# let what writes them set it; only where all of them are copies, this deletes those of now in a week:\n"
        f"# {keys} | while read -r key; do {set_it}; done"
    )


def _large(keys: dict[str, Any]) -> list[Finding]:
    unknown = _not_seen(keys)
    if not unknown and not keys["memory_known"]:
        unknown = "this login may not use MEMORY USAGE; allow it by ACL SETUSER with +memory|usage"
    if unknown and not keys.get("large_keys"):
        return [_one(Outcome.UNKNOWN, f"large keys are not known: {unknown}", {})]
    found: dict[str, Finding] = {}
    for one in keys["large_keys"]:
        unit = _UNITS.get(one["type"], "elements")
        name = found_as = f"db{one['database']} {one['key']}" if "database" in one else one["key"]
        while found_as in found:  # names that are alike once secrets are masked
            found_as += "'"
        found[found_as] = Finding(
            found_as,
            Outcome.WARNING,
            f"{name} is a {one['type']} with {one['elements']} {unit} in about {one['bytes']} bytes: split it",
            {name: one[name] for name in ("type", "bytes", "elements")},
            f"{_program(one, keys['database'])} MEMORY USAGE {shlex.quote(one['key'])} SAMPLES {_SAMPLES}",
        )
    number = sum(keys["large_keys_by_type"].values())
    evidence = {"large_keys_by_type": keys["large_keys_by_type"], "largest_by_type": keys["largest_by_type"]}
    if unknown:
        found[CONNECTION] = _one(Outcome.UNKNOWN, f"there may be more large keys: {unknown}", evidence)
    elif number > LARGE_KEYS_KEPT:
        text = f"{number} keys are large; the {LARGE_KEYS_KEPT} with the most memory are named"
        found[CONNECTION] = _one(Outcome.WARNING, text, evidence)
    elif not number:
        found[CONNECTION] = _one(Outcome.OK, "no key is large", evidence)
    return list(found.values())


def _latency(keys: dict[str, Any]) -> Finding:
    """Whether a slice of the pass kept the server, and with it all clients, for too long by the server's own clock."""
    longest, most = keys.get("longest_server_milliseconds"), _LONGEST_SLICE_MILLISECONDS
    evidence = {
        "longest_server_milliseconds": longest,
        "longest_call_milliseconds": keys.get("longest_call_milliseconds"),
        "limit_milliseconds": most,
        "calls": keys["calls"],
    }
    if longest is None:
        no_clock = "this login may not use TIME; allow it by ACL SETUSER with +time"
        why = keys.get("note") or (no_clock if keys["calls"] else _not_seen(keys))
        return _one(Outcome.UNKNOWN, f"how long the pass kept the server is not known: {why}", evidence)
    if longest <= most:
        text = f"no slice of the pass kept the server for more than {most:.0f} ms (the longest {longest:.1f} ms)"
        return _one(Outcome.OK, text, evidence)
    text = (
        f"one slice of the pass kept the server for {longest:.1f} ms, above {most:.0f} ms: maybe a very large key had "
        "expired, which is freed at once while lazyfree-lazy-expire is no"
    )
    return _one(Outcome.WARNING, text, evidence, "redis-cli CONFIG SET lazyfree-lazy-expire yes")


def _not_seen(keys: dict[str, Any]) -> str:
    """Why not all keys were looked at; empty when they were."""
    if "by_prefix" not in keys:
        return str(keys["note"])
    if elsewhere := not_visited(keys):
        return elsewhere
    if not keys["complete"]:
        return f"only {keys['visited']} keys were visited in the time of the pass"
    if keys["refused_keys"]:
        return f"{keys['refused_keys']} keys may not be read by this login; allow it the pattern ~* with ACL SETUSER"
    return ""
