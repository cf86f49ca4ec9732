"""Looks after the platform's Redis: sweeps expired keys, and tells what fills it. Guide, "Cache Management".

Expired keys cannot be listed. Redis removes one when SCAN meets it, so one pass over all keys sweeps the expired ones
and adds the others up; its effect is measured as the difference of Redis's own counters.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from include.maintenance.cache import cache_findings, cache_keys, cache_server
from include.maintenance.cache.cache_server import CONNECTION
from include.maintenance_sections import Cache
from include.outcome import ConfigurationError
from include.settings import settings
from include.warehouse import actions, findings

_KIND = "cache_statistics"


def statistics(run_id: str, dry_run: bool = False) -> dict[str, Any]:
    """Measure the cache, sweep its expired keys, look at all others, and record it as one act and its findings.

    Hits, misses, evictions and expirations are counted since the last recorded act, or since the server started when
    it has restarted (or its counters were reset) since; a hit rate without requests is absent (None). Memory is added
    up by prefix (which ends at the first colon), type and time to live. A dry run stops after the first measurement.
    Returns the act's summary with ``hit_rate`` (0 to 1), ``keys`` and ``findings`` (the outcome of each check).
    Raises SourceUnavailable or ConfigurationError; also when the login may not SCAN, after the findings that need no
    pass.
    """
    limits = settings().maintenance.cache
    action = actions.plan(_KIND, CONNECTION, run_id, dry_run=dry_run, plan={})
    if action.done:
        return _summary(action)
    with ExitStack() as stack:
        stack.enter_context(actions.failures_recorded(action))
        if not dry_run:
            for check in cache_findings.CHECKS:
                stack.enter_context(findings.unknown_recorded(run_id, check, CONNECTION))
        server = cache_server.client()
        stack.callback(server.close)
        measured = cache_server.measure(server)
        plan = {"before": measured, "call_milliseconds": limits.call_milliseconds}
        # An attempt that had begun its pass keeps its plan: the pass itself counts as hits.
        action = actions.plan(_KIND, CONNECTION, run_id, dry_run=dry_run, plan=plan)
        if dry_run:
            return action.summary() | {"keys": action.plan["before"]["keys"]}
        replica = measured["cluster"] and measured["role"] != "master"
        refused = cache_server.refused_commands(server, cluster_replica=replica)
        if "scan" not in refused:  # else no key is asked for, and the hits stay the platform's own
            action = actions.applying(action)
        proof = _look(server, action, measured, refused, limits)
    if "scan" in refused:
        reason = f"{CONNECTION} was neither swept nor looked at: {proof['keys']['note']}"
        actions.fail(action, reason, proof)
        raise ConfigurationError(reason)
    keys = proof["keys"]
    applied = {"keys_visited": keys["visited"], "calls": keys["calls"]}
    return _summary(actions.prove(action, proof, applied, _reason(keys, limits)))


def _look(
    server: Any, action: actions.Action, measured: dict[str, Any], refused: list[str], limits: Cache
) -> dict[str, Any]:
    """Make the pass and write what is found; returns the act's proof."""
    last = actions.last_proven(_KIND, CONNECTION)
    earlier = last.proof if last else None
    keys = _pass(server, measured, refused, limits)
    proof = _proof(action.plan["before"], cache_server.measure(server), keys, earlier, _disturbed(action, last))
    found = cache_findings.all_findings(proof, earlier, limits)
    proof["findings"] = {
        check: findings.replace(action.run_id, check, found[check])["outcome"] for check in cache_findings.CHECKS
    }
    return proof


def _reason(keys: dict[str, Any], limits: Cache) -> str:
    """What a reader should know of the pass: what the login may not do, and what was not visited."""
    told = [keys.get("note", ""), cache_findings.not_visited(keys)]
    if not keys["complete"] and not told[1]:
        told.append(f"not all keys were visited within {limits.longest_pass_seconds:.0f} s")
    return "; ".join(part for part in told if part)


