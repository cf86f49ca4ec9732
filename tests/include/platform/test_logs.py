"""Which files are looked at and read, what their lines say, and that DuckDB and Python agree on every line."""

import bz2
import gzip
import io
import json
import lzma
import os
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import zstandard
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from include.outcome import ConfigurationError, SourceUnavailable
from include.platform import log_catalogue, log_lines, logs
from include.platform.compression import compression_of, open_content
from include.platform.log_lines import Kind, broken_lines, day_of_line
from include.platform.logs import LogFile, open_folder
from include.settings import settings
from include.window import Window, day_window

ZONE = ZoneInfo("UTC")
DAY = date(2026, 10, 3)
WINDOW = day_window(DAY, "UTC")
GOOD = '203.0.113.7 - - [03/Oct/2026:12:00:00 +0000] "GET / HTTP/1.1" 200 512 "-" "Mozilla/5.0" 0.120'


@pytest.fixture
def folder(environment: pytest.MonkeyPatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log folder; the catalogue is the test's own."""
    own = tmp_path / "catalogue"
    own.mkdir()
    monkeypatch.setattr(log_catalogue, "_folder", lambda: own)
    return tmp_path / "platform_logs"


def line(moment: datetime) -> str:
    return GOOD.replace("03/Oct/2026:12:00:00", f"{moment:%d/%b/%Y:%H:%M:%S}") + "\n"


def day_lines(day: date) -> str:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return "".join(line(start + timedelta(minutes=10 * n)) for n in range(144))


def looked_at() -> dict[str, LogFile]:
    with open_folder(settings().traffic, ZONE, WINDOW.start) as found:
        return {file.name: file for file in found.files}


def touch(path: Path, moment: datetime) -> None:
    os.utime(path, (moment.timestamp(), moment.timestamp()))


# ------------------------------------------------------------------------------------------- what may hold a day
def test_names_are_matched_and_rotation_is_seen_through(folder: Path) -> None:
    for name in (
        "access.log", "access.log-20261003", "access.log-20261003.gz", "access.log.1", "access.log.2.gz",
        "access.log-20261003T1200", "access.log.web1-20261003.zst", "access.log-2026-10-03_1",
    ):  # fmt: skip
        (folder / name).write_text(GOOD + "\n")
    for name in ("other.log", ".access.log.partial", "my-access.log"):
        (folder / name).write_text(GOOD + "\n")
    (folder / "access.log.d").mkdir()
    (folder / "access.log.empty").write_text("")
    (folder / "access.log.begun").write_text(GOOD[:30])
    files = looked_at()
    assert {name: file.log for name, file in files.items()} == {
        "access.log": "access.log",
        "access.log-20261003": "access.log",
        "access.log-20261003.gz": "access.log",
        "access.log.1": "access.log",
        "access.log.2.gz": "access.log",
        "access.log-20261003T1200": "access.log",
        "access.log.web1-20261003.zst": "access.log.web1",
        "access.log-2026-10-03_1": "access.log",
    }


def test_file_read_before_is_known_exactly_until_it_changes(folder: Path) -> None:
    path = folder / "access.log"
    path.write_text(day_lines(DAY))
    with open_folder(settings().traffic, ZONE, WINDOW.start) as found:
        found.remember(found.files[0], {DAY: 140, DAY - timedelta(days=9): 4})
    known = looked_at()["access.log"]
    assert known.days == {DAY: 140, DAY - timedelta(days=9): 4}
    assert known.may_hold(day_window(DAY - timedelta(days=9), "UTC"))
    assert not known.may_hold(day_window(DAY - timedelta(days=1), "UTC"))
    path.rename(folder / "access.log.1")
    assert looked_at()["access.log.1"].days == known.days
    with (folder / "access.log.1").open("a") as file:
        file.write(GOOD + "\n")
    assert looked_at()["access.log.1"].days is None


def test_of_which_logs_there_is_any_file(folder: Path) -> None:
    for name in ("access.log-20261003", "application.log", "error.txt"):
        (folder / name).write_text("")
    with open_folder(settings().traffic, ZONE, WINDOW.start) as found:
        assert found.kinds == {Kind.ACCESS: None, Kind.APPLICATION: None}, "even if it is empty"
    (folder / "access.log-20261002").write_text(GOOD.replace("03/Oct", "02/Oct") + "\n")
    (folder / "access.log").write_text(GOOD + "\n")
    (folder / "application.log-20261003").write_text("no line tells when it begins\n")
    with open_folder(settings().traffic, ZONE, WINDOW.start) as found:
        assert found.kinds == {Kind.ACCESS: datetime(2026, 10, 2, 12, tzinfo=UTC), Kind.APPLICATION: None}


def test_catalogue_that_cannot_be_trusted_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    log_catalogue.store("access", "UTC", "f", 1, 2, {DAY: 3})
    assert log_catalogue.load("access", "UTC", "f", 1, 2) == {DAY: 3}
    assert log_catalogue.load("access", "Europe/Berlin", "f", 1, 2) is None
    (own,) = tmp_path.iterdir()
    next(own.iterdir()).write_text("[broken")
    assert log_catalogue.load("access", "UTC", "f", 1, 2) is None
    own.chmod(0o777)
    log_catalogue.store("access", "UTC", "g", 1, 2, {DAY: 3})
    assert log_catalogue.load("access", "UTC", "g", 1, 2) is None
    target = tmp_path / "elsewhere"
    own.rename(target)
    own.symlink_to(target)
    assert log_catalogue.load("access", "UTC", "f", 1, 2) is None


def test_unreadable_file_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "access.log").write_text(GOOD + "\n")
    original = os.open

    def refuse(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith("access.log"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)  # the tests may run as root, whom no permission stops
    with pytest.raises(ConfigurationError, match="access.log of the connection platform_logs may not be read"):
        looked_at()


def test_folder_that_does_not_come_to_rest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(100))
    monkeypatch.setattr(logs, "_names", lambda *_: {"access.log": (1, next(calls))})
    monkeypatch.setattr(logs, "_look_at", lambda *_: None)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(SourceUnavailable, match="keep changing their names"):
        looked_at()


