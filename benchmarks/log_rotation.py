"""Rotation and compression of a gigabyte of logs against logrotate with gzip, its default.

Ours renames, waits for the proof that nobody writes any more, compresses, reads the compressed file back, compares its
content and notes its checksum. logrotate renames and pipes the file through gzip. Both work on the same content in
the same folder, in turns; the faster of two runs counts.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from benchmarks.figures import PYTHON, CommandFailedError, Cost, Figure, cost_of, not_measured
from benchmarks.scratch import environment, scratch_databases

LINES, ROUNDS = 4_200_000, 2
_FASTER, _SMALLER = "faster than logrotate + gzip", "no larger than logrotate + gzip"
_NAMES = ("log_rotation 1 GB", "log_rotation 1 GB, bytes after")


def measure(lines: int = LINES) -> list[Figure]:
    """Measure both on the same log of ``lines`` lines."""
    from include.warehouse import migrate

    with scratch_databases() as (folder, _, databases):
        databases.create("warehouse", "warehouse_owner")
        logs = folder / "logs"
        logs.mkdir()
        place = {"AIRFLOW_CONN_PLATFORM_LOGS": json.dumps({"conn_type": "fs", "extra": {"path": str(logs)}})}
        with environment(databases.connections(warehouse="warehouse", escrow="none") | place):
            migrate.upgrade()
            try:
                cost_of([PYTHON, "-m", "benchmarks.access_log_lines", str(lines), folder / "made.log"])
                return _side_by_side(folder / "made.log", logs)
            except CommandFailedError as error:
                return _neither(str(error))


def _side_by_side(made: Path, logs: Path) -> list[Figure]:
    program = shutil.which("logrotate") or shutil.which("logrotate", path="/usr/sbin:/sbin")
    if program is None or shutil.which("gzip") is None:
        return _neither("logrotate is not installed (apt-get install logrotate)")
    ours: list[Cost] = []
    peers: list[Cost] = []
    for turn in range(ROUNDS):
        _put(made, logs)
        ours.append(cost_of([PYTHON, "-m", "benchmarks.rotate_logs", f"turn-{turn}"]))
        our_bytes = _only(logs, ".zst")
        _put(made, logs)
        peers.append(cost_of([program, "--force", "--state", logs / "state", _configuration(logs)]))
        peer_bytes = _only(logs, ".gz")
    our, peer = min(cost.seconds for cost in ours), min(cost.seconds for cost in peers)
    size = made.stat().st_size
    return [
        Figure(
            _NAMES[0], f"{our:.1f} s, {size / our / 1e6:.0f} MB/s", f"{peer:.1f} s, {size / peer / 1e6:.0f} MB/s",
            f"{peer / our:.2f}", _FASTER, our < peer,
        ),
        Figure(
            _NAMES[1], f"{our_bytes / 1e6:.1f} MB of {size / 1e6:.0f}", f"{peer_bytes / 1e6:.1f} MB",
            f"{our_bytes / peer_bytes:.2f}", _SMALLER, our_bytes <= peer_bytes,
        ),
    ]  # fmt: skip


def _neither(why: str) -> list[Figure]:
    return [not_measured(name, goal, why) for name, goal in zip(_NAMES, (_FASTER, _SMALLER), strict=True)]


def _put(made: Path, logs: Path) -> None:
    """Begin anew: the folder holds the log alone, as it was made."""
    for path in logs.iterdir():
        path.unlink()
    shutil.copy2(made, logs / "access.log")
    (logs / "access.log").chmod(0o644)


def _configuration(logs: Path) -> Path:
    path = logs / "logrotate.conf"
    path.write_text(f"{logs}/access.log {{\ndaily\nrotate 7\ndateext\nmissingok\nnotifempty\ncompress\n}}\n")
    path.chmod(0o644)
    return path


def _only(logs: Path, ending: str) -> int:
    """The bytes of the one file that is left of the log. Raises CommandFailedError when it is another."""
    left = [path for path in logs.iterdir() if path.name.startswith("access.log")]
    if len(left) != 1 or left[0].suffix != ending:
        raise CommandFailedError(f"the log did not become one {ending} file but {sorted(path.name for path in left)}")
    return left[0].stat().st_size
