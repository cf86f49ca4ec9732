"""Relatives of Redis and services that run it: what they do not tell or permit is unknown, and no failure."""

from collections.abc import Iterator

import psycopg
import pytest
import redis

from include import connections
from include.maintenance.cache import cache, cache_keys, cache_server
from include.outcome import ConfigurationError, SourceUnavailable
from include.settings import settings
from tests.include.maintenance.cache.redis_relative import Relative, relative
from tests.include.maintenance.cache.test_cache import _proof, _summaries, server  # noqa: F401 - fixture
from tests.include.maintenance.cache.test_cache_keys import fill


@pytest.fixture
def other(server: redis.Redis, environment: pytest.MonkeyPatch) -> Iterator[Relative]:  # noqa: F811
    """The connection leads to a relative before the test's own Redis."""
    with relative(server.connection_pool.connection_kwargs["port"]) as found:
        environment.setenv("AIRFLOW_CONN_PLATFORM_REDIS", f"redis://127.0.0.1:{found.port}/0")
        yield found


_TELLS_LITTLE = {
    "run_id", "redis_version", "role", "uptime_in_seconds", "keyspace_hits", "keyspace_misses", "evicted_keys",
    "expired_keys", "expired_time_cap_reached_count", "total_commands_processed", "total_connections_received",
    "expired_stale_perc", "maxmemory", "maxmemory_policy", "mem_fragmentation_ratio", "cluster_enabled",
}  # fmt: skip


