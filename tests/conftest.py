"""Real servers for every test: one embedded cluster, Redis and EVM node per run, databases of one's own per test.

The controlling process of a run starts the servers and stops them; its workers find them through the environment.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import psycopg
import pytest

from demo.databases import Databases
from demo.processes import Processes
from demo.servers import Chain, Postgres, Redis
from tests import run_folder
from tests.old_postgres import running_old_databases, without_autovacuum
from tests.order import pytest_collection_modifyitems
from tests.run_folder import SERVERS, sweep
from tests.timeouts import pytest_runtest_teardown, pytest_timeout_set_timer

__all__ = ["pytest_collection_modifyitems", "pytest_runtest_teardown", "pytest_timeout_set_timer"]

if TYPE_CHECKING:
    from tests.object_storage import ObjectStorage


# An example may take long beside other tests.
hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    """Start the servers, in the controlling process only; point each worker's Airflow at a place of its own."""
    if hasattr(config, "workerinput"):
        _use_own_temporary_folder(config.workerinput["workerid"])
        _configure_airflow(config.workerinput["workerid"])
        return
    if config.option.collectonly or SERVERS in os.environ:
        return
    for name in [name for name in os.environ if name.startswith(("AIRFLOW_CONN_", "OPERATIONS__"))]:
        del os.environ[name]
    signal.signal(signal.SIGTERM, _end_once)
    folder = run_folder.make()
    processes = Processes(folder / "processes.json")
    config.stash[_PROCESSES] = processes
    postgres = Postgres(processes, folder / "postgres").start()
    Databases(postgres, folder).create_roles()
    without_autovacuum(postgres)
    redis, chain = Redis(processes, folder / "redis").start(), Chain(processes, folder / "chain").start()
    os.environ[SERVERS] = json.dumps(
        {"folder": str(folder), "temporary": tempfile.gettempdir()}
        | {"postgres": postgres.port, "redis": redis.port, "chain": chain.port}
    )
    _configure_airflow("main")


def _use_own_temporary_folder(worker: str) -> None:
    """What the product leaves or looks for among temporary files is this worker's own."""
    folder = Path(json.loads(os.environ[SERVERS])["folder"]) / worker
    folder.mkdir()
    folder.chmod(0o1777)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def _end_once(*_: Any) -> None:
    """Who ends a run early leaves nothing running either, however many processes pass the request on."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers and remove what they kept."""
    if "airflow.settings" in sys.modules:
        sys.modules["airflow.settings"].dispose_orm()
    if (processes := config.stash.get(_PROCESSES, None)) is not None:
        processes.stop_all()
        os.environ.pop(SERVERS, None)  # it is not there yet when one of the servers did not start
        folder = processes.register.parent
        sweep(folder, config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]
        shutil.rmtree(folder, ignore_errors=True)


_PROCESSES = pytest.StashKey[Processes]()


@pytest.fixture(scope="session", autouse=True)
def _folders_of_tests_can_be_reached(tmp_path_factory: pytest.TempPathFactory) -> None:
    """As root the servers of tests run as another user, whom pytest's own folders keep out."""
    if os.geteuid() != 0:
        return
    temporary = Path(json.loads(os.environ[SERVERS])["temporary"])
    folder = tmp_path_factory.getbasetemp()
    for place in (folder, *folder.parents):
        if temporary in place.parents:
            place.chmod(0o711)


@pytest.fixture(scope="session")
def servers() -> dict[str, int | str]:
    """Folders and ports of the run's servers: folder, temporary (of the system), postgres, redis, chain."""
    found: dict[str, int | str] = json.loads(os.environ[SERVERS])
    return found


@pytest.fixture(scope="session")
def databases(servers: dict[str, int | str]) -> Databases:
    """The run's cluster with its roles; ``databases.create`` makes a database."""
    folder = Path(str(servers["folder"]))
    postgres = Postgres(Processes(folder / "unused.json"), folder / "postgres")
    postgres.port = int(servers["postgres"])
    return Databases(postgres, folder)


@pytest.fixture(scope="session")
def old_databases() -> Iterator[Databases]:
    """A cluster of PostgreSQL 15 with the same roles; skips where Debian's package is not installed."""
    with running_old_databases() as found:
        yield found


@pytest.fixture(params=["postgresql18", "postgresql15"])
def any_databases(request: pytest.FixtureRequest) -> Databases:
    """The run's cluster and then the old one: the test runs on both."""
    name = "databases" if request.param == "postgresql18" else "old_databases"
    found: Databases = request.getfixturevalue(name)
    return found


