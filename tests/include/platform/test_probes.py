"""Each probe against the real thing: working, slow, broken, silent, gone, and not to be reached at all."""

from __future__ import annotations

import gzip
import json
import socket
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from demo.databases import Databases
from demo.processes import Processes, free_port
from demo.servers import Postgres, Redis
from include.outcome import Outcome
from include.platform import probes
from include.settings import settings
from tests.include.platform.web_server import Behaviour, web_server

WEB, CHAIN, CACHE, DATABASE = (f"AIRFLOW_CONN_PLATFORM_{name}" for name in ("WEB", "CHAIN", "REDIS", "DB"))
LIMIT = 0.6  # seconds


@pytest.fixture(autouse=True)
def _limits(environment: pytest.MonkeyPatch) -> Iterator[None]:
    """Far above what a probe takes, also on a busy machine."""
    environment.setenv("OPERATIONS__WATCH__PROBE_TIMEOUT_SECONDS", "10")
    environment.setenv("OPERATIONS__ALERTS__RESPONSE_SECONDS", "5")
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def short_timeout(environment: pytest.MonkeyPatch, _limits: None) -> None:
    environment.setenv("OPERATIONS__WATCH__PROBE_TIMEOUT_SECONDS", str(LIMIT))
    settings.cache_clear()


@pytest.fixture
def web(environment: pytest.MonkeyPatch) -> Iterator[Behaviour]:
    with web_server() as behaviour:
        environment.setenv(WEB, behaviour.url)
        yield behaviour


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# --------------------------------------------------------------------------------------- frontend and API
def test_frontend_and_api_that_answer(web: Behaviour, environment: pytest.MonkeyPatch) -> None:
    for probe in (probes.frontend, probes.api):
        found = probe()
        assert found.outcome is Outcome.OK
        assert found.seconds is not None
        assert 0 < found.seconds < 5
    assert [request[:2] for request in web.requests] == [("GET", "/"), ("GET", "/health")]
    assert all(request[2]["User-Agent"] == "gold-escrow-operations" for request in web.requests)
    environment.setenv(WEB, f"{web.url}/?api_path=/api/status")
    assert probes.api().evidence == {"path": "/api/status", "status": 200}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (204, Outcome.OK),
        (401, Outcome.WARNING),
        (403, Outcome.WARNING),
        (404, Outcome.CRITICAL),  # nobody reaches a platform whose address is not there
        (410, Outcome.CRITICAL),
        (429, Outcome.WARNING),
        (499, Outcome.WARNING),
        (500, Outcome.CRITICAL),
        (503, Outcome.CRITICAL),
    ],
)
def test_statuses(web: Behaviour, status: int, outcome: Outcome) -> None:
    web.statuses, web.body = [status], b""
    found = probes.frontend()
    assert (found.outcome, found.evidence["status"]) == (outcome, status)
    assert found.seconds is not None


def test_a_redirect_is_followed(web: Behaviour) -> None:
    web.statuses, web.headers = [302, 503], {"Location": "/login"}
    assert probes.frontend().outcome is Outcome.CRITICAL
    assert [path for _, path, _ in web.requests] == ["/", "/login"]


def test_an_api_behind_a_login_page_is_not_ok(web: Behaviour) -> None:
    web.statuses, web.headers = [302, 200], {"Location": "/login?next=secret-word"}
    found = probes.api()
    assert (found.outcome, found.evidence) == (
        Outcome.WARNING,
        {
            "path": "/health",
            "status": 200,
            "redirected_to": "/login",
            "reason": "it was redirected to another page, perhaps a login; correct api_path of the connection "
            "platform_web",
        },
    )
    for status, outcome in ((503, Outcome.CRITICAL), (401, Outcome.WARNING)):
        web.statuses = [302, status]
        found = probes.api()
        assert (found.outcome, found.evidence["reason"]) == (outcome, f"it answered {status}")
    web.statuses = [302, 200]
    found = probes.frontend()
    assert (found.outcome, found.evidence) == (Outcome.OK, {"path": "/", "status": 200, "redirected_to": "/login"})


