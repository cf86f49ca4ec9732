"""The days that a log's deletion waits for are those by which traffic counts its lines, whatever stands in them."""

from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from include.platform import log_files
from include.platform.log_lines import Kind
from include.platform.logs import open_folder
from include.reporting import traffic_day
from include.settings import settings
from include.window import day_window

BERLIN = "Europe/Berlin"
TIMES = {
    Kind.ACCESS: [
        b"[03/Oct/2026:21:59:59 +0000]", b"[03/Oct/2026:22:00:00 +0000]", b"[04/Oct/2026:12:00:00 +0530]",
        b"[25/Oct/2026:02:30:00 +0100]", b"[01/Jan/2031:00:00:00 -0930]", b"[31/Feb/2026:12:00:00 +0000]",
        b"[05/Oct/2026:24:00:00 +0000]", b"[06/Oct/2026:12:00:60 +0000]", b"[07/oct/2026:12:00:00 +0000]",
        b"[08/Oct/1969:12:00:00 +0000]",
    ],
    Kind.APPLICATION: [
        b'"time": "2026-10-03T21:59:59Z"', b'"time":"2026-10-03 22:00:00.123456789+00:00"',
        b'"time": "2026-10-04T12:00:00+0530"', b'"time" :"2031-01-01T00:00:00-09:30"',
        b'"time": "2026-02-30T12:00:00Z"', b'"time": "2026-10-05T24:00:00Z"',
        b'"time": "2026-10-06T12:00:00"', b'"t\\u0069me": "2026-10-07T12:00:00Z"',
        b'"time": null', b'"time": "2026-10-08T12:00:00+24:00"',
    ],
    Kind.ERROR: [
        b"2026/10/03 23:59:59 [error] ", b"2026/10/04 00:00:00 [crit] ", b"2026/10/25 02:30:00 [error] ",
        b"2031/01/01 00:00:00 [info] ", b"2026/02/30 12:00:00 [error] ", b"2026/10/05 24:00:00 [error] ",
        b"2026/10/06 12:00:00 error ", b"",
    ],
}  # fmt: skip
SHAPES = {
    Kind.ACCESS: [
        b'1.2.3.4 - - %s "GET / HTTP/1.1" 200 5 "-" "x" 0.1', b'1.2.3.4 - %s %s "GET / HTTP/1.1" 200 - "-" "x" 0.1',
        b'1.2.3.4 - - %s "GET /%s HTTP/1.1" 200 5 "-" "x" 0.1', b'1.2.3.4 - - %s "GET / HTTP/1.1" 200 5 "-" "%s" 0.1',
        b'1.2.3.4 - - %s "GET / HTTP/1.1" 200 5 "-" "x"', b'%s "GET / HTTP/1.1" 200 5 "-" "x" 0.1', b"%s",
    ],
    Kind.APPLICATION: [
        b"{%s}", b'{"level": "INFO", %s}', b'{"in": {%s}, %s}', b'{%s, "in": [{%s}]}', b"{%s, %s}", b"{%s, %s", b"%s",
        b'{%s, "text": "\\ud83d"}',
    ],
    Kind.ERROR: [b"%s1#1: x", b"%s", b" at %s x", b"%s%s"],
}  # fmt: skip


def lines_of(kind: Kind) -> st.SearchStrategy[bytes]:
    """Lines of every shape with times of every kind, in their place and elsewhere; some are cut, or are no text.

    No carriage return stands within one: of such a line DuckDB may take the next one for a part.
    """
    times = st.lists(st.sampled_from(TIMES[kind]), min_size=2, max_size=2)
    whole = st.builds(
        lambda shape, found: shape % tuple(found[: shape.count(b"%s")]), st.sampled_from(SHAPES[kind]), times
    )
    spoilt = st.builds(
        lambda line, place, piece: line[:place] + piece + line[place + 1 :],
        whole, st.integers(0, 70), st.sampled_from([b"", b"\xff", b'"', "é".encode(), b"\x00", b"[", b"{"]),
    )  # fmt: skip
    return st.one_of(whole, whole, spoilt)


@st.composite
def logs_of_each_kind(draw: st.DrawFn) -> dict[Kind, bytes]:
    ends = st.sampled_from([b"\n", b"\n", b"\r\n"])
    return {
        kind: b"".join(line + draw(ends) for line in draw(st.lists(lines_of(kind), min_size=1, max_size=5)))
        + draw(st.one_of(st.just(b""), lines_of(kind)))
        for kind in Kind
    }


@given(logs_of_each_kind())
# The same examples in every run; after a change of the rules look at some hundreds of others (derandomize=False).
@hypothesis_settings(max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_has_the_days_by_which_traffic_counts_it(
    environment: pytest.MonkeyPatch, tmp_path: Path, made: dict[Kind, bytes]
) -> None:
    zone, window = ZoneInfo(BERLIN), day_window(date(2026, 10, 4), BERLIN)
    logs = tmp_path / "platform_logs"
    for kind, text in made.items():
        (logs / f"{kind.value}.log").write_bytes(text)
    with open_folder(settings().traffic, zone, window.start) as folder:
        _, counted = traffic_day.aggregate(folder, window, folder.files, settings().traffic)
    expected = {file.kind: sorted(day for day, lines in days.items() if lines) for file, days in counted.items()}
    for kind in expected:
        assert log_files.days_in(logs / f"{kind.value}.log", kind, zone) == expected[kind]
