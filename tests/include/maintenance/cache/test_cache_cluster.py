"""Any node of a cluster is swept and looked at, also a replica, whichever keys are its own."""

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from demo.install import TOOLS
from demo.processes import Processes, free_port, listens
from include.maintenance.cache import cache
from include.settings import settings
from tests.include.maintenance.cache.test_cache import _proof, _summaries, shards  # noqa: F401 - fixture

FOO, BAR = "foo:1", "{bar}:1"
"""The slot of the first is 14148, of the second node; that of the second is 5061, of the first node."""


def _told(node: redis.Redis, *command: str) -> str:
    return str(node.execute_command(*command))  # type: ignore[no-untyped-call]


def _connect(environment: pytest.MonkeyPatch, node: redis.Redis, login: str = "") -> None:
    port = node.connection_pool.connection_kwargs["port"]
    environment.setenv("AIRFLOW_CONN_PLATFORM_REDIS", f"redis://{login}127.0.0.1:{port}/0")


@pytest.fixture
def replica(shards: list[redis.Redis], tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:  # noqa: F811
    """A replica of the second node, which has one key."""
    folder = tmp_path_factory.mktemp("replica")
    processes = Processes(folder / "processes.json")
    while (port := free_port()) > 55_535 or free_port(port + 10_000) != port + 10_000:
        pass
    command: list[str | Path] = [
        *(TOOLS / "redis" / "redis-server", "--bind", "127.0.0.1", "--port", str(port)),
        *("--save", "", "--dir", folder, "--cluster-enabled", "yes"),
    ]
    process = processes.start("replica", command, log=folder / "redis.log")
    processes.wait_until(process, lambda: listens(port), seconds=15)
    node, primary = redis.Redis(port=port, decode_responses=True), _told(shards[1], "CLUSTER", "MYID")
    shards[1].set(FOO, "x")
    _told(shards[1], "CLUSTER", "MEET", "127.0.0.1", str(port))
    deadline = time.monotonic() + 30
    while primary not in _told(node, "CLUSTER", "NODES") or "cluster_size:2" not in _told(node, "CLUSTER", "INFO"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    _told(node, "CLUSTER", "REPLICATE", primary)
    while node.info()["role"] != "slave" or node.info()["master_link_status"] != "up" or node.dbsize() != 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield node
    processes.stop_all()


def test_a_node_that_sends_elsewhere_for_other_keys_is_looked_at(
    shards: list[redis.Redis],  # noqa: F811
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
) -> None:
    for node, key in zip(shards, (BAR, FOO), strict=True):
        node.set(key, "x")
        _connect(environment, node)
        assert cache.statistics(f"of {key}")["state"] == "proven"
        keys = _proof(warehouse, f"of {key}")["keys"]
        assert (keys["visited"], keys["refused_keys"], keys["complete"]) == (1, 0, True)
        assert _summaries("cache_large_keys")["platform_redis"] == ("ok", "no key is large")


def _growth(node: redis.Redis, environment: pytest.MonkeyPatch, run_id: str, login: str = "") -> dict[str, str]:
    """What is said of keys without an expiry when the connection leads to a node, by resource."""
    _connect(environment, node, login)
    cache.statistics(run_id)
    found = _summaries("cache_keys_without_expiry")
    return {name: summary for name, (_, summary) in found.items() if name != "other shards"}


def test_another_node_than_last_time_is_not_compared(
    shards: list[redis.Redis],  # noqa: F811
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
) -> None:
    """The address of a cluster leads to any of its nodes, each with keys of its own."""
    environment.setenv("OPERATIONS__MAINTENANCE__CACHE__NO_EXPIRY_GROWTH_KEYS", "2")
    settings.cache_clear()
    first, second = shards
    first.set(BAR, "x")
    second.mset({f"{{foo:1}}a:{n}": "x" for n in range(3)})
    assert _growth(first, environment, "r1") == {
        "platform_redis": "1 of 1 keys have no expiry; how they grow is known next time"
    }
    assert _growth(second, environment, "r2") == {
        "platform_redis": "3 of 3 keys have no expiry; how they grow is not known, as they may be those of another "
        "node than last time"
    }
    second.mset({f"{{foo:1}}a:{n}": "x" for n in range(3, 7)})
    assert _growth(second, environment, "r3")["prefix {foo"] == (
        "4 keys without expiry were added under {foo (now 7); let what writes them set an expiry"
    )
    assert _proof(warehouse, "r3")["after"]["node"] == _told(second, "CLUSTER", "MYID")
    _told(second, "ACL", "SETUSER", "operations", "on", ">secret", "~*", "+@all", "-cluster")
    assert "is known" not in _growth(second, environment, "r4", "operations:secret@")["platform_redis"]
    assert _proof(warehouse, "r4")["after"]["node"] is None, "it is still the same run of it"
    settings.cache_clear()


def test_a_replica_of_a_cluster_is_looked_at(
    replica: redis.Redis, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    _connect(environment, replica)
    assert cache.statistics("r1")["state"] == "proven"
    assert _summaries("cache_expiry")["platform_redis"][0] == "not_applicable"
    keys = _proof(warehouse, "r1")["keys"]
    assert (keys["visited"], keys["refused_keys"], keys["complete"]) == (1, 0, True)
    _told(replica, "ACL", "SETUSER", "operations", "on", ">secret", "~*", "+@all", "-readonly")
    _connect(environment, replica, "operations:secret@")
    assert cache.statistics("r2")["reason"] == (
        "this login may not use readonly; allow it by ACL SETUSER with +readonly"
    )
    assert _proof(warehouse, "r2")["keys"]["visited"] == 1, "SCAN needs no such word"
