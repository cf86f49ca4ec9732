"""Rules that every DAG keeps: named after its file, documented, tagged, bounded, with callbacks and known pools."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.catalogue import DAG_FILES, ROOT, dags, markdown, shape

POOLS = {"default_pool", *json.loads((ROOT / "config" / "pools.json").read_text())}
SECTIONS = ("Purpose", "Schedule", "Reads", "Writes", "Parameters", "On failure", "Safe to re-run")
ALL = sorted(path.stem for path in DAG_FILES)


def test_every_file_is_one_dag_of_its_name() -> None:
    assert ALL, "the DAG folder is empty"
    assert sorted(dags()) == ALL


@pytest.mark.parametrize("name", ALL)
def test_documentation_reads_like_the_guide(name: str) -> None:
    documentation = dags()[name].doc_md or ""
    missing = [section for section in SECTIONS if f"**{section}**" not in documentation]
    assert not missing, f"{name} does not say: {missing}"


@pytest.mark.parametrize("name", ALL)
def test_tags_are_from_the_fixed_set(name: str) -> None:
    from include.dagkit import Cadence, Chapter, Tier

    tags = dict(tag.split(":", 1) for tag in dags()[name].tags)
    assert set(tags) == {"chapter", "cadence", "tier"}
    Chapter(tags["chapter"]), Cadence(tags["cadence"]), Tier(tags["tier"])
    assert tags["cadence"] == next(path for path in DAG_FILES if path.stem == name).parent.name


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, float], dict[str, Any]]]:
    """Reads the DAGs as they are with another value of one setting."""
    from include.settings import settings

    def read_with(setting: str, value: float) -> dict[str, Any]:
        monkeypatch.setenv(f"OPERATIONS__{setting}", str(value))
        for cached in (settings, dags):
            cached.cache_clear()
        return dags()

    yield read_with
    for cached in (settings, dags):
        cached.cache_clear()


@pytest.mark.parametrize(
    ("name", "setting", "value", "hours", "waits"),
    [
        ("daily_maintenance", "MAINTENANCE__VACUUM__WINDOW_MINUTES", 60, 4, 1),
        ("daily_maintenance", "MAINTENANCE__VACUUM__WINDOW_MINUTES", 180, 4, 3),
        ("daily_maintenance", "MAINTENANCE__VACUUM__WINDOW_MINUTES", 300, 6, 5),
        ("daily_metrics", "TRAFFIC__LATE_LINES_MINUTES", 0, 6, 0),
        ("daily_metrics", "TRAFFIC__LATE_LINES_MINUTES", 300, 6, 5),
        ("daily_metrics", "TRAFFIC__LATE_LINES_MINUTES", 720, 13, 12),
        ("weekly_maintenance", "MAINTENANCE__REINDEX__APPROVAL_HOURS", 168, 180, 168),
    ],
)
def test_a_deadline_leaves_time_for_what_the_dag_itself_waits_for(
    configured: Callable[[str, float], dict[str, Any]], name: str, setting: str, value: float, hours: int, waits: int
) -> None:
    [deadline] = configured(setting, value)[name].deadline
    assert deadline.interval == timedelta(hours=hours) >= timedelta(hours=waits + 1)


@pytest.mark.parametrize(("minutes", "hours"), [(0, 26), (720, 38)])
def test_traffic_waits_for_a_day_that_has_only_begun(
    configured: Callable[[str, float], dict[str, Any]], minutes: int, hours: int
) -> None:
    """A day has 25 hours when clocks are put back."""
    traffic = configured("TRAFFIC__LATE_LINES_MINUTES", minutes)["daily_metrics"].get_task("traffic")
    assert traffic.timeout == hours * 3600


@pytest.mark.parametrize("name", ALL)
def test_failures_are_seen_and_work_is_bounded(name: str) -> None:
    from include import dag_signals

    dag = dags()[name]
    assert dag.on_failure_callback == [dag_signals.run_failed]
    assert dag.deadline, "a run that hangs must be noticed"
    assert dag.max_active_runs >= 1
    assert dag.catchup is False
    assert dag.is_paused_upon_creation is False, "a run on a paused DAG waits for ever"
    for task in dag.tasks:
        assert task.on_failure_callback == [dag_signals.task_failed], task.task_id
        assert task.execution_timeout, f"{task.task_id} may run for ever"
        assert task.retries is not None
        assert task.owner == "operations"
        assert task.pool in POOLS, f"{task.task_id} uses the pool {task.pool}, which config/pools.json does not make"
        assert task.doc_md or task.python_callable.__doc__, f"{task.task_id} does not say what it does"


def test_the_watches_alone_are_in_no_pool_of_the_collection() -> None:
    """What all pools leave of Airflow's slots is theirs (tests/test_compose.py)."""
    alone = {f"{name}.{task.task_id}" for name in ALL for task in dags()[name].tasks if task.pool == "default_pool"}
    assert alone == {"platform_watch.probe_components", "incident_watch.handle_signals"}


