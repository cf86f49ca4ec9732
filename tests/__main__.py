"""Runs every check and test: ``python -m tests [pytest arguments]`` (make test).

Style, types and tests, one after the other; each is shown with its time, the end says what failed and where to look.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".local" / "test-logs"


def _check(name: str, command: list[str]) -> bool:
    """Run one check quietly; show its output only when it fails."""
    started = time.monotonic()
    print(f"  {name} …", end="", flush=True)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(f" {'ok' if done.returncode == 0 else 'failed'}, {time.monotonic() - started:.1f} s", flush=True)
    if done.returncode != 0:
        print(done.stdout + done.stderr, flush=True)
    return done.returncode == 0


def _show(tests: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    """Show and keep what the tests print, until they have ended: what one left running may keep the output open."""
    assert tests.stdout is not None
    last: float | None = None  # when what is still in the pipe has been shown
    while last is None or time.monotonic() < last:
        if last is None and tests.poll() is not None:
            last = time.monotonic() + 5
        if not select.select([tests.stdout], [], [], 1)[0]:
            if last is not None:
                return
        elif chunk := os.read(tests.stdout.fileno(), 65536):
            sys.stdout.buffer.write(chunk)
            sys.stdout.flush()
            log.write(chunk)
        else:
            return


def main() -> int:
    """Run the checks and the tests; returns the exit status."""
    python = sys.executable
    arguments = sys.argv[1:]
    os.environ["PYTHONPATH"] = str(ROOT)
    LOGS.mkdir(parents=True, exist_ok=True)
    passed = True
    if not arguments:
        passed &= _check("style", [python, "-m", "ruff", "check", "."])
        passed &= _check("format", [python, "-m", "ruff", "format", "--check", "."])
        passed &= _check("types", [python, "-m", "mypy", "."])
    # A worker started anew may wait for ever. Files go in the order of tests/order.py, not by their numbers of tests.
    workers = ["-n", "2", "--dist", "loadfile", "--max-worker-restart", "0", "--no-loadscope-reorder"]
    if any(argument.startswith("-n") for argument in arguments):
        workers = []
    print(f"  tests (a copy of what they print goes to {LOGS.relative_to(ROOT)}/pytest.log) …", flush=True)
    with (LOGS / "pytest.log").open("wb", buffering=0) as log:
        tests = subprocess.Popen(
            [python, "-m", "pytest", *workers, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        signal.signal(signal.SIGTERM, lambda *_: tests.terminate())  # it stops its servers then
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the tests by itself: wait until they have stopped
        _show(tests, log)
    failed_tests = tests.wait() != 0
    if not passed:
        print("  A check before the tests failed: scroll up to its output.")
    if failed_tests:
        print(f"  Tests failed: see {LOGS.relative_to(ROOT)}/pytest.log")
    return int(failed_tests or not passed)


if __name__ == "__main__":
    sys.exit(main())
