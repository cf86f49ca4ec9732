"""Access-log aggregation against GoAccess: speed, memory, and memory against the size of the file.

The speed is measured twice: of a process that a worker forks, as every task is one (the fastest of those that one
worker forks), and for comparison of a new one, which starts Python and imports everything first. The peer's time is
that of the whole process.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from benchmarks.figures import PYTHON, CommandFailedError, Cost, Figure, cost_of, not_measured

SIZES = {1_000_000: 3, 5_000_000: 1}
"""Lines, and how often the peer reads them; its fastest run counts, and so does ours."""
_OUR_RUNS = 3  # their largest memory counts, which differs by a tenth from run to run
FASTER, MOST_MEMORY, FLAT = 25, 1 << 30, 1.25
LONGEST_PEER_SECONDS = 900  # then the peer is stopped, and its time is a lower bound
_FORMAT = (
    "--log-format=%h %^ %e [%d:%t %^] \"%r\" %s %b \"%R\" \"%u\" %T",
    "--date-format=%d/%b/%Y",
    "--time-format=%H:%M:%S",
)  # fmt: skip


def measure() -> list[Figure]:
    """Measure both tools on the same files, in turns."""
    figures: list[Figure] = []
    memory: dict[int, int] = {}
    for lines, runs in SIZES.items():
        name, goal = f"access_logs {lines // 1_000_000} M lines", f"at least {FASTER} times the peer's speed"
        with tempfile.TemporaryDirectory(prefix="gold-escrow-bench-") as folder:
            log = Path(folder) / "logs" / "access.log"
            log.parent.mkdir()
            try:
                cost_of([PYTHON, "-m", "benchmarks.access_log_lines", str(lines), log])
                task, new, peer = _in_turns(runs, log, Path(folder))
            except CommandFailedError as error:
                figures.append(not_measured(name, goal, str(error)))
                continue
        memory[lines] = new.memory
        figures.append(_speed(name, goal, lines, task, peer))
        figures.append(_speed(f"{name}, new process", "", lines, new.seconds, peer))
    return figures + _memory(memory)


def _memory(memory: dict[int, int]) -> list[Figure]:
    figures = [
        Figure(
            f"access_logs {lines // 1_000_000} M lines memory", f"{used / 2**20:.0f} MiB", "-", "-",
            "at most 1 GiB", used <= MOST_MEMORY,
        )
        for lines, used in memory.items()
    ]  # fmt: skip
    if len(memory) == len(SIZES):
        growth = memory[max(SIZES)] / memory[min(SIZES)]
        figures.append(
            Figure(
                "access_logs memory, 5 M to 1 M", f"{growth:.2f} times", "-", f"{growth:.2f}",
                f"at most {FLAT} times", growth <= FLAT,
            )
        )  # fmt: skip
    return figures


def _in_turns(runs: int, log: Path, folder: Path) -> tuple[float, Cost, Cost | None]:
    """Return the least seconds of a task's process, of a new one with its memory, and of the peer, None without it."""
    ours: list[str | Path] = [PYTHON, "-m", "benchmarks.aggregate_logs", log.parent]
    told = folder / "seconds"
    program = shutil.which("goaccess")
    options: list[str | Path] = [log, *_FORMAT, "--no-global-config", "--no-progress", "-o", folder / "peer.json"]
    tasks, new, peers = [], [], []
    for number in range(_OUR_RUNS):
        cost_of([*ours, folder / "task.json", told])
        tasks.append(float(told.read_text()))
        new.append(cost_of([*ours, folder / "new.json"]))
        if program and number < runs:
            peers.append(cost_of([program, *options], most_seconds=LONGEST_PEER_SECONDS))
    least = Cost(min(cost.seconds for cost in new), max(cost.memory for cost in new))
    return min(tasks), least, min(peers, key=lambda cost: cost.seconds, default=None)


def _speed(name: str, goal: str, lines: int, seconds: float, peer: Cost | None) -> Figure:
    if peer is None:
        return not_measured(name, goal, "goaccess is not installed (apt-get install goaccess)")
    ratio = peer.seconds / seconds
    return Figure(
        name,
        f"{seconds:.2f} s, {lines / seconds / 1e3:.0f} k lines/s",
        f"{'' if peer.finished else 'over '}{peer.seconds:.2f} s, {peer.memory / 2**20:.0f} MiB",
        f"{'' if peer.finished else 'over '}{ratio:.1f}",
        goal,
        ratio >= FASTER if goal else None,
    )
