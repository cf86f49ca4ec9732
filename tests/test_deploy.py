"""The deployment's scripts do on a real cluster what docker-compose.yaml has them do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
import yaml

from demo.airflow import shared_settings
from demo.processes import Processes, free_port
from demo.servers import Postgres
from include.settings import ROOT

PASSWORDS = {
    name: f"{name.lower()}-of-the-test"
    for name in (
        "AIRFLOW_DATABASE_PASSWORD",
        "WAREHOUSE_OWNER_PASSWORD",
        "WAREHOUSE_WRITER_PASSWORD",
        "WAREHOUSE_READER_PASSWORD",
        "AIRFLOW_ADMIN_PASSWORD",
        "AIRFLOW_OPERATOR_PASSWORD",
        "AIRFLOW_VIEWER_PASSWORD",
        "AIRFLOW_MAINTENANCE_PASSWORD",
    )
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A cluster of its own, prepared as the Postgres service prepares its one."""
    folder = tmp_path_factory.mktemp("deploy")
    processes = Processes(folder / "processes.json")
    postgres = Postgres(processes, folder / "postgres").start()
    try:
        for _ in range(2):
            _run(postgres, "create_databases.sh", {})
        yield postgres
    finally:
        processes.stop_all()


def _run(postgres: Postgres, script: str, more: dict[str, str]) -> str:
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{postgres.binaries}:{os.environ['PATH']}",
        "HOME": os.environ.get("HOME", "/tmp"),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres.port),
        "PGPASSWORD": postgres.superuser_password,
    }
    done = subprocess.run(
        ["bash", f"deploy/{script}"],
        cwd=ROOT,
        env=environment | PASSWORDS | more,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def _as(postgres: Postgres, role: str, database: str) -> psycopg.Connection:
    variable = "AIRFLOW_DATABASE_PASSWORD" if role == "airflow" else f"{role.upper()}_PASSWORD"
    return psycopg.connect(postgres.url(database, role, PASSWORDS[variable]), autocommit=True)


def test_the_databases_open_to_their_own_roles_only(cluster: Postgres) -> None:
    for role, database in (
        ("airflow", "airflow"),
        ("warehouse_writer", "warehouse"),
        ("warehouse_reader", "warehouse"),
    ):
        with _as(cluster, role, database) as connection:
            assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (
                False,
            )
    for role, database in (("airflow", "warehouse"), ("warehouse_reader", "airflow")):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            _as(cluster, role, database)


COMPOSE = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]


@pytest.fixture(scope="module")
def airflow(cluster: Postgres, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], str]:
    """Airflow as the service ``init`` prepares it: the environment of a service, and what was said."""
    assert COMPOSE["init"]["command"] == ["bash", "deploy/init.sh"]
    url = cluster.url("airflow", "airflow", PASSWORDS["AIRFLOW_DATABASE_PASSWORD"])
    owner = cluster.url("warehouse", "warehouse_owner", PASSWORDS["WAREHOUSE_OWNER_PASSWORD"])
    environment = shared_settings() | {
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
        "AIRFLOW__CORE__AUTH_MANAGER": COMPOSE["init"]["environment"]["AIRFLOW__CORE__AUTH_MANAGER"],
        "AIRFLOW__CORE__FERNET_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        "AIRFLOW__API__SECRET_KEY": "a" * 64,
        "AIRFLOW__API_AUTH__JWT_SECRET": "b" * 64,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url.replace("postgresql://", "postgresql+psycopg2://"),
    }
    return environment, _run(cluster, "init.sh", environment | {"AIRFLOW_CONN_WAREHOUSE_OWNER": owner})