def _pass(server: Any, measured: dict[str, Any], refused: list[str], limits: Cache) -> dict[str, Any]:
    """Visit every key of every database, as far as the login permits, and say what it does not."""
    own, held = cache_server.own_database(server), {int(name): keys for name, keys in measured["databases"].items()}
    others = sorted(held.keys() - {own}, key=lambda number: -held[number])  # where the most keys are first
    return _visited(server, measured["version"], refused, limits, others) | {"database": own}


def _visited(server: Any, version: str, refused: list[str], limits: Cache, others: list[int]) -> dict[str, Any]:
    if needed := [command for command in refused if command != "memory|usage"]:
        allowed = " ".join(f"+{command}" for command in refused)
        note = f"this login may not use {', '.join(needed)}; allow it by ACL SETUSER with {allowed}"
        return _swept_only(server, limits, refused, others) | {"note": note}
    untouched = cache_server.leave_order_alone(server, version)
    found = cache_keys.look_at_all(server, limits, memory=not refused, others=others)
    return found.facts(limits.most_prefixes) | {"eviction_order_untouched": untouched}


def _swept_only(server: Any, limits: Cache, refused: list[str], others: list[int]) -> dict[str, Any]:
    if "scan" in refused:
        return {"visited": 0, "complete": False, "calls": 0, "scan_refused": True}
    return cache_keys.sweep_only(server, limits, others)


def _proof(
    before: dict[str, Any], after: dict[str, Any], keys: dict[str, Any], earlier: dict[str, Any] | None, disturbed: bool
) -> dict[str, Any]:
    # Up to the pass and not further: Redis counts the pass's own look at each key as a hit.
    since = cache_server.gained(earlier["after"] if earlier else None, before)
    told = since["hits"] is not None and since["misses"] is not None
    requests = since["hits"] + since["misses"] if told else None
    rate = round(since["hits"] / requests, 6) if requests and not disturbed else None
    note = "an act that failed since has asked for every key as well" if disturbed and requests else ""
    # The server's own expiry goes on during the pass, so this is what both removed together.
    primary, same = after["role"] == "master", cache_server.is_same(before, after)
    unnamed = not same and after["server"] is None  # whether the counters are those of this pass is not known
    swept = dict.fromkeys(cache_server.COUNTERS) if unnamed else cache_server.gained(before, after)
    replica = "it is a replica: expired keys go when its primary removes them"
    return {
        "before": before,
        "after": after,
        "since_last": since
        | {
            "hit_rate": rate,
            "hit_rate_note": note,
            "fragmentation_ratio_change": cache_server.fragmentation_change(
                earlier["after"] if earlier else None, after
            ),
        },
        "sweep": {
            "possible": primary,
            "note": "" if primary else replica if after["role"] else cache_findings.not_told("role"),
            "expired_keys": swept["expired_keys"],
            "evicted_keys": swept["evicted_keys"],
            # A server that restarted in between (an earlier attempt began the pass) has other keys.
            "keys_released": before["keys"] - after["keys"] if same else None,
            "bytes_released": before["used_memory_bytes"] - after["used_memory_bytes"] if same else None,
        },
        "keys": keys,
    }


def _disturbed(action: actions.Action, last: actions.Action | None) -> bool:
    """Whether another act has begun its pass since the last proven one, without being proven itself."""
    oldest = last.maintenance_action_id if last else 0
    return any(
        other.maintenance_action_id > oldest and other.maintenance_action_id != action.maintenance_action_id
        for other in actions.begun(_KIND, CONNECTION)
    )


def _summary(action: actions.Action) -> dict[str, Any]:
    proof = action.proof or {}
    return action.summary() | {
        "hit_rate": proof["since_last"]["hit_rate"],
        "keys": proof["after"]["keys"],
        "findings": proof.get("findings", {}),
    }
