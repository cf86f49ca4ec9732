"""Times of many lines at once: what a line tells of itself, and nothing that a client put into it."""

import json
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from include.platform import log_files
from include.platform.log_lines import LONGEST_LINE, Kind
from include.platform.log_times import days_named, days_of_lines, instants

ZONE = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")
GOOD = b'203.0.113.7 - - [03/Oct/2026:12:00:00 +0000] "GET / HTTP/1.1" 200 512 "-" "Mozilla/5.0" 0.120\n'
THE_DAY = {date(2026, 10, 3)}
ELSEWHERE = b"[01/Jan/2031:00:00:00 +0000]"


def test_times_of_the_lines_of_a_piece() -> None:
    piece = GOOD + b"broken\n" + GOOD.replace(b"+0000", b"-0330") + GOOD[:-1]
    assert instants(Kind.ACCESS, piece, ZONE) == [
        datetime(2026, 10, 3, 12, tzinfo=UTC), datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
    ], "the last line is not whole"  # fmt: skip
    assert instants(Kind.ERROR, b"x\n2026/07/01 12:00:00 [error] y\n", BERLIN) == [datetime(2026, 7, 1, 10, tzinfo=UTC)]
    assert instants(Kind.APPLICATION, b'{"level": "INFO", "time": "2026-10-03T12:00:00+02:00"}\r\n', ZONE) == [
        datetime(2026, 10, 3, 10, tzinfo=UTC)
    ]
    assert instants(Kind.ACCESS, GOOD.replace(b"03/Oct", b"31/Feb") + GOOD.replace(b"Oct", b"Zzz"), ZONE) == []
    combined = GOOD.rpartition(b" ")[0] + b"\n"
    assert instants(Kind.ACCESS, combined, ZONE) == [datetime(2026, 10, 3, 12, tzinfo=UTC)], "what it names"


@pytest.mark.parametrize(
    "piece",
    [
        GOOD.replace(b"Mozilla", ELSEWHERE),
        GOOD.replace(b"GET /", b"GET /" + ELSEWHERE + b" "),
        GOOD.replace(b'"-"', b'"' + ELSEWHERE + b'"'),
        GOOD.replace(b"- - [", b"- " + ELSEWHERE + b" ["),
        GOOD + ELSEWHERE + b"\n",
        GOOD + GOOD.replace(b"03/Oct/2026", b"01/Jan/2031")[:-8] + b"\n",
        GOOD + GOOD.replace(b"03/Oct/2026", b"01/Jan/2031")[:-1],
        GOOD + GOOD.replace(b"03/Oct/2026", b"01/Jan/2031").replace(b"Mozilla", b"\xff"),
        GOOD + GOOD.replace(b"03/Oct/2026", b"01/Jan/2031").replace(b"Mozilla", b"M" * LONGEST_LINE),
        GOOD.replace(b"\n", b"\r\n") + GOOD.replace(b"\n", b"\r"),
        GOOD.replace(b"Mozilla", b"M" * LONGEST_LINE) + GOOD,
        GOOD.replace(b"Mozilla", "été".encode()),
    ],
)
def test_only_the_time_of_a_readable_access_line_tells_its_day(piece: bytes) -> None:
    assert days_of_lines(Kind.ACCESS, piece, ZONE) == THE_DAY


def test_only_the_time_of_a_readable_application_line_tells_its_day() -> None:
    other = {"time": "2031-01-01T00:00:00Z"}
    for line in (
        {"time": "2026-10-03T12:00:00Z", "order": other},
        {"order": other, "time": "2026-10-03T12:00:00Z"},
        {"text": json.dumps(other), "time": "2026-10-03T12:00:00Z"},
    ):
        piece = json.dumps(line).encode() + b"\n"
        assert days_of_lines(Kind.APPLICATION, piece, ZONE) == THE_DAY
        assert days_of_lines(Kind.APPLICATION, piece[:-2] + b"\n", ZONE) == set()
        # A minute that another line named within is still looked for, and known once a line of it was read.
        of_the_other = json.dumps(other).encode() + b"\n"
        assert days_of_lines(Kind.APPLICATION, piece + of_the_other, ZONE) == THE_DAY | {date(2031, 1, 1)}
    assert days_of_lines(Kind.APPLICATION, b'{"time": "2026-02-30T12:00:00Z"}\n', ZONE) == set()
    assert days_of_lines(
        Kind.APPLICATION, b'{"time": "2026-10-03T12:00:00Z", "time": "2031-01-01T00:00:00Z"}\n', ZONE
    ) == (THE_DAY)
    assert days_of_lines(Kind.APPLICATION, b'{"t\\u0069me": "2026-10-03T12:00:00Z"}\n', ZONE) == THE_DAY


