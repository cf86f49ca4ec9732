"""Which archived WAL recovery reads, and what it misses: within a timeline and over the changes that failovers make.

Cases are worked out by hand. Segments have 16 MB, unless it is said: 0/5A00000 lies in segment 5.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from include.maintenance.backups import archived_wal
from include.outcome import MaintenanceFailed
from include.platform import backups, postgres_binaries
from include.platform.scratch_place import scratch_place
from include.platform.scratch_server import ScratchServer, new_server
from include.warehouse.drills import StageOutcome
from tests.include.maintenance.backups.backup_platform import configure, stages, verified

SIZE = 16 << 20
HISTORY_2 = "1\t0/5A00000\tno recovery target specified\n"
FAILED_OVER = "1/3 1/4 1/5 1/6 2/5 2/6 2/7"  # the old primary archived segments 5 and 6 of its own


def _name(short: str) -> str:
    """The name of a segment from timeline/number, both hexadecimal."""
    timeline, number = short.split("/")
    plain, dot, ending = number.partition(".")
    return f"{int(timeline, 16):08X}00000000{int(plain, 16):08X}{dot}{ending}"


def _continuity(archived: str, histories: dict[int, str], first: str = "1/3") -> tuple[str, str]:
    """What is read and what is missing, as they are written in ``archived``."""
    read, missing = archived_wal.continuity([_name(one) for one in archived.split()], _name(first), SIZE, histories)
    short = [" ".join(f"{int(one[:8], 16)}/{int(one[16:], 16):X}" for one in found) for found in (read, missing)]
    return short[0], short[1]


def test_names_are_counted_across_a_log_file() -> None:
    names = [f"0000000100000001000000{number:02X}" for number in (0xFD, 0xFE, 0xFF)]
    names += ["000000010000000200000000.zst", "00000001000000010000000A", "00000002.history", "x.partial"]
    first = "0000000100000001000000FD"
    assert archived_wal.continuity(names, first, SIZE, {})[1] == []
    names.remove("0000000100000001000000FE")
    assert archived_wal.continuity(names, first, SIZE, {})[1] == ["0000000100000001000000FE"]
    newer, older = "0000000200000001000000FD", "0000000100000001000000FF"
    assert archived_wal.continuity([newer, older], newer, SIZE, {}) == ([newer], []), "one of another timeline"


def test_a_switch_is_found_beyond_the_first_log_file_and_with_segments_of_another_size() -> None:
    """1/200000 is the first byte of the third 1 MB segment of log 1: the old timeline is whole with the second."""
    names = ["000000010000000000000FFF", "000000010000000100000000", "000000010000000100000001",
             "000000010000000100000002", "000000020000000100000002", "000000020000000100000004"]  # fmt: skip
    found = archived_wal.continuity(names, names[0], 1 << 20, {2: "1\t1/200000\tx\n"})
    assert found == ([*names[:3], *names[4:]], ["000000020000000100000003"])


@pytest.mark.parametrize(
    ("lost", "read", "missing"),
    [
        ("", "1/3 1/4 2/5 2/6 2/7", ""),
        ("2/6", "1/3 1/4 2/5 2/7", "2/6"),  # the old primary's 6 does not fill it
        ("2/5", "1/3 1/4 2/6 2/7", "2/5"),  # the old primary's 5 holds what was left behind
        ("2/5 2/6", "1/3 1/4 2/7", "2/5 2/6"),
        ("1/4", "1/3 2/5 2/6 2/7", "1/4"),
        ("1/5 1/6", "1/3 1/4 2/5 2/6 2/7", ""),  # it was lost before it archived them
        ("2/7", "1/3 1/4 2/5 2/6", ""),  # as if it were not archived yet
        ("2/6 2/7", "1/3 1/4 2/5", ""),  # and recovery never reads the old primary's 6 instead
    ],
)
def test_what_the_old_primary_archived_afterwards_fills_no_gap(lost: str, read: str, missing: str) -> None:
    archived = " ".join(one for one in FAILED_OVER.split() if one not in lost.split())
    assert _continuity(archived, {2: HISTORY_2}) == (read, missing)


def test_a_partial_segment_is_not_needed_and_fills_no_gap() -> None:
    """The new primary archives the old timeline's last segment as it found it, and a copy of it as its own first."""
    assert _continuity("1/3 1/4 1/5.partial 2/5 2/6", {2: HISTORY_2}) == ("1/3 1/4 2/5 2/6", "")
    assert _continuity("1/3 1/4 1/5.partial 2/6", {2: HISTORY_2}) == ("1/3 1/4 2/6", "2/5")
    assert _continuity("1/3 1/4.partial 2/5", {2: HISTORY_2}) == ("1/3 2/5", "1/4")
    assert _continuity("1/3.partial", {2: HISTORY_2}) == ("", "")


