"""What a figure is, and how one is measured: in processes of their own, so that time and memory are theirs alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".local" / "venv" / "bin" / "python"


@dataclass(frozen=True)
class Figure:
    """One measured figure. ``ours`` and ``peers`` carry their unit; ``holds`` is None when it was not measured.

    One without a goal stands beside the others for comparison; it neither holds nor not.
    """

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
        if not self.goal and not self.why:
            return "for comparison"
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


_LAUNCHER = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
try:
    code = subprocess.run(sys.argv[2:], timeout=float(sys.argv[1]), stdout=subprocess.DEVNULL).returncode
except subprocess.TimeoutExpired:
    code = None
seconds = time.perf_counter() - started
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, code]))
"""
# A process starts with the peak memory of the one that starts it, so a small one of its own starts what is measured.


def cost_of(command: Sequence[str | Path], *, most_seconds: float = 3600) -> Cost:
    """Run a command to its end, or stop it after ``most_seconds``, and return what it took.

    What it prints is thrown away. Raises CommandFailedError with the command's last line.
    """
    # Python compiles its modules once, as it does where the product runs, whatever this shell is set to.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryFile() as said:
        launched = subprocess.run(
            [sys.executable, "-S", "-c", _LAUNCHER, str(most_seconds), *map(str, command)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            env={**environment, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(ROOT / ".local" / "bytecode")},
            check=True,
        )
        seconds, memory, code = json.loads(launched.stdout)
        if code:
            said.seek(0)
            last = (said.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise CommandFailedError(f"{Path(str(command[0])).name} ended with {code}: {last}")
    return Cost(seconds, memory, code is not None)
