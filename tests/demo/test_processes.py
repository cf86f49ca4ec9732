"""Programs of the demo are ended in order; a request that got lost is made once more, and then force is used."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from demo import processes
from demo.processes import Process, Processes

# Ends orderly at the request of the given number, with status 7.
PROGRAM = """
import signal, sys, time
requests = []
def asked(*_):
    requests.append(1)
    if len(requests) == int(sys.argv[1]):
        sys.exit(7)
signal.signal(signal.SIGTERM, asked)
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""


def _started(all_of_them: Processes, folder: Path, ends_at: int) -> Process:
    log = folder / f"{ends_at}.log"
    child = all_of_them.start("program", [sys.executable, "-c", PROGRAM, str(ends_at)], log=log)
    all_of_them.wait_until(child, lambda: "ready" in log.read_text(), seconds=20)
    return child


@pytest.mark.parametrize(("ends_at", "status"), [(1, 7), (2, 7), (3, -signal.SIGKILL)])
def test_a_request_is_made_twice_before_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends_at: int, status: int
) -> None:
    monkeypatch.setattr(processes, "_SECONDS_UNTIL_ASKED_AGAIN", 2)
    all_of_them = Processes(tmp_path / "processes.json")
    child = _started(all_of_them, tmp_path, ends_at)
    began = time.monotonic()
    all_of_them.stop_together([(child, 6)])
    assert child.popen.returncode == status
    assert time.monotonic() - began < {1: 2, 2: 6, 3: 15}[ends_at]
    assert all_of_them.children == []


def test_one_that_is_ending_in_time_is_asked_once(tmp_path: Path) -> None:
    all_of_them = Processes(tmp_path / "processes.json")
    child = _started(all_of_them, tmp_path, 2)
    all_of_them.stop_together([(child, 0.5)])
    assert child.popen.returncode == -signal.SIGKILL, "its patience ends before it would be asked again"
