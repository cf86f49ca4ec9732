"""The files of tests that take longest go first, so that at the end no worker waits for another one's long file."""

from __future__ import annotations

import pytest

LONGEST = (
    "tests/end_to_end/test_operating_day.py",
    "tests/include/maintenance/airflow/test_airflow_database.py",
    "tests/dags/test_runs.py",
    "tests/demo/test_demo.py",
    "tests/plugins/test_in_browser.py",
    "tests/test_deploy.py",
    "tests/include/maintenance/pruning/test_prune_kills.py",
    "tests/include/maintenance/backups/test_base_backup_verification.py",
)
"""Each takes more than a minute where a core is slow; the first two begin on a worker each."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files; within one the order stays."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.split("::")[0], len(places)))
