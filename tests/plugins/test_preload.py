"""What is loaded ahead of the tasks, and when."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from demo.install import ROOT
from plugins.preload import MODULES

_PROGRAM = """
import sys
from plugins.preload import MODULES, Preloader
before = set(MODULES) & set(sys.modules)
Preloader().on_starting()
print(len(before), len(set(MODULES) & set(sys.modules)))
print(sorted(name for name in sys.modules if name.split('.')[0] == 'include'))
"""


_FAILING = """
import sys
from plugins import preload
preload.OWN_MODULES = ("include.window", "include.no_such_module")
preload.Preloader().on_starting()
print(sorted(name for name in sys.modules if name.split('.')[0] == 'include'))
"""


_COMPONENT = """
import sys
from airflow.listeners.listener import get_listener_manager
get_listener_manager().hook.on_starting(component=None)
print('duckdb' in sys.modules)
"""


_THREADS = """
import os
from plugins.preload import Preloader
before = len(os.listdir('/proc/self/task'))
Preloader().on_starting()
print(len(os.listdir('/proc/self/task')) - before)
"""


_FORKED = """
import os, sys
from plugins import preload
if {first!r}:
    __import__({first!r})
preload.Preloader().on_starting()

def ours():
    return sorted(name for name in sys.modules if name.split('.')[0] == 'include')

def in_a_child(look):
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, look().encode())
        os._exit(0)
    os.waitpid(child, 0)
    return os.read(reading, 65536).decode()

def used():
    known = 'include.dagkit' in ours()
    from include.dagkit import operations_dag
    from include.settings import settings
    return f"{{known}} {{settings.cache_info().currsize}} {{operations_dag.__module__}}"

def worker():
    before = len(ours())
    preload._stamp = lambda path: (0, 0)  # from now on every file is another
    return f"{{before > 10}} {{in_a_child(lambda: str(ours()))}}"

print(in_a_child(used) + " | " + in_a_child(worker))
"""


_CELERY = """
import os, sys
from plugins.preload import MODULES
from airflow.providers.celery.executors.celery_executor import app

mostly = [name for name in MODULES if not name.startswith(('airflow', 'pydantic_settings', 'jinja2', 'fsspec'))]
before = len(set(mostly) & set(sys.modules))
app.loader.import_default_modules()
reading, writing = os.pipe()
if (pool := os.fork()) == 0:
    if (task := os.fork()) == 0:
        os.write(writing, str('include.reporting.traffic' in sys.modules).encode())
    else:
        os.waitpid(task, 0)
    os._exit(0)
os.waitpid(pool, 0)
print(before, len(set(MODULES) & set(sys.modules)), os.read(reading, 100).decode(), sep=' | ')
"""


def _run(program: str, executor: str, home: Path) -> list[str]:
    environment = {
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__EXECUTOR": executor,
        "AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS": "deploy.celery_worker.SETTINGS",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.splitlines()[-2:]


def test_every_module_is_loaded_where_tasks_are_forked(tmp_path: Path) -> None:
    counts, own = _run(_PROGRAM, "LocalExecutor", tmp_path)
    before, after = map(int, counts.split())
    assert before < after == len(MODULES)
    assert own == "[]", "the component itself does not hold on to the collection's own code"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux lists a process's threads there")
def test_what_is_loaded_starts_no_threads(tmp_path: Path) -> None:
    """A process that has some should not be forked, and Python says so from 3.12 on."""
    assert _run(_THREADS, "LocalExecutor", tmp_path)[-1] == "0"


def test_nothing_is_loaded_where_tasks_run_elsewhere(tmp_path: Path) -> None:
    before, after = map(int, _run(_PROGRAM, "CeleryExecutor", tmp_path)[0].split())
    assert before == after


def test_a_celery_worker_loads_them_before_it_forks(tmp_path: Path) -> None:
    """As its first process does at its start; what it forks are the pool's processes, and these fork the tasks."""
    before, after, ours = _run(_CELERY, "CeleryExecutor", tmp_path)[-1].split(" | ")
    assert (before, after, ours) == ("0", str(len(MODULES)), "True")


def test_tasks_get_our_own_modules_until_a_file_changes(tmp_path: Path) -> None:
    used, worker = _run(_FORKED.format(first=""), "LocalExecutor", tmp_path)[-1].split(" | ")
    assert used == "True 0 include.dagkit", "handed over, and no configuration was read before"
    assert worker == "True []", "a worker has them; a task that it forks after a change has not"


def test_modules_that_somebody_uses_are_left_alone(tmp_path: Path) -> None:
    used, _ = _run(_FORKED.format(first="include.window"), "LocalExecutor", tmp_path)[-1].split(" | ")
    assert used == "False 0 include.dagkit"


def test_nothing_stays_of_our_own_when_one_cannot_be_loaded(tmp_path: Path) -> None:
    assert _run(_FAILING, "LocalExecutor", tmp_path)[-1] == "[]", "a worker would keep it for ever, whatever changes"


def test_airflow_calls_it_when_a_component_starts(tmp_path: Path) -> None:
    assert _run(_COMPONENT, "LocalExecutor", tmp_path)[-1] == "True"


def test_a_module_that_cannot_be_loaded_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from plugins import preload

    asked: list[str] = []

    def broken(name: str) -> None:
        asked.append(name)
        raise ImportError(name)

    monkeypatch.setattr(preload, "import_module", broken)
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    preload.Preloader().on_starting()
    assert asked[: len(MODULES)] == list(MODULES)