def test_a_new_timeline_of_which_nothing_is_archived_yet() -> None:
    """Recovery ends where the old one was left, unless it finds what the old primary went on to write."""
    assert _continuity("1/3 1/4 1/5.partial", {2: HISTORY_2}) == ("1/3 1/4", "")
    assert _continuity("1/3 1/4 1/5", {2: HISTORY_2}) == ("1/3 1/4", "2/5")
    assert _continuity("1/5 1/6", {2: HISTORY_2}, "1/5") == ("", "2/5")
    assert _continuity("1/3 1/4 1/6", {2: HISTORY_2}) == ("1/3 1/4", ""), "it stops before that"


def test_a_switch_between_two_segments_leaves_the_old_one_whole() -> None:
    history = {2: "1\t0/6000000\tx\n"}
    assert _continuity("1/3 1/4 1/5 1/6 2/6 2/7", history) == ("1/3 1/4 1/5 2/6 2/7", "")
    assert _continuity("1/3 1/4 1/5.partial 2/5 2/6 2/7", history) == ("1/3 1/4 2/6 2/7", "1/5")


@pytest.mark.parametrize(
    ("archived", "history", "read", "missing"),
    [
        ("1/3 1/4 2/5 2/6 3/7 3/8", "1\t0/5A00000\tx\n2\t0/7000028\tx\n", "1/3 1/4 2/5 2/6 3/7 3/8", ""),
        ("1/3 1/4 1/5 1/6 2/5 2/7 3/7 3/8", "1\t0/5A00000\tx\n2\t0/7000028\tx\n", "1/3 1/4 2/5 3/7 3/8", "2/6"),
        ("1/3 1/4 2/5 2/6 2/7 2/8 3/8", "1\t0/5A00000\tx\n2\t0/7000028\tx\n", "1/3 1/4 2/5 2/6 3/8", "3/7"),
        ("1/3 1/4 2/5 2/6 2/7", "1\t0/5A00000\tx\n2\t0/7000028\tx\n", "1/3 1/4 2/5 2/6", "3/7"),
        ("1/3 1/4 3/5 3/6", "1\t0/5A00000\tx\n2\t0/5B00000\tx\n", "1/3 1/4 3/5 3/6", ""),  # two within a segment
        ("1/3 1/4 1/5 2/5 2/6 2/9 3/6 3/7", "1\t0/6A00000\tx\n", "1/3 1/4 1/5 3/6 3/7", ""),  # 2 was given up
        ("1/3 1/4 2/5 2/6 3/6 3/7", "1\t0/6A00000\tx\n", "1/3 1/4 3/6 3/7", "1/5"),
    ],
)
def test_the_newest_timelines_history_leads_over_all_of_them(
    archived: str, history: str, read: str, missing: str
) -> None:
    assert _continuity(archived, {2: HISTORY_2, 3: f"# by hand\n\n{history}"}) == (read, missing)


def test_a_backup_of_a_later_timeline() -> None:
    histories = {2: HISTORY_2, 3: "1\t0/5A00000\tx\n\n2\t0/7000028\tx\n"}
    assert _continuity("1/5 1/6 1/7 2/6 3/7 3/9", histories, "2/6") == ("2/6 3/7 3/9", "3/8")
    assert _continuity("1/8 2/8 3/8 3/9", histories, "3/8") == ("3/8 3/9", "")
    assert _continuity("3/8", {}, "3/8") == ("3/8", ""), "how its own timeline began does not matter"


@pytest.mark.parametrize(
    ("histories", "archived", "said"),
    [
        ({}, "1/3 2/5", "files of timeline 2 but not 00000002.history: recovery would end on timeline 1, and whether"),
        ({3: HISTORY_2}, "1/3", "files of timeline 3 but not 00000002.history: recovery would end on timeline 1, and"),
        ({2: HISTORY_2}, "1/3 3/5", "files of timeline 3 but not 00000003.history: recovery would end on timeline 2,"),
    ],
)
def test_without_a_history_recovery_would_end_on_the_timeline_before(
    histories: dict[int, str], archived: str, said: str
) -> None:
    with pytest.raises(MaintenanceFailed, match=said):
        _continuity(archived, histories)


def test_segments_from_before_the_backup_need_no_history() -> None:
    assert _continuity("1/3 1/4 2/2", {}) == ("1/3 1/4", "")


def test_a_newest_timeline_that_does_not_come_from_the_backup() -> None:
    said = "the newest timeline in the WAL archive, 3, does not continue timeline 2 of the backup, as 00000003.history"
    with pytest.raises(MaintenanceFailed, match=said):
        _continuity("2/6 3/6", {3: HISTORY_2}, "2/6")
    with pytest.raises(MaintenanceFailed, match="does not continue timeline 1 of the backup"):
        _continuity("1/6 1/7 2/6", {2: HISTORY_2}, "1/6")  # it was left in segment 5 already
    with pytest.raises(MaintenanceFailed, match="does not continue timeline 1 of the backup"):
        _continuity("1/3 2/5", {2: ""})


