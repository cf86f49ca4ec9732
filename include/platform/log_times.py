"""When the lines of a log were written, of many lines at once. What one line says stands in log_lines.py.

A time counts only where the format of the log has it: clients choose much of what stands in a line. A piece of a log is
bytes of whole lines; the days of lines leave out what follows its last line end, as traffic does.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from zoneinfo import ZoneInfo

from include.platform.log_lines import (
    ERROR_TIME,
    ISO_TIME,
    LONGEST_LINE,
    Kind,
    access_minute,
    day_of_slot,
    error_day,
    instant_of_line,
    named_instant,
    own_time,
    read_of,
)

Told = tuple[bytes, bytes]
"""A minute as a log writes it, and its offset."""

_ACCESS_TIME = re.compile(rb"\[(\d{2}/[A-Z][a-z]{2}/\d{4}:\d{2}:\d{2}):\d{2} ([+-]\d{4})\]")
_ISO_TIME = re.compile(ISO_TIME.encode())
_JSON_TIME = re.compile(rf'"time"[ \t]*:[ \t]*"{ISO_TIME}"'.encode())
_JSON_ESCAPE = re.compile(rb"\\u00[2-7]")  # a name or a time may be written with these, although no logger does
# Each match is one line, so that no beginning is looked for within one; the group is empty in a line without a time.
_ERROR_LINE = re.compile(rf"(?:{ERROR_TIME}|)[^\n]*\n?".encode())
_NAMED = {Kind.ACCESS: [_ACCESS_TIME], Kind.APPLICATION: [_JSON_TIME, _JSON_ESCAPE]}


def instants(kind: Kind, piece: bytes, zone: ZoneInfo) -> list[datetime]:
    """Return the times of the lines of a piece of a log, as aware datetimes in UTC.

    Of a broken line of the access log it is the one that the line names. ``zone`` is the time zone of logs that name
    no offset.
    """
    lines = _lines(kind, piece).decode(errors="replace").split("\n")
    named = named_instant if kind is Kind.ACCESS else lambda _: None
    found = (instant_of_line(kind, line, zone) or named(line) for line in lines)
    return [instant for instant in found if instant is not None]


def days_of_lines(kind: Kind, piece: bytes, zone: ZoneInfo) -> set[date]:
    """Return the days in ``zone`` of the readable lines of a piece of a log, those by which traffic counts.

    Lines repeat their minute: each is put into numbers once.
    """
    text = _lines(kind, piece)
    return _error_days(text) if kind is Kind.ERROR else _days(kind, _minutes_of_lines(kind, text), zone)


def days_named(kind: Kind, piece: bytes, zone: ZoneInfo) -> set[date]:
    """Return the days in ``zone`` of all times that stand in a piece of a log, those of broken lines too.

    They are looked for anywhere in a line, but in the error log, whose times begin a line. An access log in a format
    of its own may write them as the application's does.
    """
    if kind is Kind.ERROR:
        return _error_days(piece)
    more = _days(Kind.APPLICATION, set(_ISO_TIME.findall(piece)), zone) if kind is Kind.ACCESS else set()
    return _days(kind, set(_NAMED[kind][0].findall(piece)), zone) | more


def _lines(kind: Kind, piece: bytes) -> bytes:
    """Cut off a last line without its end, and leave out the lines that DuckDB leaves out: no text, or too long."""
    piece = piece[: piece.rfind(b"\n") + 1].replace(b"\r", b"\n")
    if len(piece) <= LONGEST_LINE and _is_text(piece):
        return piece
    lines = (line for line in piece.splitlines(True) if len(line) <= LONGEST_LINE + 1)
    return b"".join(line for line in lines if _is_text(read_of(kind, line, b'"')))


def _is_text(piece: bytes) -> bool:
    try:
        return piece.isascii() or bool(piece.decode())
    except UnicodeDecodeError:
        return False


def _minutes_of_lines(kind: Kind, text: bytes) -> set[Told]:
    """Return the minutes of readable lines. A line is read once, and only if it names a minute not known yet."""
    minutes: set[Told] = set()
    for pattern in _NAMED[kind]:
        end = 0
        for match in pattern.finditer(text):
            if match.groups() in minutes or match.start() < end:
                continue
            end = text.index(b"\n", match.end())
            line = text[text.rfind(b"\n", 0, match.start()) + 1 : end].decode(errors="replace")
            if (own := own_time(kind, line)) is not None:
                minutes.add((own[1].encode(), own[2].encode()))
    return minutes


def _days(kind: Kind, told: set[Told], zone: ZoneInfo) -> set[date]:
    days = set()
    for minute, offset in told:
        try:
            if kind is Kind.ACCESS:
                instant = access_minute(minute.decode(), offset.decode())
            else:
                instant = datetime.fromisoformat((minute + offset).decode())
            days.add(day_of_slot(kind, int(instant.timestamp()) // 900, zone))
        except (ValueError, KeyError, OverflowError):
            continue
    return days


def _error_days(text: bytes) -> set[date]:
    return {day for told in set(_ERROR_LINE.findall(text)) if (day := error_day(told.decode())) is not None}