@pytest.mark.airflow
def test_init_migrates_makes_users_with_their_roles_and_pools(
    cluster: Postgres, airflow: tuple[dict[str, str], str]
) -> None:
    _, said = airflow
    for password in PASSWORDS.values():
        assert password not in said
    with _as(cluster, "airflow", "airflow") as connection:
        users = connection.execute(
            "SELECT u.username, r.name FROM ab_user u JOIN ab_user_role ur ON ur.user_id = u.id"
            " JOIN ab_role r ON r.id = ur.role_id ORDER BY 1"
        ).fetchall()
        assert users == [("admin", "Admin"), ("maintenance", "Viewer"), ("operator", "Op"), ("viewer", "Viewer")]
        may_read = connection.execute(
            "SELECT v.name, array_agg(r.name::text ORDER BY r.name) FROM ab_role r"
            " JOIN ab_permission_view_role pr ON pr.role_id = r.id"
            " JOIN ab_permission_view pv ON pv.id = pr.permission_view_id"
            " JOIN ab_permission p ON p.id = pv.permission_id JOIN ab_view_menu v ON v.id = pv.view_menu_id"
            " WHERE p.name = 'can_read' AND v.name IN ('Plugins', 'Audit Logs') GROUP BY 1 ORDER BY 1"
        ).fetchall()
        assert may_read == [("Audit Logs", ["Admin", "Viewer"]), ("Plugins", ["Admin", "Op", "Viewer"])]
        assert connection.execute("SELECT slots FROM slot_pool WHERE pool = 'platform_db'").fetchone() == (4,)
    with _as(cluster, "warehouse_writer", "warehouse") as connection:
        assert connection.execute("SELECT count(*) FROM ops.signal").fetchone() == (0,)


def test_init_refuses_fewer_slots_than_the_watches_need() -> None:
    given = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "AIRFLOW__CORE__PARALLELISM": "9"}
    done = subprocess.run(
        ["bash", "deploy/init.sh"], cwd=ROOT, env=given, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (
        1, "init: Airflow may run 9 tasks at once; set WORKER_CONCURRENCY or AIRFLOW_PARALLELISM to 10\n"
    )  # fmt: skip


@pytest.mark.airflow
def test_a_login_through_the_tls_proxy_is_for_https_alone(
    cluster: Postgres, airflow: tuple[dict[str, str], str], tmp_path: Path
) -> None:
    """The api-server as the deployment starts it; what the proxy in front of it sends is sent by the test."""
    service, port = COMPOSE["api-server"], free_port()
    proxy = re.fullmatch(r"\$\{AIRFLOW_PROXY:-(.*)\}", service["environment"]["FORWARDED_ALLOW_IPS"])
    assert proxy
    program, *arguments = service["command"]
    processes = Processes(tmp_path / "processes.json")
    server = processes.start(
        "api-server",
        [Path(sys.executable).parent / program, *arguments],
        log=tmp_path / "api-server.log",
        environment={"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        | airflow[0]
        | {
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "FORWARDED_ALLOW_IPS": proxy[1],
            "AIRFLOW__FAB__COOKIE_SECURE": service["environment"]["AIRFLOW__FAB__COOKIE_SECURE"],
        },
    )
    url = f"http://127.0.0.1:{port}"
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9", "Host": "airflow.example.org"}
    try:
        processes.wait_until(server, lambda: _healthy(url), seconds=120)
        with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30) as browser:
            page = browser.get("/auth/login/")
            token = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', page.text)
            assert token, page.text
            session = "; ".join(line.partition(";")[0] for line in page.headers.get_list("set-cookie"))
            login = {"csrf_token": token[1], "username": "viewer", "password": PASSWORDS["AIRFLOW_VIEWER_PASSWORD"]}
            more = {"Cookie": session, "Referer": "https://airflow.example.org/auth/login/"}
            done = browser.post("/auth/login/", data=login, headers=more)
    finally:
        processes.stop_all()
    cookies = {line.partition("=")[0]: line for line in done.headers.get_list("set-cookie")}
    assert {"_token", "session"} <= cookies.keys(), (done.status_code, done.text)
    assert all("; Secure" in line for line in cookies.values()), "a cookie that goes over plain HTTP as well"
    assert not done.headers["location"].startswith("http:")


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/v2/monitor/health", trust_env=False, timeout=10).is_success
    except httpx.HTTPError:
        return False
