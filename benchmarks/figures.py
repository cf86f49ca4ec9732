"""What a figure is, and how one is measured: in processes of their own, so that time and memory are theirs alone."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".local" / "venv" / "bin" / "python"


@dataclass(frozen=True)
class Figure:
    """One measured figure. ``ours`` and ``peers`` carry their unit; ``holds`` is None when it was not measured."""

    name: str
    ours: str
    peers: str
    ratio: str
    goal: str
    holds: bool | None
    why: str = ""

    def line(self) -> str:
        """The figure as one line of the table."""
        return f"{self.name:<34} {self.ours:<26} {self.peers:<26} {self.ratio:<12} {self.goal:<38} {self.verdict}"

    @property
    def verdict(self) -> str:
        """Whether the goal holds, in words."""
        if self.holds is None:
            return f"not measured: {self.why}"
        return "holds" if self.holds else "does not hold"

    def as_json(self) -> dict[str, Any]:
        """The figure as an object of bench.json."""
        return asdict(self) | {"verdict": self.verdict}


HEADING = Figure("figure", "ours", "the peer's", "ratio", "goal", None).line().split("not measured")[0] + "holds or not"


def not_measured(name: str, goal: str, why: str) -> Figure:
    """A figure that could not be measured; it never holds."""
    return Figure(name, "-", "-", "-", goal, None, " ".join(why.split()))


@dataclass(frozen=True)
class Cost:
    """What a process took: wall-clock seconds and the largest resident memory in bytes.

    ``finished`` is False for one that was stopped because it took too long; its seconds are a lower bound.
    """

    seconds: float
    memory: int
    finished: bool = True


class CommandFailedError(Exception):
    """A measured command failed; the message names it and how it ended."""


def cost_of(command: Sequence[str | Path], *, most_seconds: float = 3600) -> Cost:
    """Run a command to its end, or stop it after ``most_seconds``, and return what it took.

    Raises CommandFailedError with the command's last line.
    """
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        alarm = threading.Timer(most_seconds, process.kill)
        alarm.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            alarm.cancel()
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        finished = not (process.returncode == -signal.SIGKILL and seconds >= most_seconds)
        if finished and process.returncode != 0:
            said.seek(0)
            last = (said.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise CommandFailedError(f"{Path(str(command[0])).name} ended with {process.returncode}: {last}")
    return Cost(seconds, usage.ru_maxrss * 1024, finished)


def best_of(times: int, command: Sequence[str | Path]) -> Cost:
    """Return the fastest of several runs, with the largest memory that any of them took."""
    costs = [cost_of(command) for _ in range(times)]
    return Cost(min(cost.seconds for cost in costs), max(cost.memory for cost in costs))
