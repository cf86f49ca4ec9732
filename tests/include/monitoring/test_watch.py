"""The watch over real components: what it writes, what it confirms, and what it does when a probe cannot be made."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from demo.processes import free_port
from include.monitoring import watch as module
from include.monitoring.watch import watch
from include.outcome import ConfigurationError, Outcome, SourceUnavailable
from include.platform import probes
from include.platform.probes import Probe
from include.settings import settings
from tests.include.platform.web_server import Behaviour, web_server

ALL = ["frontend", "api", "database", "cache", "chain"]


@pytest.fixture
def platform(
    warehouse: psycopg.Connection[Any], databases: Databases, environment: pytest.MonkeyPatch
) -> Iterator[Behaviour]:
    """A platform that works: the run's Redis and node, a database, and a web server that the test rules."""
    environment.setenv("OPERATIONS__WATCH__CONFIRM_FAILURE_AFTER_SECONDS", "0.1")
    environment.setenv("OPERATIONS__WATCH__PROBE_TIMEOUT_SECONDS", "1")
    settings.cache_clear()
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB", databases.url(warehouse.info.dbname, "warehouse_reader"))
    with web_server() as behaviour:
        environment.setenv("AIRFLOW_CONN_PLATFORM_WEB", behaviour.url)
        yield behaviour
    settings.cache_clear()


def observations(warehouse: psycopg.Connection[Any]) -> dict[str, tuple[Any, ...]]:
    found = warehouse.execute(
        "SELECT resource, outcome, value, unit, evidence, observed_at, signal FROM ops.observation"
    )
    return {row[0]: row[1:] for row in found}


def test_a_platform_that_works(warehouse: psycopg.Connection[Any], platform: Behaviour) -> None:
    before = datetime.now(UTC)
    assert watch("run-1") == dict.fromkeys(ALL, "ok")
    found = observations(warehouse)
    assert set(found) == set(ALL)
    for outcome, value, unit, evidence, observed_at, signal in found.values():
        assert (outcome, unit, signal) == ("ok", "seconds", "probe")
        assert 0 < value < 3
        assert (evidence["attempts"], evidence["run_id"]) == (1, "run-1")
        assert before <= observed_at <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("connection", "down"),
    [
        ("PLATFORM_WEB", {"frontend", "api"}),
        ("PLATFORM_DB", {"database"}),
        ("PLATFORM_REDIS", {"cache"}),
        ("PLATFORM_CHAIN", {"chain"}),
    ],
)
def test_one_component_down(
    warehouse: psycopg.Connection[Any],
    platform: Behaviour,
    environment: pytest.MonkeyPatch,
    connection: str,
    down: set[str],
) -> None:
    kind = {"PLATFORM_DB": "postgresql", "PLATFORM_REDIS": "redis"}.get(connection, "http")
    environment.setenv(f"AIRFLOW_CONN_{connection}", f"{kind}://127.0.0.1:{free_port()}/0")
    assert watch("run") == {name: "critical" if name in down else "ok" for name in ALL}
    for name in down:
        outcome, value, unit, evidence, *_ = observations(warehouse)[name]
        assert (outcome, value, unit) == ("critical", None, None)
        assert evidence["attempts"] == 2
        assert "reason" in evidence["first_attempt"]


def test_a_failure_that_passes_is_no_failure(
    warehouse: psycopg.Connection[Any], platform: Behaviour, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPERATIONS__WATCH__CONFIRM_FAILURE_AFTER_SECONDS", "3")
    settings.cache_clear()
    platform.statuses = [500, 200]
    before = datetime.now(UTC)
    assert watch("run", ["frontend"]) == {"frontend": "ok"}
    outcome, _, _, evidence, observed_at, _ = observations(warehouse)["frontend"]
    assert (outcome, evidence["attempts"], evidence["first_attempt"]["status"]) == ("ok", 2, 500)
    assert observed_at - before < timedelta(seconds=3)  # the time of the first attempt


def test_a_failure_is_confirmed_once(warehouse: psycopg.Connection[Any], platform: Behaviour) -> None:
    platform.statuses = [503]
    assert watch("run", ["api"]) == {"api": "critical"}
    assert len(platform.requests) == 2
    assert set(observations(warehouse)) == {"api"}


def test_a_connection_that_is_not_defined_is_unknown(
    warehouse: psycopg.Connection[Any], platform: Behaviour, environment: pytest.MonkeyPatch
) -> None:
    environment.delenv("AIRFLOW_CONN_PLATFORM_CHAIN")
    found = watch("run")
    assert (found["chain"], found["cache"]) == ("unknown", "ok")
    outcome, value, _, evidence, *_ = observations(warehouse)["chain"]
    assert (outcome, value, evidence["attempts"]) == ("unknown", None, 1)
    assert "platform_chain" in evidence["reason"]


def test_a_fault_of_the_probe_itself_is_unknown(
    warehouse: psycopg.Connection[Any], platform: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty() -> Probe:
        raise KeyError("secret-word")

    monkeypatch.setitem(probes.PROBES, "cache", faulty)
    assert watch("run", ["cache", "chain"]) == {"cache": "unknown", "chain": "ok"}
    assert observations(warehouse)["cache"][3]["reason"] == "the probe itself failed (KeyError)"


def test_a_probe_that_hangs_does_not_keep_the_others_from_the_record(
    warehouse: psycopg.Connection[Any], platform: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def hanging() -> Probe:
        released.wait(30)
        return Probe(Outcome.OK, 3.0, {})

    monkeypatch.setattr(module, "_GRACE_SECONDS", 0)
    monkeypatch.setitem(probes.PROBES, "chain", hanging)
    begun = time.monotonic()
    try:
        assert watch("run", ["cache", "chain"]) == {"cache": "ok", "chain": "critical"}
        assert time.monotonic() - begun < 20
    finally:
        released.set()
    assert set(observations(warehouse)) == {"cache", "chain"}


def test_components_are_probed_at_the_same_time(
    warehouse: psycopg.Connection[Any], platform: Behaviour, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPERATIONS__WATCH__PROBE_TIMEOUT_SECONDS", "17")
    settings.cache_clear()
    platform.together = threading.Barrier(2, timeout=15)  # nobody is answered before both have asked
    assert watch("run", ["frontend", "api"]) == {"frontend": "ok", "api": "ok"}


def test_a_component_without_a_probe_is_named(warehouse: psycopg.Connection[Any]) -> None:
    with pytest.raises(ConfigurationError, match="no probe of printer"):
        watch("run", ["api", "printer"])
    assert observations(warehouse) == {}


def test_a_warehouse_that_is_down_is_an_error(
    warehouse: psycopg.Connection[Any], platform: Behaviour, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("AIRFLOW_CONN_WAREHOUSE", f"postgresql://x:y@127.0.0.1:{free_port()}/z")
    with pytest.raises(SourceUnavailable):
        watch("run", ["cache"])
