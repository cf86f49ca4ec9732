"""Reads the DAG files as Airflow does and describes them: the golden snapshot and docs/dags.md come from here."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DAG_FILES = sorted((ROOT / "dags").glob("*/*.py"))


@lru_cache(maxsize=1)
def dags() -> dict[str, Any]:
    """Return every DAG by its id, read as Airflow's DAG processor reads them. Needs no database.

    Raises ImportError with Airflow's own words when a file cannot be imported.
    """
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=ROOT / "dags", load_op_links=False, collect_dags=False)
    bag.collect_dags(ROOT / "dags", only_if_updated=False, safe_mode=True)
    if bag.import_errors:
        raise ImportError("\n".join(f"{file}: {error}" for file, error in bag.import_errors.items()))
    return dict(sorted(bag.dags.items()))


def schedule(dag: Any) -> str:
    """Describe when a DAG runs."""
    timetable = dag.timetable
    if cron := getattr(timetable, "expression", None) or getattr(timetable, "_expression", None):
        finished_day = " for the finished day" if "Partition" in type(timetable).__name__ else ""
        return f"cron {cron}{finished_day}"
    mapper = timetable.default_partition_mapper
    window = getattr(mapper, "window", None)
    period = type(window).__name__.removesuffix("Window").lower() if window else "day"
    return f"each {period} of the asset {timetable.asset_condition.name}"


def shape(dag: Any) -> dict[str, Any]:
    """Return what must not change by accident: schedule, tags, parameters, tasks, edges, pools, assets."""
    return {
        "file": str(Path(dag.fileloc).relative_to(ROOT)) if dag.fileloc else "",
        "schedule": schedule(dag),
        "tags": sorted(dag.tags),
        "max_active_runs": dag.max_active_runs,
        "params": {name: dag.params.get_param(name).schema for name in sorted(dag.params)},
        "tasks": {
            task.task_id: {
                "downstream": sorted(task.downstream_task_ids),
                "pool": task.pool,
                "retries": task.retries,
                "timeout_seconds": task.execution_timeout.total_seconds() if task.execution_timeout else None,
                "mapped": bool(task.is_mapped),
                "outlets": sorted(asset.name for asset in task.outlets),
            }
            for task in sorted(dag.tasks, key=lambda task: str(task.task_id))
        },
    }


def snapshot() -> str:
    """Return the golden snapshot of every DAG's shape as JSON."""
    return json.dumps({name: shape(dag) for name, dag in dags().items()}, indent=1, sort_keys=True) + "\n"


def markdown() -> str:
    """Return the catalogue of DAGs for people."""
    parts = [
        "# DAG catalogue",
        "",
        "Generated from the DAG files by `make docs`; a test checks that it is up to date.",
        "",
        "| DAG | cadence | chapter | tier | schedule |",
        "|---|---|---|---|---|",
    ]
    for dag_id, dag in dags().items():
        tags = dict(tag.split(":", 1) for tag in dag.tags)
        parts.append(
            f"| [{dag_id}](#{dag_id}) | {tags['cadence']} | {tags['chapter']} | {tags['tier']} | `{schedule(dag)}` |"
        )
    for dag_id, dag in dags().items():
        body = "\n".join((dag.doc_md or "").strip().splitlines()[1:]).strip()
        tasks = " ".join(f"`{task.task_id}`" + ("[]" if task.is_mapped else "") for task in dag.topological_sort())
        parts += ["", f"## {dag_id}", "", body, "", f"**Tasks**: {tasks}"]
    return "\n".join(parts) + "\n"
