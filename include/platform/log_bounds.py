"""When the lines of a log file can end at the latest, told without reading it whole."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import IO, TYPE_CHECKING
from zoneinfo import ZoneInfo

from include.platform.log_lines import Kind
from include.platform.log_times import instants

if TYPE_CHECKING:
    from include.platform.logs import LogFile

MARGIN = timedelta(hours=3)
"""How far lines may lie beyond the first and last times seen in a file before they count as late: buffers are flushed
late, clocks differ. Later lines are found too, through the file that they stand in."""

_TAIL = 64 << 10


def latest_in(handle: IO[bytes], size: int, kind: Kind, zone: ZoneInfo, modified: datetime) -> datetime:
    """Return the last time that an uncompressed file can hold: nothing in it was written after its last change.

    Its end may be nothing but late lines: where it tells times long before that change, pieces further from the end,
    by an eighth of the way each time, are looked at too.
    """
    found: list[datetime] = []
    distance = 0
    while distance < size and (not found or max(found) < modified - MARGIN):
        distance = min(size, distance + max(_TAIL, distance // 8))
        handle.seek(size - distance)
        piece = handle.read(_TAIL)
        found += instants(kind, piece if distance == size else piece.partition(b"\n")[2], zone)
    return min(modified, max(found, default=modified))


def bounded_by_successors(files: list[LogFile]) -> list[LogFile]:
    """A compressed file ended before the next but one of its log began, whatever its own time says.

    The next one alone does not tell: all that stands at its beginning may be late lines.
    """
    bounded = []
    for file in files:
        following = _beginnings_after(file, files) if file.compression else []
        if file.latest and len(following) > 1:
            file = replace(file, latest=min(file.latest, following[1]))
        bounded.append(file)
    return bounded


def _beginnings_after(file: LogFile, files: list[LogFile]) -> list[datetime]:
    """Return when the files had begun that surely follow a file of their log, in order.

    All times at their beginning lie after those of the file, and they were not changed last before it was. Changes
    within the margin tell nothing: the files may have been copied here together.
    """
    found: dict[str, datetime] = {}  # by their first lines: a copy is no further file
    changed = file.modified_ns - MARGIN // timedelta(microseconds=1) * 1000
    for other in files:
        if (other.kind, other.log) != (file.kind, file.log) or other.modified_ns < changed:
            continue
        if file.begun and other.earliest and other.begun and other.earliest > file.begun + MARGIN:
            found[other.fingerprint] = other.begun
    return sorted(found.values())
