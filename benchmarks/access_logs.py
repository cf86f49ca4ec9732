"""Access-log aggregation against GoAccess: speed, memory, and memory against the size of the file."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from benchmarks.figures import PYTHON, CommandFailedError, Cost, Figure, best_of, cost_of, not_measured

SIZES = {1_000_000: 3, 5_000_000: 1}
"""Lines, and how often each of the two tools reads them; its fastest run counts."""
FASTER, MOST_MEMORY, FLAT = 25, 1 << 30, 1.25
LONGEST_PEER_SECONDS = 900  # then the peer is stopped, and its time is a lower bound
_FORMAT = (
    "--log-format=%h %^ %e [%d:%t %^] \"%r\" %s %b \"%R\" \"%u\" %T",
    "--date-format=%d/%b/%Y",
    "--time-format=%H:%M:%S",
)  # fmt: skip


def measure() -> list[Figure]:
    """Measure both tools on the same files, one after the other."""
    figures: list[Figure] = []
    memory: dict[int, int] = {}
    for lines, runs in SIZES.items():
        name, goal = f"access_logs {lines // 1_000_000} M lines", f"at least {FASTER} times the peer's speed"
        with tempfile.TemporaryDirectory(prefix="gold-escrow-bench-") as folder:
            log = Path(folder) / "logs" / "access.log"
            log.parent.mkdir()
            try:
                cost_of([PYTHON, "-m", "benchmarks.access_log_lines", str(lines), log])
                ours = best_of(
                    runs, [PYTHON, "-m", "benchmarks.aggregate_logs", log.parent, Path(folder) / "ours.json"]
                )
            except CommandFailedError as error:
                figures.append(not_measured(name, goal, str(error)))
                continue
            memory[lines] = ours.memory
            figures.append(_speed(name, goal, lines, runs, ours, log, Path(folder) / "peer.json"))
    figures += [
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


def _speed(name: str, goal: str, lines: int, runs: int, ours: Cost, log: Path, report: Path) -> Figure:
    program = shutil.which("goaccess")
    if program is None:
        return not_measured(name, goal, "goaccess is not installed (apt-get install goaccess)")
    try:
        command: list[str | Path] = [program, log, *_FORMAT, "--no-global-config", "--no-progress", "-o", report]
        costs = [cost_of(command, most_seconds=LONGEST_PEER_SECONDS) for _ in range(runs)]
        peer = min(costs, key=lambda cost: cost.seconds)
    except CommandFailedError as error:
        return not_measured(name, goal, str(error))
    ratio = peer.seconds / ours.seconds
    return Figure(
        name,
        f"{ours.seconds:.2f} s, {lines / ours.seconds / 1e3:.0f} k lines/s",
        f"{'' if peer.finished else 'over '}{peer.seconds:.2f} s, {peer.memory / 2**20:.0f} MiB",
        f"{'' if peer.finished else 'over '}{ratio:.1f}",
        goal,
        ratio >= FASTER,
    )
