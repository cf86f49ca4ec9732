"""Aggregates the access log of a folder as daily_metrics does: ``python -m benchmarks.aggregate_logs FOLDER REPORT``.

Everything but the write to the warehouse: the tables go to a JSON file, as the peer's report does. A third argument
names a file for the seconds of a process that is forked from this one, which has loaded what plugins/preload.py loads:
so a worker forks a task. It forks several, one after the other as a worker does, and the fastest counts.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter

from benchmarks import worker
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
    with worker.loaded():
        return min(worker.seconds_of_a_task(partial(main, folder, report)) for _ in range(TASKS))


if __name__ == "__main__":
    if len(sys.argv) > 3:
        Path(sys.argv[3]).write_text(str(seconds_as_task(sys.argv[1], sys.argv[2])))
    else:
        main(sys.argv[1], sys.argv[2])
