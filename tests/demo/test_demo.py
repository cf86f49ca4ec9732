"""``make demo`` as it is run: one operating day from nothing to the last process stopped, and a second start."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from demo.airflow import dag_names
from demo.platform_run import DAYS
from include.settings import ROOT
from tests.run_folder import server_folder

pytestmark = pytest.mark.timeout(900)  # a whole operating day, beside other tests

# What ``make demo`` runs, with another folder.
_DEMO = """
import sys
from pathlib import Path
from demo import __main__ as demo
demo.FOLDER = Path(sys.argv.pop(1))
demo.SUMMARY, demo.ENVIRONMENT = demo.FOLDER / "summary.json", demo.FOLDER / "environment.sh"
sys.exit(demo.main())
"""


@dataclass(frozen=True)
class Oneshot:
    """How the first start ended."""

    folder: Path
    status: int
    said: str


def _command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-c", _DEMO, str(folder), *arguments]


def _environment(folder: Path) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "OPERATIONS"))}
    spool = {"OPERATIONS__INCIDENTS__SPOOL": str(folder / "spool" / "signals.jsonl")}
    return inherited | spool | {"PYTHONPATH": str(ROOT)}


def _still_running(folder: Path) -> list[str]:
    """Processes that have to do with the folder, as their commands or surroundings tell."""
    found = []
    for process in psutil.process_iter():
        try:
            told = [*process.cmdline(), process.environ().get("AIRFLOW_HOME", "")]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if any(str(folder) in text for text in told):
            found.append(" ".join(told))
    return found


@pytest.fixture(scope="module")
def oneshot() -> Oneshot:
    folder = server_folder("demo")
    done = subprocess.run(
        _command(folder, "--oneshot"), cwd=folder, env=_environment(folder), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return Oneshot(folder, done.returncode, done.stdout)


def test_one_operating_day_succeeds_and_leaves_nothing_running(oneshot: Oneshot) -> None:
    assert oneshot.status == 0, oneshot.said
    assert _still_running(oneshot.folder) == []
    assert "Everything is stopped after" in oneshot.said.splitlines()[-2]
    assert "summary.json; reports: " in oneshot.said.splitlines()[-1]


def test_every_step_every_run_and_both_reports_are_shown(oneshot: Oneshot) -> None:
    for step in ("embedded servers … PostgreSQL, Redis, anvil, ", "days through the DAGs: ", "stopping …"):
        assert step in oneshot.said
    table = dict(re.findall(r"^  (\w+) +(\d+) \D", oneshot.said, re.M))
    assert set(table) >= dag_names()
    assert int(table["daily_metrics"]) == int(table["daily_reports"]) == DAYS
    assert "Daily System Health Report" in oneshot.said
    assert "Daily User Activity Report" in oneshot.said


def test_the_summary_tells_runs_rows_and_outcome(oneshot: Oneshot) -> None:
    summary = json.loads((oneshot.folder / "summary.json").read_text())
    assert (summary["outcome"], summary["incidents"]) == ("success", [])
    states = Counter((run["dag_id"], run["state"]) for run in summary["dag_runs"])
    assert states["daily_metrics", "success"] == DAYS
    assert states["daily_maintenance", "success"] == 1
    assert all(run["duration_seconds"] > 0 for run in summary["dag_runs"] if run["state"] == "success")
    rows = summary["rows"]
    assert rows["daily_traffic"] == DAYS
    assert rows["report"] == 2 * DAYS
    assert rows["maintenance_action"] > 0


def test_a_second_start_resumes_until_ctrl_c(oneshot: Oneshot) -> None:
    log = oneshot.folder / "second.log"
    with log.open("w") as output:
        demo = subprocess.Popen(
            _command(oneshot.folder), cwd=oneshot.folder, env=_environment(oneshot.folder), stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        while "Ctrl-C stops everything" not in log.read_text():
            assert demo.poll() is None, log.read_text()
            time.sleep(0.5)
        assert f"{DAYS} days to " in log.read_text(), "the history is kept"
        assert "(kept)" in log.read_text()
        [url] = re.findall(r"Airflow: (\S+)   user", log.read_text())
        assert httpx.get(f"{url}/api/v2/monitor/health", trust_env=False).status_code == 200
        assert _still_running(oneshot.folder), "what the other tests look for is seen"
        environment = oneshot.folder / "environment.sh"
        assert environment.stat().st_mode & 0o777 == 0o600
        said = subprocess.run(
            ["bash", "-c", f". {environment}; python -m include.incidents list && airflow info >&2 && echo both"],
            cwd="/", env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert said.stdout.splitlines() == ["No incident is open.", "both"], said.stderr
        demo.send_signal(signal.SIGINT)
        assert demo.wait() == 0, log.read_text()
    finally:
        if demo.poll() is None:
            demo.kill()
    assert "interrupted" in log.read_text()
    assert not environment.exists()
    assert _still_running(oneshot.folder) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)
