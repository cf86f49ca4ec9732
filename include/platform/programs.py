"""Runs programs of others so that they end in time, with all that they started."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress


def run(
    command: Sequence[str], environment: Mapping[str, str], seconds: float, *, grace_seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a program in a session of its own and return how it ended and what it printed.

    When ``seconds`` are over, or this process is told to end, the program and those that it started are asked to end,
    and killed when ``grace_seconds`` later they have not. Raises subprocess.TimeoutExpired, and OSError when it cannot
    be started.
    """
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        errors="replace", env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=seconds)
    except BaseException:  # also when the task is told to end
        _end(process, grace_seconds)
        raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _end(process: subprocess.Popen[str], grace_seconds: float) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_seconds)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def last_line(text: str) -> str:
    """Return the last line of what a program printed, which mostly tells why it failed."""
    return (text.strip().splitlines() or ["it said nothing"])[-1]
