"""Which files may hold lines of a day: one too many is harmless, one too few loses the lines of its day."""

import gzip
import json
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from include.platform import log_catalogue
from include.platform.logs import LogFile, open_folder
from include.settings import settings
from include.window import day_window

ZONE = ZoneInfo("UTC")
DAY = date(2026, 10, 3)
WINDOW = day_window(DAY, "UTC")
MIDNIGHT = WINDOW.start
AT_THREE = MIDNIGHT + timedelta(hours=3)
ACCESS = '203.0.113.7 - - [{time:%d/%b/%Y:%H:%M:%S} +0000] "{request}" 200 512 "-" "{agent}" 0.120\n'


@pytest.fixture
def folder(environment: pytest.MonkeyPatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log folder; what is remembered of files is forgotten."""
    monkeypatch.setattr(log_catalogue, "_folder", lambda: None)
    return tmp_path / "platform_logs"


def line(time: datetime, request: str = "GET / HTTP/1.1", agent: str = "Mozilla/5.0") -> str:
    return ACCESS.format(time=time, request=request, agent=agent)


def lines(start: datetime, hours: float = 24, number: int = 144) -> str:
    return "".join(line(start + timedelta(hours=hours) * n / number) for n in range(number))


def put(path: Path, text: str, changed: datetime | None = None) -> None:
    """Write a file, last changed just now when nothing else is said, as one that was copied here."""
    path.write_bytes(gzip.compress(text.encode(), 1) if path.suffix == ".gz" else text.encode())
    if changed is not None:
        os.utime(path, (changed.timestamp(), changed.timestamp()))


def looked_at() -> dict[str, LogFile]:
    with open_folder(settings().traffic, ZONE, WINDOW.start) as found:
        return {file.name: file for file in found.files}


def may_hold(day: date = DAY) -> set[str]:
    return {name for name, file in looked_at().items() if file.may_hold(day_window(day, "UTC"))}


# ------------------------------------------------------------------------------------------------- ordinary files
def test_plain_file_is_bounded_by_its_first_and_last_lines(folder: Path) -> None:
    for n in range(-2, 3):
        put(folder / f"access.log.{n + 5}", lines(MIDNIGHT + timedelta(days=n)))
    # The day before and the one after lie within the margin of three hours.
    assert may_hold() == {"access.log.4", "access.log.5", "access.log.6"}


def test_file_last_written_before_the_day_cannot_hold_it(folder: Path) -> None:
    put(folder / "access.log.1", "unreadable\n")
    assert may_hold() == {"access.log.1"}
    put(folder / "access.log.1", "unreadable\n", WINDOW.start - timedelta(hours=4))
    assert may_hold() == set()


def test_compressed_file_is_bounded_by_the_next_but_one_of_its_log(folder: Path) -> None:
    for n in (1, 2, 3):
        put(folder / f"access.log-{n}.gz", lines(MIDNIGHT - timedelta(days=6 - n), number=9000))
    put(folder / "access.log.web2-1.gz", lines(MIDNIGHT - timedelta(days=5), number=9000))
    files = looked_at()
    begins = datetime(2026, 9, 30, tzinfo=UTC)
    assert files["access.log-3.gz"].earliest == begins
    assert files["access.log-1.gz"].latest == files["access.log-3.gz"].begun
    assert begins < (files["access.log-1.gz"].latest or begins) < begins + timedelta(hours=2), (
        "what is looked at of its beginning"
    )
    # Of the others it is not known when they end, and they were changed just now; another server's log follows none.
    assert may_hold() == {"access.log-2.gz", "access.log-3.gz", "access.log.web2-1.gz"}


def test_small_compressed_file_is_looked_at_whole(folder: Path) -> None:
    put(folder / "access.log-1.gz", lines(MIDNIGHT - timedelta(days=1)))
    assert looked_at()["access.log-1.gz"].latest == MIDNIGHT - timedelta(minutes=10)
    put(folder / "access.log-1.gz", lines(MIDNIGHT - timedelta(days=1)) + line(OLD))
    assert looked_at()["access.log-1.gz"].latest == MIDNIGHT - timedelta(minutes=10)


@pytest.mark.parametrize("name", ["access.log-{0:%Y%m%d}.gz", "access.log.{1}.gz"])
@pytest.mark.parametrize("copied", [True, False])
def test_of_ordinary_files_only_a_few_are_read(folder: Path, name: str, copied: bool) -> None:
    """Rotated at three o'clock, forty days long; ``copied`` without their times, in the order of their names."""
    made = []
    for n in range(40):
        start = AT_THREE - timedelta(days=n)
        changed = None if copied else start + timedelta(days=1)
        made.append((folder / name.format(start, n + 1), lines(start, number=1800), changed))
    for path, text, changed in sorted(made):
        put(path, text, changed)
    for days_ago in (0, 20, 38):
        day = AT_THREE - timedelta(days=days_ago)
        own, before = (name.format(day - timedelta(days=n), days_ago + n + 1) for n in (0, 1))
        assert may_hold(day.date()) >= {own, before}
        # The newest two when they were copied, and else only the one before that, and those whose hours are near.
        assert len(may_hold(day.date())) <= 5


@pytest.mark.parametrize("name", ["access.log", "access.log-20261004.gz"])
def test_lines_that_cannot_be_read_bound_a_file_by_the_times_that_they_name(folder: Path, name: str) -> None:
    """The format was another one until the day, or is another one since."""
    other = [lines(MIDNIGHT + timedelta(days=n)).replace(" 0.120\n", "\n") for n in (-2, -1, 0, 1)]
    put(folder / name, "".join(other[:3]) + lines(MIDNIGHT + timedelta(days=1)))
    assert may_hold(DAY - timedelta(days=2)) == may_hold(DAY) == {name}
    put(folder / name, lines(MIDNIGHT - timedelta(days=3)) + "".join(other))
    assert may_hold(DAY) == may_hold(DAY + timedelta(days=1)) == {name}
    assert may_hold(DAY + timedelta(days=3)) == set()


# ---------------------------------------------------------------------------------- what stands at a beginning
OLD = datetime(2020, 1, 1, tzinfo=UTC)
STRAY = {
    "a late line": line(OLD),
    "a request": line(AT_THREE, request="GET /?[01/Jan/2020:00:00:00 +0000] HTTP/1.1"),
    "a browser": line(AT_THREE, agent="x [01/Jan/2020:00:00:00 +0000] y"),
    "a late line of the week before": line(AT_THREE - timedelta(days=7)),
}
FEW = list(STRAY)
STRAY["two thousand late lines"] = lines(OLD, number=2000)


# Of a copy that begins with late lines only nothing tells when it began, nor when it ended.
@pytest.mark.parametrize(("stray", "copied"), [*((stray, False) for stray in STRAY), *((one, True) for one in FEW)])
def test_what_stands_at_the_beginning_of_a_compressed_file_does_not_bound_it(
    folder: Path, stray: str, copied: bool
) -> None:
    """Of the day that follows, the file holds the lines from midnight to three o'clock."""
    for n in range(-3, 1):
        start = AT_THREE + timedelta(days=n)
        text = (STRAY[stray] if n == 0 else "") + lines(start, number=9000)
        put(folder / f"access.log-{start:%Y%m%d}.gz", text, None if copied else start + timedelta(days=1))
    put(folder / "access.log", lines(AT_THREE + timedelta(days=1)))
    assert "access.log-20261003.gz" in may_hold(DAY)
    assert "access.log-20261003.gz" in may_hold(DAY + timedelta(days=1))


@pytest.mark.parametrize("number", [1, 2000])
def test_late_lines_at_the_beginning_of_the_next_file_do_not_bound_it(folder: Path, number: int) -> None:
    """The next file begins with what a server sent late; its copy, being compressed, is no second file that says so."""
    starts = [AT_THREE + timedelta(days=n) for n in range(3)]
    late = lines(AT_THREE + timedelta(hours=7), hours=1, number=number)
    put(folder / "access.log-20261003.gz", lines(starts[0], number=9000))
    put(folder / "access.log-20261004.gz", late + lines(starts[1]))
    put(folder / "access.log-20261004", late + lines(starts[1]))
    assert looked_at()["access.log-20261003.gz"].may_hold(day_window(DAY + timedelta(days=1), "UTC"))
    put(folder / "access.log", lines(starts[2]))
    assert looked_at()["access.log-20261003.gz"].may_hold(day_window(DAY + timedelta(days=1), "UTC"))


def test_a_time_within_a_line_of_the_application_does_not_bound_its_file(folder: Path) -> None:
    def of(time: datetime, **more: object) -> str:
        return json.dumps({"level": "INFO", **more, "time": time.isoformat()}) + "\n"

    for n in (-1, 0):
        start = AT_THREE + timedelta(days=n)
        told = of(start, order={"time": OLD.isoformat()}, text='{"time": "2020-01-01T00:00:00Z"}')
        text = told + "".join(of(start + timedelta(minutes=k)) for k in range(1440))
        put(folder / f"application.log-{start:%Y%m%d}.gz", text)
    assert looked_at()["application.log-20261003.gz"].earliest == AT_THREE
    assert may_hold(DAY + timedelta(days=1)) == {"application.log-20261002.gz", "application.log-20261003.gz"}


def test_a_clock_that_was_wrong_does_not_tell_when_a_file_begins(folder: Path) -> None:
    changed = AT_THREE + timedelta(days=1)
    put(folder / "access.log-20261003.gz", line(datetime(2031, 1, 1, tzinfo=UTC)) * 2, changed)
    assert may_hold() == {"access.log-20261003.gz"}
    assert looked_at()["access.log-20261003.gz"].earliest is None
    put(folder / "access.log-20261003.gz", line(datetime(2031, 1, 1, tzinfo=UTC)) + lines(AT_THREE), changed)
    assert looked_at()["access.log-20261003.gz"].begun == AT_THREE + timedelta(hours=24, minutes=-10)


def test_a_half_line_at_a_place_within_a_file_is_none(folder: Path) -> None:
    long = line(AT_THREE, request="GET /?" + "[01/Jan/2020:00:00:00 +0000] " * 3000)
    put(folder / "access.log", long)
    assert looked_at()["access.log"].earliest is None, "its first line is longer than what is looked at"
    assert may_hold() == {"access.log"}


@pytest.mark.parametrize("number", [1, 2000])
def test_late_lines_at_the_end_of_a_plain_file_do_not_bound_it(folder: Path, number: int) -> None:
    text = lines(AT_THREE - timedelta(days=1), number=20_000) + lines(OLD, number=number)
    put(folder / "access.log.1", text, AT_THREE)
    assert may_hold() == {"access.log.1"}
    put(folder / "access.log.1", text)  # a copy without its time
    assert may_hold() == {"access.log.1"}
    assert may_hold(DAY + timedelta(days=1)) == set(), "what stands before the late lines tells when it ended"