@pytest.mark.parametrize("limit", [1000, 100_000])  # some packages raise it
def test_an_application_line_that_is_nested_without_end_is_broken(limit: int) -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    try:
        for deep, days in (
            (b"[" * 99_999, set()),
            (b"[" * 500 + b"]" * 500, set()),
            (b"[" * 400 + b"]" * 400, THE_DAY),
        ):
            piece = b'{"time": "2026-10-03T12:00:00Z", "x": ' + deep + b"}\n"
            assert days_of_lines(Kind.APPLICATION, piece, ZONE) == days
        wide = b'{"time": "2026-10-03T12:00:00Z", "x": ["[[", ' + b"[{}], " * 999 + b"0]}\n"
        assert days_of_lines(Kind.APPLICATION, wide, ZONE) == THE_DAY
    finally:
        sys.setrecursionlimit(before)


def test_no_byte_of_a_referrer_breaks_an_access_line() -> None:
    assert days_of_lines(Kind.ACCESS, GOOD.replace(b'"-"', b'"\xff"', 1), ZONE) == THE_DAY
    assert days_of_lines(Kind.ACCESS, GOOD.replace(b"GET", b"\xff", 1), ZONE) == set()


def test_only_the_beginning_of_an_error_line_tells_its_day() -> None:
    piece = b"2026/10/03 00:30:00 [error] 1#1: x\n  of 2031/01/01 00:00:00 [error] y\n2026/02/30 00:00:00 [error] z\n"
    assert days_of_lines(Kind.ERROR, piece, BERLIN) == THE_DAY


def test_a_last_line_without_its_end_counts_on_no_day_whatever_stands_in_it(tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    path.write_bytes(b"2026/10/03 12:00:00 [error] x\n2026/10/04 12:00:00 [error] \ry")
    assert log_files.days_in(path, Kind.ERROR, ZONE) == [*THE_DAY]
    path.write_bytes(b"2026/10/03 12:00:00 [error] x\r" * 50_000 + b"\n")
    assert log_files.days_in(path, Kind.ERROR, ZONE) == [*THE_DAY]


def test_days_are_those_of_the_time_zone() -> None:
    for offset, day in ((b"+0000", 3), (b"-0900", 3), (b"-1000", 4)):
        assert days_of_lines(Kind.ACCESS, GOOD.replace(b"+0000", offset), BERLIN) == {date(2026, 10, day)}
    for offset, day in ((b"Z", 3), (b"-09:59", 3), (b"-1000", 4)):
        piece = b'{"time": "2026-10-03 12:00:00.123456789' + offset + b'"}\n'
        assert days_of_lines(Kind.APPLICATION, piece, BERLIN) == {date(2026, 10, day)}


def test_all_days_that_are_named_anywhere() -> None:
    assert days_named(Kind.ACCESS, GOOD[:60] + b"\n" + ELSEWHERE + b" [99/Zzz/2026:00:00:00 +0000]", ZONE) == {
        *THE_DAY, date(2031, 1, 1),
    }  # fmt: skip
    assert days_named(Kind.ACCESS, b'{"at": "2026-10-03T12:00:00+00:00"}\n', ZONE) == THE_DAY
    assert days_named(Kind.APPLICATION, b'x {"order": {"time": "2026-10-03T12:00:00Z"}', ZONE) == THE_DAY
    assert days_named(Kind.ERROR, b"x\n2026/10/03 12:00:00 [error] y", ZONE) == THE_DAY
