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
from typing import TYPE_CHECKING, AnyStr, TextIO
from zoneinfo import ZoneInfo

from include.masking import mask_sample
from include.sections import Traffic
from include.warehouse.statements import statements
from include.window import Window

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class Kind(StrEnum):
    """The three logs of the platform: nginx's access log, the application's JSON lines, nginx's error log."""

    ACCESS = "access"
    APPLICATION = "application"
    ERROR = "error"


def patterns(traffic: Traffic) -> dict[Kind, str]:
    """Return the pattern of the names of each log's files."""
    return {
        Kind.ACCESS: traffic.access_logs,
        Kind.APPLICATION: traffic.application_logs,
        Kind.ERROR: traffic.error_logs,
    }


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
_YEAR, _HOUR, _SIXTY = r"(?:19[7-9]\d|2\d{3})", r"(?:[01]\d|2[0-3])", r"[0-5]\d"
# Only the time before the first quote is the line's own: clients choose what stands behind it. Groups: minute, offset.
_ACCESS_LINE = re.compile(
    r'\x00*[^ "\x00]+ [^ "]+ [^"]*'
    rf"\[(\d{{2}}/[A-Z][a-z]{{2}}/{_YEAR}:{_HOUR}:{_SIXTY}):{_SIXTY} ([+-]\d{{4}})\]"
    r' "[^"]*" [1-5]\d{2} (?:\d{1,18}|-) "[^"]*" "[^"]*" \d{1,7}(?:\.\d{1,6})?',
    re.ASCII,
)
ISO_TIME = rf"({_YEAR}-\d{{2}}-\d{{2}}[T ]{_HOUR}:{_SIXTY}):{_SIXTY}(?:[.]\d{{1,9}})?(Z|[+-]{_HOUR}:?{_SIXTY})"
"""A time in the application's log; its groups are the minute and the offset."""
ERROR_TIME = rf"({_YEAR}/\d{{2}}/\d{{2}}) {_HOUR}:{_SIXTY}:{_SIXTY} \[[a-z]+\] "
"""The beginning of a readable line of the error log; its group is the day."""
_ISO_TIME, _ERROR_TIME = re.compile(ISO_TIME, re.ASCII), re.compile(ERROR_TIME, re.ASCII)
_ANY_TIME = re.compile(
    rf"(\d{{2}}/[A-Z][a-z]{{2}}/{_YEAR}:{_HOUR}:{_SIXTY}):{_SIXTY} ([+-]\d{{4}})|{ISO_TIME}", re.ASCII
)

# Read as DuckDB does: of a name that is given twice the first value counts, and numbers may have any length.
_JSON = json.JSONDecoder(object_pairs_hook=lambda pairs: dict(reversed(pairs)), parse_int=str)
_DEEPEST = 500  # levels of a line of JSON; a logger writes some few
_BRACKET = re.compile(r'"(?:\\.|[^"\\])*"|[\[\]{}]')  # a text in quotes is none
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


# ---------------------------------------------------------------------------------------------- the time of a line
def instant_of_line(kind: Kind, line: str, zone: ZoneInfo) -> datetime | None:
    """Return when a line (without its end) was written, in UTC, or None when the line is broken.

    ``zone`` is the time zone of logs that name no offset.
    """
    match = own_time(kind, line)
    if match is None:
        return None
    try:
        if kind is Kind.APPLICATION:
            # Python reads at most six digits of a second; the rest is less than a microsecond.
            return datetime.fromisoformat(re.sub(r"([.]\d{6})\d+", r"\1", match[0])).astimezone(UTC)
        if kind is Kind.ERROR:
            return datetime.fromisoformat(match[0][:19].replace("/", "-")).replace(tzinfo=zone).astimezone(UTC)
        second = line[match.end(1) + 1 : match.end(1) + 3]
        return access_minute(match[1], match[2]) + timedelta(seconds=int(second))
    except (ValueError, KeyError, OverflowError):
        return None


def access_minute(minute: str, offset: str) -> datetime:
    """Return a minute of the access log (``03/Oct/2026:12:05``, ``+0200``) in UTC. Raises ValueError or KeyError."""
    day, month, year = int(minute[:2]), _MONTHS[minute[3:6]], int(minute[7:11])
    local = datetime(year, month, day, int(minute[12:14]), int(minute[15:17]), tzinfo=UTC)
    return local - timedelta(hours=int(offset[1:3]), minutes=int(offset[3:])) * (-1 if offset[0] == "-" else 1)


def day_of_line(kind: Kind, line: str, zone: ZoneInfo) -> date | None:
    """Return the day in ``zone`` that a line (without its end) lies in, or None when the line is broken."""
    if kind is Kind.ERROR:
        match = own_time(kind, line)
        return error_day(match[1]) if match else None
    instant = instant_of_line(kind, line, zone)
    return instant.astimezone(zone).date() if instant else None


def error_day(told: str) -> date | None:
    """Return the day that a line of the error log tells (``2026/10/03``), None where there is no such day."""
    try:
        return date.fromisoformat(told.replace("/", "-"))
    except ValueError:
        return None


