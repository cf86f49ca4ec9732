"""Removes Airflow's own old logs: those of runs and of the DAG processor, never those of a run that goes on.

Airflow has no retention for logs on a local disk. Only folders of the names that Airflow makes are touched, whole runs
at a time, the oldest first and at most so many files a night; links are never followed. What a legal hold on
"airflow_logs" is about stays. They are not compressed: Airflow shows a run's log only from the file that it wrote.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from include.maintenance.airflow import airflow_connections
from include.maintenance.pruning.holds import AIRFLOW_LOGS
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import airflow_api, log_writers
from include.settings import settings
from include.warehouse import actions, legal_holds, session

_CALLBACKS = "executor_callbacks"  # of missed deadlines: a folder for each DAG, with one for each of its runs
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_YOUNGEST = timedelta(days=1)  # what was written to since is removed in no case
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True)
class _Logs:
    """The logs of a run's tasks or of its callbacks, or of a day of the DAG processor; ``newest``: last written to."""

    folder: Path
    run: tuple[str, str] | None
    files: int
    bytes: int
    newest: datetime


def clean(folder: Path, run_id: str, dry_run: bool, now: datetime | None = None) -> dict[str, Any]:
    """Remove logs in Airflow's base log folder that were last written ``logs_keep_days`` before ``now`` (aware).

    Beyond ``logs_keep_bytes`` of all logs together younger ones go as well, down to those of the last day. Returns the
    act's summary. Raises ConfigurationError (also for a clock that is wrong), SourceUnavailable (runs that go on
    could not be asked for) or MaintenanceFailed.
    """
    upkeep = settings().maintenance.airflow
    action = actions.plan(
        "delete_airflow_logs", "Airflow's logs", run_id, dry_run=dry_run, plan={"folder": str(folder)}
    )
    if action.done:
        return action.summary()
    with actions.failures_recorded(action):
        if not folder.is_dir():
            return actions.nothing_to_do(action, f"there is no folder {folder}").summary()
        now = now or session.present()
        untouched_since = now - _YOUNGEST
        due, plan = _plan(folder, now - timedelta(days=upkeep.logs_keep_days), untouched_since)
        action = actions.plan("delete_airflow_logs", "Airflow's logs", run_id, dry_run=dry_run, plan=plan)
        if not due:
            size = "" if upkeep.logs_keep_bytes is None else f" or beyond {upkeep.logs_keep_bytes} bytes"
            none = f"no log is older than {upkeep.logs_keep_days} days{size}"
            return actions.nothing_to_do(action, _kept_on_hold(plan, {}) or none).summary()
        if dry_run:
            return action.summary()
        return _remove(actions.applying(action), folder, due, untouched_since).summary()


def _plan(folder: Path, cut_off: datetime, untouched_since: datetime) -> tuple[list[_Logs], dict[str, Any]]:
    """Return the logs that are due, the oldest first, and what is recorded of them and of what stays."""
    upkeep = settings().maintenance.airflow
    going_on, told_by = _going_on()
    try:
        everything = list(_all_logs(folder))
    except PermissionError as error:
        raise _not_permitted(error) from None
    old = _beyond_limits(everything, cut_off, untouched_since, upkeep.logs_keep_bytes)
    held = _held([logs for logs in old if logs.run not in going_on])
    ended = [logs for logs in old if logs.run not in going_on and logs.folder not in held]
    due, left = _bounded(ended, upkeep.most_log_files)
    return due, {
        "folder": str(folder),
        "cut_off": cut_off,
        "runs_and_days": len(due),
        "files": sum(logs.files for logs in due),
        "bytes": sum(logs.bytes for logs in due),
        "younger_ones_beyond_the_size": sum(logs.newest >= cut_off for logs in due),
        "files_in_all": sum(logs.files for logs in everything),
        "bytes_in_all": sum(logs.bytes for logs in everything),
        "kept_by_legal_holds": len(held),
        "legal_holds": sorted(set(held.values())),
        "kept_because_they_go_on": sum(logs.run in going_on for logs in old),
        "runs_that_go_on_are_told_by": told_by,
        "left_for_the_next_night": left,
    }


def _kept_on_hold(plan: dict[str, Any], meanwhile: dict[Path, int]) -> str:
    """What holds keep: those in force when the act was planned, and the ones placed ``meanwhile``."""
    holds = ", ".join(map(str, sorted({*plan.get("legal_holds", []), *meanwhile.values()})))
    kept = plan.get("kept_by_legal_holds", 0) + len(meanwhile)
    return f"{kept} runs and days are kept: legal hold {holds}" if holds else ""


def _remove(action: actions.Action, folder: Path, due: list[_Logs], untouched_since: datetime) -> actions.Action:
    held: dict[Path, int] = {}
    written_to = 0
    try:
        with session.kept_open():
            for logs in due:
                if found := _held([logs]):  # asked again each time: a hold counts for all that goes after it was placed
                    held |= found
                else:
                    written_to += _remove_old_files(logs.folder, untouched_since.timestamp())
    except PermissionError as error:
        raise _not_permitted(error) from None
    after = list(_all_logs(folder))
    removed = [logs for logs in due if logs.folder not in held]
    folders = {logs.folder for logs in removed}
    still = [logs for logs in after if logs.folder in folders and logs.newest < untouched_since]
    if len(still) > written_to:
        raise MaintenanceFailed(f"{len(still)} folders of old logs are still there, such as {still[0].folder.name}")
    proof = {
        "files_before": action.plan["files_in_all"],
        "files_after": sum(logs.files for logs in after),
        "bytes_after": sum(logs.bytes for logs in after),
        "old_folders_after": len(still),
        "kept_because_written_to": written_to,
        "kept_by_legal_holds_placed_meanwhile": len(held),
    }
    applied = {"folders": len(removed), "bytes_freed": sum(logs.bytes for logs in removed)}
    left = action.plan["left_for_the_next_night"]
    more = [f"{left} files are left for the next night"] if left else []
    more += [kept] if (kept := _kept_on_hold(action.plan, held)) else []
    return actions.prove(action, proof, applied, "; ".join(more))