def test_only_what_is_about_a_day_of_the_past_is_backfilled() -> None:
    """A drill or the maintenance of an old day would act on the present, and a whole range of days at once."""
    allowed = {name: dag.allowed_run_types for name, dag in dags().items()}
    followers = {name for name, dag in dags().items() if dag.timetable.asset_condition}
    assert followers == {"daily_reports", "weekly_metrics", "monthly_metrics"}, "these have no dates to backfill"
    assert {name for name in ALL if allowed[name] is None} == {"daily_metrics", *followers}
    assert {kinds for kinds in allowed.values() if kinds is not None} == {frozenset({"scheduled", "manual"})}


def test_every_part_of_the_upkeep_of_airflow_is_looked_after() -> None:
    from include.maintenance.airflow.airflow_upkeep import PARTS

    task = dags()["daily_maintenance"].get_task("look_after_airflow")
    assert task.op_kwargs_expand_input.value == {"part": list(PARTS)}


@pytest.mark.parametrize("name", ALL)
def test_what_is_tried_again(name: str) -> None:
    """What a person must correct is not, and a verification that has failed is an answer."""
    from airflow.sdk import RetryAction

    from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable

    answers = {"weekly_backup_verification", "monthly_disaster_recovery"}
    expected = {
        ConfigurationError: RetryAction.FAIL,
        MaintenanceFailed: RetryAction.FAIL if name in answers else RetryAction.DEFAULT,
        SourceUnavailable: RetryAction.DEFAULT,
    }
    for task in dags()[name].tasks:
        assert {kind: task.retry_policy.evaluate(kind("why"), 1, 2).action for kind in expected} == expected


def test_the_watches_start_before_everything_else() -> None:
    """However many tasks wait: until theirs start nobody watches, and no failure becomes an incident."""
    priority: dict[str, int] = {}
    for name, dag in dags().items():
        assert {task.weight_rule for task in dag.tasks} == {"absolute"}, name
        [priority[name]] = {task.priority_weight for task in dag.tasks}
    assert priority["incident_watch"] == priority["platform_watch"] == max(priority.values())
    assert priority["platform_watch"] > priority["daily_metrics"] > priority["weekly_metrics"]


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_a_dag_file_is_a_page(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 120


_WATCHED_IMPORT = """
import sys
import airflow.sdk, airflow.providers.standard.operators.python, airflow.providers.standard.sensors.python
from include.settings import settings

settings()
quiet = (sys.prefix, sys.base_prefix, "/dev/null", "/usr/share/zoneinfo")
seen = []

def watch(event, arguments):
    if event == "socket.connect":
        seen.append(str(arguments[1]))
    elif event == "open" and isinstance(arguments[0], str):
        if not arguments[0].startswith(quiet) and not arguments[0].endswith((".py", ".pyc")):
            seen.append(arguments[0])

sys.addaudithook(watch)
from tests.catalogue import dags

dags()
print({"seen": seen, "heavy": sorted({"duckdb", "web3", "pandas", "matplotlib", "psycopg"} & set(sys.modules))})
"""


def test_importing_the_dags_does_no_io() -> None:
    """No socket is opened and no file but Python's own is read once the configuration is known."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", _WATCHED_IMPORT], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = ast.literal_eval(done.stdout.strip().splitlines()[-1])
    assert found == {"seen": [], "heavy": []}


def test_shape_is_the_golden_snapshot() -> None:
    """A change of any DAG's shape is deliberate: write the snapshot again with ``make docs``."""
    golden = json.loads((ROOT / "tests" / "dags" / "shape.json").read_text())
    assert {name: shape(dag) for name, dag in dags().items()} == golden


def test_the_catalogue_is_up_to_date() -> None:
    assert (ROOT / "docs" / "dags.md").read_text() == markdown(), "write it again with make docs"


def test_the_catalogue_says_how_bad_a_failure_is_and_when_a_run_is_late() -> None:
    rows = [line.split(" | ") for line in markdown().splitlines() if line.startswith("| [")]
    assert {row[0].split("]")[0].removeprefix("| ["): (*row[4:6],) for row in rows} == {
        "platform_watch": ("P1", "10 minutes"), "incident_watch": ("P1", "10 minutes"),
        "daily_metrics": ("P2", "6 hours"), "daily_reports": ("P2", "1 hour"), "daily_maintenance": ("P2", "4 hours"),
        "weekly_metrics": ("P3", "1 hour"), "weekly_maintenance": ("P3", "24 hours"),
        "weekly_backup_verification": ("P2", "12 hours"), "monthly_metrics": ("P3", "1 hour"),
        "monthly_maintenance": ("P2", "4 hours"), "monthly_disaster_recovery": ("P1", "12 hours"),
    }  # fmt: skip


def test_parsing_twice_gives_the_same_dag() -> None:
    """Otherwise Airflow stores a new version at every parse."""
    from airflow.serialization.serialized_objects import DagSerialization

    first = {name: DagSerialization.serialize_dag(dag) for name, dag in dags().items()}
    dags.cache_clear()
    second = {name: DagSerialization.serialize_dag(dag) for name, dag in dags().items()}
    assert first == second
