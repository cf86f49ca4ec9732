"""What a line of the platform's logs says: when it was written, and whether it can be read at all.

The rules stand twice, and tests hold them equal: in log_lines.sql, where DuckDB reads all lines of a file, and here,
where the few lines are read again that DuckDB could not read, to find the day that each belongs to.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TextIO
from zoneinfo import ZoneInfo

from include.warehouse.statements import statements
from include.window import Window

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class Kind(StrEnum):
    """The three logs of the platform: nginx's access log, the application's JSON lines, nginx's error log."""

    ACCESS = "access"
    APPLICATION = "application"
    ERROR = "error"


MEMORY_LIMIT = "768MB"
LONGEST_LINE = 1_000_000  # bytes; a longer line is broken
SAMPLES = 5
SAMPLE_CHARACTERS = 200
SUSPECT_CHARACTERS = 300
"""Broken lines are looked up by at most this many of their first characters."""

_USUAL = timedelta(days=9)  # a log is rotated every week at the latest, mostly
_SAMPLE_BYTES, _MOST_USUAL_REQUESTS = 256 << 10, 400

_STATEMENTS = statements(__file__)
_MONTHS = {
    "Jan": 1, "Feb": 2, "Mar": 3, "Apr": 4, "May": 5, "Jun": 6,
    "Jul": 7, "Aug": 8, "Sep": 9, "Oct": 10, "Nov": 11, "Dec": 12,
}  # fmt: skip
_ACCESS_TIME = r"\[(\d{2})/([A-Z][a-z]{2})/(19[7-9]\d|2\d{3}):(\d{2}):(\d{2}):(\d{2}) ([+-])(\d{2})(\d{2})\]"
_ACCESS_LINE = re.compile(
    rf'\x00*[^ "\x00]+ [^ "]+ [^"]*{_ACCESS_TIME} "[^"]*" [1-5]\d{{2}} (?:\d{{1,18}}|-) "[^"]*" "[^"]*" '
    r"\d{1,7}(?:\.\d{1,6})?",
    re.ASCII,
)
_ISO_TIME = r"(?:19[7-9]\d|2\d{3})-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:[.]\d{1,9})?(?:Z|[+-]\d{2}:?\d{2})"
_ERROR_LINE = re.compile(r"(19[7-9]\d|2\d{3})/(\d{2})/(\d{2}) (\d{2}):(\d{2}):(\d{2}) \[[a-z]+\] ", re.ASCII)
_TIME_IN_TEXT = {
    Kind.ACCESS: re.compile(_ACCESS_TIME, re.ASCII),
    Kind.APPLICATION: re.compile(rf'"time"\s*:\s*"({_ISO_TIME})"', re.ASCII),
    Kind.ERROR: re.compile(_ERROR_LINE.pattern, re.ASCII | re.MULTILINE),
}


def instants(kind: Kind, text: str, zone: ZoneInfo) -> list[datetime]:
    """Return every time that stands in a piece of a log, as aware datetimes in UTC.

    ``zone`` is the time zone of logs that name no offset.
    """
    found = (_instant(kind, match, zone) for match in _TIME_IN_TEXT[kind].finditer(text))
    return [instant for instant in found if instant is not None]


def minutes(kind: Kind, text: str, zone: ZoneInfo) -> list[datetime]:
    """Return one of the times of each minute that stands in a piece of a log, as aware datetimes in UTC.

    ``zone`` is the time zone of logs that name no offset. Lines repeat their minute: each is put into numbers once.
    """
    found: dict[tuple[str, str], datetime] = {}
    for match in _TIME_IN_TEXT[kind].finditer(text):
        told = match[1] if kind is Kind.APPLICATION else match[0]
        offset = "" if kind is Kind.ERROR else told[-6:].partition("Z")[1] or told[-6:]
        minute = (told[: 18 if kind is Kind.ACCESS else 16], offset)
        if minute not in found and (instant := _instant(kind, match, zone)) is not None:
            found[minute] = instant
    return list(found.values())


