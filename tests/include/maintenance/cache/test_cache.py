"""The cache's figures are differences of the server's own counters, and the sweep's effect is measured."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from demo.install import TOOLS
from demo.processes import Processes, free_port, listens
from demo.servers import Redis
from include import connections
from include.maintenance.cache import cache, cache_server
from include.outcome import ConfigurationError, SourceUnavailable
from include.settings import settings
from tests.recorded_findings import latest_findings


@pytest.fixture
def server(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[redis.Redis]:
    """A Redis of the test's own: its counters are the test's."""
    folder = tmp_path_factory.mktemp("redis")
    processes = Processes(folder / "processes.json")
    started = Redis(processes, folder).start()
    environment.setenv("AIRFLOW_CONN_PLATFORM_REDIS", f"redis://127.0.0.1:{started.port}/0")
    yield connections.redis()
    processes.stop_all()


def _proof(warehouse: psycopg.Connection, run_id: str) -> Any:
    row = warehouse.execute(
        "SELECT proof FROM ops.maintenance_action WHERE run_id = %s AND state = 'proven'", (run_id,)
    ).fetchone()
    assert row is not None
    return row[0]


def test_hits_and_misses_are_those_since_the_last_act(server: redis.Redis, warehouse: psycopg.Connection) -> None:
    server.set("a", "1")
    for key in ("a", "a", "a", "b"):
        server.get(key)
    assert cache.statistics("r1")["hit_rate"] == 0.75
    assert _proof(warehouse, "r1")["since_last"]["since"].startswith("the server's start")
    assert cache.statistics("r2")["hit_rate"] is None, "absent without requests, not zero"
    server.get("a")
    server.get("b")
    assert cache.statistics("r3")["hit_rate"] == 0.5
    found = _proof(warehouse, "r3")["since_last"]
    assert (found["hits"], found["misses"], found["since"]) == (1, 1, "the last recorded act")
    server.config_resetstat()
    server.get("a")
    assert cache.statistics("r4")["hit_rate"] == 1, "counters that began anew are counted from zero"


def test_repeating_measures_nothing_anew(server: redis.Redis, warehouse: psycopg.Connection) -> None:
    server.set("a", "1")
    first = cache.statistics("r1")
    server.get("a")
    assert cache.statistics("r1") == first
    assert warehouse.execute("SELECT count(*) FROM ops.maintenance_action").fetchone() == (1,)


def test_keys_by_prefix_and_expiry(server: redis.Redis, warehouse: psycopg.Connection) -> None:
    with server.pipeline() as pipeline:
        for n in range(1300):
            pipeline.set(f"session:{n}", "x", ex=600)
        for n in range(40):
            pipeline.set(f"rate:{n}", "x")
        pipeline.set("session:forever", "x")
        pipeline.set("lonely", "x")
        pipeline.execute()
    cache.statistics("r1")
    keys = _proof(warehouse, "r1")["keys"]
    lonely, forever = (int(server.memory_usage(name) or 0) for name in ("lonely", "session:forever"))
    sessions = sum(int(server.memory_usage(f"session:{n}") or 0) for n in range(1300))
    rates = sum(int(server.memory_usage(f"rate:{n}") or 0) for n in range(40))
    assert keys["by_prefix"] == {
        "(none)": {
            "with_expiry": 0, "without_expiry": 1, "bytes": lonely, "bytes_without_expiry": lonely,
        },
        "rate": {
            "with_expiry": 0, "without_expiry": 40, "bytes": rates, "bytes_without_expiry": rates,
        },
        "session": {
            "with_expiry": 1300, "without_expiry": 1, "bytes": sessions + forever, "bytes_without_expiry": forever,
        },
    }  # fmt: skip
    assert (keys["with_expiry"], keys["without_expiry"], keys["complete"]) == (1300, 42, True)
    assert {name: told["keys"] for name, told in keys["by_expiry"].items()} == {"none": 42, "under 1 hour": 1300}
    assert keys["by_type"]["string"]["keys"] == 1342
    assert _proof(warehouse, "r1")["after"]["fragmentation_ratio"] is None


def test_prefixes_are_bounded(server: redis.Redis, warehouse: psycopg.Connection) -> None:
    with server.pipeline() as pipeline:
        for n in range(150):
            pipeline.set(f"p{n}:x", "x")
        pipeline.execute()
    cache.statistics("r1")
    prefixes = _proof(warehouse, "r1")["keys"]["by_prefix"]
    assert len(prefixes) == 101
    assert prefixes["(other)"]["without_expiry"] == 50


def test_expired_keys_are_swept(server: redis.Redis, warehouse: psycopg.Connection) -> None:
    server.config_set("hz", 1)  # its own sweep comes once a second
    with server.pipeline() as pipeline:
        for n in range(2000):
            pipeline.set(f"session:{n}", "x", px=1)
        pipeline.set("kept", "x")
        pipeline.execute()
    time.sleep(0.05)
    cache.statistics("r1")
    proof = _proof(warehouse, "r1")
    assert proof["after"]["keys"] == 1
    assert proof["keys"]["visited"] == 1
    assert proof["sweep"]["possible"]
    assert proof["sweep"]["expired_keys"] == proof["sweep"]["keys_released"] == proof["before"]["keys"] - 1


def test_dry_run_sweeps_nothing(server: redis.Redis, warehouse: psycopg.Connection) -> None:
    server.set("a", "1")
    assert cache.statistics("r1", dry_run=True)["state"] == "planned"
    assert warehouse.execute("SELECT proof FROM ops.maintenance_action").fetchall() == [(None,)]


def test_an_unreachable_cache_is_a_failure(warehouse: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIRFLOW_CONN_PLATFORM_REDIS", f"redis://:secret@127.0.0.1:{free_port()}/0")
    with pytest.raises(SourceUnavailable, match="platform_redis cannot be reached"):
        cache.statistics("r1")
    [(state, reason)] = warehouse.execute("SELECT state, reason FROM ops.maintenance_action").fetchall()
    assert state == "failed"
    assert "secret" not in reason


def test_a_wrong_password_is_for_a_person(server: redis.Redis, environment: pytest.MonkeyPatch) -> None:
    server.config_set("requirepass", "right")
    with pytest.raises(ConfigurationError, match="platform_redis refused"):
        cache.statistics("r1")
    port = server.connection_pool.connection_kwargs["port"]
    environment.setenv("AIRFLOW_CONN_PLATFORM_REDIS", f"redis://:wrong@127.0.0.1:{port}/0")
    with pytest.raises(ConfigurationError, match="platform_redis refused"):
        cache.statistics("r1")


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
def test_the_remedy_for_keys_without_expiry_is_about_these_keys_only(
    server: redis.Redis, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__CACHE__NO_EXPIRY_GROWTH_KEYS", "2")
    settings.cache_clear()
    cache.statistics("r1")
    secret = "9f86d081884c7d659a2feaa0c55ad015"
    for prefix in ("rate", "größe", "a*", "it's", secret, "p" * 120, ""):
        server.mset({f"{prefix}:1": "x", f"{prefix}:2": "x"})
    server.mset({"one": "x", "two": "x", "user:1": "x"})
    for key in ("rate:3", "three"):
        server.set(key, "x", ex=100)
    cache.statistics("r2")
    remedies = {one.finding.resource: one.finding.remedy for one in latest_findings("cache_keys_without_expiry")}
    assert {name for name, remedy in remedies.items() if remedy} == {"prefix (none)", "prefix rate", "prefix größe"}
    assert {name for name, remedy in remedies.items() if not remedy} == {
        "prefix a*", "prefix it's", "prefix ***", "prefix (empty)", f"prefix {'p' * 120}", "platform_redis",
    }  # fmt: skip

    def limited_by(name: str) -> set[str]:
        """The keys that have an expiry once the remedy was carried out."""
        here = f'redis-cli() {{ command redis-cli -p {server.connection_pool.connection_kwargs["port"]} "$@"; }}'
        command = remedies[name].splitlines()[-1].removeprefix("# ")
        subprocess.run(["bash", "-c", f"{here}\n{command}"], check=True, stdout=subprocess.DEVNULL)
        return {key.decode() if isinstance(key, bytes) else key for key in server.scan_iter() if server.ttl(key) != -1}

    assert remedies["prefix rate"].startswith("# first find out what these keys hold: a ledger, a queue or flags must ")
    assert all(line.startswith("# ") for remedy in remedies.values() for line in remedy.splitlines()), "it deletes"
    assert limited_by("prefix rate") == {"rate:1", "rate:2", "rate:3", "three"}
    assert server.ttl("rate:1") in (604_799, 604_800)
    assert server.ttl("rate:3") <= 100, "its own expiry is kept"
    assert limited_by("prefix (none)") == {"rate:1", "rate:2", "rate:3", "one", "two", "three"}
    assert server.ttl("three") <= 100
    settings.cache_clear()


# --------------------------------------------------------------------------------- other databases, other shards
def _summaries(check: str) -> dict[str, tuple[str, str]]:
    return {one.finding.resource: (one.finding.outcome.value, one.finding.summary) for one in latest_findings(check)}


def _database(server: redis.Redis, number: int) -> redis.Redis:
    return redis.Redis(port=server.connection_pool.connection_kwargs["port"], db=number, decode_responses=True)


def test_every_database_that_holds_keys_is_swept_and_looked_at(
    server: redis.Redis, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__CACHE__NO_EXPIRY_GROWTH_KEYS", "2")
    settings.cache_clear()
    first, third = _database(server, 1), _database(server, 3)
    server.config_set("hz", 1)  # its own sweep comes once a second
    server.set("rate:1", "x")
    first.mset({"rate:1": "x", "lonely": "x"})
    third.set("blob:1", "x" * 200_000)
    third.eval("for n = 1, 2000 do redis.call('SET', 'session:' .. n, 'x', 'PX', 1) end", 0)
    time.sleep(0.05)
    assert cache.statistics("r1")["keys"] == 4
    proof = _proof(warehouse, "r1")
    assert proof["before"]["databases"] == {"0": 1, "1": 2, "3": proof["before"]["keys"] - 3}
    assert (proof["keys"]["visited"], proof["keys"]["complete"], proof["keys"]["not_visited"]) == (4, True, {})
    assert proof["sweep"]["expired_keys"] == proof["sweep"]["keys_released"] == proof["before"]["keys"] - 4
    prefixes = {name: told.get("database") for name, told in proof["keys"]["by_prefix"].items()}
    assert prefixes == {"rate": None, "db1 rate": 1, "db1 (none)": 1, "db3 blob": 3}
    [large] = [one.finding for one in latest_findings("cache_large_keys")]
    assert (large.resource, large.remedy) == ("db3 blob:1", "redis-cli -n 3 MEMORY USAGE blob:1 SAMPLES 1000")

    first.mset({"rate:2": "x", "rate:3": "x"})
    cache.statistics("r2")
    growing = next(one.finding for one in latest_findings("cache_keys_without_expiry") if one.finding.remedy)
    assert (growing.resource, growing.evidence["keys_without_expiry_before"]) == ("prefix db1 rate", 1)
    assert "\n# redis-cli -n 1 --scan --pattern 'rate:*' | " in growing.remedy

    port = server.connection_pool.connection_kwargs["port"]
    environment.setenv("AIRFLOW_CONN_PLATFORM_REDIS", f"redis://127.0.0.1:{port}/3")
    cache.statistics("r3")
    [large] = [one.finding for one in latest_findings("cache_large_keys")]
    assert (large.resource, large.remedy) == ("blob:1", "redis-cli -n 3 MEMORY USAGE blob:1 SAMPLES 1000")
    assert set(_proof(warehouse, "r3")["keys"]["by_prefix"]) == {"blob", "db0 rate", "db1 rate", "db1 (none)"}
    settings.cache_clear()


def test_growth_is_not_told_against_an_act_that_did_not_visit_the_database(
    server: redis.Redis, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__CACHE__NO_EXPIRY_GROWTH_KEYS", "2")
    settings.cache_clear()
    cache.statistics("r1")
    warehouse.execute(
        "UPDATE ops.maintenance_action SET proof = proof #- '{keys,not_visited}'"
    )  # of an earlier release
    _database(server, 1).mset({"rate:1": "x", "rate:2": "x"})
    assert cache.statistics("r2")["findings"]["cache_keys_without_expiry"] == "ok"
    settings.cache_clear()


@pytest.mark.parametrize(("refused", "visited"), [("-select", 1), ("-select -eval", 1)])
def test_a_database_that_may_not_be_selected_is_unknown_by_name(
    server: redis.Redis, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, refused: str, visited: int
) -> None:
    server.set("a", "1")
    _database(server, 7).set("b", "1")
    server.execute_command("ACL", "SETUSER", "operations", "on", ">secret", "~*", "+@all", *refused.split())  # type: ignore[no-untyped-call]
    port = server.connection_pool.connection_kwargs["port"]
    environment.setenv("AIRFLOW_CONN_PLATFORM_REDIS", f"redis://operations:secret@127.0.0.1:{port}/0")
    told = cache.statistics("r1")
    why = "database 7 was not visited: this login may not use SELECT; allow it by ACL SETUSER with +select"
    assert told["reason"].endswith(why)
    keys = _proof(warehouse, "r1")["keys"]
    assert (keys["visited"], keys["complete"]) == (visited, False)
    unknown = {check for check, outcome in told["findings"].items() if outcome == "unknown"}
    assert unknown - {"cache_latency"} == {"cache_expiry", "cache_keys_without_expiry", "cache_large_keys"}
    assert _summaries("cache_expiry") == {"platform_redis": ("unknown", why)}


def test_databases_that_the_time_is_over_for_are_unknown_by_name(
    server: redis.Redis, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    server.eval("for n = 1, 2000 do redis.call('SET', 'k:' .. n, n) end", 0)
    for number in range(1, 6):
        _database(server, number).set("b", "1")
    environment.setenv("OPERATIONS__MAINTENANCE__CACHE__LONGEST_PASS_SECONDS", "0.01")
    environment.setenv("OPERATIONS__MAINTENANCE__CACHE__PAUSE_MILLISECONDS", "20")
    settings.cache_clear()
    told = cache.statistics("r1")
    over = "was not visited: the time of the pass was over"
    assert told["reason"].startswith(f"database 1 {over}; database 2 {over}; database 3 {over}; and 2 more")
    assert _summaries("cache_large_keys")["platform_redis"][0] == "unknown"
    settings.cache_clear()


@pytest.fixture
def shards(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[redis.Redis]]:
    """A cluster of two nodes with half of the slots each; the connection leads to the first."""
    folder = tmp_path_factory.mktemp("shards")
    processes = Processes(folder / "processes.json")
    nodes = []
    for name in ("first", "second"):
        # The nodes' own port is this and 10,000.
        while (port := free_port()) > 55_535 or free_port(port + 10_000) != port + 10_000:
            pass
        (folder / name).mkdir()
        command: list[str | Path] = [
            *(TOOLS / "redis" / "redis-server", "--bind", "127.0.0.1", "--port", str(port)),
            *("--save", "", "--dir", folder / name, "--cluster-enabled", "yes"),
        ]
        process = processes.start(name, command, log=folder / name / "redis.log")
        processes.wait_until(process, lambda port=port: listens(port), seconds=15)  # type: ignore[misc]
        nodes.append(redis.Redis(port=port, decode_responses=True))
    for node, slots in zip(nodes, (range(8192), range(8192, 16384)), strict=True):
        node.execute_command("CLUSTER", "ADDSLOTS", *slots)  # type: ignore[no-untyped-call]
    port = nodes[1].connection_pool.connection_kwargs["port"]
    nodes[0].execute_command("CLUSTER", "MEET", "127.0.0.1", port)  # type: ignore[no-untyped-call]
    deadline = time.monotonic() + 30
    while not all("cluster_state:ok" in _cluster(node) and "cluster_size:2" in _cluster(node) for node in nodes):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    port = nodes[0].connection_pool.connection_kwargs["port"]
    environment.setenv("AIRFLOW_CONN_PLATFORM_REDIS", f"redis://127.0.0.1:{port}/0")
    yield nodes
    processes.stop_all()


def _cluster(node: redis.Redis) -> str:
    return str(node.execute_command("CLUSTER", "INFO"))  # type: ignore[no-untyped-call]


def test_a_node_of_a_cluster_does_not_speak_for_the_other_shards(
    shards: list[redis.Redis], warehouse: psycopg.Connection
) -> None:
    shards[0].set("{bar}:1", "x")  # its slot is 5061
    told = cache.statistics("r1")
    assert set(told["findings"].values()) == {"unknown"}
    text = "platform_redis is one node of a cluster of 2 shards: the others are neither swept nor looked at"
    assert _summaries("cache_large_keys") == {
        "platform_redis": ("ok", "no key is large"), "other shards": ("unknown", text),
    }  # fmt: skip
    proof = _proof(warehouse, "r1")
    assert (proof["keys"]["visited"], proof["after"]["shards"]) == (1, 2)


def test_fragmentation_is_told_with_its_change(
    server: redis.Redis, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.setattr(cache_server, "_FRAGMENTATION_SAYS_SOMETHING_FROM_BYTES", 0)
    cache.statistics("r1")
    server.mset({f"k:{n}": "x" * 10_000 for n in range(500)})
    cache.statistics("r2")
    first, second = _proof(warehouse, "r1"), _proof(warehouse, "r2")
    ratios = [proof["after"]["fragmentation_ratio"] for proof in (first, second)]
    assert ratios[0] != ratios[1]
    assert first["since_last"]["fragmentation_ratio_change"] is None
    change = second["since_last"]["fragmentation_ratio_change"]
    assert change == round(ratios[1] - ratios[0], 4)
    [(_, summary)] = _summaries("cache_fragmentation").values()
    assert f"({change:+.2f} since the last recorded act)" in summary
    [found] = [one.finding for one in latest_findings("cache_fragmentation")]
    assert found.evidence["fragmentation_ratio_change"] == change
    restarted = second["after"] | {"server": "another"}
    assert cache_server.fragmentation_change(first["after"], restarted) is None