@pytest.mark.parametrize(
    ("location", "outcome"),
    [
        ("/health/", Outcome.OK),
        ("http://127.0.0.1:{other}/health", Outcome.OK),  # as from http:// to https://
        ("http://localhost:{other}/health", Outcome.WARNING),
    ],
)
def test_a_redirect_of_the_api_to_the_same_page_is_no_other_page(
    web: Behaviour, location: str, outcome: Outcome
) -> None:
    with web_server() as other:
        web.statuses, web.headers = [301, 200], {"Location": location.format(other=other.port)}
        found = probes.api()
    assert found.outcome is outcome
    assert found.evidence.get("redirected_to") == ("/health" if outcome is Outcome.WARNING else None)


@pytest.mark.parametrize(
    ("asked", "answered", "found"),
    [
        ("http://escrow.org", "https://www.escrow.org/", None),
        ("https://www.escrow.org/health", "https://escrow.org/health/?a=b", None),
        ("https://escrow.org/health", "https://login.escrow.org/health", "/health"),
        ("https://escrow.org/", "https://escrow.org/en", "/en"),
    ],
)
def test_what_is_another_page(asked: str, answered: str, found: str | None) -> None:
    assert probes._other_page(httpx.URL(asked), httpx.URL(answered)) == found


@pytest.mark.parametrize("statuses", [[200], [302, 200]])
def test_no_answer_is_unpacked(web: Behaviour, statuses: list[int]) -> None:
    web.body = gzip.compress(gzip.compress(bytes(100_000_000)))
    assert len(web.body) < 2000
    web.statuses, web.headers = statuses, {"Content-Encoding": "gzip, gzip", "Location": "/other"}
    tracemalloc.start()
    try:
        assert probes.frontend().outcome is Outcome.OK
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert {headers["Accept-Encoding"] for _, _, headers in web.requests} == {"identity"}


def test_a_login_goes_to_no_other_host(web: Behaviour, environment: pytest.MonkeyPatch) -> None:
    with web_server() as other:
        environment.setenv(WEB, web.url.replace("//", "//prober:secret-word@"))
        web.statuses, web.headers = [302, 302, 200], {"Location": "/again"}
        assert probes.frontend().outcome is Outcome.OK
        assert ["Authorization" in headers for *_, headers in web.requests] == [True, True, True]
        web.statuses, web.headers = [302], {"Location": f"http://localhost:{other.port}/"}
        assert probes.frontend().outcome is Outcome.OK
        assert ["Authorization" in headers for *_, headers in other.requests] == [False]
    web.headers = {"Location": "/"}
    assert probes.frontend().evidence["reason"] == "platform_web gave no answer (TooManyRedirects)"


