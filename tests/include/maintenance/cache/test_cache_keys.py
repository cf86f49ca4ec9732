"""The pass over all keys: what it adds up and finds, how long it holds others up, and what it does without rights."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import redis

from demo.processes import Processes
from demo.servers import Redis
from include import connections
from include.maintenance.cache import cache, cache_findings, cache_keys, cache_server
from include.outcome import SourceUnavailable
from include.settings import settings
from include.warehouse import actions
from tests.include.maintenance.cache.test_cache import _proof, server  # noqa: F401 - the fixture
from tests.recorded_findings import latest_findings


def outcomes(check: str) -> dict[str, str]:
    return {one.finding.resource: one.finding.outcome.value for one in latest_findings(check)}


def size(client: redis.Redis, key: str, samples: int = 5) -> int:
    found = client.memory_usage(key, samples)
    assert found is not None
    return int(found)


def as_it_is(client: Any) -> Any:
    return client.execute_command


def fill(client: redis.Redis, script: str) -> None:
    client.eval(script, 0)


@pytest.fixture
def own_server(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Any
) -> Iterator[tuple[Redis, redis.Redis]]:
    """A server that the test may stop and start again."""
    processes = Processes(tmp_path / "processes.json")
    started = Redis(processes, tmp_path).start()
    environment.setenv("AIRFLOW_CONN_PLATFORM_REDIS", f"redis://127.0.0.1:{started.port}/0")
    yield started, connections.redis()
    processes.stop_all()


# ------------------------------------------------------------------------------------------------- what it adds up
def test_types_and_times_to_live(server: redis.Redis, warehouse: psycopg.Connection) -> None:  # noqa: F811
    minute, hour, day = 60, 3600, 86400
    for n, seconds in enumerate((minute, 50 * minute, 2 * hour, 3 * day, 6 * day, 30 * day)):
        server.set(f"ttl:{n}", "x", ex=seconds)
    server.hset("user:1", "a", "b")
    server.rpush("queue", *range(10))
    server.sadd("tags:1", "a")
    server.zadd("board:1", {"a": 1})
    server.xadd("events:1", {"a": "b"})
    cache.statistics("r1")
    keys = _proof(warehouse, "r1")["keys"]
    assert {name: told["keys"] for name, told in keys["by_expiry"].items()} == {
        "none": 5, "under 1 hour": 2, "under 1 day": 1, "under 7 days": 2, "7 days and more": 1,
    }  # fmt: skip
    assert {name: told["keys"] for name, told in keys["by_type"].items()} == {
        "string": 6, "hash": 1, "list": 1, "set": 1, "zset": 1, "stream": 1,
    }  # fmt: skip
    sizes = {key: size(server, key) for key in ("user:1", "queue", "tags:1", "board:1", "events:1")}
    assert keys["by_type"]["hash"]["bytes"] == sizes["user:1"]
    assert keys["by_expiry"]["none"]["bytes"] == sum(sizes.values())
    assert keys["largest_by_type"]["stream"] == {"key": "events:1", "bytes": sizes["events:1"]}


def test_names_are_bytes_and_may_be_secret(server: redis.Redis, warehouse: psycopg.Connection) -> None:  # noqa: F811
    secret = "9f86d081884c7d659a2feaa0c55ad015"
    for key in (b"\xff\xfe:1", b"a\nb:1", b"c\x00d:1", b":empty", f"{secret}:1".encode(), "größe:1".encode()):
        server.set(key, "x")
    server.set(f"session:{secret}", "x" * 200_000)
    cache.statistics("r1")
    keys = _proof(warehouse, "r1")["keys"]
    assert set(keys["by_prefix"]) == {"\\xff\\xfe", "a?b", "c?d", "(empty)", "***", "größe", "session"}
    rows = warehouse.execute("SELECT proof::text FROM ops.maintenance_action UNION ALL SELECT summary FROM ops.finding")
    assert not [text for (text,) in rows if secret in text]
    assert outcomes("cache_large_keys") == {"session:***": "warning"}


def test_prefixes_with_the_most_memory_are_named(
    server: redis.Redis, warehouse: psycopg.Connection, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setattr(cache_keys, "_PREFIXES_COUNTED", 400)
    fill(server, "for n = 1, 300 do redis.call('SET', 'p' .. n .. ':x', 'x') end")
    fill(server, "for n = 1, 300 do redis.call('SET', 'late:' .. n, string.rep('x', 1000)) end")
    cache.statistics("r1")
    prefixes = _proof(warehouse, "r1")["keys"]["by_prefix"]
    assert len(prefixes) == 101
    assert prefixes["late"]["without_expiry"] == 300
    assert prefixes["(other)"]["without_expiry"] == 300 - 99


# ------------------------------------------------------------------------------------------------- what it finds
_TEN_GIGABYTES_SMALL = """
for n = 1, 60000 do redis.call('SET', 'session:' .. n, string.rep('s', 50 + n % 100), 'EX', 3600 + n) end
for n = 1, 20000 do redis.call('SET', 'rate:' .. n, n) end
for n = 1, 5000 do redis.call('HSET', 'user:' .. n, 'name', n, 'state', 'ok') end
for n = 1, 20 do redis.call('SET', 'report:' .. n, n, 'EX', 60) end
for n = 1, 40000 do redis.call('HSET', 'ledger:all', 'entry' .. n, string.rep('v', 40)) end
for n = 1, 5001 do redis.call('RPUSH', 'queue:dead', string.rep('m', 100)) end
for n = 1, 5000 do redis.call('RPUSH', 'queue:full', 'm') end
for n = 1, 1001 do redis.call('SADD', 'followers:1', 'user' .. n) end
for n = 1, 1000 do redis.call('SADD', 'followers:2', 'user' .. n) end
redis.call('SET', 'page:home', string.rep('p', 100001), 'EX', 600)
redis.call('SET', 'page:other', string.rep('p', 100000), 'EX', 600)
"""


def test_a_large_cache_scaled_down(server: redis.Redis, warehouse: psycopg.Connection) -> None:  # noqa: F811
    """Very many small keys, a few huge ones, unequal prefixes, and a prefix without expiry that grows."""
    fill(server, _TEN_GIGABYTES_SMALL)
    told = cache.statistics("r1")
    keys = _proof(warehouse, "r1")["keys"]
    assert keys["visited"] == server.dbsize() == 85_027
    assert keys["by_prefix"]["session"]["with_expiry"] == 60_000
    assert (keys["by_type"]["hash"]["keys"], keys["by_expiry"]["none"]["keys"]) == (5001, 25_006 - 1)
    large = {one["key"]: (one["type"], one["elements"]) for one in keys["large_keys"]}
    assert large == {
        "ledger:all": ("hash", 40_000), "queue:dead": ("list", 5001), "followers:1": ("set", 1001),
        "page:home": ("string", 100_001),
    }  # fmt: skip
    assert keys["large_keys_by_type"] == {"hash": 1, "list": 1, "set": 1, "string": 1}
    assert list(outcomes("cache_large_keys").values()) == ["warning"] * 4
    exact = size(server, "ledger:all", samples=0)
    assert keys["by_prefix"]["ledger"]["bytes"] == pytest.approx(exact, rel=0.1), "estimated from five samples"
    assert told["findings"]["cache_keys_without_expiry"] == "not_applicable", "nothing to compare with yet"
    assert keys["calls"] > 20, "in slices"

    fill(server, "for n = 20001, 26000 do redis.call('SET', 'rate:' .. n, n) end")
    fill(server, "for n = 5001, 5999 do redis.call('HSET', 'user:' .. n, 'name', n) end")
    cache.statistics("r2")
    assert outcomes("cache_keys_without_expiry") == {"prefix rate": "warning", "platform_redis": "ok"}
    [rate] = [
        one.finding for one in latest_findings("cache_keys_without_expiry") if one.finding.resource == "prefix rate"
    ]
    assert rate.evidence["keys_without_expiry_before"] == 20_000
    assert rate.evidence["keys_without_expiry"] == 26_000
    assert rate.estimated_gain == {"bytes": round(rate.evidence["bytes_without_expiry"] * 6000 / 26_000)}
    assert "--pattern 'rate:*'" in rate.remedy


def test_what_is_large_follows_from_the_configured_limits(
    server: redis.Redis,  # noqa: F811
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
) -> None:
    fill(server, "for n = 1, 5001 do redis.call('RPUSH', 'list', 'm') end")
    fill(server, "for n = 1, 5000 do redis.call('RPUSH', 'list:full', 'm') end")
    server.set("page", "x" * 12_000)
    cache.statistics("r1")
    assert outcomes("cache_large_keys") == {"list": "warning"}, "it takes about 15 kB"

    small = '{"string_bytes": 10000, "hash_fields": 20, "set_members": 100, "other_elements": 50}'
    environment.setenv("OPERATIONS__MAINTENANCE__CACHE__LARGE_KEYS", small)
    settings.cache_clear()
    server.flushdb()
    for name, more in (("over", 1), ("full", 0)):
        server.set(f"string:{name}", "x" * (10_000 + more))
        server.hset(f"hash:{name}", mapping=dict.fromkeys((str(n) for n in range(20 + more)), "1"))
        server.sadd(f"set:{name}", *range(100 + more))  # integers, in two bytes each
        server.zadd(f"zset:{name}", {str(n): n for n in range(50 + more)})
        server.rpush(f"list:{name}", *[0] * (50 + more))
    cache.statistics("r2")
    over = ("string:over", "hash:over", "set:over", "zset:over", "list:over")
    assert outcomes("cache_large_keys") == dict.fromkeys(over, "warning")
    settings.cache_clear()


def test_a_list_whose_nodes_are_compressed_is_large_by_its_elements(
    server: redis.Redis, warehouse: psycopg.Connection  # noqa: F811
) -> None:  # fmt: skip
    server.config_set("list-compress-depth", 1)
    server.config_set("list-max-ziplist-size", -1)
    fill(server, "for n = 1, 6000 do redis.call('RPUSH', 'packed', 'm') end")
    assert size(server, "packed") < 2 * 5000, "less than two bytes for each element of the smallest large list"
    cache.statistics("r1")
    assert outcomes("cache_large_keys") == {"packed": "warning"}


def test_more_large_keys_than_are_named(server: redis.Redis, warehouse: psycopg.Connection) -> None:  # noqa: F811
    fill(server, "for n = 1, 25 do redis.call('SET', 'blob:' .. n, string.rep('x', 100000 + n * 5000)) end")
    cache.statistics("r1")
    keys = _proof(warehouse, "r1")["keys"]
    sizes = {f"blob:{n}": int(server.memory_usage(f"blob:{n}") or 0) for n in range(1, 26)}
    # Some allocators give the same room to keys of about the same size; then their names decide.
    largest = sorted(sizes.items(), key=lambda one: (-one[1], one[0]))[:20]
    assert [(one["key"], one["bytes"]) for one in keys["large_keys"]] == largest
    assert keys["large_keys_by_type"] == {"string": 25}
    assert outcomes("cache_large_keys")["platform_redis"] == "warning"


def test_hit_rate_evictions_and_memory(server: redis.Redis, warehouse: psycopg.Connection) -> None:  # noqa: F811
    fill(server, "redis.call('SET', 'a', 1) for n = 1, 1500 do redis.call('GET', n % 2 == 0 and 'a' or 'b') end")
    assert cache.statistics("r1")["findings"]["cache_hit_rate"] == "warning"
    fill(server, "for n = 1, 1500 do redis.call('GET', n % 10 == 0 and 'b' or 'a') end")
    told = cache.statistics("r2")
    assert (told["hit_rate"], told["findings"]["cache_hit_rate"]) == (0.9, "ok")
    assert told["findings"]["cache_evictions"] == "ok"
    assert told["findings"]["cache_fragmentation"] == "not_applicable", "below 100 MB"
    server.config_set("maxmemory-policy", "noeviction")
    server.config_set("maxmemory", int(server.info()["used_memory"] * 1.05))
    assert cache.statistics("r3")["findings"]["cache_evictions"] == "critical"
    server.config_set("maxmemory-policy", "allkeys-lru")
    server.config_set("maxmemory", 3_000_000)
    for n in range(100):
        server.set(f"blob:{n}", "x" * 50_000)
    evicted = server.info()["evicted_keys"]
    assert evicted > 0
    cache.statistics("r4")
    [found] = [one.finding for one in latest_findings("cache_evictions")]
    assert found.outcome.value == "warning"
    # Memory is at its limit, so that looking at it may cost a key as well.
    assert evicted <= found.evidence["evicted_keys"] <= server.info()["evicted_keys"]
    assert found.remedy.startswith("# first see that the machine has that much to spare ")
    assert found.remedy.endswith("\n# redis-cli CONFIG SET maxmemory 3750000")
    assert all(line.startswith("# ") for line in found.remedy.splitlines()), "pasted late it might lower the limit"


def test_a_finding_per_threshold() -> None:
    limits = settings().maintenance.cache
    gauges = {"used_memory_bytes": 10**9, "fragmentation_ratio": 1.5, "fragmentation_note": ""}
    since = {"fragmentation_ratio_change": None}
    found = cache_findings._fragmentation(since, gauges, limits)
    assert (found.outcome.value, found.estimated_gain) == ("warning", {"bytes": 500_000_000})
    assert cache_findings._fragmentation(since, gauges | {"fragmentation_ratio": 1.4}, limits).outcome.value == "ok"
    assert cache_findings._fragmentation(since, gauges | {"fragmentation_ratio": 0.9}, limits).outcome.value == "ok"
    swapped = cache_findings._fragmentation(since, gauges | {"fragmentation_ratio": 0.89}, limits)
    assert (swapped.outcome.value, swapped.estimated_gain) == ("warning", None)
    assert "the machine has swapped out a part of it" in swapped.summary
    assert swapped.remedy.endswith("\n# redis-cli CONFIG SET maxmemory 900000000")
    assert all(line.startswith("# ") for line in swapped.remedy.splitlines()), "it evicts keys"
    proof: dict[str, Any] = {
        "before": {"expired_stale_percent": 10.5},
        "after": {"expired_stale_percent": 30.0},
        "since_last": {"expired_time_cap_reached_count": 3},
        "sweep": {"possible": True, "note": "", "expired_keys": 5},
        "keys": {"complete": True},
    }
    told = cache_findings._expiry(proof, limits)
    assert told.outcome.value == "warning"
    assert told.summary == (
        "before the sweep 10 % of the keys with an expiry were expired and still held; the sweep removed 5: "
        "Redis's own expiry falls behind"
    )
    proof["before"]["expired_stale_percent"] = 10.0
    assert cache_findings._expiry(proof, limits).outcome.value == "ok"
    proof["keys"]["complete"] = False
    assert cache_findings._expiry(proof, limits).outcome.value == "unknown"


# --------------------------------------------------------------------------------------- deltas, restarts, failures
def test_a_restarted_server_gives_no_invented_deltas(
    own_server: tuple[Redis, redis.Redis], warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    started, client = own_server
    client.set("a", "1")
    for _ in range(50):
        client.get("a")
    cache.statistics("r1")
    started.stop()
    started.start()
    environment.setenv("AIRFLOW_CONN_PLATFORM_REDIS", f"redis://127.0.0.1:{started.port}/0")
    client = connections.redis()
    for _ in range(60):  # more than before the restart
        client.get("b")
    assert cache.statistics("r2")["hit_rate"] == 0
    since = _proof(warehouse, "r2")["since_last"]
    assert (since["hits"], since["misses"], since["since"]) == (0, 60, "the server's start")
    assert since["seconds"] <= 30


def test_counters_that_were_reset_are_noticed_though_they_have_grown_past() -> None:
    midnight = datetime(2026, 10, 3, tzinfo=UTC)
    last: dict[str, Any] = dict.fromkeys(cache_server.COUNTERS, 5)
    last |= {"server": "a", "commands": 1000, "measured_at": midnight.isoformat()}
    now: dict[str, Any] = dict.fromkeys(cache_server.COUNTERS, 9)
    now |= {"server": "a", "commands": 900, "uptime_seconds": 7}
    now |= {"measured_at": (midnight + timedelta(days=1)).isoformat()}
    found = cache_server.gained(last, now)
    assert (found["hits"], found["seconds"], found["since"]) == (9, None, "the reset of its counters")
    found = cache_server.gained(last, now | {"commands": 1200})
    assert (found["hits"], found["seconds"], found["since"]) == (4, 86400, "the last recorded act")


def test_a_killed_pass_is_repeated_and_its_own_looks_are_no_hits(
    own_server: tuple[Redis, redis.Redis], warehouse: psycopg.Connection
) -> None:
    _, client = own_server
    cache.statistics("r0")
    fill(client, "for n = 1, 20000 do redis.call('SET', 'k:' .. n, n) end")
    for _ in range(20):
        client.get("absent")
    program = "from include.maintenance.cache import cache; cache.statistics('r1')"
    slow = {"OPERATIONS__MAINTENANCE__CACHE__PAUSE_MILLISECONDS": "500"}
    killed = subprocess.Popen([sys.executable, "-c", program], env=os.environ | slow)
    deadline = time.monotonic() + 30
    while not client.info()["keyspace_hits"] > 50:
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert actions.find("cache_statistics", "platform_redis", "r1").state == "applying"  # type: ignore[union-attr]
    # The next night's run knows that the hits are not the platform's; the repeated one measures from before its pass.
    told = cache.statistics("r2")
    assert (told["hit_rate"], told["findings"]["cache_hit_rate"]) == (None, "unknown")
    warehouse.execute("DELETE FROM ops.maintenance_action WHERE run_id = 'r2'")
    assert cache.statistics("r1")["hit_rate"] == 0
    proof = _proof(warehouse, "r1")
    assert (proof["since_last"]["misses"], proof["keys"]["visited"]) == (20, 20_000)


def test_without_the_server_every_check_is_unknown(
    own_server: tuple[Redis, redis.Redis], warehouse: psycopg.Connection
) -> None:
    started, _ = own_server
    started.stop()
    with pytest.raises(SourceUnavailable, match="platform_redis cannot be reached"):
        cache.statistics("r1")
    rows = warehouse.execute("SELECT check_name, outcome FROM ops.finding").fetchall()
    assert sorted(rows) == sorted((check, "unknown") for check in cache_findings.CHECKS)


# ------------------------------------------------------------------------------------------------------- bounds
def test_a_pass_without_time_says_so(
    server: redis.Redis, warehouse: psycopg.Connection, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    fill(server, "for n = 1, 20000 do redis.call('SET', 'k:' .. n, n) end")
    limits = settings().maintenance.cache.model_copy(update={"longest_pass_seconds": 0.05, "pause_milliseconds": 30.0})
    changed = settings().model_copy(update={"maintenance": settings().maintenance.model_copy(update={"cache": limits})})
    monkeypatch.setattr(cache, "settings", lambda: changed)
    told = cache.statistics("r1")
    assert told["reason"].startswith("not all keys were visited within")
    assert 0 < _proof(warehouse, "r1")["keys"]["visited"] < 20_000
    unknown = {check for check, outcome in told["findings"].items() if outcome == "unknown"}
    assert unknown == {"cache_expiry", "cache_keys_without_expiry", "cache_large_keys"}


def test_slices_are_short_and_follow_the_time_they_take(server: redis.Redis) -> None:  # noqa: F811
    fill(server, "for n = 1, 60000 do redis.call('SET', 'k:' .. n, n) end")
    limits = settings().maintenance.cache.model_copy(update={"call_milliseconds": 1.0})
    waits: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        with connections.redis() as other:
            while not stop.is_set():
                begun = time.perf_counter()
                other.ping()
                waits.append(time.perf_counter() - begun)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        found = cache_keys.look_at_all(cache_server.client(), limits, memory=True)
    finally:
        stop.set()
        asking.join()
    assert found.visited == 60_000
    assert found.calls > 60, "60,000 keys take far more than 60 ms"
    assert sorted(waits)[len(waits) // 2] < 0.05, "others are answered in between"


def test_versions_with_no_touch() -> None:
    class Server:
        def __init__(self) -> None:
            self.asked: list[tuple[object, ...]] = []

        def execute_command(self, *command: object) -> None:
            self.asked.append(command)
            if len(self.asked) == 2:
                raise redis.exceptions.ResponseError("unknown subcommand")

    asked = Server()
    assert not cache_server.leave_order_alone(asked, "6.2.14")
    assert not cache_server.leave_order_alone(asked, "7.0.15")
    assert not asked.asked
    assert cache_server.leave_order_alone(asked, "7.2.0")
    assert asked.asked == [("CLIENT", "NO-TOUCH", "ON")]
    assert not cache_server.leave_order_alone(asked, "8.0.1")


def test_the_times_are_aware() -> None:
    begun = (datetime.now(UTC) - timedelta(seconds=90)).isoformat()
    assert cache_server._seconds_between(begun, datetime.now(UTC).isoformat()) == pytest.approx(90, abs=5)
