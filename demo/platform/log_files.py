"""The rotated log files of the history: plain for the newest day, compressed before it."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from heapq import merge
from pathlib import Path

from demo.platform import rhythm
from demo.platform.requests import Requests

LATE_LINES = 4
"""How many of a day's last lines were still being written when the log was rotated at midnight."""


class RotatedLogs:
    """Writes one file per log and day, named after the day, and compresses those older than the last day.

    A file appears under its name only when it is whole, with the time of its rotation as its own; writing a day again
    replaces its files.
    """

    def __init__(self, folder: Path, last_day: date) -> None:
        """Write to ``folder``, which is created."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.last_day = folder, last_day
        self._compressing = ThreadPoolExecutor(1)
        self._pending: list[Future[None]] = []

    def write(self, log: str, day: date, lines: Iterable[str]) -> None:
        """Write the file of a log for a day."""
        final = self.folder / f"{log}-{day:%Y%m%d}"
        partial = final.with_name(f".{final.name}.partial")
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)
        rotated = (rhythm.start_of(day) + rhythm.DAY) / 1000
        if day >= self.last_day:
            _publish(partial, final, rotated)
            final.with_name(final.name + ".gz").unlink(missing_ok=True)
        else:
            self._pending.append(self._compressing.submit(_compress, partial, final, rotated))

    def finish(self) -> None:
        """Wait for the compression. Raises OSError when a file could not be written."""
        self._compressing.shutdown(wait=True)
        for done in self._pending:
            done.result()


def _compress(partial: Path, final: Path, rotated: float) -> None:
    target = final.with_name(f"{final.name}.gz")
    packed = target.with_name(f".{target.name}.partial")
    with partial.open("rb") as source, packed.open("wb") as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as file:
        shutil.copyfileobj(source, file, 1 << 20)
    _publish(packed, target, rotated)
    partial.unlink()
    final.unlink(missing_ok=True)


def _publish(partial: Path, final: Path, rotated: float) -> None:
    os.utime(partial, (rotated, rotated))
    partial.replace(final)


def access_lines(requests: Requests, others: list[tuple[int, str]]) -> tuple[Iterator[str], list[str]]:
    """Return the access lines of a day in order, without the last ones, and those last ones.

    ``others`` are lines with their times that stand beside the requests: health probes and broken lines.
    """
    late = min(LATE_LINES, len(requests))
    edge = len(requests) - late
    return _merged(requests, edge, sorted(others)), list(requests.lines(edge, len(requests)))


def _merged(requests: Requests, edge: int, others: list[tuple[int, str]]) -> Iterator[str]:
    timed = zip(requests.times[:edge].tolist(), requests.lines(0, edge), strict=True)
    return (line for _, line in merge(timed, others, key=lambda entry: entry[0]))


def live_log(folder: Path) -> Path:
    """Return the access log that the web application appends to."""
    return folder / "access.log"


def begin_live_log(folder: Path, late: list[str]) -> bool:
    """Begin the live log with a day's late lines. Returns False, writing nothing, when other lines stand in it."""
    live, text = live_log(folder), "".join(late)
    if live.exists() and live.stat().st_size:
        with live.open(encoding="utf-8", errors="replace", newline="\n") as file:
            return file.read(len(text)) == text
    live.write_text(text, encoding="utf-8", newline="\n")
    return True
