"""Starts Airflow's components one by one, as a deployment does, and talks to its REST API."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import subprocess
import time
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import yaml

from demo.install import ROOT, VENV
from demo.processes import Process, Processes, StartError, free_port

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
WORKER = "worker"
"""Runs the tasks of the CeleryExecutor; the LocalExecutor, by default, has none."""
USER = "operator"


def shared_settings() -> dict[str, str]:
    """Read config/airflow.env, the settings that the demo and a deployment share."""
    lines = (ROOT / "config" / "airflow.env").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if line.strip() and not line.startswith("#"))
    return {key.strip(): value.strip() for key, value in pairs}


def component_commands() -> dict[str, list[str]]:
    """Read the components' commands from docker-compose.yaml, so that the demo runs what a deployment runs."""
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    return {name: [str(part) for part in services[name]["command"]] for name in (*COMPONENTS, WORKER)}


class Airflow:
    """One Airflow, by default with the LocalExecutor, its metadata in a Postgres database."""

    def __init__(
        self,
        processes: Processes,
        folder: Path,
        *,
        database_url: str,
        connections: dict[str, str],
        preferred_port: int | None = 8080,
        parallelism: int = 5,
        settings: dict[str, str] | None = None,
    ) -> None:
        """Keep Airflow's home in ``folder``; nothing is started yet. ``settings`` are further AIRFLOW__ variables."""
        self.processes, self.folder = processes, folder
        self.port = free_port(preferred_port)
        self.url = f"http://127.0.0.1:{self.port}"
        self.children: dict[str, Process] = {}
        # One for all calls: each client of httpx reads every certificate of the system, also for plain HTTP.
        self._client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        self._token: tuple[str, float] | None = None
        self.environment = self._environment(database_url, parallelism) | connections | (settings or {})

    def _environment(self, database_url: str, parallelism: int) -> dict[str, str]:
        kept = self._secrets()
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW__")}
        scripts = VENV / "bin"
        return (
            inherited
            | shared_settings()
            | {
                "PATH": f"{scripts}:{os.environ.get('PATH', '')}",
                "PYTHONPATH": str(ROOT),
                "AIRFLOW_HOME": str(self.folder),
                "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
                "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
                "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
                "AIRFLOW__CORE__PARALLELISM": str(parallelism),
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
                "AIRFLOW__CORE__FERNET_KEY": kept["fernet_key"],
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.folder / "passwords.json"),
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": with_driver(database_url),
                "AIRFLOW__API__HOST": "127.0.0.1",
                "AIRFLOW__API__PORT": str(self.port),
                "AIRFLOW__API__BASE_URL": self.url,
                "AIRFLOW__API__SECRET_KEY": kept["secret_key"],
                "AIRFLOW__API_AUTH__JWT_SECRET": kept["jwt_secret"],
                "AIRFLOW_CONN_AIRFLOW_DB": _without_driver(os.environ.get("AIRFLOW_CONN_AIRFLOW_DB") or database_url),
                "AIRFLOW_CONN_AIRFLOW_API": f"http://{USER}:{quote(kept['password'], safe='')}@127.0.0.1:{self.port}",
                "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
                "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
                "NO_PROXY": "127.0.0.1,localhost",
                "no_proxy": "127.0.0.1,localhost",
            }
        )

    def _secrets(self) -> dict[str, str]:
        """Random secrets, made once, so that a second start keeps logins and the password."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "secrets.json"
        if not file.exists():
            file.touch(mode=0o600)
            made = {name: secrets.token_urlsafe(48) for name in ("secret_key", "jwt_secret")}
            made["fernet_key"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
            file.write_text(json.dumps(made | {"password": secrets.token_urlsafe(9)}))
        found: dict[str, str] = json.loads(file.read_text())
        passwords = self.folder / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({USER: found["password"]}))
        return found

    @property
    def password(self) -> str:
        """Password of the user ``operator``."""
        return str(json.loads((self.folder / "passwords.json").read_text())[USER])

    def command(self, *arguments: str) -> None:
        """Run one airflow command to its end. Raises StartError with its last lines when it fails."""
        log = self.folder / "setup.log"
        with log.open("ab") as output:
            done = subprocess.run(
                ["airflow", *arguments],
                env=self.environment,
                stdout=output,
                stderr=output,
                check=False,
                executable=VENV / "bin" / "airflow",
            )
        if done.returncode != 0:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise StartError(f"airflow {arguments[0]} failed; its log {log} ends with:\n{tail}")

    def prepare(self) -> None:
        """Migrate the metadata database. Doing it again changes nothing."""
        self.command("db", "migrate")

    def start(self, *components: str) -> None:
        """Start components (all of them by default); with the API server, wait for it and create the pools."""
        commands = component_commands()
        for name in components or COMPONENTS:
            program, *arguments = commands[name]
            self.children[name] = self.processes.start(
                f"Airflow {name}",
                [VENV / "bin" / program, *arguments],
                log=self.folder / f"{name}.log",
                environment=self.environment,
            )
        if not components or "api-server" in components:
            self.processes.wait_until(self.children["api-server"], self._healthy, seconds=120)
            self._create_pools()

    def stop(self) -> None:
        """Stop every component: the API server last, so that none waits for an API that is gone."""
        # These two let running tasks end. The others hold nothing that would be lost, and may take their time.
        patience = {"scheduler": 20.0, WORKER: 20.0, "triggerer": 1.0, "dag-processor": 1.0}
        scheduler = self.children.get("scheduler")
        self.processes.stop_together(
            [(self.children.pop(name), patience[name]) for name in patience if name in self.children],
            # A worker of the LocalExecutor that ended by itself may hold the lock that the others wait for.
            alone=[scheduler] if scheduler else [],
        )
        if server := self.children.pop("api-server", None):
            self.processes.stop(server, seconds=1.0)
        self._client.close()

    def _create_pools(self) -> None:
        """Create or correct the pools of config/pools.json (a deployment imports that file with Airflow's command)."""
        wanted = json.loads((ROOT / "config" / "pools.json").read_text())
        pools = [{"name": name, **definition} for name, definition in wanted.items()]
        action = {"action": "create", "entities": pools, "action_on_existence": "overwrite"}
        answer = self.call("PATCH", "/pools", json={"actions": [action]})
        if errors := answer["create"]["errors"]:
            raise StartError(f"the pools of config/pools.json could not be created: {errors[0]}")

    def _healthy(self) -> bool:
        return self._client.get("/api/v2/monitor/health", timeout=2).status_code == 200

    # ------------------------------------------------------------------------------------------ REST API
    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the REST API (``path`` without /api/v2) and return its JSON. Raises httpx.HTTPStatusError."""
        headers = {"Authorization": f"Bearer {self._login()}"}
        answer = self._client.request(method, f"/api/v2{path}", headers=headers, **arguments)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def _login(self) -> str:
        if self._token is None or time.monotonic() - self._token[1] > 1800:
            answer = self._client.post("/auth/token", json={"username": USER, "password": self.password})
            answer.raise_for_status()
            self._token = (answer.json()["access_token"], time.monotonic())
        return self._token[0]

    def pages(self, path: str, key: str, **parameters: Any) -> list[dict[str, Any]]:
        """Return every item of a listing, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.call("GET", path, params={**parameters, "limit": 100, "offset": len(found)})
            found += page[key]
            if len(page[key]) == 0 or len(found) >= page["total_entries"]:
                return found

    def runs(self, dag_id: str = "~") -> list[dict[str, Any]]:
        """Return the runs of a DAG (of all DAGs by default)."""
        return self.pages(f"/dags/{dag_id}/dagRuns", "dag_runs")

    def count(self, dag_id: str, states: set[str], *, partition_key: str | None = None) -> int:
        """Return how many runs of a DAG (or of one partition) are in one of some states; cheaper than listing them."""
        wanted: dict[str, Any] = {"state": sorted(states), "limit": 1}
        if partition_key:
            wanted["partition_key_pattern"] = partition_key
        page = self.call("GET", f"/dags/{dag_id}/dagRuns", params=wanted)
        return int(page["total_entries"])

    def tasks(self, dag_id: str, run_id: str = "~") -> list[dict[str, Any]]:
        """Return the task instances of a run (of all runs of the DAG by default)."""
        return self.pages(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", "task_instances")

    def trigger(
        self, dag_id: str, *, conf: dict[str, Any] | None = None, partition_key: str | None = None
    ) -> dict[str, Any]:
        """Start a run by hand, with parameters or a partition key."""
        body: dict[str, Any] = {"logical_date": None, "conf": conf or {}}
        if partition_key:
            body["partition_key"] = partition_key
        run: dict[str, Any] = self.call("POST", f"/dags/{dag_id}/dagRuns", json=body)
        return run

    def backfill(self, dag_id: str, first: date, last: date, *, max_active_runs: int = 5, seconds: float = 900) -> None:
        """Start runs for every day from ``first`` to ``last`` that has none.

        Airflow takes one backfill of a DAG at a time: the end of an earlier one, which may be about other days, is
        waited for. Raises StartError when it has not come after ``seconds``.
        """
        body = {
            "dag_id": dag_id,
            "from_date": f"{first}T00:00:00Z",
            "to_date": f"{last}T00:00:00Z",
            "reprocess_behavior": "none",
            "max_active_runs": max_active_runs,
        }
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.call("POST", "/backfills", json=body)
                return
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.CONFLICT:
                    raise
            if time.monotonic() > deadline:
                raise StartError(
                    f"an earlier backfill of {dag_id} has not ended after {seconds:.0f} s; end or cancel it in the UI"
                )
            time.sleep(1)

    def wait_for_dags(self, names: set[str], *, seconds: float = 90) -> None:
        """Wait until the DAG processor has read every DAG. Raises StartError naming what is missing or broken."""
        deadline = time.monotonic() + seconds
        missing = names
        while time.monotonic() < deadline:
            missing = names - {dag["dag_id"] for dag in self.pages("/dags", "dags")}
            if not missing:
                return
            broken = self.pages("/importErrors", "import_errors")
            if broken:
                first = broken[0]
                raise StartError(f"{first['filename']} cannot be imported:\n{first['stack_trace']}")
            time.sleep(0.5)
        raise StartError(f"Airflow has not read {', '.join(sorted(missing))} after {seconds:.0f} s")


def with_driver(url: str) -> str:
    """Return the URL of a database as Airflow's setting wants it."""
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", url)


def _without_driver(url: str) -> str:
    """Return the URL of a connection for one that Airflow's own setting has, postgresql+psycopg2://…"""
    return re.sub(r"^postgresql\+\w+://", "postgresql://", url)


def dag_names() -> set[str]:
    """Return the ids of all DAGs of the collection: the names of their files."""
    return {path.stem for path in (ROOT / "dags").glob("*/*.py") if path.stem != "__init__"}