def test_a_slow_answer_is_a_warning(web: Behaviour, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OPERATIONS__ALERTS__RESPONSE_SECONDS", "0.3")
    settings.cache_clear()
    web.delay = 0.4
    found = probes.frontend()
    assert found.outcome is Outcome.WARNING
    assert found.evidence["reason"] == "it took longer than 0.3 seconds"
    assert found.seconds is not None
    assert found.seconds >= 0.4


@pytest.mark.usefixtures("short_timeout")
@pytest.mark.parametrize(("delay", "between"), [(8.0, 0.0), (0.0, 0.2)])
def test_no_whole_answer_in_time_is_critical(web: Behaviour, delay: float, between: float) -> None:
    web.delay, web.delay_between_bytes, web.body = delay, between, b"x" * 50
    begun = time.monotonic()
    found = probes.frontend()
    assert time.monotonic() - begun < LIMIT + 5
    assert (found.outcome, found.seconds) == (Outcome.CRITICAL, None)
    assert found.evidence["reason"] == "platform_web gave no answer within 0.6 seconds"


@pytest.mark.usefixtures("short_timeout")
def test_a_web_server_that_is_gone_or_talks_nonsense_is_critical(
    environment: pytest.MonkeyPatch, servers: dict[str, int | str]
) -> None:
    environment.setenv(WEB, f"http://127.0.0.1:{free_port()}")
    assert probes.frontend().outcome is Outcome.CRITICAL
    environment.setenv(WEB, f"http://127.0.0.1:{servers['redis']}")  # Redis speaks no HTTP
    assert probes.api().outcome is Outcome.CRITICAL
    with silent_port() as port:
        environment.setenv(WEB, f"http://127.0.0.1:{port}")
        assert probes.frontend().outcome is Outcome.CRITICAL


@pytest.mark.parametrize("component", sorted(probes.PROBES))
def test_a_component_without_its_connection_is_unknown(environment: pytest.MonkeyPatch, component: str) -> None:
    for variable in (WEB, CHAIN, CACHE, DATABASE):
        environment.delenv(variable, raising=False)
    found = probes.PROBES[component]()
    assert (found.outcome, found.seconds) == (Outcome.UNKNOWN, None)
    assert "is not defined" in found.evidence["reason"]


# ------------------------------------------------------------------------------------------------ database
def test_a_database_that_answers(databases: Databases, environment: pytest.MonkeyPatch) -> None:
    databases.create("probed", "escrow_owner")
    environment.setenv(DATABASE, databases.url("probed", "operations_reader"))
    found = probes.database()
    assert (found.outcome, found.evidence) == (Outcome.OK, {})
    assert found.seconds is not None
    databases.drop("probed")


def test_a_database_that_is_stopped_is_critical(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    processes = Processes(tmp_path / "processes.json")
    server = Postgres(processes, tmp_path / "postgres").start()
    environment.setenv(DATABASE, server.url("postgres"))
    try:
        assert probes.database().outcome is Outcome.OK
    finally:
        server.stop()
        processes.stop_all()
    found = probes.database()
    assert found.outcome is Outcome.CRITICAL
    assert server.superuser_password not in json.dumps(found.evidence)


@pytest.mark.usefixtures("short_timeout")
def test_a_database_that_never_answers_is_critical_in_bounded_time(environment: pytest.MonkeyPatch) -> None:
    with silent_port() as port:
        environment.setenv(DATABASE, f"postgresql://someone:secret-word@127.0.0.1:{port}/escrow")
        begun = time.monotonic()
        found = probes.database()
        assert time.monotonic() - begun < 8  # libpq waits for two seconds at least
    assert found.outcome is Outcome.CRITICAL
    assert "secret-word" not in json.dumps(found.evidence)


def test_wrong_credentials_of_the_database_tell_nothing_about_it(
    databases: Databases, environment: pytest.MonkeyPatch
) -> None:
    password = databases.passwords["operations_reader"]
    environment.setenv(DATABASE, databases.url("postgres", "operations_reader").replace(password, "wrong"))
    found = probes.database()
    assert found.outcome is Outcome.UNKNOWN
    assert "refused the connection" in found.evidence["reason"]


def test_a_missing_right_to_connect_tells_nothing_about_the_database(
    databases: Databases, environment: pytest.MonkeyPatch
) -> None:
    databases.create("closed_to_the_watch", "warehouse_owner")
    environment.setenv(DATABASE, databases.url("closed_to_the_watch", "operations_reader"))
    found = probes.database()
    databases.drop("closed_to_the_watch")
    assert found.outcome is Outcome.UNKNOWN
    remedy = 'run GRANT CONNECT ON DATABASE "closed_to_the_watch" TO "operations_reader"'
    assert found.evidence["reason"].endswith(remedy)


# --------------------------------------------------------------------------------------------------- cache
def test_a_cache_that_answers_and_then_is_stopped(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    processes = Processes(tmp_path / "processes.json")
    server = Redis(processes, tmp_path / "redis").start()
    environment.setenv(CACHE, f"redis://127.0.0.1:{server.port}/0")
    assert probes.cache().outcome is Outcome.OK
    from redis import Redis as Client

    with Client(port=server.port) as client:
        client.config_set("requirepass", "secret-word")
    refused = probes.cache()
    assert refused.outcome is Outcome.UNKNOWN
    assert "secret-word" not in json.dumps(refused.evidence)
    environment.setenv(CACHE, f"redis://:secret-word@127.0.0.1:{server.port}/0")
    assert probes.cache().outcome is Outcome.OK
    server.stop()
    assert probes.cache().outcome is Outcome.CRITICAL


@pytest.mark.usefixtures("short_timeout")
def test_a_cache_that_never_answers_is_critical_in_bounded_time(environment: pytest.MonkeyPatch) -> None:
    with silent_port() as port:
        environment.setenv(CACHE, f"redis://127.0.0.1:{port}/0")
        begun = time.monotonic()
        assert probes.cache().outcome is Outcome.CRITICAL
        assert time.monotonic() - begun < LIMIT + 5


def test_login_and_password_are_sent(web: Behaviour, environment: pytest.MonkeyPatch) -> None:
    environment.setenv(WEB, f"http://watch:secret-word@127.0.0.1:{web.port}")
    probes.frontend()
    assert web.requests[0][2]["Authorization"].startswith("Basic ")
