"""Aggregates the access log of a folder as daily_metrics does: ``python -m benchmarks.aggregate_logs FOLDER REPORT``.

Everything but the write to the warehouse: the tables go to a JSON file, as the peer's report does. A third argument
names a file for the seconds of a process that is forked from this one, which has loaded what plugins/preload.py loads:
so a worker forks a task. It forks several, one after the other as a worker does, and the fastest counts.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter

from benchmarks.access_log_lines import DAY
from include.platform.logs import open_folder
from include.reporting import traffic_day
from include.settings import settings
from include.window import day_window

TASKS = 3


def main(folder: str, report: str) -> None:
    """Read the folder's logs and write the figures of DAY. Raises what ``open_folder`` and ``aggregate`` raise."""
    os.environ["AIRFLOW_CONN_PLATFORM_LOGS"] = json.dumps({"conn_type": "fs", "extra": {"path": folder}})
    window = day_window(DAY, "UTC")
    traffic = settings().traffic
    with open_folder(traffic, ZoneInfo("UTC"), window.start) as logs:
        day, _ = traffic_day.aggregate(logs, window, logs.files, traffic)
    tables = {name: [table.columns, *table.rows] for name, table in day.tables.items()}
    Path(report).write_bytes(TypeAdapter(Any).dump_json(tables))


def seconds_as_task(folder: str, report: str) -> float:
    """Return the least seconds of forked processes, from the fork to the end. Raises RuntimeError when one fails."""
    from plugins import preload

    for name in (*preload.MODULES, *preload.OWN_MODULES):
        import_module(name)
    gc.freeze()  # as Airflow's LocalExecutor does: what is loaded stays shared
    return min(_seconds_of_a_task(folder, report) for _ in range(TASKS))


def _seconds_of_a_task(folder: str, report: str) -> float:
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        try:
            main(folder, report)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    seconds = time.perf_counter() - started
    if status:
        raise RuntimeError(f"the forked process ended with {os.waitstatus_to_exitcode(status)}")
    return seconds


if __name__ == "__main__":
    if len(sys.argv) > 3:
        Path(sys.argv[3]).write_text(str(seconds_as_task(sys.argv[1], sys.argv[2])))
    else:
        main(sys.argv[1], sys.argv[2])
