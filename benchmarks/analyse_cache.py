"""Looks at every key of a Redis as daily_maintenance does: ``python -m benchmarks.analyse_cache PORT REPORT``.

Everything but the write to the warehouse: the facts go to a JSON file.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from include.maintenance.cache import cache_keys, cache_server
from include.settings import settings


def main(port: str, report: str) -> None:
    """Look at the keys of the server on 127.0.0.1. Raises what ``look_at_all`` raises."""
    os.environ["AIRFLOW_CONN_PLATFORM_REDIS"] = f"redis://127.0.0.1:{port}/0"
    limits = settings().maintenance.cache
    found = cache_keys.look_at_all(cache_server.client(), limits, memory=True)
    Path(report).write_text(json.dumps(found.facts(limits.most_prefixes)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
