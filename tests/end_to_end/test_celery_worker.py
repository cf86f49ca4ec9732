"""The executor of a deployment: a Celery worker, started by the compose file's command, runs a DAG's tasks."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import psutil
import pytest
import yaml

from demo.airflow import WORKER, Airflow, with_driver
from demo.databases import Databases
from demo.install import ROOT, VENV
from tests.end_to_end.airflows import running_airflow, until

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def airflow(
    servers: dict[str, int | str],
    databases: Databases,
    warehouse_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Airflow]:
    folder = tmp_path_factory.mktemp("celery")
    databases.create("celery_warehouse", "warehouse_owner", template=warehouse_template)
    shared = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["x-airflow"]["environment"]
    settings = {
        **{key: shared[key] for key in ("AIRFLOW__CORE__EXECUTOR", "AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS")},
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",  # nothing else runs
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{with_driver(databases.url('celery_airflow', 'airflow'))}",
        "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{servers['redis']}/15",
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": "2",
        "OPERATIONS__INCIDENTS__SPOOL": str(folder / "signals.jsonl"),
    }
    with running_airflow(
        "celery",
        databases,
        folder,
        connections=databases.connections(warehouse="celery_warehouse", escrow="celery_warehouse"),
        settings=settings,
        dags={"incident_watch"},
        components=("api-server", "scheduler", "dag-processor", WORKER),
    ) as found:
        yield found
    databases.drop("celery_warehouse")


def test_a_worker_runs_the_tasks_of_a_dag(airflow: Airflow) -> None:
    airflow.call("PATCH", "/dags/incident_watch", json={"is_paused": False})
    run = airflow.trigger("incident_watch")
    path = f"/dags/incident_watch/dagRuns/{run['dag_run_id']}"
    until(lambda: airflow.call("GET", path)["state"] in ("success", "failed"), 90)
    assert airflow.call("GET", path)["state"] == "success"
    assert "Executing workload in Celery" in (airflow.folder / f"{WORKER}.log").read_text()


def test_what_most_tasks_import_is_in_the_pool_before_they_start(airflow: Airflow) -> None:
    """The pool's processes are forked from the worker's first one; a task is forked from one of these."""
    children = psutil.Process(airflow.children[WORKER].popen.pid).children(recursive=True)
    assert sum(_has_loaded_duckdb(child) for child in children) >= 2


def _has_loaded_duckdb(process: psutil.Process) -> bool:
    try:
        return any("_duckdb" in found.path for found in process.memory_maps())
    except psutil.Error:  # it has ended
        return False


def test_the_health_check_of_the_compose_file_finds_the_worker(airflow: Airflow) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    kind, command = services[WORKER]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    hostname = airflow.call("GET", "/dags/~/dagRuns/~/taskInstances")["task_instances"][0]["hostname"]
    for name, status in ((hostname, 0), ("nobody", 69)):
        done = subprocess.run(
            ["bash", "-c", command.replace("$$", "$")],
            env=airflow.environment | {"HOSTNAME": name, "PATH": f"{VENV / 'bin'}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == status, done.stderr[-2000:] + done.stdout[-2000:]
