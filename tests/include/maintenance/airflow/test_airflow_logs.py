"""Airflow's old logs go, run by run; those of runs that go on, links and everything else stay."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.maintenance.airflow import airflow_logs
from include.maintenance.pruning import holds
from include.outcome import ConfigurationError, SourceUnavailable
from include.settings import settings
from tests.include.maintenance.airflow.airflow_server import airflow_server
from tests.include.maintenance.logs.log_files_made import NOW

RUN = "scheduled__2026-08-01T00:00:00+00:00"


@pytest.fixture
def folder(warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "logs").mkdir()
    environment.setenv("OPERATIONS__MAINTENANCE__AIRFLOW__WITHOUT_CONNECTIONS", '["airflow_api"]')
    settings.cache_clear()
    yield tmp_path / "logs"
    settings.cache_clear()


def log(folder: Path, name: str, days: float, text: str = "a line\n") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    moment = (NOW - timedelta(days=days)).timestamp()
    os.utime(path, (moment, moment))
    return path


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())


def act(warehouse: psycopg.Connection, run_id: str) -> Any:
    return warehouse.execute(
        "SELECT state, reason, plan, applied, proof FROM ops.maintenance_action WHERE run_id = %s", (run_id,)
    ).fetchone()


def test_old_runs_go_whole_and_the_rest_stays(folder: Path, warehouse: psycopg.Connection, tmp_path: Path) -> None:
    log(folder, f"dag_id=a/run_id={RUN}/task_id=x/attempt=1.log", 40)
    log(folder, f"dag_id=a/run_id={RUN}/task_id=y/map_index=0/attempt=1.log", 35)
    log(folder, "dag_id=b/run_id=long/task_id=x/attempt=1.log", 90)
    log(folder, "dag_id=b/run_id=long/task_id=y/attempt=1.log", 2)
    log(folder, "dag_processor/2026-08-01/dags/a.py.log", 60)
    log(folder, "dag_processor/2026-10-03/dags/a.py.log", 0.5)
    (folder / "dag_processor" / "latest").symlink_to("2026-10-03")
    outside = log(tmp_path, "outside/old.log", 400)
    (folder / "dag_id=linked").symlink_to(outside.parent)
    log(folder, "of_somebody_else/old.log", 400)
    log(folder, "dag_id=c/notes.txt", 400)
    before = left(folder)
    airflow_logs.clean(folder, "dry", True, NOW)
    assert left(folder) == before
    assert act(warehouse, "dry")[2]["files"] == 3
    airflow_logs.clean(folder, "r1", False, NOW)
    gone = [name for name in before if name not in left(folder)]
    assert gone == [
        f"dag_id=a/run_id={RUN}/task_id=x/attempt=1.log",
        f"dag_id=a/run_id={RUN}/task_id=y/map_index=0/attempt=1.log",
        "dag_processor/2026-08-01/dags/a.py.log",
    ]
    assert outside.exists()
    assert not (folder / "dag_id=a").exists(), "folders that are empty go too"
    state, reason, plan, applied, proof = act(warehouse, "r1")
    assert (state, reason, plan["runs_and_days"]) == ("proven", "", 2)
    assert (proof["files_before"], proof["files_after"], proof["old_folders_after"]) == (6, 3, 0)
    assert applied["bytes_freed"] == 21
    airflow_logs.clean(folder, "r2", False, NOW)
    assert act(warehouse, "r2")[:2] == ("nothing_to_do", "no log is older than 30 days")


def test_logs_of_callbacks_go_as_those_of_their_runs_do(folder: Path, warehouse: psycopg.Connection) -> None:
    """Airflow writes one where a run missed its deadline."""
    log(folder, f"executor_callbacks/a/{RUN}/0199", 50, line("2026-08-14"))
    log(folder, "executor_callbacks/b/held/0200", 40, line("2026-08-24"))
    log(folder, "executor_callbacks/b/young/0201", 2)
    log(folder, "executor_callbacks/loose", 400)
    holds.place("airflow_logs", "case 7", "counsel", time_from=datetime(2026, 8, 20, tzinfo=UTC))
    airflow_logs.clean(folder, "r1", False, NOW)
    assert left(folder) == [
        "executor_callbacks/b/held/0200", "executor_callbacks/b/young/0201", "executor_callbacks/loose"
    ]  # fmt: skip
    assert not (folder / "executor_callbacks/a").exists(), "folders that are empty go too"
    assert act(warehouse, "r1")[4]["files_before"] == 3


def test_runs_that_go_on_keep_their_logs(
    folder: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    deferred = log(folder, "dag_id=a/run_id=waits/task_id=x/attempt=1.log", 60)
    log(folder, "executor_callbacks/a/waits/0199", 60)
    log(folder, "dag_id=a/run_id=ended/task_id=x/attempt=1.log", 60)
    open_log = log(folder, "dag_id=a/run_id=open/task_id=x/attempt=1.log", 60)
    with airflow_server() as served, open_log.open("a"):
        environment.setenv("AIRFLOW_CONN_AIRFLOW_API", served.connection)
        served.dag_runs = [{"dag_id": "a", "dag_run_id": "waits", "state": "running"}]
        airflow_logs.clean(folder, "r1", False, NOW)
        assert sorted(path.name for path in (folder / "dag_id=a").iterdir()) == ["run_id=open", "run_id=waits"]
        state, _, plan, _, proof = act(warehouse, "r1")
        assert (state, plan["kept_because_they_go_on"], proof["kept_because_written_to"]) == ("proven", 2, 1)
    with pytest.raises(SourceUnavailable):
        airflow_logs.clean(folder, "r2", False, NOW)
    assert deferred.exists(), "when the runs cannot be asked for, nothing is removed"
    assert act(warehouse, "r2")[0] == "failed"


def test_without_the_connection_nothing_is_removed_unless_on_purpose(
    folder: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    log(folder, "dag_id=a/run_id=waits/task_id=x/attempt=1.log", 60)
    environment.delenv("OPERATIONS__MAINTENANCE__AIRFLOW__WITHOUT_CONNECTIONS")
    settings.cache_clear()
    with pytest.raises(ConfigurationError, match="the connection airflow_api is not defined"):
        airflow_logs.clean(folder, "r1", False, NOW)
    assert act(warehouse, "r1")[0] == "failed"
    assert len(left(folder)) == 1


def test_one_night_removes_so_much_and_the_oldest_first(
    folder: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    for days in (40, 50, 60):
        for task in ("x", "y"):
            log(folder, f"dag_id=a/run_id={days}/task_id={task}/attempt=1.log", days)
    environment.setenv("OPERATIONS__MAINTENANCE__AIRFLOW__MOST_LOG_FILES", "4")
    settings.cache_clear()
    airflow_logs.clean(folder, "r1", False, NOW)
    assert [path.name for path in (folder / "dag_id=a").iterdir()] == ["run_id=40"]
    assert act(warehouse, "r1")[1] == "2 files are left for the next night"
    airflow_logs.clean(folder, "r2", False, NOW)
    assert left(folder) == []


def line(day: str) -> str:
    """A log as a task of Airflow 3.3.2 writes it."""
    return f'{{"timestamp":"{day}T10:00:00.123456Z","level":"info","event":"began"}}\nthe rest\n'


def test_a_legal_hold_keeps_the_logs_of_its_time(folder: Path, warehouse: psycopg.Connection) -> None:
    for name, days, text in (
        ("before", 50, line("2026-08-14")),
        ("into", 40, line("2026-08-14")),
        ("after", 39, line("2026-08-26")),
        ("untold", 38, "no time\n"),
    ):
        log(folder, f"dag_id=a/run_id={name}/task_id=x/attempt=1.log", days, text)
    log(folder, "dag_id=a/run_id=into/task_id=y/attempt=1.log", 41, line("2026-08-24"))
    (folder / "dag_id=a/run_id=into/task_id=z").mkdir()
    held = holds.place(
        "airflow_logs", "case 7", "counsel",
        time_from=datetime(2026, 8, 20, tzinfo=UTC), time_until=datetime(2026, 8, 26, tzinfo=UTC),
    )["legal_hold"]  # fmt: skip
    airflow_logs.clean(folder, "r1", False, NOW)
    assert sorted(path.name for path in (folder / "dag_id=a").iterdir()) == ["run_id=into", "run_id=untold"]
    reason = f"2 runs and days are kept: legal hold {held}"
    assert act(warehouse, "r1")[:2] == ("proven", reason)
    airflow_logs.clean(folder, "r2", False, NOW)
    assert act(warehouse, "r2")[:2] == ("nothing_to_do", reason)
    holds.release(held, "counsel")
    everything = holds.place("airflow_logs", "case 8", "counsel")["legal_hold"]
    airflow_logs.clean(folder, "r3", False, NOW)
    assert len(left(folder)) == 3
    holds.release(everything, "counsel")
    airflow_logs.clean(folder, "r4", False, NOW)
    assert left(folder) == []


def test_a_legal_hold_that_is_placed_while_logs_are_removed_counts(
    folder: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    for name, days in (("first", 50), ("second", 40), ("third", 39)):
        log(folder, f"dag_id=a/run_id={name}/task_id=x/attempt=1.log", days, line("2026-08-14"))
    remove, placed = airflow_logs._remove_old_files, list[int]()

    def meanwhile(*arguments: Any) -> bool:
        if not placed:
            placed.append(holds.place("airflow_logs", "case 7", "counsel")["legal_hold"])
        return remove(*arguments)

    environment.setattr(airflow_logs, "_remove_old_files", meanwhile)
    airflow_logs.clean(folder, "r1", False, NOW)
    assert sorted(path.name for path in (folder / "dag_id=a").iterdir()) == ["run_id=second", "run_id=third"]
    state, reason, plan, applied, proof = act(warehouse, "r1")
    assert (state, reason) == ("proven", f"2 runs and days are kept: legal hold {placed[0]}")
    assert (plan["runs_and_days"], applied["folders"], proof["kept_by_legal_holds_placed_meanwhile"]) == (3, 1, 2)


@pytest.mark.usefixtures("clock_ahead")
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_clock_that_is_wrong_removes_nothing(folder: Path, warehouse: psycopg.Connection, dry_run: bool) -> None:
    kept = log(folder, "dag_id=a/run_id=old/task_id=x/attempt=1.log", 400)
    with pytest.raises(ConfigurationError, match="set the clock that is wrong"):
        airflow_logs.clean(folder, "r1", dry_run)
    assert kept.exists()
    assert act(warehouse, "r1")[0] == "failed"


def test_beyond_their_size_younger_logs_go_too_but_none_of_the_last_day(
    folder: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    for days in (40, 20, 10, 5, 0.9):
        log(folder, f"dag_id=a/run_id={days}/task_id=x/attempt=1.log", days, "x" * 100)
    environment.setenv("OPERATIONS__MAINTENANCE__AIRFLOW__LOGS_KEEP_BYTES", "250")
    settings.cache_clear()
    with pytest.raises(ConfigurationError, match="logs_keep_bytes needs the connection airflow_api"):
        airflow_logs.clean(folder, "r0", False, NOW)
    with airflow_server() as served:
        environment.setenv("AIRFLOW_CONN_AIRFLOW_API", served.connection)
        served.dag_runs = [{"dag_id": "a", "dag_run_id": "10", "state": "running"}]
        airflow_logs.clean(folder, "r1", False, NOW)
        assert sorted(path.name for path in (folder / "dag_id=a").iterdir()) == ["run_id=0.9", "run_id=10", "run_id=5"]
        _, _, plan, applied, proof = act(warehouse, "r1")
        assert (plan["younger_ones_beyond_the_size"], plan["kept_because_they_go_on"]) == (1, 1)
        assert (plan["bytes_in_all"], applied["bytes_freed"], proof["bytes_after"]) == (500, 200, 300)
        served.dag_runs = []
        environment.setenv("OPERATIONS__MAINTENANCE__AIRFLOW__LOGS_KEEP_BYTES", "1")
        settings.cache_clear()
        airflow_logs.clean(folder, "r2", False, NOW)
        assert left(folder) == ["dag_id=a/run_id=0.9/task_id=x/attempt=1.log"]
        airflow_logs.clean(folder, "r3", False, NOW)
        assert act(warehouse, "r3")[1] == "no log is older than 30 days or beyond 1 bytes"


def test_a_folder_that_is_not_there(folder: Path, warehouse: psycopg.Connection) -> None:
    airflow_logs.clean(folder / "none", "r1", False, NOW)
    assert act(warehouse, "r1")[:2] == ("nothing_to_do", f"there is no folder {folder}/none")
