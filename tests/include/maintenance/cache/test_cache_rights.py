"""What the login may not do is named with its remedy; a replica expires nothing; a long slice is a finding."""

import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from demo.processes import Processes
from demo.servers import Redis
from include import connections
from include.maintenance.cache import cache, cache_findings, cache_server
from include.outcome import ConfigurationError
from include.settings import settings
from include.warehouse import actions
from tests.include.maintenance.cache.test_cache import _proof
from tests.include.maintenance.cache.test_cache_keys import as_it_is, fill, outcomes, own_server  # noqa: F401 - fixture
from tests.recorded_findings import latest_findings

_THREE = {"cache_keys_without_expiry", "cache_large_keys", "cache_latency"}


def _login(own: tuple[Redis, redis.Redis], environment: pytest.MonkeyPatch, rules: str) -> None:
    """Let the connection log in as a user with these rules only."""
    started, client = own
    as_it_is(client)("ACL", "SETUSER", "operations", "reset", "on", ">secret", *rules.split())
    environment.setenv("AIRFLOW_CONN_PLATFORM_REDIS", f"redis://operations:secret@127.0.0.1:{started.port}/0")


def _summary(check: str) -> str:
    [found] = latest_findings(check)
    return found.finding.summary


@pytest.mark.parametrize(
    ("rules", "unknown", "visited"),
    [
        ("~* +@all -eval -evalsha", _THREE, 600),
        ("~* +@all -memory", {"cache_large_keys"}, 600),
        ("~* +info +dbsize +eval +scan +pttl +type +ping +time", {"cache_large_keys"}, 600),
        ("~cart:* +@all", {"cache_keys_without_expiry", "cache_large_keys"}, 100),
        ("~* +@read +info +dbsize +eval +ping +time", set(), 600),
    ],
)
def test_what_the_login_may_not_do_is_unknown(
    own_server: tuple[Redis, redis.Redis],  # noqa: F811
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
    rules: str,
    unknown: set[str],
    visited: int,
) -> None:
    _, client = own_server
    fill(
        client, "for n = 1, 100 do redis.call('SET', 'cart:' .. n, n) end for n = 1, 500 do redis.call('SET', n, n) end"
    )
    _login(own_server, environment, rules)
    told = cache.statistics("r1")
    assert {check for check, outcome in told["findings"].items() if outcome == "unknown"} == unknown
    keys = _proof(warehouse, "r1")["keys"]
    assert keys["visited"] == visited
    if "memory" in rules:
        assert keys["by_prefix"]["cart"]["bytes"] is None
        assert keys["by_prefix"]["cart"]["without_expiry"] == 100
    if "~cart" in rules:
        assert keys["refused_keys"] == 500


def test_a_login_that_may_not_scan_is_a_failure_that_names_the_commands(
    own_server: tuple[Redis, redis.Redis],  # noqa: F811
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
) -> None:
    _, client = own_server
    client.set("a", "1", ex=600)
    cache.statistics("r0")
    for _ in range(2000):
        client.get("a")
    needed = "this login may not use eval, scan, pttl, type; allow it by ACL SETUSER with "
    needed += "+eval +scan +pttl +type +memory|usage"
    _login(own_server, environment, "~* +info +dbsize")
    with pytest.raises(ConfigurationError) as raised:
        cache.statistics("r1")
    assert str(raised.value) == f"platform_redis was neither swept nor looked at: {needed}"
    act = actions.find("cache_statistics", "platform_redis", "r1")
    assert act is not None
    assert (act.state, act.reason) == ("failed", str(raised.value))
    known = {"cache_hit_rate": "ok", "cache_evictions": "ok", "cache_fragmentation": "not_applicable"}
    for check in cache_findings.CHECKS:
        assert outcomes(check) == {"platform_redis": known.get(check, "unknown")}
        assert check in known or needed in _summary(check)
    assert _summary("cache_expiry") == f"expired keys were not swept: {needed}"

    _login(own_server, environment, "~* +@all")
    assert cache.statistics("r2")["hit_rate"] == 1, "the act that failed has asked for no key"