def _instant(kind: Kind, match: re.Match[str], zone: ZoneInfo) -> datetime | None:
    try:
        if kind is Kind.APPLICATION:
            # Python reads at most six digits of a second; the rest is less than a microsecond.
            return datetime.fromisoformat(re.sub(r"([.]\d{6})\d+", r"\1", match[1])).astimezone(UTC)
        if kind is Kind.ERROR:
            year, month, day, hour, minute, second = (int(part) for part in match.groups())
            return datetime(year, month, day, hour, minute, second, tzinfo=zone).astimezone(UTC)
        offset = timedelta(hours=int(match[8]), minutes=int(match[9])) * (-1 if match[7] == "-" else 1)
        local = datetime(
            int(match[3]), _MONTHS[match[2]], int(match[1]), int(match[4]), int(match[5]), int(match[6]), tzinfo=UTC
        )
        return local - offset
    except (ValueError, KeyError, OverflowError):
        return None


def day_of_line(kind: Kind, line: str, zone: ZoneInfo) -> date | None:
    """Return the day in ``zone`` that a line (without its end) lies in, or None when the line is broken."""
    if kind is Kind.ERROR:
        match = _ERROR_LINE.match(line)
        return _valid_local_day(match) if match else None
    if kind is Kind.ACCESS:
        match = _ACCESS_LINE.fullmatch(line)
    else:
        try:
            told = json.loads(line)
        except ValueError:
            return None
        time = told.get("time") if isinstance(told, dict) else None
        match = re.fullmatch(f"({_ISO_TIME})", time, re.ASCII) if isinstance(time, str) else None
    instant = _instant(kind, match, zone) if match else None
    return instant.astimezone(zone).date() if instant else None


def _valid_local_day(match: re.Match[str]) -> date | None:
    try:
        year, month, day, hour, minute, second = (int(part) for part in match.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC).date()
    except ValueError:
        return None


def day_of_slot(kind: Kind, slot: int, zone: ZoneInfo) -> date:
    """Return the day in ``zone`` of a slot of log_lines.sql. Every zone's midnight begins a quarter of an hour."""
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=slot * 900)
    return instant.date() if kind is Kind.ERROR else instant.astimezone(zone).date()


def usual_requests(paths: Iterable[str]) -> list[str]:
    """Return the requests that stand at the beginnings of some access logs, the most frequent first."""
    met: Counter[str] = Counter()
    for path in paths:
        with Path(path).open("rb") as file:
            lines = file.read(_SAMPLE_BYTES).decode(errors="replace").split("\n")
        met.update(pieces[1] for line in lines if len(pieces := line.split('"', 2)) == 3)
    return [request for request, _ in met.most_common(_MOST_USUAL_REQUESTS)]


# ------------------------------------------------------------------------------------------------ broken lines
@dataclass
class Broken:
    """Broken lines of one day: how many, and the first of them, shortened and without secrets."""

    lines: int = 0
    samples: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        """Count a line and keep it when it is among the first."""
        self.lines += 1
        if len(self.samples) < SAMPLES:
            self.samples.append(mask(line))


def broken_lines(
    path: Path | str, kind: Kind, zone: ZoneInfo, suspects: set[str] | None
) -> tuple[dict[date, Broken], Broken]:
    """Find the broken lines of an uncompressed log and the day of each, in one pass with constant memory.

    A broken line belongs to the day of the nearest readable line before it, or else after it. ``suspects`` holds the
    ``beginning`` of every line that may be broken; None means that any may be. Returns the broken lines
    by day, and those of a file without any readable line.
    """
    days: dict[date, Broken] = {}
    homeless = Broken()
    before: str | None = None
    with Path(path).open(encoding="utf-8", errors="surrogateescape", newline=None) as lines:
        for line in _bounded(lines):
            if _is_broken(kind, line, zone, suspects):
                day = day_of_line(kind, before, zone) if before is not None else None
                (days.setdefault(day, Broken()) if day else homeless).add(line)
            else:
                if before is None and homeless.lines and (first := day_of_line(kind, line, zone)):
                    days[first], homeless = homeless, Broken()
                before = line
    return days, homeless


def _bounded(file: TextIO) -> Iterator[str]:
    """Give the lines of a file without their ends and without empty ones; of an endless line only its beginning."""
    while piece := file.readline(LONGEST_LINE + 1):
        if piece.endswith("\n"):
            if piece != "\n":
                yield piece[:-1]
            continue
        yield piece
        while (rest := file.readline(LONGEST_LINE)) and not rest.endswith("\n"):
            pass


def beginning(kind: Kind, line: str) -> str:
    """Return what a broken line is looked up by, as log_lines.sql gives it; of the access log up to its third quote."""
    return (line if kind is not Kind.ACCESS else '"'.join(line.split('"', 3)[:3]))[:SUSPECT_CHARACTERS]