@pytest.mark.parametrize(
    "history",
    ["1\tx\n", "1\n", "\x00\x01", "1\t0/5A00000\tx\n1\t0/6A00000\tx\n", "2\t0/5A00000\tx\n1\t0/6A00000\tx\n"],
)
def test_a_damaged_history_is_named(history: str) -> None:
    with pytest.raises(MaintenanceFailed, match=r"^00000002\.history in the WAL archive is damaged: it has the line "):
        _continuity("1/3 2/5", {2: history})


def test_histories_are_read_packed_and_plain(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    configure(environment, tmp_path, {"name": "base", "format": "base", "files": "base-*", "wal": "wal/*"})
    archive = tmp_path / "backups" / "wal"
    archive.mkdir()
    (archive / "00000002.history").write_text(HISTORY_2)
    (archive / "0000000A.history.gz").write_bytes(gzip.compress(b"9\t1/0\tx\n"))
    for other in (_name("1/3"), f"{_name('1/3')}.00000028.backup", "notes.history"):
        (archive / other).write_text("")
    found = archived_wal.read_histories(backups.wal_files("wal/*"), tmp_path / "histories")
    assert found == {2: HISTORY_2, 10: "9\t1/0\tx\n"}


def test_only_the_wal_from_the_backup_on_is_fetched() -> None:
    archived = [
        "0000000200000001000000FC",  # before the backup
        "0000000200000001000000FD", "0000000200000001000000FE.zst", "000000020000000200000000.partial",
        "0000000100000001000000FE",  # of a timeline that ended before it
        "0000000300000001000000FB.gz", "000000030000000200000000.gz",
        "00000002.history", "00000003.history.gz", "README",
    ]  # fmt: skip
    assert [name for name in archived if archived_wal.is_needed(name, "0000000200000001000000FD")] == [
        "0000000200000001000000FD", "0000000200000001000000FE.zst", "000000020000000200000000.partial",
        "000000030000000200000000.gz", "00000002.history", "00000003.history.gz",
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------- a real failover
@pytest.fixture
def archiving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScratchServer, Path]]:
    """A small server that archives its WAL, with a table."""
    archive = tmp_path_factory.mktemp("wal")
    for folder in (archive, *list(archive.parents)[:2]):
        folder.chmod(0o777)  # the server writes as another user when the tests run as root
    with scratch_place("tests of archived WAL") as place:
        server = new_server(place, "primary", postgres_binaries.newest()[0])
        server.initialise()
        _start(server, archive)
        with server.connect() as connection:
            connection.execute("CREATE TABLE people (n integer)")
        yield server, archive


def _start(server: ScratchServer, archive: Path) -> None:
    at_once = f'cp "%p" "{archive}/.%f" && mv "{archive}/.%f" "{archive}/%f"'
    server.start(
        {"wal_level": "replica", "max_wal_senders": "4", "fsync": "off", "archive_mode": "on",
         "archive_command": at_once, "restore_command": f'cp "{archive}/%f" "%p"'},
        durable=True,
    )  # fmt: skip


def _write_segment(server: ScratchServer, archive: Path) -> str:
    """Insert a row, end the segment and wait until it is archived; return its name."""
    with server.connect() as connection:
        while connection.execute("SELECT pg_is_in_recovery()").fetchone() != (False,):
            connection.execute("SELECT pg_sleep(0.05)")
        connection.execute("INSERT INTO people VALUES (1)")
        row = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        assert row is not None
        while not (archive / row[0]).exists():
            connection.execute("SELECT pg_sleep(0.05)")
    return str(row[0])


def test_a_real_change_of_timeline_is_recovered_and_its_gap_is_found(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, archiving: tuple[ScratchServer, Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    server, archive = archiving
    source = {"name": "base", "format": "base", "files": "base-*", "wal": "wal/*"}
    configure(environment, tmp_path, source, query="SELECT count(*) = 4 FROM people")
    url = f"postgresql://postgres@/postgres?host={server.sockets}&port=5432"
    backups.take(url, tmp_path / "backups", "base-1", "base")
    _write_segment(server, archive)
    server.stop()
    (server.data / "recovery.signal").touch(mode=0o600)
    _start(server, archive)  # it recovers to the end of its WAL and goes on as a promoted standby does
    written = [_write_segment(server, archive) for _ in range(3)]
    assert {name[:8] for name in written} == {"00000002"}
    wal = tmp_path / "backups" / "wal"
    shutil.copytree(archive, wal)
    for own in written[:2]:  # what the old primary would have archived of its own
        (wal / f"00000001{own[8:]}").write_bytes((wal / written[0]).read_bytes())
    drill, said = verified("base", "whole")
    assert said == ""
    assert stages(drill)["wal"].detail["last"] == written[-1]
    assert stages(drill)["query"].outcome is StageOutcome.PASSED, "the last row of the new timeline is there"
    (wal / written[1]).unlink()
    assert f"wal: the WAL archive has gaps: {written[1]} missing" in verified("base", "gap")[1]
    (wal / "00000002.history").unlink()
    assert "wal: the WAL archive has files of timeline 2 but not 00000002.history" in verified("base", "led")[1]
