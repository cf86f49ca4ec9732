"""The web application as a process of its own: real HTTP, rows, cache, chain, logs, rotation and outages."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis

from demo.databases import Databases
from demo.install import ROOT
from demo.platform.escrow import Escrow, Rpc
from demo.processes import Process, Processes, free_port
from demo.servers import Redis
from include.platform.probes import USER_AGENT
from tests.demo.platform.test_history import ACCESS, ERROR


@dataclass
class Web:
    """The running application."""

    url: str
    logs: Path
    database: str
    process: Process
    owner: psycopg.Connection
    cache_port: int

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, headers={"User-Agent": "tests"})

    def lines(self, name: str) -> list[str]:
        path = self.logs / name
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def row(self, query: str) -> tuple[Any, ...] | None:
        return self.owner.execute(query.encode()).fetchone()


@pytest.fixture
def web(
    servers: dict[str, int | str], new_escrow: Callable[[], str], databases: Databases, tmp_path: Path
) -> Iterator[Web]:
    name = new_escrow()
    chain_url = f"http://127.0.0.1:{servers['chain']}"
    with Rpc(chain_url) as rpc:
        address = Escrow.deploy(rpc).address
    processes = Processes(tmp_path / "processes.json")
    cache = Redis(processes, tmp_path / "redis").start()  # a test stops all of it for a while
    port = free_port()
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "ESCROW_DATABASE_URL": databases.url(name, "escrow_app"),
        "ESCROW_REDIS_URL": f"redis://127.0.0.1:{cache.port}/0",
        "ESCROW_CHAIN_URL": chain_url,
        "ESCROW_LOGS": str(tmp_path / "logs"),
    }
    command = [sys.executable, "-m", "demo.platform.web", "--port", str(port)]
    process = processes.start("web", command, log=tmp_path / "web.log", environment=environment, folder=ROOT)
    url = f"http://127.0.0.1:{port}"
    with psycopg.connect(databases.url(name, "escrow_owner"), autocommit=True) as owner:
        owner.execute("INSERT INTO escrow_contracts (address) VALUES (%s)", (address,))
        processes.wait_until(process, lambda: httpx.get(f"{url}/health").status_code == 200, seconds=30)
        yield Web(url, tmp_path / "logs", name, process, owner, cache.port)
    processes.stop_all()
    assert "Traceback" not in (tmp_path / "web.log").read_text()


def two_users(client: httpx.Client) -> tuple[int, int]:
    first, second = (
        client.post("/api/users", json={"email": f"{name}@b.example", "full_name": name}).json()["user_id"]
        for name in ("ann", "bob")
    )
    return first, second


def test_a_probe_of_the_watch_is_no_visit(web: Web) -> None:
    answer = httpx.get(f"{web.url}/", headers={"User-Agent": USER_AGENT})
    assert (answer.status_code, "<h1>Gold Escrow</h1>" in answer.text, answer.cookies) == (200, True, httpx.Cookies())
    assert web.row("SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM page_views)") == (0, 0)
    assert f'"{USER_AGENT}"' in (web.logs / "access.log").read_text()


def test_a_visit_becomes_rows_and_log_lines(web: Web) -> None:
    with web.client() as client:
        page = client.get("/", headers={"X-Forwarded-For": "10.9.8.7", "Referer": 'https://a.example/"q"'})
        assert page.status_code == 200
        assert "<h1>Gold Escrow</h1>" in page.text
        client.get("/pricing")
        user, _ = two_users(client)
        assert client.post("/api/users", json={"email": "ann@b.example", "full_name": "x"}).status_code == 409
        assert client.post("/api/login", json={"email": "ann@b.example", "password": "no"}).status_code == 401
        assert client.post("/api/login", json={"email": "nobody@b.example", "password": "gold"}).status_code == 401
        assert client.post("/api/login", json={"email": "ann@b.example", "password": "gold"}).status_code == 200
        assert client.get("/dashboard").status_code == 200
        assert client.post("/api/verification", json={"user_id": user}).status_code == 200
        assert client.post("/api/logout").status_code == 200
        assert client.get("/no-such-page").status_code == 404
    assert web.row("SELECT count(*), count(user_id), count(DISTINCT session_id) FROM page_views") == (3, 1, 1)
    assert web.row("SELECT count(*), count(ended_at) FROM sessions WHERE user_id = 1 AND address = '10.9.8.7'") == (
        1,
        1,
    )
    assert web.row("SELECT verified_at >= registered_at FROM users WHERE user_id = 1") == (True,)
    events = web.owner.execute(
        "SELECT user_id, kind, succeeded FROM authentication_events ORDER BY event_id"
    ).fetchall()
    assert events == [(1, "login", False), (None, "login", False), (1, "login", True), (1, "logout", True)]
    parsed = [match.groups() for line in web.lines("access.log") if (match := ACCESS.match(line))]
    assert len(parsed) == len(web.lines("access.log"))
    visits = [found for found in parsed if found[4] != "/health"]
    assert [(found[3], found[4], found[5]) for found in visits[:3]] == [
        ("GET", "/", "200"), ("GET", "/pricing", "200"), ("POST", "/api/users", "201"),
    ]  # fmt: skip
    assert visits[0][0] == "10.9.8.7"
    assert visits[0][7] == r"https://a.example/\x22q\x22"
    assert visits[0][8] == "tests"
    assert int(visits[0][6]) == len(page.content)
    when = datetime.strptime(visits[0][2], "%d/%b/%Y:%H:%M:%S %z")
    assert datetime.now(UTC) - when < timedelta(minutes=1)


def test_a_transaction_from_creation_to_payment(web: Web) -> None:
    with web.client() as client:
        buyer, seller = two_users(client)
        body = {"buyer_id": buyer, "seller_id": seller, "amount_usd": "1999.99"}
        numbers = [client.post("/api/transactions", json=body).json()["transaction_id"] for _ in range(4)]
        paths = [f"/api/transactions/{number}" for number in numbers]
        assert client.post(f"{paths[0]}/release").status_code == 409
        assert client.post(f"{paths[0]}/fund", json={}).json()["state"] == "funded"
        assert client.post(f"{paths[0]}/cancel").status_code == 409
        assert client.post(f"{paths[0]}/release").json()["state"] == "completed"
        assert client.get(paths[0]).json()["completed_at"]
        assert client.post(f"{paths[0]}/dispute").status_code == 409
        assert client.post(f"{paths[1]}/fund", json={"paid_usd": "0"}).json()["state"] == "failed"
        assert client.post(f"{paths[2]}/cancel").json()["state"] == "cancelled"
        for change in ("fund", "dispute", "refund"):
            assert client.post(f"{paths[3]}/{change}", json={}).status_code == 200
        assert client.post("/api/transactions/999/release").status_code == 404
        assert client.post("/api/transactions", json=body | {"seller_id": buyer}).status_code == 422
        assert client.post("/api/transactions", json=body | {"amount_usd": "-1"}).status_code == 422
        assert client.get("/transactions/1").status_code == 200
        assert client.get("/transactions/999").status_code == 404
    states = web.owner.execute(
        """SELECT num_nonnulls(funded_at), num_nonnulls(completed_at), num_nonnulls(disputed_at),
                  num_nonnulls(refunded_at), num_nonnulls(cancelled_at), num_nonnulls(failed_at),
                  num_nonnulls(chain_transaction_hash), num_nonnulls(dispute_chain_hash),
                  num_nonnulls(settlement_chain_hash)
           FROM transactions ORDER BY transaction_id"""
    ).fetchall()
    assert states == [
        (1, 1, 0, 0, 0, 0, 1, 0, 1), (0, 0, 0, 0, 0, 1, 1, 0, 0), (0, 0, 0, 0, 1, 0, 0, 0, 0),
        (1, 0, 1, 1, 0, 0, 1, 1, 1),
    ]  # fmt: skip
    fees = web.owner.execute("SELECT kind, amount_usd::text FROM fees ORDER BY fee_id").fetchall()
    assert fees == [("escrow", "29.99"), ("dispute", "25.00"), ("refund", "-25.00")]


def test_what_the_contract_refuses_has_not_happened(web: Web, servers: dict[str, int | str]) -> None:
    with web.client() as client:
        buyer, seller = two_users(client)
        body = {"buyer_id": buyer, "seller_id": seller, "amount_usd": "100"}
        for _ in range(2):
            number = client.post("/api/transactions", json=body).json()["transaction_id"]
            assert client.post(f"/api/transactions/{number}/fund", json={}).json()["state"] == "funded"
        assert client.post("/api/transactions/2/dispute").status_code == 200
        with Rpc(f"http://127.0.0.1:{servers['chain']}") as rpc:  # where nobody has paid anything
            web.owner.execute("INSERT INTO escrow_contracts (address) VALUES (%s)", (Escrow.deploy(rpc).address,))
        for path in ("1/release", "1/dispute", "2/refund"):
            answer = client.post(f"/api/transactions/{path}")
            assert answer.status_code == 409
            assert "the escrow contract refused it" in answer.json()["error"]
    assert web.row("SELECT count(completed_at), count(refunded_at), count(disputed_at) FROM transactions") == (0, 0, 1)
    assert web.row("SELECT string_agg(kind, ',') FROM fees") == ("dispute",)


def test_the_cache_is_used_and_some_keys_never_expire(web: Web) -> None:
    with web.client() as client:
        client.get("/")
        buyer, seller = two_users(client)
        client.post("/api/transactions", json={"buyer_id": buyer, "seller_id": seller, "amount_usd": "10"})
        for path in ("/api/prices", "/api/transactions", "/api/transactions/1"):
            assert client.get(path).json() == client.get(path).json()
        web.owner.execute("UPDATE transactions SET amount_usd = 20")
        assert client.get("/api/transactions/1").json()["amount_usd"] == "10.00"  # still from the cache
        client.post("/api/transactions/1/cancel")
        assert client.get("/api/transactions/1").json()["amount_usd"] == "20.00"
    with redis.Redis(port=web.cache_port, decode_responses=True) as cache:
        lives = {key: cache.ttl(key) for key in cache.keys()}  # noqa: SIM118
    assert 0 < lives["prices"] <= 60
    assert 0 < lives["transactions:1"] <= 15
    assert lives["transaction:1"] == lives["page_views:total"] == -1


def test_the_cache_may_be_away(web: Web) -> None:
    with redis.Redis(port=web.cache_port) as cache, web.client() as client:
        cache.execute_command("CLIENT", "PAUSE", "2500")
        assert client.get("/api/prices", timeout=10).status_code == 200
        entries = [json.loads(line) for line in web.lines("application.log")]
    assert [entry["logger"] for entry in entries if entry["level"] == "WARNING"] == ["escrow.cache"]


def test_an_absent_database_is_answered_with_503_and_logged(web: Web, databases: Databases) -> None:
    with web.client() as client:
        assert client.get("/api/transactions?page=1").status_code == 200
        with psycopg.connect(databases.postgres.url("postgres"), autocommit=True) as superuser:
            superuser.execute(f"ALTER DATABASE {web.database} ALLOW_CONNECTIONS false".encode())
            superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND usename = 'escrow_app'",
                (web.database,),
            )
            try:
                for _ in range(2):
                    answer = client.get("/api/transactions?page=7")
                    assert answer.status_code == 503
                    assert answer.json() == {"error": "the database is not available"}
                assert client.get("/health").status_code == 200
            finally:
                superuser.execute(f"ALTER DATABASE {web.database} ALLOW_CONNECTIONS true".encode())
        assert client.get("/api/transactions?page=7").status_code == 200
    entries = [json.loads(line) for line in web.lines("application.log")]
    failures = [entry for entry in entries if entry["level"] == "ERROR"]
    assert [entry["path"] for entry in failures] == ["/api/transactions"] * 2
    assert all(entry["exception"] for entry in failures)
    assert all(datetime.fromisoformat(entry["time"]).tzinfo for entry in failures)
    errors = web.lines("error.log")
    assert len(errors) == 2
    assert all(ERROR.match(line) for line in errors)
    password = databases.passwords["escrow_app"]
    assert not any(password in line for name in ("error.log", "application.log") for line in web.lines(name))
    assert [match[6] for line in web.lines("access.log") if (match := ACCESS.match(line))].count("503") == 2


@pytest.mark.parametrize("tell", [True, False])
def test_rotated_logs_are_left_alone(web: Web, tell: bool) -> None:
    with web.client() as client:
        client.get("/")
        kept = (web.logs / "access.log").rename(web.logs / "access.log-20261003")
        before = kept.read_text()
        if tell:
            os.kill(web.process.popen.pid, signal.SIGHUP)
            time.sleep(0.2)
        assert client.get("/help").status_code == 200
    assert kept.read_text() == before
    assert [match[5] for line in web.lines("access.log") if (match := ACCESS.match(line))] == ["/help"]


def test_strange_requests_do_no_harm(web: Web) -> None:
    with web.client() as client:
        assert client.get("/api/transactions/abc").status_code == 422
        assert client.get("/api/transactions/99999999999999999999999").status_code == 422
        assert client.post("/api/login", content=b"not json").status_code == 422
        assert client.post("/api/users", json={"email": "a\x00b", "full_name": "x"}).status_code == 422
        assert client.get("/", headers={"Cookie": "session=1' DROP TABLE"}).status_code == 200
        assert client.get("/", headers={"Cookie": f"session={'9' * 30}"}).status_code == 200
        assert client.get("/", headers={"User-Agent": 'a"b\\c'}).status_code == 200
        assert client.get("/%0a%22evil").status_code == 404
    assert all(ACCESS.match(line) for line in web.lines("access.log"))
    assert not any(line.endswith(" 500") for line in web.lines("access.log"))


def test_a_session_that_was_idle_ends_and_a_new_one_begins(web: Web) -> None:
    with web.client() as client:
        client.get("/")
        client.get("/help")
        web.owner.execute("UPDATE sessions SET started_at = started_at - interval '2 hours'")
        assert client.get("/").cookies["session"] == "1", "the last look was a moment ago"
        web.owner.execute("UPDATE page_views SET viewed_at = viewed_at - interval '31 minutes'")
        assert client.get("/").cookies["session"] == "2"
        assert client.get("/").cookies["session"] == "2"
    ended = web.row("SELECT ended_at = (SELECT max(viewed_at) FROM page_views WHERE session_id = 1) FROM sessions")
    assert ended == (True,)
    assert web.row("SELECT count(*) FROM sessions WHERE session_id = 2 AND ended_at IS NULL") == (1,)


def test_staff_answers_tickets_and_sees_what_is_open(web: Web) -> None:
    with web.client() as client:
        buyer, seller = two_users(client)
        body = {"buyer_id": buyer, "seller_id": seller, "amount_usd": "10"}
        for _ in range(2):
            client.post("/api/transactions", json=body)
            client.post("/api/support-tickets", json={"user_id": buyer, "priority": "high", "subject": "x"})
        client.post("/api/transactions/1/cancel")
        (transaction,) = client.get("/api/staff/transactions").json()
        assert (transaction["transaction_id"], transaction["funded_at"]) == (2, None)
        path = "/api/staff/support-tickets"
        answered = client.post(f"{path}/1/answer").json()["first_response_at"]
        assert answered
        assert [one["ticket_id"] for one in client.get(path).json()] == [1, 2]
        done = client.post(f"{path}/1/resolve").json()
        assert (done["first_response_at"], bool(done["resolved_at"])) == (answered, True)
        assert client.post(f"{path}/1/resolve").json() == done
        assert client.post(f"{path}/1/answer").json() == done
        assert [one["ticket_id"] for one in client.get(path).json()] == [2]
        assert client.post(f"{path}/9/answer").status_code == 404
        assert client.post(f"{path}/1/close").status_code == 422


def test_traffic_makes_life_until_it_is_stopped(web: Web, tmp_path: Path) -> None:
    """What has waited for days is moved on as well: deposits, releases, disputes, tickets."""
    users = 5
    with web.client() as client:
        for number in range(1, users + 1):
            client.post("/api/users", json={"email": f"user{number}@gold-escrow.example", "full_name": "x"})
    web.owner.execute(
        """INSERT INTO transactions (buyer_id, seller_id, amount_usd, created_at, funded_at)
           SELECT 1, 2, 100, now() - interval '20 days', CASE WHEN n % 2 = 0 THEN now() - interval '19 days' END
           FROM generate_series(1, 6) AS n"""
    )
    web.owner.execute(
        """INSERT INTO support_tickets (user_id, priority, subject, created_at)
           VALUES (1, 'low', 'x', now() - interval '9 days')"""
    )
    command = [sys.executable, "-m", "demo.platform.traffic", "--web", web.url, "--users", str(users), "--times", "600"]
    with (tmp_path / "traffic.log").open("wb") as log:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        visitors = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    done = """SELECT (SELECT count(*) FROM page_views WHERE user_id IS NOT NULL) > 10
              AND (SELECT count(*) FROM sessions) > 10
              AND (SELECT count(*) FROM transactions WHERE completed_at IS NOT NULL) > 0
              AND (SELECT bool_and(funded_at IS NOT NULL) FROM transactions WHERE created_at < now() - interval '1 day')
              AND (SELECT bool_and(first_response_at IS NOT NULL) FROM support_tickets WHERE ticket_id = 1)"""
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and web.row(done) != (True,):
            time.sleep(0.2)
    finally:
        visitors.send_signal(signal.SIGTERM)
        assert visitors.wait(timeout=15) == 0
    assert (tmp_path / "traffic.log").read_text() == ""
    assert web.row(done) == (True,)
    statuses = {match[6] for line in web.lines("access.log") if (match := ACCESS.match(line))}
    assert not {status for status in statuses if status.startswith("5")}


def test_without_settings_it_says_which_is_missing() -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ESCROW_")}
    done = subprocess.run(
        [sys.executable, "-m", "demo.platform.web", "--port", "1"],
        cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.search(r"ESCROW_DATABASE_URL is not set", done.stderr)
