"""Sets the demo platform up and keeps it alive: database, history, web application, live traffic, backups."""

from __future__ import annotations

import json
import os
import shutil
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx

from demo.databases import Databases
from demo.install import ROOT
from demo.processes import Process, Processes, StartError, free_port
from demo.servers import Chain, Postgres, Redis

DAYS = 35
"""Finished days of history."""

WAREHOUSE_CONNECTIONS = ("warehouse", "warehouse_reader", "warehouse_owner")


def given(connection_id: str) -> bool:
    """Whether the environment names a connection; the embedded part it leads to is then not started."""
    return bool(os.environ.get(f"AIRFLOW_CONN_{connection_id.upper()}"))


def _scale() -> int:
    """How many times larger than the guide's volumes the history is: the variable SCALE, 1 by default."""
    text = os.environ.get("SCALE") or "1"
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise StartError(f"SCALE={text} is not a whole number from 1 to 100; correct or leave it out")
    return int(text)


class Servers:
    """The embedded servers that no connection replaces, and the connections to all of them."""

    def __init__(self, folder: Path) -> None:
        """Keep everything in ``folder``."""
        self.folder = folder
        self.processes = Processes(folder / "processes.json")
        self.postgres: Postgres | None = None
        self.databases: Databases | None = None
        self.chain: Chain | None = None
        self.web: Process | None = None
        self.connections: dict[str, str] = {}
        self.remarks: list[str] = []
        """What somebody who starts the demo should know of, beside what was started."""
        # Somebody else's platform is operated instead of the demo's; read before our own connections are added.
        self.own_platform = given("platform_db")

    def start(self) -> list[str]:
        """Start the servers. Returns their names."""
        self.processes.sweep()
        started = []
        if databases := self.databases_to_create():
            self.postgres = Postgres(self.processes, self.folder / "postgres").start()
            if self.postgres.is_new:  # what a cluster that is gone held: its history, and the chain's part of it
                self.history_file().unlink(missing_ok=True)
                shutil.rmtree(self.folder / "chain", ignore_errors=True)
            self.databases = Databases(self.postgres, self.folder)
            self.databases.create_roles()
            for name, owner in databases.items():
                self.databases.create(name, owner)
            self._connect(self._to_databases(self.databases.connections(warehouse="warehouse", escrow="escrow")))
            started.append("PostgreSQL")
        # Stand-ins would make the watch report a cache and a chain of somebody else's platform that it never saw.
        if not given("platform_redis") and not self.own_platform:
            redis = Redis(self.processes, self.folder / "redis").start()
            self._connect({"AIRFLOW_CONN_PLATFORM_REDIS": f"redis://127.0.0.1:{redis.port}/0"})
            started.append("Redis")
        if not given("platform_chain") and not self.own_platform:
            genesis = datetime.now(UTC) - timedelta(days=DAYS + 2)  # the history's blocks bear the times of the past
            self.chain = Chain(self.processes, self.folder / "chain", genesis=genesis).start()
            self._connect({"AIRFLOW_CONN_PLATFORM_CHAIN": self.chain.url})
            started.append("anvil")
        for name, place in (("platform_logs", "logs"), ("backups", "backups"), ("archive", "archive"),
                            ("reports", "reports")):  # fmt: skip
            if self.own_platform and name in ("platform_logs", "backups"):
                continue
            path = self.folder / place
            path.mkdir(parents=True, exist_ok=True)
            reopened = name == "platform_logs" and not given("platform_web")  # by the application that runs here
            extra = {"path": str(path)} | ({"pid_file": str(self.pid_file)} if reopened else {})
            self._connect({f"AIRFLOW_CONN_{name.upper()}": json.dumps({"conn_type": "fs", "extra": extra})})
        return started

    def databases_to_create(self) -> dict[str, str]:
        """The databases that no connection replaces, with their owners; without any PostgreSQL is not started.

        Raises StartError when some connections to a warehouse are set and others are not.
        """
        missing = [name for name in WAREHOUSE_CONNECTIONS if not given(name)]
        if missing and len(missing) < len(WAREHOUSE_CONNECTIONS):
            variables = " and ".join(f"AIRFLOW_CONN_{name.upper()}" for name in missing)
            raise StartError(f"a warehouse of your own needs {variables} too; set it, or none of the three")
        replaced = {
            "airflow": bool(os.environ.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")),
            "warehouse": not missing,
            "escrow": self.own_platform,
        }
        owners = {"airflow": "airflow", "warehouse": "warehouse_owner", "escrow": "escrow_owner"}
        return {name: owner for name, owner in owners.items() if not replaced[name]}

    def _to_databases(self, ours: dict[str, str]) -> dict[str, str]:
        """Of the connections to our databases those that lead to what is operated.

        A connection to somebody else's platform that is missing must be named, not replaced by one to the demo's.
        """
        if not self.own_platform:
            return ours
        return {name: url for name, url in ours.items() if "_PLATFORM_" not in name or os.environ.get(name)}

    def _connect(self, connections: dict[str, str]) -> None:
        """Keep connections, except those that the environment gives."""
        for variable, value in connections.items():
            if not os.environ.get(variable):
                os.environ[variable] = value
            self.connections[variable] = os.environ[variable]

    @property
    def pid_file(self) -> Path:
        """File with the process id of the web application, which opens its logs anew at SIGUSR1."""
        return self.folder / "web.pid"

    @property
    def logs(self) -> Path:
        """Folder of the platform's logs."""
        return self.folder / "logs"

    def history_file(self) -> Path:
        """Where the first and last day of the generated history are noted."""
        return self.folder / "history.json"

    def make_history(self) -> tuple[date, date, bool]:
        """Create the platform's database and its history, once. Returns first and last day and whether it was new.

        A later start has more finished days: the platform lived on, or stood still, until yesterday.
        """
        from demo.platform import database, history

        assert self.databases is not None
        note, yesterday = self.history_file(), datetime.now(UTC).date() - timedelta(days=1)
        if note.exists():
            noted = json.loads(note.read_text())
            if os.environ.get("SCALE") and _scale() != noted.get("scale", 1):
                self.remarks.append(
                    f"SCALE={_scale()} changes nothing: the history of scale {noted.get('scale', 1)} is kept "
                    f"(for another remove {self.folder})"
                )
            return date.fromisoformat(noted["first_day"]), yesterday, False
        owner = self.databases.url("escrow", "escrow_owner")
        database.install(owner)
        first = yesterday - timedelta(days=DAYS - 1)
        scale = _scale()
        counts = history.generate(
            owner,
            os.environ["AIRFLOW_CONN_WAREHOUSE"],
            self.logs,
            first_day=first,
            days=DAYS,
            scale=scale,
            chain_url=self.chain.url if self.chain and scale == 1 else None,
        )
        note.write_text(
            json.dumps({"first_day": f"{first}", "last_day": f"{yesterday}", "scale": scale, "rows": counts})
        )
        return first, yesterday, True

    def start_platform(self) -> str:
        """Start the web application with its light traffic and take the day's backup. Returns its address.

        An application that the connection ``platform_web`` leads to already takes its place.
        """
        if self.chain is not None:
            self._look_after_contract(self.chain.url)
        if not given("platform_web"):
            self._start_web()
        self.take_backup(datetime.now(UTC).date())
        return os.environ["AIRFLOW_CONN_PLATFORM_WEB"]

    def _look_after_contract(self, chain_url: str) -> None:
        """Bring back what the chain has lost, as after an end by force. Raises StartError."""
        import psycopg

        from demo.platform import chain_history
        from demo.platform.escrow import ChainError

        assert self.databases is not None
        try:
            with psycopg.connect(self.databases.url("escrow", "escrow_owner")) as connection:
                made = chain_history.renew(chain_url, connection)
        except ChainError as error:
            raise StartError(f"the escrow contract could not be brought back: {error}") from None
        if made is not None:
            self.remarks.append(f"the chain had lost the escrow contract: deployed anew with its {made} open deposits")

    def _start_web(self) -> None:
        assert self.databases is not None
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "ESCROW_DATABASE_URL": self.databases.url("escrow", "escrow_app"),
            "ESCROW_REDIS_URL": os.environ["AIRFLOW_CONN_PLATFORM_REDIS"],
            "ESCROW_CHAIN_URL": os.environ["AIRFLOW_CONN_PLATFORM_CHAIN"],
            "ESCROW_LOGS": str(self.logs),
        }
        log = self.folder / "platform.log"
        self.web = self.processes.start(
            "escrow web application", [sys.executable, "-m", "demo.platform.web", "--port", str(port)],
            log=log, environment=environment, folder=ROOT,
        )  # fmt: skip
        self.pid_file.write_text(f"{self.web.popen.pid}\n")
        self.processes.wait_until(
            self.web, lambda: httpx.get(f"{url}/health", timeout=2).status_code == 200, seconds=30
        )
        self._connect({"AIRFLOW_CONN_PLATFORM_WEB": url})
        self.processes.start(
            "light live traffic", [sys.executable, "-m", "demo.platform.traffic", "--web", url],
            log=log, environment=environment, folder=ROOT,
        )  # fmt: skip

    def take_backup(self, day: date) -> None:
        """Take the backup of a day, unless it is there. Raises MaintenanceFailed or SourceUnavailable."""
        from demo.platform import backups

        assert self.databases is not None
        folder = self.folder / "backups"
        # The facts are the last to get their name: with them the backup is whole.
        if not (folder / f"escrow-{day:%Y%m%d}.dump.facts.json").exists():
            backups.take(self.databases.url("escrow", "escrow_owner"), folder, day)
