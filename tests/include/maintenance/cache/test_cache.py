"""The cache's figures are differences of the server's own counters, and the sweep's effect is measured."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import redis

from demo.processes import Processes, free_port
from demo.servers import Redis
from include import connections
from include.maintenance.cache import cache
from include.outcome import ConfigurationError, SourceUnavailable
from include.settings import settings
from include.warehouse import findings


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
    remedies = {one.finding.resource: one.finding.remedy for one in findings.latest("cache_keys_without_expiry")}
    assert {name for name, remedy in remedies.items() if remedy} == {"prefix (none)", "prefix rate", "prefix größe"}
    assert {name for name, remedy in remedies.items() if not remedy} == {
        "prefix a*", "prefix it's", "prefix ***", "prefix (empty)", f"prefix {'p' * 120}", "platform_redis",
    }  # fmt: skip

    def limited_by(name: str) -> set[str]:
        """The keys that have an expiry once the remedy was carried out."""
        here = f'redis-cli() {{ command redis-cli -p {server.connection_pool.connection_kwargs["port"]} "$@"; }}'
        subprocess.run(["bash", "-c", f"{here}\n{remedies[name]}"], check=True, stdout=subprocess.DEVNULL)
        return {key.decode() if isinstance(key, bytes) else key for key in server.scan_iter() if server.ttl(key) != -1}

    assert limited_by("prefix rate") == {"rate:1", "rate:2", "rate:3", "three"}
    assert server.ttl("rate:1") in (604_799, 604_800)
    assert server.ttl("rate:3") <= 100, "its own expiry is kept"
    assert limited_by("prefix (none)") == {"rate:1", "rate:2", "rate:3", "one", "two", "three"}
    assert server.ttl("three") <= 100
    settings.cache_clear()