def _not_permitted(error: PermissionError) -> ConfigurationError:
    name = Path(str(error.filename)).name
    return ConfigurationError(f"{name} in Airflow's log folder may not be read or removed by this user; grant it that")


# ------------------------------------------------------------------------------------------------ what there is
def _all_logs(folder: Path) -> Iterator[_Logs]:
    for dag in _folders(folder):
        if dag.name == "dag_processor":
            for day in _folders(dag):
                if _DAY.fullmatch(day.name):
                    yield from _measured(day, None)
        elif dag.name == _CALLBACKS:
            for of_dag in _folders(dag):
                for run in _folders(of_dag):
                    yield from _measured(run, (of_dag.name, run.name))
        elif dag.name.startswith("dag_id="):
            for run in _folders(dag):
                if run.name.startswith("run_id="):
                    yield from _measured(run, (dag.name.removeprefix("dag_id="), run.name.removeprefix("run_id=")))


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]


def _measured(folder: Path, run: tuple[str, str] | None) -> Iterator[_Logs]:
    files, size, newest = 0, 0, 0.0
    for path in _files(folder):
        with suppress(FileNotFoundError):
            status = path.lstat()
            files, size, newest = files + 1, size + status.st_size, max(newest, status.st_mtime)
    if files == 0:
        with suppress(FileNotFoundError):
            newest = folder.stat().st_mtime
    yield _Logs(folder, run, files, size, datetime.fromtimestamp(newest, UTC))


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder, onerror=_raise, followlinks=False):
        yield from (Path(parent) / name for name in names)


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _beyond_limits(
    everything: list[_Logs], cut_off: datetime, untouched_since: datetime, most_bytes: int | None
) -> list[_Logs]:
    """The logs that are too old or, counted from the newest on, beyond the size; the oldest first."""
    found: list[_Logs] = []
    size = 0
    for logs in sorted(everything, key=lambda logs: logs.newest, reverse=True):
        size += logs.bytes
        too_much = most_bytes is not None and size > most_bytes
        if logs.newest < (untouched_since if too_much else cut_off):
            found.append(logs)
    return found[::-1]


def _held(logs: list[_Logs]) -> dict[Path, int]:
    """The folders that a legal hold keeps, each with the number of the first that does."""
    with session.transaction() as connection:
        holds = legal_holds.active(connection, AIRFLOW_LOGS)
    found: dict[Path, int] = {}
    for one in logs if holds else []:
        begins = _first_written(one.folder)
        for hold in holds:
            begun_in_time = hold.time_until is None or begins is None or begins < hold.time_until
            if begun_in_time and (hold.time_from is None or one.newest >= hold.time_from):
                found.setdefault(one.folder, hold.legal_hold_id)
    return found


def _first_written(folder: Path) -> datetime | None:
    """When the first line of a run's logs was written, by their own word; None when one of them does not tell."""
    times: list[datetime] = []
    for path in _files(folder):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            with path.open("rb") as file:
                if line := file.readline(_LONGEST_LINE):
                    times.append(datetime.fromisoformat(json.loads(line)["timestamp"]).astimezone(UTC))
        except (OSError, ValueError, LookupError, TypeError):
            return None
    return min(times, default=None)


def _bounded(logs: list[_Logs], most_files: int) -> tuple[list[_Logs], int]:
    """The oldest logs of at most so many files (at least one run), and how many files are left."""
    taken: list[_Logs] = []
    files = 0
    for one in logs:
        if taken and files + one.files > most_files:
            break
        taken.append(one)
        files += one.files
    return taken, sum(one.files for one in logs) - files


def _going_on() -> tuple[set[tuple[str, str] | None], str]:
    """The runs that are not finished, as Airflow's API tells them; without it on purpose, open files tell alone."""
    if not airflow_connections.is_given(airflow_api.CONNECTION):
        if settings().maintenance.airflow.logs_keep_bytes is not None:
            raise ConfigurationError(
                "maintenance.airflow.logs_keep_bytes needs the connection airflow_api, which tells whose young logs "
                "are still needed; configure it, or set no limit"
            )
        return set(), "their age and open files; workers are without the connection airflow_api on purpose"
    with airflow_api.open_api() as api:
        runs = api.pages("/dags/~/dagRuns", "dag_runs", state=["running", "queued"])
    return {(run["dag_id"], run["dag_run_id"]) for run in runs}, "Airflow's API"


def _remove_old_files(folder: Path, cut_off: float) -> bool:
    """Remove the files that are still old, then the folders that are empty. Returns whether a writer kept any."""
    held = False
    for path in _files(folder):
        with suppress(FileNotFoundError):
            if path.lstat().st_mtime >= cut_off:
                continue
            if not path.is_symlink() and log_writers.held_for_writing(path):
                held = True
                continue
            path.unlink()
    for parent, _, _ in os.walk(folder, topdown=False, followlinks=False):
        with suppress(OSError):
            Path(parent).rmdir()
    with suppress(OSError):
        if folder.parent.name.startswith("dag_id=") or folder.parent.parent.name == _CALLBACKS:
            folder.parent.rmdir()
    return held
