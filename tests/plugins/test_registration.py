"""How Airflow finds the plugin, and what that costs the processes that do not serve pages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOADING = """
import json, sys
from airflow import settings
settings.PLUGINS_FOLDER = sys.argv[1]
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
views, _ = plugins_manager._get_ui_plugins()
light = sorted(name for name in ("psycopg", "plugins.operations_board", "include.settings")
               if name in sys.modules)
apps, _ = plugins_manager.get_fastapi_plugins()
print("RESULT" + json.dumps({"plugins": [plugin.name for plugin in plugins], "errors": errors, "light": light,
    "views": views, "apps": [{**app, "app": type(app["app"]).__name__} for app in apps],
    "once": apps[0]["app"] is next(p for p in plugins if p.name == "operations").fastapi_apps[0]["app"],
    "info": [app["url_prefix"] for plugin in plugins_manager.get_plugin_info() for app in plugin["fastapi_apps"]]}))
"""

pytestmark = pytest.mark.airflow


def load(folder: Path, search_path: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", LOADING, str(folder)], capture_output=True, text=True, check=False, cwd="/",
        env=os.environ | {"PYTHONPATH": search_path},
    )  # fmt: skip
    assert "RESULT" in done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.rpartition("RESULT")[2])
    return found


def test_airflow_loads_the_plugin_and_builds_the_board_only_to_serve_it(airflow_database: str) -> None:
    found = load(ROOT / "plugins", str(ROOT))
    assert sorted(found["plugins"]) == ["operations", "preload"]
    assert found["errors"] == {}
    assert found["light"] == []
    assert found["apps"] == [{"app": "FastAPI", "url_prefix": "/operations-board", "name": "Operations board"}]
    assert found["once"] is True
    assert found["info"] == ["/operations-board"]
    (view,) = found["views"]
    assert view["href"] == "operations-board/"  # relative: it holds under any base path
    assert view["icon"].startswith("data:image/svg+xml,")


def test_a_board_that_cannot_start_does_not_keep_airflow_from_starting(airflow_database: str, tmp_path: Path) -> None:
    (tmp_path / "operations_plugin.py").write_text((ROOT / "plugins" / "operations_plugin.py").read_text())
    found = load(tmp_path, "")  # the checkout is not on the search path
    assert found["errors"] == {}
    assert found["apps"] == [
        {"app": "PlainTextResponse", "url_prefix": "/operations-board", "name": "Operations board"}
    ]
