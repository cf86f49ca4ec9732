"""What a cache does when its memory is full follows from its policy and from the keys that may go."""

import psycopg
import pytest
import redis

from include.maintenance.cache import cache
from tests.include.maintenance.cache.test_cache import _summaries, server  # noqa: F401 - fixture
from tests.include.maintenance.cache.test_cache_keys import fill
from tests.recorded_findings import latest_findings

_EXPIRING = "for n = 1, {n} do redis.call('EXPIRE', 'k:' .. n, 600) end"


def _nearly_full(server: redis.Redis, policy: str) -> None:  # noqa: F811
    fill(server, "for n = 1, 40000 do redis.call('SET', 'k:' .. n, string.rep('x', 100)) end")
    server.config_set("maxmemory-policy", policy)
    server.config_set("maxmemory", int(server.info()["used_memory"] * 1.05))


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-ttl"])
def test_a_full_cache_without_keys_that_expire_refuses_writes(
    server: redis.Redis,  # noqa: F811
    warehouse: psycopg.Connection,
    policy: str,
) -> None:
    _nearly_full(server, policy)
    fill(server, _EXPIRING.format(n=400))  # one in a hundred
    assert cache.statistics("r1")["findings"]["cache_evictions"] == "critical"
    [found] = [one.finding for one in latest_findings("cache_evictions")]
    assert found.summary.endswith(
        f" of maxmemory is used: when it is full writes fail, as policy {policy} evicts only keys with an expiry, and "
        "400 of 40000 have one (expires of redis-cli INFO keyspace)"
    )
    assert (found.evidence["keys"], found.evidence["keys_with_expiry"]) == (40_000, 400)
    assert found.remedy.endswith("\n# redis-cli CONFIG SET maxmemory-policy allkeys-lru")
    assert all(line.startswith("# ") for line in found.remedy.splitlines())
    server.delete(*(f"k:{n}" for n in range(1, 401)))
    server.config_set("maxmemory", int(server.info()["used_memory"] * 0.99))
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        server.set("more", "x" * 200_000)


def test_a_full_cache_with_keys_that_may_go_is_a_warning(
    server: redis.Redis,  # noqa: F811
    warehouse: psycopg.Connection,
) -> None:
    _nearly_full(server, "volatile-lru")
    fill(server, _EXPIRING.format(n=401))
    cache.statistics("r1")
    outcome, summary = _summaries("cache_evictions")["platform_redis"]
    assert (outcome, summary.endswith(" of maxmemory is used")) == ("warning", True)
    server.config_set("maxmemory-policy", "allkeys-lru")
    fill(server, "for n = 1, 401 do redis.call('PERSIST', 'k:' .. n) end")
    assert cache.statistics("r2")["findings"]["cache_evictions"] == "warning"


def test_a_full_cache_that_evicts_nothing_refuses_writes(
    server: redis.Redis,  # noqa: F811
    warehouse: psycopg.Connection,
) -> None:
    _nearly_full(server, "noeviction")
    cache.statistics("r1")
    outcome, summary = _summaries("cache_evictions")["platform_redis"]
    assert outcome == "critical"
    assert summary.endswith(": when it is full writes fail, as nothing is evicted (policy noeviction)")
