"""The addresses of HTTP connections, as a URI, as JSON and as Airflow's form has them."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from include import connections
from include.outcome import ConfigurationError, Outcome
from include.platform import probes
from include.web_addresses import page_url, web_url
from tests.include.platform.web_server import Behaviour, web_server
from tests.ipv6 import needs_ipv6

WEB = "AIRFLOW_CONN_PLATFORM_WEB"


@pytest.fixture
def web(environment: pytest.MonkeyPatch) -> Iterator[Behaviour]:
    with web_server() as behaviour:
        yield behaviour


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("https://escrow.example.org", "https://escrow.example.org"),
        ("http://escrow.example.org:8000/app/", "http://escrow.example.org:8000/app"),
        ('{"conn_type": "http", "host": "escrow.example.org", "schema": "https"}', "https://escrow.example.org"),
        ("http://[::1]:8545", "http://[::1]:8545"),
        ("https://[2001:db8::5]/rpc", "https://[2001:db8::5]/rpc"),
        ("http://[fe80::1%25eth0]:8545", "http://[fe80::1%25eth0]:8545"),
        ('{"conn_type": "http", "host": "::1", "port": 8545}', "http://[::1]:8545"),
        ('{"conn_type": "http", "host": "[::1]", "port": 8545}', "http://[::1]:8545"),
        ('{"conn_type": "http", "host": "escrow.example.org/base"}', "http://escrow.example.org/base"),
        # The whole address in the host, as Airflow's own HTTP connections may have it.
        ('{"conn_type": "http", "host": "https://escrow.example.org"}', "https://escrow.example.org"),
        ('{"conn_type": "https", "host": "HTTP://escrow.example.org/"}', "http://escrow.example.org"),
        ('{"conn_type": "http", "host": "https://[::1]/base/", "port": 8443}', "https://[::1]:8443/base"),
        ('{"conn_type": "generic", "host": "https://h:8443/base", "schema": "v2"}', "https://h:8443/base/v2"),
        ("http://https%3A%2F%2Fescrow.example.org", "https://escrow.example.org"),
    ],
)
def test_web_addresses(monkeypatch: pytest.MonkeyPatch, value: str, url: str) -> None:
    monkeypatch.setenv(WEB, value)
    assert web_url("platform_web") == url
    assert page_url("platform_web", "/health") == f"{url}/health"


@pytest.mark.parametrize(
    ("value", "path", "url"),
    [
        ("https://rpc.example.org/v2?dkey=a%26b", "", "https://rpc.example.org/v2?dkey=a%26b"),
        ("https://rpc.example.org?dkey=x&chain_id=1", "", "https://rpc.example.org?dkey=x"),
        ("https://escrow.example.org?token&api_path=/h", "/h", "https://escrow.example.org/h?token="),
        ("https://escrow.example.org?token=x", "health?deep=1", "https://escrow.example.org/health?deep=1&token=x"),
        ('{"conn_type": "http", "host": "https://h/v2?dkey=x", "port": 1}', "", "https://h:1/v2?dkey=x"),
        ('{"conn_type": "http", "host": "h", "extra": {"dkey": "x", "n": 1, "m": null}}', "/", "http://h/?dkey=x&n=1"),
    ],
)
def test_the_query_of_a_connection_goes_with_its_pages(
    monkeypatch: pytest.MonkeyPatch, value: str, path: str, url: str
) -> None:
    monkeypatch.setenv(WEB, value)
    assert page_url("platform_web", path) == url
    assert "?" not in web_url("platform_web")


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("wss://rpc.example.org/v2/secret-word", "is of type wss; it must be http or https"),
        ('{"conn_type": "http", "host": "wss://rpc.example.org/secret-word"}', "must begin with http:// or https://"),
        ('{"conn_type": "http"}', "names no host"),
        ('{"conn_type": "http", "host": "https://"}', "names no host"),
        (
            '{"conn_type": "http", "host": "h", "extra": {"headers": {"X-Key": "secret-word"}}}',
            "the extra headers of the connection platform_web cannot stand in the query",
        ),
    ],
)
def test_what_is_no_web_address_is_named(monkeypatch: pytest.MonkeyPatch, value: str, sentence: str) -> None:
    monkeypatch.setenv(WEB, value)
    with pytest.raises(ConfigurationError, match=sentence) as refused:
        page_url("platform_web")
    assert "platform_web" in str(refused.value)
    assert "secret-word" not in str(refused.value)


def test_a_key_in_the_query_reaches_the_server_and_no_evidence(web: Behaviour, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIRFLOW_CONN_PLATFORM_CHAIN", f"{web.url}/v2?dkey=secret%2Dword")
    environment.setenv(WEB, f"{web.url}?api_path=/health%3Fkey%3Dsecret-word&token=secret-word")
    found = [probes.chain(), probes.api(), probes.frontend()]
    assert [path for _, path, _ in web.requests] == [
        "/v2?dkey=secret-word", "/health?key=secret-word&token=secret-word", "/?token=secret-word",
    ]  # fmt: skip
    web.statuses = [500]
    found += [probes.chain(), probes.api(), probes.frontend()]
    environment.setenv("AIRFLOW_CONN_PLATFORM_CHAIN", "http://127.0.0.1:1/v2?dkey=secret-word")
    found.append(probes.chain())
    assert [one.outcome for one in found[1:]] == [Outcome.OK] * 2 + [Outcome.CRITICAL] * 4
    assert "secret-word" not in json.dumps([one.evidence for one in found])


def test_airflow_masks_a_key_wherever_it_stands_in_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library logs each address that it asks."""
    from airflow.sdk._shared.secrets_masker import redact

    asked = "https://rpc.example.org"
    monkeypatch.setenv("AIRFLOW_CONN_PLATFORM_CHAIN", f"{asked}?chain_id=31337&dkey=ke%2Fy-word")
    connections.details("platform_chain")
    monkeypatch.setenv("AIRFLOW_CONN_PLATFORM_CHAIN", json.dumps({"conn_type": "http", "host": f"{asked}/v3/hostkey"}))
    connections.details("platform_chain")
    assert redact(f"{asked}?dkey=ke%2Fy-word") == f"{asked}?dkey=***"
    assert redact(f"POST {asked}/v3/hostkey of 31337") == f"POST {asked}/*** of 31337"


@needs_ipv6
def test_the_web_is_reached_by_ipv6(environment: pytest.MonkeyPatch) -> None:
    class Server(HTTPServer):
        address_family = socket.AF_INET6

    with Server(("::1", 0), BaseHTTPRequestHandler) as server:  # which answers 501 to everything
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment.setenv(WEB, f"http://[::1]:{server.server_port}")
        assert probes.frontend().evidence["status"] == 501
        server.shutdown()


def test_a_whole_address_in_the_host_is_probed(web: Behaviour, environment: pytest.MonkeyPatch) -> None:
    facts: dict[str, Any] = {"conn_type": "http", "host": "http://127.0.0.1", "port": web.port}
    environment.setenv(WEB, json.dumps(facts))
    environment.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # this machine itself is never asked through it
    assert probes.api().outcome is Outcome.OK
