"""Aggregates the access log of a folder as daily_metrics does: ``python -m benchmarks.aggregate_logs FOLDER REPORT``.

Everything but the write to the warehouse: the tables go to a JSON file, as the peer's report does.
"""

from __future__ import annotations

import json
import os
import sys
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from benchmarks.access_log_lines import DAY
from include.platform.logs import open_folder
from include.reporting import traffic_day
from include.settings import settings
from include.window import day_window


def main(folder: str, report: str) -> None:
    """Read the folder's logs and write the figures of DAY. Raises what ``open_folder`` and ``aggregate`` raise."""
    os.environ["AIRFLOW_CONN_PLATFORM_LOGS"] = json.dumps({"conn_type": "fs", "extra": {"path": folder}})
    window = day_window(DAY, "UTC")
    traffic = settings().traffic
    with open_folder(traffic, ZoneInfo("UTC"), window.start) as logs:
        day, _ = traffic_day.aggregate(logs, window, logs.files, traffic)
    tables = {name: [table.columns, *table.rows] for name, table in day.tables.items()}
    # The rows of an hour share its time, which is written out once.
    Path(report).write_text(json.dumps(tables, default=cache(str)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