@pytest.fixture(scope="module")
def object_storage() -> Iterator[ObjectStorage]:
    """An S3-speaking server of the test module's own, with no bucket."""
    from tests.object_storage import running_object_storage

    with running_object_storage() as storage:
        yield storage


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, servers: dict[str, int | str], tmp_path: Path
) -> Iterator[pytest.MonkeyPatch]:
    """Connections to the run's Redis and EVM node and to folders of the test's own."""
    for name in ("platform_logs", "backups", "archive", "reports"):
        (tmp_path / name).mkdir()
        value = json.dumps({"conn_type": "fs", "extra": {"path": str(tmp_path / name)}})
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", value)
    monkeypatch.setenv("AIRFLOW_CONN_PLATFORM_REDIS", f"redis://127.0.0.1:{servers['redis']}/0")
    monkeypatch.setenv("AIRFLOW_CONN_PLATFORM_CHAIN", f"http://127.0.0.1:{servers['chain']}")
    monkeypatch.setenv("OPERATIONS__INCIDENTS__SPOOL", str(tmp_path / "spool" / "signals.jsonl"))
    from include.settings import settings, use_bounds

    use_bounds({})  # a run of another test may have had bounds of its own
    settings.cache_clear()
    yield monkeypatch
    settings.cache_clear()  # what this test has set is not for one that takes the settings as they ship


@pytest.fixture(scope="session")
def warehouse_template(databases: Databases) -> str:
    """A migrated warehouse that tests copy (a copy takes milliseconds, a migration does not)."""
    from include.warehouse import migrate

    name = f"warehouse_template_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    databases.create(name, "warehouse_owner")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_WAREHOUSE_OWNER", databases.url(name, "warehouse_owner"))
        migrate.upgrade()
    return name


@pytest.fixture
def warehouse(
    databases: Databases, warehouse_template: str, environment: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection]:
    """An empty, migrated warehouse of the test's own; yields an autocommit connection as its owner.

    The connections warehouse, warehouse_reader and warehouse_owner lead to it.
    """
    name = f"warehouse_{uuid.uuid4().hex[:12]}"
    databases.create(name, "warehouse_owner", template=warehouse_template)
    for connection, role in (
        ("WAREHOUSE", "warehouse_writer"),
        ("WAREHOUSE_READER", "warehouse_reader"),
        ("WAREHOUSE_OWNER", "warehouse_owner"),
    ):
        environment.setenv(f"AIRFLOW_CONN_{connection}", databases.url(name, role))
    with psycopg.connect(databases.url(name, "warehouse_owner"), autocommit=True) as owner:
        yield owner
    databases.drop(name)


# ---------------------------------------------------------------------------------------------------- platform
@dataclass(frozen=True)
class Platform:
    """A demo platform with some finished days of history, and the warehouse that watched it."""

    escrow: str
    warehouse: str
    logs: Path
    days: tuple[date, ...]


@pytest.fixture(scope="session")
def platform_template(
    databases: Databases, warehouse_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Platform:
    """Nine finished days of a platform, generated once per worker and copied by the tests that need one."""
    from demo.platform import database, history

    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    escrow, observed = f"escrow_template_{worker}", f"observed_template_{worker}"
    databases.create(escrow, "escrow_owner")
    databases.create(observed, "warehouse_owner", template=warehouse_template)
    owner = databases.url(escrow, "escrow_owner")
    logs = tmp_path_factory.mktemp("logs")
    first = date(2026, 10, 1)
    database.install(owner)
    history.generate(owner, databases.url(observed, "warehouse_writer"), logs, first_day=first, days=9)
    return Platform(escrow, observed, logs, tuple(first + timedelta(days=n) for n in range(9)))


@pytest.fixture
def platform(
    platform_template: Platform, databases: Databases, environment: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Platform]:
    """A platform and a warehouse of the test's own, with every connection leading to them."""
    name = uuid.uuid4().hex[:12]
    own = Platform(f"escrow_{name}", f"warehouse_{name}", tmp_path / "platform_logs", platform_template.days)
    databases.create(own.escrow, "escrow_owner", template=platform_template.escrow)
    databases.create(own.warehouse, "warehouse_owner", template=platform_template.warehouse)
    shutil.copytree(platform_template.logs, own.logs, dirs_exist_ok=True)
    for variable, value in databases.connections(warehouse=own.warehouse, escrow=own.escrow).items():
        environment.setenv(variable, value)
    yield own
    databases.drop(own.escrow)
    databases.drop(own.warehouse)


# ----------------------------------------------------------------------------------------------------- Airflow
def _configure_airflow(worker: str) -> None:
    """Set Airflow's environment before anything imports it: each worker has a home and a database of its own."""
    from demo.airflow import shared_settings

    servers = json.loads(os.environ[SERVERS])
    folder = Path(servers["folder"]) / f"airflow-{worker}"
    postgres = Postgres(Processes(folder / "unused.json"), Path(servers["folder"]) / "postgres")
    postgres.port = servers["postgres"]
    database_url = Databases(postgres, Path(servers["folder"])).url(f"airflow_{worker}", "airflow")
    root = Path(__file__).resolve().parent.parent
    os.environ.update(shared_settings())
    os.environ.update(
        {
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(root / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(folder / "no-plugins"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database_url.replace("postgresql://", "postgresql+psycopg2://", 1),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folder / "logs"),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        }
    )


@pytest.fixture(scope="session")
def airflow_database(databases: Databases, servers: dict[str, int | str]) -> str:
    """A migrated metadata database of this worker's own, where Airflow in this process looks. Returns its URL."""
    name = f"airflow_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    databases.create(name, "airflow")
    subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return databases.url(name, "airflow")