def own_time(kind: Kind, line: str) -> re.Match[str] | None:
    """Find the time of a line where its format has it, with its minute and its offset (its day in the error log).

    None in a broken line. That there is such a day of the month is not looked at.
    """
    if kind is Kind.ACCESS:
        return _ACCESS_LINE.fullmatch(line)
    if kind is Kind.ERROR:
        return _ERROR_TIME.match(line)
    if _is_nested_too_deep(line):
        return None
    try:
        told = _JSON.decode(line)
        if _HALF_CHARACTER.search(line):
            json.dumps(told, ensure_ascii=False).encode()  # half of a pair of surrogates is no text
    except (ValueError, RecursionError):
        return None
    time = told.get("time") if isinstance(told, dict) else None
    return _ISO_TIME.fullmatch(time) if isinstance(time, str) else None


def _is_nested_too_deep(line: str) -> bool:
    """Tell whether Python's reader would run out of its stack, whose limit packages raise far beyond what there is."""
    if line.count("{") + line.count("[") <= _DEEPEST:
        return False
    depth = 0
    for sign in _BRACKET.findall(line):
        depth += 1 if sign in "{[" else -1 if sign in "}]" else 0
        if depth > _DEEPEST:
            return True
    return False


def read_of(kind: Kind, line: AnyStr, quote: AnyStr) -> AnyStr:
    """Return what traffic reads of a line: of the access log all but the referrer, whatever its bytes are."""
    if kind is not Kind.ACCESS:
        return line
    pieces = line.split(quote)
    return quote.join(pieces[:3] + pieces[4:])


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

    A broken line of the access log belongs to the day that it names; one that names none, or of another log, to the
    day of the nearest line before it that has one, or else after it. ``suspects`` holds the ``beginning`` of every
    line that may be broken; None means that any may be. Returns the broken lines by day, and those of a file in which
    no line has a day.
    """
    days: dict[date, Broken] = {}
    homeless = Broken()
    last: date | str | None = None  # the day of the line before, or that line: few are followed by a broken one
    with Path(path).open(encoding="utf-8", errors="surrogateescape", newline=None) as lines:
        for line in _bounded(lines):
            if not _is_broken(kind, line, zone, suspects):
                if last is None and homeless.lines and (first := day_of_line(kind, line, zone)):
                    days[first], homeless = homeless, Broken()
                last = line
                continue
            if isinstance(last, str):
                last = day_of_line(kind, last, zone)
            if kind is Kind.ACCESS and (named := named_instant(line)):
                day = named.astimezone(zone).date()
                if last is None and homeless.lines:
                    days[day], homeless = homeless, Broken()
                last = day
            (days.setdefault(last, Broken()) if last else homeless).add(line)
    return days, homeless


def named_instant(line: str) -> datetime | None:
    """Return the first time in a line, as web servers write it, in UTC; None without one. It need not be its own."""
    try:
        if (match := _ANY_TIME.search(line)) is None:
            return None
        if match[1]:
            return access_minute(match[1], match[2])
        return datetime.fromisoformat(match[3] + match[4]).astimezone(UTC)
    except (ValueError, KeyError, OverflowError):
        return None


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
            read_of(kind, line, '"').encode()
        except UnicodeEncodeError:  # bytes that are no text
            return True
        if len(line.encode(errors="surrogateescape")) > LONGEST_LINE:
            return True
    elif len(line) > LONGEST_LINE:
        return True
    if suspects is not None and beginning(kind, line) not in suspects:
        return False
    return day_of_line(kind, line, zone) is None


def mask(line: str) -> str:
    """Return at most SAMPLE_CHARACTERS of a line with everything that looks like a secret replaced by ``***``."""
    return mask_sample(line, SAMPLE_CHARACTERS)


# ------------------------------------------------------------------------------------------------------ DuckDB
@contextmanager
def database(temporary: Path) -> Iterator[DuckDBPyConnection]:
    """Open a DuckDB session for logs: bounded memory, spills into ``temporary``, loads nothing from elsewhere."""
    import duckdb

    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY_LIMIT,
        "threads": 2,
        # Of files on a local disk these make reading dearer: they wait for the two above on the same processors.
        "async_threads": 0,
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


def define_buckets(connection: DuckDBPyConnection) -> None:
    """Define the macro bucket_of, which the view of access lines calls."""
    connection.execute(_STATEMENTS["bucket_of"])


def create_view(connection: DuckDBPyConnection, kind: Kind, paths: Iterable[str], window: Window | None = None) -> None:
    """Define the view <kind>_line of log_lines.sql over some files; their names are passed as values.

    Access lines of about the window are read faster than others; what is read does not depend on it.
    """
    connection.execute(f"SET VARIABLE {kind}_paths = $paths", {"paths": list(paths)})
    if kind is Kind.ACCESS:
        define_buckets(connection)
        first, last = (window.start - _USUAL, window.end + _USUAL) if window else (None, None)
        connection.execute(_STATEMENTS["usual_hour"], {"first": first, "last": last})
        offsets = _offsets(window) if window else {}
        parameters = {"written": list(offsets), "seconds": list(offsets.values())}
        connection.execute(_STATEMENTS["usual_second"], parameters)
        for statement in ("usual_time", "usual_answers"):
            connection.execute(_STATEMENTS[statement])
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