def test_links_are_left_out_and_named_unless_their_file_is_there(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "access.log-2026-10-03").write_text(GOOD + "\n")
    (folder / "access.log").symlink_to("access.log-2026-10-03")  # as cronolog does
    (tmp_path / "secret").write_text(GOOD + "\n")
    (folder / "access.log-1").symlink_to(tmp_path / "secret")
    (folder / "access.log-2").symlink_to(tmp_path / "nothing")
    os.mkfifo(folder / "access.log-3")
    assert list(looked_at()) == ["access.log-2026-10-03"]
    [said] = caplog.messages
    assert said.startswith("access.log-1 of the connection platform_logs is a link and is not read; put the file there")


def test_a_link_of_which_it_may_not_be_told_where_it_leads_may_hold_lines(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("access.log-1", "access.log-2"):
        (tmp_path / name).write_text(GOOD + "\n")
        touch(tmp_path / name, WINDOW.start - timedelta(days=1))
        (folder / name).symlink_to(tmp_path / name)
    original = os.stat

    def refuse(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if str(path) == str(folder / "access.log-2") and options.get("follow_symlinks", True):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", refuse)  # the tests may run as root, whom no permission stops
    with open_folder(settings().traffic, ZONE, WINDOW.start) as found:
        assert found.links_with(WINDOW) == ["access.log-2"]
        assert found.links_with(day_window(DAY - timedelta(days=1), "UTC")) == ["access.log-1", "access.log-2"]


def test_a_file_that_a_link_replaced_is_not_read(folder: Path, tmp_path: Path) -> None:
    (folder / "access.log").write_text(GOOD + "\n")
    (tmp_path / "same").hardlink_to(folder / "access.log")
    with open_folder(settings().traffic, ZONE, WINDOW.start) as found:
        (folder / "access.log").unlink()
        (folder / "access.log").symlink_to(tmp_path / "same")
        with pytest.raises(logs.LogsMoved):
            found.readable(found.files[0])


# -------------------------------------------------------------------------------------------------- reading files
def read(name: str) -> tuple[bytes, bool, bool]:
    """Content as it would be read, whether damaged, whether a copy was made."""
    with open_folder(settings().traffic, ZONE, WINDOW.start) as found:
        log = found.readable(next(file for file in found.files if file.name == name))
        return Path(log.path).read_bytes(), log.damaged, str(found.temporary) in log.path


def test_file_at_rest_is_read_in_place_and_others_as_copies_of_their_complete_lines(folder: Path) -> None:
    text = day_lines(DAY).encode()
    (folder / "access.log").write_bytes(text + b"half a line")
    assert read("access.log") == (text, False, True)
    (folder / "access.log").write_bytes(text)
    assert read("access.log") == (text, False, True), "it was written to a moment ago"
    touch(folder / "access.log", datetime.now(UTC) - timedelta(minutes=2))
    assert read("access.log") == (text, False, False)


@pytest.mark.parametrize(
    ("pack", "kind"),
    [(gzip.compress, "gzip"), (zstandard.compress, "zstd"), (bz2.compress, "bzip2"), (lzma.compress, "xz")],
)
def test_compressed_files_whole_in_pieces_and_cut(folder: Path, pack, kind: str) -> None:  # type: ignore[no-untyped-def]
    text = day_lines(DAY).encode() * 30
    path = folder / "access.log.packed"  # the name says nothing
    path.write_bytes(pack(text[:1000]) + pack(text[1000:]))
    with path.open("rb") as handle:
        assert compression_of(handle) == kind
    assert read(path.name) == (text, False, True)
    whole = pack(os.urandom(400_000).hex().encode())
    path.write_bytes(pack(text) + whole[: len(whole) // 2])
    content, damaged, _ = read(path.name)
    assert damaged
    assert content.startswith(text[: len(text) - 8192])


def test_content_ends_where_the_file_is_broken() -> None:
    packed = bytearray(gzip.compress(os.urandom(100_000)))
    packed[60_000:60_010] = b"\xff" * 10
    with open_content(io.BytesIO(bytes(packed)), "gzip") as content:
        assert len(content.read(1_000_000)) <= 100_000
        assert content.damaged


def test_file_that_changes_while_it_is_read_is_noticed(folder: Path) -> None:
    path = folder / "access.log"
    path.write_text(day_lines(DAY))
    touch(path, datetime.now(UTC) - timedelta(minutes=2))
    with open_folder(settings().traffic, ZONE, WINDOW.start) as found:
        log = found.readable(found.files[0])
        found.check_unchanged([log])
        with path.open("a") as file:
            file.write(GOOD + "\n")
        with pytest.raises(logs.LogsMoved, match="access.log was written to"):
            found.check_unchanged([log])


def test_renamed_file_goes_on_being_read_and_a_replaced_one_is_noticed(folder: Path) -> None:
    path = folder / "access.log"
    path.write_text(day_lines(DAY))
    touch(path, datetime.now(UTC) - timedelta(minutes=2))
    with open_folder(settings().traffic, ZONE, WINDOW.start) as found:
        log = found.readable(found.files[0])
        path.rename(folder / "access.log.1")
        path.write_text("another file\n")
        assert Path(log.path).read_text() == day_lines(DAY)
        with pytest.raises(logs.LogsMoved, match="access.log was rotated"):
            found.readable(found.files[0])


# ---------------------------------------------------------------------------------------------------------- lines
def by_duckdb(kind: Kind, text: str, folder: Path, window: Window | None = None) -> list[tuple[str, int | None]]:
    """The lines and their slots; of the access log only the beginnings of lines that broken ones are looked up by."""
    path = folder / "lines.log"
    path.write_text(text, encoding="utf-8", errors="surrogateescape", newline="\n")
    line = "substr(concat_ws('\"', head, request, answer), 1, 300)" if kind is Kind.ACCESS else "line"
    with log_lines.database(folder) as connection:
        log_lines.create_view(connection, kind, [str(path)], window)
        found = connection.execute(f"SELECT {line}, slot FROM {kind}_line").fetchall()
    return sorted(found, key=str)


pieces = st.sampled_from(
    [
        GOOD, GOOD[:40], '"', " ", "[", "-", "0.1", "0.1234567", "12345678", "200", "99", "31/Feb/2026", "+0530",
        "-9999",
        "03/Oct/2026:24:00:00 +0000", "03/oct/2026:12:00:00 +0000", "\\x22", "GET", "\t", "é", "\x1f",
        "\uff10", "9" * 19,
    ]
)  # fmt: skip


edited = st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 12), pieces), max_size=2)


@given(st.lists(edited, min_size=30, max_size=60))
@hypothesis_settings(max_examples=15)
def test_both_readers_agree_on_every_access_line(lines: list[list[tuple[int, int, str]]]) -> None:
    texts = set()
    for edits in lines:
        text = GOOD
        for place, length, piece in edits:
            text = text[:place] + piece + text[place + length :]
        texts.add(text)
    texts.discard("")
    verdicts = sorted(
        (log_lines.beginning(Kind.ACCESS, text), str(day_of_line(Kind.ACCESS, text, ZONE))) for text in texts
    )
    for window in (None, WINDOW):  # read in full, and looked up where a line says what is usual
        with TemporaryDirectory() as folder:
            found = by_duckdb(Kind.ACCESS, "\n".join([*texts, ""]), Path(folder), window)
        days = [
            (text, None if slot is None else log_lines.day_of_slot(Kind.ACCESS, slot, ZONE)) for text, slot in found
        ]
        assert sorted((text, str(day)) for text, day in days) == verdicts


def test_usual_lines_are_read_the_same_way_as_others(tmp_path: Path) -> None:
    """What is looked up gives the figures that the full rules give, and those worked out by hand."""
    stamps = [
        "03/Oct/2026:12:00:00 +0000", "25/Oct/2026:01:59:59 +0200", "25/Oct/2026:02:00:00 +0100",
        "25/Oct/2026:23:59:59 +0545", "01/Jan/2020:00:00:00 +0000", "25/Oct/2026:24:00:00 +0000",
    ]  # fmt: skip
    heads = [
        "1.2.3.4 - - [{}] ", "1.2.3.4 - ann [{}] ", "- - - [{}] ", " - - [{}] ", "\x00\x00h - - [{}] ",
        "h\x00 - - [{}] ", "h i j - - [{}] ", "h - - [ - - [{}] ", "é - - [{}] ",
    ]  # fmt: skip
    tails = [" 0.120", " 9.999", " 10.000", " 0.1204", " 7", " 0.000", " 00.120", " .5"]
    answers = [" 200 0 ", " 404 123456789012345678 ", " 502 - "]
    lines = sorted({
        f'{head.format(stamp)}"GET / HTTP/1.1"{answer}"-" "x"{tail}'
        for head in heads for stamp in stamps for tail in tails for answer in answers
    })  # fmt: skip
    path = tmp_path / "lines.log"
    path.write_text("\n".join(lines) + "\n")
    found = []
    for window in (None, day_window(date(2026, 10, 25), "Europe/Berlin")):
        with log_lines.database(tmp_path) as connection:
            log_lines.create_view(connection, Kind.ACCESS, [str(path)], window)
            columns = "head, answer, instant, slot, error_status, bytes_sent, microseconds"
            found.append(connection.execute(f"SELECT {columns} FROM access_line ORDER BY ALL").fetchall())
    assert found[0] == found[1]
    assert len(found[0]) == len(lines)
    readable = [row for row in found[0] if row[2] is not None]
    assert len(readable) == 7 * 5 * 7 * 3, "of the heads, stamps, tails and answers"
    one = [
        row for row in readable if row[0].startswith("1.2.3.4 - - [25/Oct/2026:01:59:59") and row[1].startswith(" 404")
    ]
    instant = int(datetime(2026, 10, 24, 23, 59, 59, tzinfo=UTC).timestamp())
    assert [row[2:] for row in one] == [
        (instant, instant // 900, 404, 123456789012345678, microseconds)
        for microseconds in (0, 120_000, 120_000, 120_400, 7_000_000, 9_999_000, 10_000_000)
    ]


def test_both_readers_agree_on_application_and_error_lines(tmp_path: Path) -> None:
    times = [
        "2026-10-03T12:00:00+00:00", "2026-10-03T12:00:00.123456789Z", "2026-10-03 01:30:00+0200",
        "2026-10-03T12:00:00", "2026-10-03T12:00:00,5+00:00", "2026-13-03T12:00:00Z", "2026-10-03T25:00:00Z",
        "2026-10-03T24:00:00Z", "2026-10-03T12:00:60Z", "2026-10-03T12:00:00+24:00", "2026-10-03T12:00:00+23:59",
        "2026-10-03T12:00:00-1260", "", "yesterday",
    ]  # fmt: skip
    application = [json.dumps({"time": value, "level": "INFO"}) for value in times]
    application += ["[1]", "3", "{", '{"time": 5}', '{"no": 1}', ' {"time": "2026-10-03T12:00:00Z"}', "x"]
    good = '"time": "2026-10-03T12:00:00Z"'
    application += [
        f'{{{good}, "time": "2026-10-04T12:00:00Z"}}', f'{{"time": null, {good}}}', f'{{"in": {{{good}}}}}',
        f'{{"in": {{"time": "2026-10-04T12:00:00Z"}}, {good}}}', f'{{{good}, "text": "half of \\ud83d"}}',
        f'{{{good}, "text": "\\ud83d\\ude00"}}', f'{{{good}, "size": {"9" * 5000}}}', f'{{{good}, "size": NaN}}',
        f'{{{good}}} x', f'{{{good}, "text": "\\"}}', '{"t\\u0069me": "2026-10-03T12:00:00\\u005a"}',
    ]  # fmt: skip
    error = [
        "2026/10/03 12:00:00 [error] 1#1: x", "2026/02/30 12:00:00 [error] x", "2026/10/03 12:00:00 error", " goes on",
        "2026/10/03 12:00:60 [crit] x",
    ]  # fmt: skip
    for kind, texts in ((Kind.APPLICATION, application), (Kind.ERROR, error)):
        found = by_duckdb(kind, "\n".join(texts) + "\n", tmp_path)
        for text in texts:
            slots = [slot for line, slot in found if line == text]
            day = day_of_line(kind, text, ZONE)
            expected = None if slots[0] is None else log_lines.day_of_slot(kind, slots[0], ZONE)
            assert day == expected, text
    assert day_of_line(Kind.APPLICATION, application[2], ZONE) == date(2026, 10, 2)


def test_broken_lines_of_a_file_without_a_readable_line_have_no_day(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("a\nb\n\n")
    days, homeless = broken_lines(tmp_path / "x", Kind.ACCESS, ZONE, None)
    assert (days, homeless.lines, homeless.samples) == ({}, 2, ["a", "b"])


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("a\nb\n", {}),
        ("a\n[03/Oct/2026:23:30:00 -0100] x\nb\n", {4: 3}),
        ('x "2026-10-03T12:00:00.5Z"\n[04/Oct/2026:00:00:00 +0000] 2026-10-03T12:00:00Z\n', {3: 1, 4: 1}),
        ("2026-10-03 23:30:00+0000 [04/Oct/2026:00:00:00 +0000]\n[31/Feb/2026:12:00:00 +0000]\n", {3: 2}),
        ("2026-10-03T12:00:00 x\n[03/Oct/0001:12:00:00 +0000]\n", {}),
        (f"{GOOD}\na\n[04/Oct/2026:00:00:00 +0000] x\nb\n{GOOD}\nc\n", {3: 2, 4: 2}),
        (f"a\n[02/Oct/2026:00:00:00 +0000] x\n{GOOD}\n", {2: 2}),
    ],
)
def test_lines_that_nobody_can_read_are_of_the_days_that_they_name(
    tmp_path: Path, text: str, days: dict[int, int]
) -> None:
    (tmp_path / "x").write_text(text)
    found, homeless = broken_lines(tmp_path / "x", Kind.ACCESS, ZONE, None)
    assert {day: one.lines for day, one in found.items()} == {date(2026, 10, day): n for day, n in days.items()}
    assert (homeless.lines == 0) == bool(days)


def test_many_small_files_are_looked_at_quickly(folder: Path) -> None:
    for n in range(300):
        (folder / f"access.log.{n}.gz").write_bytes(gzip.compress(day_lines(DAY - timedelta(days=n)).encode()))
    started = time.perf_counter()
    assert len(looked_at()) == 300
    assert time.perf_counter() - started < 30
