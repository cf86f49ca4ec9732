"""Redis and web servers behind TLS: what a connection says of it is heeded, and what is wrong with it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions

from include.connections import redis
from include.outcome import ConfigurationError, Outcome
from include.platform import probes
from tests.include.platform.web_server import web_server
from tests.tls import certify, encrypted

CACHE = "AIRFLOW_CONN_PLATFORM_REDIS"
UNKNOWN_ISSUER = (
    "platform_{name} has a certificate that cannot be verified (self-signed certificate); mend it, or let this machine "
    "know who issued it"
)


def _connect(environment: pytest.MonkeyPatch, port: int, **extra: Any) -> None:
    facts = {"conn_type": "redis", "host": "127.0.0.1", "port": port, "extra": extra}
    environment.setenv(CACHE, json.dumps(facts))


def test_redis_is_asked_by_the_authority_and_the_certificate_that_its_connection_names(
    environment: pytest.MonkeyPatch, servers: dict[str, Any], tmp_path: Path
) -> None:
    server, client = certify(tmp_path, "server"), certify(tmp_path, "client")
    with encrypted(int(servers["redis"]), server, clients=client[0]) as port:
        own = {"ssl_certfile": str(client[0]), "ssl_keyfile": str(client[1])}
        _connect(environment, port, ssl=True, ssl_ca_certs=str(server[0]), **own)
        assert redis().ping()
        assert probes.cache().outcome is Outcome.OK
        options = "&".join(f"{key}={value}" for key, value in own.items())
        environment.setenv(CACHE, f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={server[0]}&{options}")
        assert redis().ping()
        _connect(environment, port, ssl=True, ssl_ca_certs=str(server[0]))
        with pytest.raises(exceptions.ConnectionError):
            redis().ping()
        _connect(environment, port, ssl="true", **own)
        found = probes.cache()
        assert (found.outcome, found.evidence["reason"]) == (Outcome.CRITICAL, UNKNOWN_ISSUER.format(name="redis"))
        _connect(environment, port, ssl=True, ssl_cert_reqs="none", ssl_check_hostname="false", **own)
        assert redis().ping(), "nothing is verified where the connection says so"


def test_the_name_in_a_certificate_of_redis_is_checked_unless_the_connection_says_otherwise(
    environment: pytest.MonkeyPatch, servers: dict[str, Any], tmp_path: Path
) -> None:
    server = certify(tmp_path, "server")  # of 127.0.0.1, not of localhost
    with encrypted(int(servers["redis"]), server) as port:
        address = f"rediss://localhost:{port}/0?ssl_ca_certs={server[0]}"
        environment.setenv(CACHE, address)
        found = probes.cache()
        assert found.outcome is Outcome.CRITICAL
        assert "(Hostname mismatch)" in found.evidence["reason"]
        environment.setenv(CACHE, f"{address}&ssl_check_hostname=False")
        assert redis().ping()


def test_what_airflows_form_leaves_of_tls_without_ssl_does_no_harm(
    environment: pytest.MonkeyPatch, servers: dict[str, Any]
) -> None:
    left = {"ssl_cert_reqs": "required", "ssl_ca_certs": "", "ssl_keyfile": None, "ssl_check_hostname": False}
    _connect(environment, int(servers["redis"]), db=2, ssl=False, **left)
    client = redis()
    assert client.ping()
    assert client.connection_pool.connection_kwargs["db"] == 2


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"ssl_ca_cert": "/x"}, "has the extra ssl_ca_cert, which is none of db, ssl, ssl_cert_reqs, "),
        ({"ssl_ca_certs": "/x"}, "has the extra ssl_ca_certs but not ssl; set ssl to true or to false"),
        ({"ssl": True, "ssl_cert_reqs": "maybe"}, "the ssl_cert_reqs of the connection platform_redis is none of"),
        ({"ssl": True, "ssl_keyfile": "/no/such"}, "the file that ssl_keyfile of the connection .* cannot be read"),
    ],
)
def test_what_cannot_be_heeded_is_refused(
    environment: pytest.MonkeyPatch, extra: dict[str, Any], sentence: str
) -> None:
    _connect(environment, 6379, **extra)
    with pytest.raises(ConfigurationError, match=sentence):
        redis()
    assert probes.cache().outcome is Outcome.UNKNOWN


def test_what_is_wrong_with_the_certificate_of_a_web_server_is_told(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with web_server() as web, encrypted(web.port, certify(tmp_path, "server")) as port:
        for name in ("WEB", "CHAIN"):
            environment.setenv(f"AIRFLOW_CONN_PLATFORM_{name}", f"https://127.0.0.1:{port}/secret-word")
        for probe, name in ((probes.frontend, "web"), (probes.chain, "chain")):
            found = probe()
            assert (found.outcome, found.evidence) == (
                Outcome.CRITICAL, {"reason": UNKNOWN_ISSUER.format(name=name)},
            )  # fmt: skip
        assert web.requests == []
