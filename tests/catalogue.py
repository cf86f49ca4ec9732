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


def incident_class(dag: Any) -> str:
    """Return the class of the incident that a failed or late run of a DAG opens."""
    from include.dagkit import Tier

    [tier] = [tag.removeprefix("tier:") for tag in dag.tags if tag.startswith("tier:")]
    return Tier(tier).incident_class.value


def deadline(dag: Any) -> str:
    """Describe how long after it was queued a run of a DAG is late."""
    [found] = dag.deadline
    hours, minutes = divmod(round(found.interval.total_seconds() / 60), 60)
    counted = [(hours, "hour"), (minutes, "minute")]
    return " ".join(f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in counted if count)


def shape(dag: Any) -> dict[str, Any]:
    """Return what must not change by accident: when it runs and is late, tags, parameters, tasks, edges, assets."""
    from airflow.sdk import TriggerRule, WeightRule

    return {
        "file": str(Path(dag.fileloc).relative_to(ROOT)) if dag.fileloc else "",
        "schedule": schedule(dag),
        "timetable": _timetable(dag.timetable),
        "start_date": dag.start_date.isoformat() if dag.start_date else None,
        "catchup": dag.catchup,
        "deadline_seconds": [deadline.interval.total_seconds() for deadline in dag.deadline or []],
        "tags": sorted(dag.tags),
        "max_active_runs": dag.max_active_runs,
        "allowed_run_types": sorted(kind.value for kind in dag.allowed_run_types or []),
        "params": {name: dag.params.get_param(name).schema for name in sorted(dag.params)},
        "tasks": {
            task.task_id: {
                "downstream": sorted(task.downstream_task_ids),
                "pool": task.pool,
                "priority": [WeightRule(task.weight_rule).value, task.priority_weight],
                "trigger_rule": TriggerRule(task.trigger_rule).value,
                "setup": task.is_setup,
                "teardown": task.is_teardown,
                "retries": task.retries,
                "not_retried": [rule.exception for rule in task.retry_policy.rules],
                "timeout_seconds": task.execution_timeout.total_seconds() if task.execution_timeout else None,
                "sensor_timeout_seconds": getattr(task, "timeout", None),
                "mapped": bool(task.is_mapped),
                "outlets": sorted(asset.name for asset in task.outlets),
            }
            for task in sorted(dag.tasks, key=lambda task: str(task.task_id))
        },
    }


def _timetable(timetable: Any) -> dict[str, Any]:
    """Return what else decides about a timetable's ticks and partitions, by its class."""
    mapper = getattr(timetable, "default_partition_mapper", None)
    inner = getattr(mapper, "upstream_mapper", None)
    found = {
        "class": type(timetable).__name__,
        "timezone": getattr(timetable, "timezone", None),
        "run_offset": getattr(timetable, "run_offset", None),
        "key_format": getattr(timetable, "key_format", None),
        "run_immediately": getattr(timetable, "run_immediately", None),
        "mapper": type(mapper).__name__ if mapper else None,
        "mapper_of_days": inner,
        "wait_policy": getattr(mapper, "wait_policy", None),
    }
    return {name: str(value) for name, value in found.items() if value is not None}


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
        "A run that fails, or that is not finished by its deadline, opens an incident. The class is that of the DAG's",
        "tier; the deadline counts from when the run was queued. A run that is cleared after its deadline, or",
        "after it had succeeded, has no deadline: only the nightly finding `airflow_dags` shows that it is stuck.",
        "",
        "In **Tasks**, `[]` marks a mapped task: it runs once for each table, backup source, index or other item.",
        "",
        "| DAG | cadence | chapter | tier | incident | deadline | schedule |",
        "|---|---|---|---|---|---|---|",
    ]
    for dag_id, dag in dags().items():
        tags = dict(tag.split(":", 1) for tag in dag.tags)
        cells = [f"[{dag_id}](#{dag_id})", tags["cadence"], tags["chapter"], tags["tier"], incident_class(dag)]
        parts.append(f"| {' | '.join(cells)} | {deadline(dag)} | `{schedule(dag)}` |")
    for dag_id, dag in dags().items():
        body = "\n".join((dag.doc_md or "").strip().splitlines()[1:]).strip()
        tasks = " ".join(f"`{task.task_id}`" + ("[]" if task.is_mapped else "") for task in dag.topological_sort())
        parts += ["", f"## {dag_id}", "", body, "", f"**Tasks**: {tasks}"]
    return "\n".join(parts) + "\n"