def test_a_login_that_may_only_scan_is_told_so_and_not_that_time_ran_out(
    own_server: tuple[Redis, redis.Redis],  # noqa: F811
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
) -> None:
    _, client = own_server
    fill(client, "for n = 1, 20000 do redis.call('SET', 'k:' .. n, n) end")
    _login(own_server, environment, "~* +@all -eval")
    note = "this login may not use eval; allow it by ACL SETUSER with +eval"
    told = cache.statistics("r1")
    assert (told["state"], told["reason"]) == ("proven", note)
    assert _summary("cache_expiry") == "0 expired keys went during the sweep"
    assert _summary("cache_latency") == f"how long the pass kept the server is not known: {note}"

    environment.setenv("OPERATIONS__MAINTENANCE__CACHE__LONGEST_PASS_SECONDS", "0.000001")
    settings.cache_clear()
    assert cache.statistics("r2")["reason"] == f"{note}; not all keys were visited within 0 s"
    assert f"by SCAN alone ({note}) ran out of time" in _summary("cache_expiry")
    settings.cache_clear()


def test_a_replica_expires_nothing(
    own_server: tuple[Redis, redis.Redis],  # noqa: F811
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    primary, client = own_server
    client.set("a", "1", ex=600)
    folder = tmp_path / "replica"
    folder.mkdir()
    processes = Processes(folder / "processes.json")
    try:
        replica = Redis(processes, folder / "redis").start()
        environment.setenv("AIRFLOW_CONN_PLATFORM_REDIS", f"redis://127.0.0.1:{replica.port}/0")
        follower = connections.redis()
        as_it_is(follower)("REPLICAOF", "127.0.0.1", primary.port)
        deadline = time.monotonic() + 20
        while not (follower.info()["master_link_status"] == "up" and follower.dbsize() == 1):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        told = cache.statistics("r1")
        assert told["findings"]["cache_expiry"] == "not_applicable"
        proof = _proof(warehouse, "r1")
        assert (proof["sweep"]["possible"], proof["keys"]["visited"]) == (False, 1)
    finally:
        processes.stop_all()


# ------------------------------------------------------------------------------------------------- latency
def test_trying_the_commands_frees_no_key(own_server: tuple[Redis, redis.Redis]) -> None:  # noqa: F811
    _, client = own_server
    as_it_is(client)("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    client.set("a", "1", px=1)
    time.sleep(0.05)
    assert cache_server.refused_commands(client) == []
    assert client.dbsize() == 1, "what frees keys is the pass, by whose clock it is judged"


def test_a_slice_that_frees_a_very_large_key_is_a_warning(
    own_server: tuple[Redis, redis.Redis],  # noqa: F811
    warehouse: psycopg.Connection,
) -> None:
    _, client = own_server
    as_it_is(client)("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    fill(client, "for n = 1, 400000 do redis.call('SADD', 'followers', 'user' .. n) end")
    client.pexpire("followers", 1)
    time.sleep(0.05)
    assert cache.statistics("r1")["findings"]["cache_latency"] == "warning"
    [found] = [one.finding for one in latest_findings("cache_latency")]
    longest = _proof(warehouse, "r1")["keys"]["longest_server_milliseconds"]
    assert found.evidence["longest_server_milliseconds"] == longest > 10
    assert found.summary.startswith(f"one slice of the pass kept the server for {longest:.1f} ms, above 10 ms: maybe")
    assert found.remedy == "redis-cli CONFIG SET lazyfree-lazy-expire yes"
    assert client.dbsize() == 0


def test_without_a_clock_the_latency_is_unknown(
    own_server: tuple[Redis, redis.Redis],  # noqa: F811
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
) -> None:
    own_server[1].set("a", "1")
    _login(own_server, environment, "~* +@all -time")
    assert cache.statistics("r1")["findings"]["cache_latency"] == "unknown"
    assert _summary("cache_latency").endswith("this login may not use TIME; allow it by ACL SETUSER with +time")
    assert _proof(warehouse, "r1")["keys"]["longest_server_milliseconds"] is None


def test_latency_up_to_the_limit_is_ok() -> None:
    keys: dict[str, Any] = {"longest_server_milliseconds": 10.0, "longest_call_milliseconds": 50.0, "calls": 3}
    assert cache_findings._latency(keys).outcome.value == "ok", "what the caller waited for is not the server's time"
    assert cache_findings._latency(keys | {"longest_server_milliseconds": 10.1}).outcome.value == "warning"
