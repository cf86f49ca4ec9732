"""Seconds of orchestration per task instance: with the collection's Airflow settings, and with Airflow's own."""

from __future__ import annotations

import shutil
import statistics
import time
from datetime import datetime
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.scratch import scratch_databases
from demo.airflow import Airflow
from demo.databases import Databases
from demo.processes import Processes

DAG, RUNS, LONGEST_RUN_SECONDS = "task_overhead_chain", 3, 300
_KEPT = ("AIRFLOW__CORE__LOAD_EXAMPLES", "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION", "AIRFLOW__API__WORKERS")


def measure() -> list[Figure]:
    """Run a chain of tasks that do nothing in two scratch Airflows, one after the other."""
    with scratch_databases() as (folder, processes, databases):
        ours = _seconds_per_task(folder / "ours", processes, databases, own_settings=True)
        peers = _seconds_per_task(folder / "defaults", processes, databases, own_settings=False)
    return [
        Figure(
            "task_overhead",
            f"{ours:.2f} s per task",
            f"{peers:.2f} s, Airflow's defaults",
            f"{peers / ours:.1f}",
            "less than with Airflow's defaults",
            ours < peers,
        )
    ]


def _seconds_per_task(folder: Path, processes: Processes, databases: Databases, *, own_settings: bool) -> float:
    from demo.airflow import shared_settings

    folder.mkdir()
    dags, plugins = folder / "dags", folder / "plugins"
    shutil.copytree(Path(__file__).with_name("overhead_dag"), dags)
    plugins.mkdir()
    name = f"airflow_{folder.name}"
    databases.create(name, "airflow")
    airflow = Airflow(
        processes,
        folder / "home",
        database_url=databases.url(name, "airflow"),
        connections={},
        preferred_port=None,
        settings={"AIRFLOW__CORE__DAGS_FOLDER": str(dags), "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins)},
    )
    if not own_settings:
        for key in set(shared_settings()) - set(_KEPT):
            airflow.environment.pop(key, None)
    try:
        airflow.prepare()
        airflow.start()
        airflow.wait_for_dags({DAG}, seconds=240)
        return statistics.median(_one_run(airflow) for _ in range(RUNS))
    finally:
        airflow.stop()


def _one_run(airflow: Airflow) -> float:
    """Trigger a run, wait for its end, and return its seconds per task, from its start to its end."""
    run_id = airflow.trigger(DAG)["dag_run_id"]
    deadline = time.monotonic() + LONGEST_RUN_SECONDS
    while time.monotonic() < deadline:
        run = airflow.call("GET", f"/dags/{DAG}/dagRuns/{run_id}")
        if run["state"] == "success":
            tasks = len(airflow.tasks(DAG, run_id))
            took = datetime.fromisoformat(run["end_date"]) - datetime.fromisoformat(run["start_date"])
            return took.total_seconds() / tasks
        if run["state"] == "failed":
            raise RuntimeError(f"the run {run_id} of {DAG} failed")
        time.sleep(0.5)
    raise TimeoutError(f"the run {run_id} of {DAG} was not over after {LONGEST_RUN_SECONDS} s")
