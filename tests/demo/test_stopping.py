"""Whatever ends a start, nothing that it began goes on; and what one start runs, another one leaves alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from demo.processes import StartError, claim
from include.settings import ROOT

# ``make demo`` that runs one program instead of the platform, says so over and over, and waits.
PROGRAM = """
import sys, time
from pathlib import Path
from demo import __main__ as demo
demo.FOLDER = Path(sys.argv.pop(1))
demo.SUMMARY = demo.FOLDER / "summary.json"
def start(self):
    child = self.servers.processes.start("program", ["sleep", "600"], log=demo.FOLDER / "program.log")
    (demo.FOLDER / "child").write_text(str(child.popen.pid))
    while True:
        time.sleep(0.05)
        with demo.step("waiting"):
            pass
demo.Demo.start = start
sys.exit(demo.main())
"""


@contextmanager
def _demo(folder: Path, output: int, *arguments: str, before: str = "") -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "errors").open("wb") as errors:
        started = subprocess.Popen(
            [sys.executable, "-c", before + PROGRAM, str(folder), *arguments],
            cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, stdout=output,
            stderr=errors, start_new_session=True,
        )  # fmt: skip
    try:
        yield started
    finally:
        if started.poll() is None:
            started.kill()
            started.wait()


def _child(folder: Path, demo: subprocess.Popen[bytes]) -> psutil.Process:
    file = folder / "child"
    while not (file.exists() and file.read_text()):
        assert demo.poll() is None, (folder / "errors").read_text()
        time.sleep(0.02)
    return psutil.Process(int(file.read_text()))


def test_a_reader_that_is_gone_ends_the_start_and_what_it_began(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with _demo(tmp_path, writer, "--oneshot") as demo:
        os.close(writer)
        child = _child(tmp_path, demo)
        os.close(reader)  # as "make demo ONESHOT=1 | head" does
        assert demo.wait(timeout=60) == 1
        assert not child.is_running()
    assert (tmp_path / "errors").read_text() == ""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_closed_terminal_ends_everything(tmp_path: Path, number: signal.Signals) -> None:
    inside, outside = os.openpty()
    with _demo(tmp_path, outside) as demo:
        os.close(outside)
        child = _child(tmp_path, demo)
        os.close(inside)  # whatever is said from now on fails
        demo.send_signal(number)
        demo.wait(timeout=60)
        assert not child.is_running()


def test_nohup_is_respected(tmp_path: Path) -> None:
    ignoring = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with (tmp_path / "said").open("wb") as said, _demo(tmp_path, said.fileno(), before=ignoring) as demo:
        child = _child(tmp_path, demo)
        demo.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert demo.poll() is None
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(timeout=60) == 0
        assert not child.is_running()


def test_a_second_start_leaves_the_first_alone(tmp_path: Path) -> None:
    with (tmp_path / "said").open("wb") as said, _demo(tmp_path, said.fileno()) as first:
        child = _child(tmp_path, first)
        (tmp_path / "summary.json").write_text("{}")
        with _demo(tmp_path, said.fileno(), "--oneshot") as second:
            assert second.wait(timeout=60) == 1
        told = (tmp_path / "errors").read_text()
        assert told == f"a demo is running here already (pid {first.pid}); stop it with Ctrl-C where it runs\n"
        assert child.is_running()
        assert first.poll() is None
        assert (tmp_path / "processes.json").exists()
        assert (tmp_path / "summary.json").exists()
        first.kill()
        first.wait()
        with claim(tmp_path / "lock"), pytest.raises(StartError, match=f"pid {os.getpid()}"):
            claim(tmp_path / "lock")
        child.kill()