def _is_broken(kind: Kind, line: str, zone: ZoneInfo, suspects: set[str] | None) -> bool:
    if not line.isascii():
        try:
            encoded = line.encode()
        except UnicodeEncodeError:  # bytes that are no text
            return True
        if len(encoded) > LONGEST_LINE:
            return True
    elif len(line) > LONGEST_LINE:
        return True
    if suspects is not None and beginning(kind, line) not in suspects:
        return False
    return day_of_line(kind, line, zone) is None


_NAMES_OF_SECRETS = (
    r"(?:access_|refresh_|id_|api_?|x-?)?"
    r"(?:token|key|secret|passw(?:or)?d|pass|pwd|signature|sig|auth|session(?:id)?|jwt|code|credential)s?"
)
_MASKS = (
    (re.compile(r"(authorization\W{1,4})[^\"]*", re.I), r"\1***"),
    (re.compile(r"\b(bearer|basic|digest)\s+[^\s\"]+", re.I), r"\1 ***"),
    (re.compile(rf"\b({_NAMES_OF_SECRETS}[\"']?\s*(?:=|:|%3d)\s*[\"']?)[^\s&;,\"']+", re.I), r"\1***"),
    (re.compile(r"(://[^/\s:@]*:)[^/\s@]+@"), r"\1***@"),
    (re.compile(r"\b(?:0x)?[0-9a-fA-F]{16,}"), "***"),
    (re.compile(r"[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]{8,}){2}"), "***"),
    (re.compile(r"(?=[A-Za-z0-9+_-]*\d)(?=[A-Za-z0-9+_-]*[A-Za-z])[A-Za-z0-9+_-]{20,}={0,2}"), "***"),
)


def mask(line: str) -> str:
    """Return at most SAMPLE_CHARACTERS of a line with everything that looks like a secret replaced by ``***``."""
    text = re.sub(r"[\x00-\x1f\x7f]", "?", line[:4000].encode("utf-8", "replace").decode())
    for pattern, replacement in _MASKS:
        text = pattern.sub(replacement, text)
    return text[:SAMPLE_CHARACTERS]


# ------------------------------------------------------------------------------------------------------ DuckDB
@contextmanager
def database(temporary: Path) -> Iterator[DuckDBPyConnection]:
    """Open a DuckDB session for logs: bounded memory, spills into ``temporary``, loads nothing from elsewhere."""
    import duckdb

    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY_LIMIT,
        "threads": 2,
        "temp_directory": str(temporary),
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        # The small tables that lines are looked up in stay on the side of a join that is kept in memory.
        "disabled_optimizers": "join_order,build_side_probe_side",
    }
    with duckdb.connect(config=settings) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def create_view(connection: DuckDBPyConnection, kind: Kind, paths: Iterable[str], window: Window | None = None) -> None:
    """Define the view <kind>_line of log_lines.sql over some files; their names are passed as values.

    Access lines of about the window are read faster than others; what is read does not depend on it.
    """
    connection.execute(f"SET VARIABLE {kind}_paths = $paths", {"paths": list(paths)})
    if kind is Kind.ACCESS:
        first, last = (window.start - _USUAL, window.end + _USUAL) if window else (None, None)
        connection.execute(_STATEMENTS["usual_hour"], {"first": first, "last": last})
        offsets = _offsets(window) if window else {}
        parameters = {"written": list(offsets), "seconds": list(offsets.values())}
        connection.execute(_STATEMENTS["usual_second"], parameters)
        connection.execute(_STATEMENTS["usual_time"])
    connection.execute(_STATEMENTS[kind])


def _offsets(window: Window) -> dict[str, int]:
    """The offsets to UTC that lines of a window probably name, as they are written, in seconds."""
    moments = (
        window.start.astimezone(UTC),
        *(at.astimezone(ZoneInfo(window.timezone)) for at in (window.start, window.end)),
    )
    return {f"{at:%z}": int((at.utcoffset() or timedelta()).total_seconds()) for at in moments}


def rejected_files(connection: DuckDBPyConnection, kind: Kind) -> set[int]:
    """Return the places (from 1) of the files in which scans of a kind met lines that are no text or too long."""
    return {place for (place,) in connection.execute(_STATEMENTS["rejected_files"].format(kind=kind)).fetchall()}