def test_what_info_does_not_tell_is_unknown(
    other: Relative,
    server: redis.Redis,  # noqa: F811
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setattr(cache_server, "_FRAGMENTATION_SAYS_SOMETHING_FROM_BYTES", 0)
    other.not_told = _TELLS_LITTLE
    server.set("a", "1")
    for run_id in ("r1", "r2"):  # also with an act before it
        told = cache.statistics(run_id)
        assert told["hit_rate"] is None
        unknown = {check for check, outcome in told["findings"].items() if outcome == "unknown"}
        assert unknown == {"cache_hit_rate", "cache_evictions", "cache_fragmentation", "cache_expiry"}
    says = "INFO of this server does not tell"
    assert [_summaries(check)["platform_redis"][1] for check in sorted(unknown)] == [
        f"{says} evicted_keys, maxmemory, maxmemory_policy",
        f"{says} role",
        f"{says} mem_fragmentation_ratio",
        f"{says} keyspace_hits, keyspace_misses",
    ]
    assert _proof(warehouse, "r2")["keys"]["visited"] == 1


@pytest.mark.parametrize(
    ("absent", "check", "summary"),
    [
        ("expired_stale_perc", "cache_expiry", "INFO of this server does not tell expired_stale_perc"),
        ("expired_keys", "cache_expiry", "INFO of this server does not tell expired_keys"),
        ("maxmemory_policy", "cache_evictions", "INFO of this server does not tell maxmemory_policy"),
        ("keyspace_misses", "cache_hit_rate", "INFO of this server does not tell keyspace_hits, keyspace_misses"),
    ],
)
def test_only_what_needs_an_absent_field_is_unknown(
    other: Relative, warehouse: psycopg.Connection, absent: str, check: str, summary: str
) -> None:
    other.not_told = {absent}
    told = cache.statistics("r1")
    assert {name for name, outcome in told["findings"].items() if outcome == "unknown"} <= {check, "cache_latency"}
    assert _summaries(check) == {"platform_redis": ("unknown", summary)}


@pytest.mark.parametrize(
    ("absent", "hits", "since", "released"),
    [
        ({"run_id"}, 10, "the last recorded act", 500),
        # 30 and 10 of the platform and at least one of the first pass: whether it restarted in between is not known.
        ({"run_id", "uptime_in_seconds"}, 41, "the server's start", None),
    ],
)
def test_without_a_name_its_run_is_told_by_when_it_began(
    other: Relative,
    server: redis.Redis,  # noqa: F811
    warehouse: psycopg.Connection,
    absent: set[str],
    hits: int,
    since: str,
    released: int | None,
) -> None:
    other.not_told = absent
    server.set("a", "1")
    fill(server, "for n = 1, 30 do redis.call('GET', 'a') end")
    cache.statistics("r1")
    fill(server, "for n = 1, 10 do redis.call('GET', 'a') end")
    server.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")  # type: ignore[no-untyped-call]
    fill(server, "for n = 1, 500 do redis.call('SET', n, n, 'PX', 1) end")
    cache.statistics("r2")
    proof = _proof(warehouse, "r2")
    assert proof["since_last"]["since"] == since
    assert proof["since_last"]["hits"] >= hits
    assert proof["since_last"]["hits"] == hits or released is None
    assert (proof["sweep"]["keys_released"], proof["sweep"]["expired_keys"]) == (released, released)
    why = ("unknown", "INFO of this server does not tell run_id")
    assert (_summaries("cache_expiry")["platform_redis"] == why) is (released is None)


def test_a_start_is_told_from_another() -> None:
    last = {"server": None, "uptime_seconds": 100, "measured_at": "2026-10-03T00:00:00+00:00"}
    now = {"server": None, "uptime_seconds": 86_501, "measured_at": "2026-10-04T00:00:00+00:00"}
    assert cache_server.is_same(last, now)
    assert not cache_server.is_same(last, now | {"uptime_seconds": 86_480}), "it began 20 seconds later"
    assert not cache_server.is_same(last, now | {"server": "a"})
    assert not cache_server.is_same(None, now)


def test_a_server_that_does_not_tell_its_memory_is_for_a_person(other: Relative) -> None:
    other.not_told = {"used_memory"}
    with pytest.raises(ConfigurationError, match="INFO of platform_redis does not tell used_memory"):
        cache.statistics("r1")


# ------------------------------------------------------------------------------------------------- distance
@pytest.mark.parametrize("login", ["", "operations:secret@"], ids=["clock", "no clock"])
def test_slices_of_a_server_that_is_far_away_have_many_pages_too(
    other: Relative,
    server: redis.Redis,  # noqa: F811
    environment: pytest.MonkeyPatch,
    login: str,
) -> None:
    server.execute_command("ACL", "SETUSER", "operations", "on", ">secret", "~*", "+@all", "-time")  # type: ignore[no-untyped-call]
    fill(server, "for n = 1, 60000 do redis.call('SET', 'k:' .. n, n) end")
    other.seconds = 0.006  # twice as long as a slice may take
    environment.setenv("AIRFLOW_CONN_PLATFORM_REDIS", f"redis://{login}127.0.0.1:{other.port}/0")
    found = cache_keys.look_at_all(cache_server.client(), settings().maintenance.cache, memory=True)
    assert (found.visited, found.complete) == (60_000, True)
    assert (found.longest_server_milliseconds is None) is bool(login)
    assert found.calls < 400, "1,200 slices of one page of about 50 keys would not be needed"


# ------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    "words",
    [
        "ERR Command is not available: 'MEMORY'. See the documentation",
        "ERR command is not allowed",
        "ERR unknown subcommand 'usage'. Try MEMORY HELP.",
        "ERR unknown command 'MEMORY'",
        "NOPERM this user has no permissions to run the 'memory|usage' command",
        "FORBIDDEN by this service",
    ],
)
def test_a_refusal_in_whatever_words_is_no_failure(
    other: Relative,
    server: redis.Redis,  # noqa: F811
    warehouse: psycopg.Connection,
    words: str,
) -> None:
    other.refuses = {"MEMORY USAGE": words}
    server.set("a", "1")
    assert cache.statistics("r1")["findings"]["cache_large_keys"] == "unknown"
    assert "may not use MEMORY USAGE" in _summaries("cache_large_keys")["platform_redis"][1]
    other.refuses = {"EVAL": words}
    told = cache.statistics("r2")
    assert (told["state"], _proof(warehouse, "r2")["keys"]["visited"]) == ("proven", 1)


@pytest.mark.parametrize(
    "words",
    [
        "LOADING Redis is loading the dataset in memory",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "CLUSTERDOWN The cluster is down",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "READONLY You can't write against a read only replica.",
    ],
)
def test_what_passes_is_no_refusal(other: Relative, words: str) -> None:
    other.refuses = {"SCAN": words}
    with pytest.raises(SourceUnavailable, match="platform_redis"):
        cache_server.refused_commands(connections.redis())
    other.refuses = {}
    assert cache_server.refused_commands(connections.redis()) == []
