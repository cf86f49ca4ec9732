"""Which archived WAL leads a base backup to the end of the archive, over the changes of timeline that failovers make.

A promoted server writes on a timeline of its own; the ``.history`` of that tells where older ones were left. The first
segment of the new timeline begins with a copy of what the old one's of that number held so far. PostgreSQL therefore
takes each segment from the newest timeline that has begun by then, and never goes back to an older one
(XLogFileReadAnyTLI in its source). What a lost primary archived on after that has the numbers of segments that the
new one wrote, and fills no gap among these. A ``.partial`` segment is never read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from include.outcome import MaintenanceFailed
from include.platform import backup_restore

_SEGMENT = re.compile(r"([0-9A-F]{24})(\.(gz|zst|lz4|bz2))?")
_HISTORY = re.compile(r"[0-9A-F]{8}\.history(\.(gz|zst|lz4|bz2))?")
_SWITCH = re.compile(r"\s*(\d+)\s+([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})(\s|$)")


def is_needed(name: str, first: str) -> bool:
    """Whether an archived file may be needed to recover from segment ``first`` on, on its timeline and later ones.

    The histories of all timelines are: they lead to the latest one.
    """
    return ".history" in name or (name[:8] >= first[:8] and name[8:24] >= first[8:])


def read_histories(archived: Sequence[tuple[str, str, int]], folder: Path) -> dict[int, str]:
    """Return the text of each timeline's history among archived files (name, location, size), by way of a new folder.

    Raises MaintenanceFailed when a packed one is damaged.
    """
    backup_restore.copy_wal([one for one in archived if _HISTORY.fullmatch(one[0])], folder)
    return {int(path.stem, 16): path.read_text(errors="replace") for path in folder.iterdir()}


def continuity(
    names: Iterable[str], first: str, segment_bytes: int, histories: Mapping[int, str]
) -> tuple[list[str], list[str]]:
    """Return the archived segments that recovery from segment ``first`` on reads, in this order, and those it misses.

    ``names`` are file names; a compression's ending is left aside. ``histories`` are the texts by timeline. What is
    missing at the end of the newest timeline cannot be told from what is not archived yet. Raises MaintenanceFailed
    when the histories do not lead from the backup's timeline to the newest that the archive has something of.
    """
    per_log = 0x100000000 // segment_bytes

    def number(segment: str) -> int:
        return int(segment[8:16], 16) * per_log + int(segment[16:], 16)

    def named(segment: tuple[int, int]) -> str:
        return f"{segment[0]:08X}{segment[1] // per_log:08X}{segment[1] % per_log:08X}"

    timeline, start = int(first[:8], 16), number(first)
    plain = [found[1] for name in names if (found := _SEGMENT.fullmatch(name))]
    there = {(int(name[:8], 16), number(name)) for name in plain if number(name) >= start}
    newest = _newest(timeline, {one for one, _ in there} | histories.keys(), histories)
    begins = _begins(timeline, start, newest, histories, segment_bytes)

    def wanted(at: int) -> tuple[int, int]:
        return max(one for one, begin in begins.items() if begin <= at), at

    last = max((at for one, at in there if one in begins and wanted(at)[0] == one), default=start - 1)
    way = [wanted(at) for at in range(start, last + 1)]
    missing = [one for one in way if one not in there]
    if _goes_astray(way[-1][0] if way else timeline, wanted(last + 1), begins, there):
        missing.append(wanted(last + 1))
    return [named(one) for one in way if one in there], [named(one) for one in missing]


def _goes_astray(timeline: int, following: tuple[int, int], begins: Iterable[int], there: set[tuple[int, int]]) -> bool:
    """Whether recovery, at its end on a timeline, would go on with a segment that an older one than wanted has.

    That holds what the platform's present does not come from. It is so where nothing of the new timeline is archived.
    """
    wanted, at = following
    return any((one, at) in there for one in begins if timeline <= one < wanted)


def _newest(timeline: int, seen: Iterable[int], histories: Mapping[int, str]) -> int:
    """Return the timeline that recovery leads to: PostgreSQL looks for one history after the other until one is absent.

    Raises MaintenanceFailed when a later one was seen, which it would leave out without a word.
    """
    newest = timeline
    while newest + 1 in histories:
        newest += 1
    latest = max(seen, default=newest)
    if latest > newest:
        raise MaintenanceFailed(
            f"the WAL archive has files of timeline {latest} but not {newest + 1:08X}.history: recovery would end on "
            f"timeline {newest}, and whether what follows is whole cannot be told; bring that file back"
        )
    return newest


def _begins(timeline: int, start: int, newest: int, histories: Mapping[int, str], segment_bytes: int) -> dict[int, int]:
    """Return the number of the first segment of each timeline on the way from the backup's to the newest.

    Raises MaintenanceFailed when the newest does not come from the backup's, or was left before the backup.
    """
    if newest == timeline:
        return {timeline: start}
    left = _switches(histories[newest], f"{newest:08X}.history")
    if left.get(timeline, -1) // segment_bytes < start:
        raise MaintenanceFailed(
            f"the newest timeline in the WAL archive, {newest}, does not continue timeline {timeline} of the backup, "
            f"as {newest:08X}.history tells, and no recovery leads there; take a new backup"
        )
    way = [one for one in left if one >= timeline] + [newest]
    return {timeline: start} | {later: left[earlier] // segment_bytes for earlier, later in pairwise(way)}


def _switches(text: str, name: str) -> dict[int, int]:
    """Return the WAL location, in bytes, at which each timeline was left, as a history tells, the oldest first.

    Raises MaintenanceFailed for what PostgreSQL would not read as a history.
    """
    found: dict[int, int] = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        told = _SWITCH.match(line)
        if told is None or int(told[1]) <= max(found, default=0):
            raise MaintenanceFailed(f"{name} in the WAL archive is damaged: it has the line {line[:60]!r}")
        found[int(told[1])] = (int(told[2], 16) << 32) + int(told[3], 16)
    return found
