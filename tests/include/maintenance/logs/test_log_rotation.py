"""Logs are renamed without losing a line, whoever writes to them meanwhile and whenever the rotation is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from demo.platform.live_logs import LogFile
from include.maintenance.logs import log_rotation
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import log_files, log_writers
from include.settings import ROOT, settings
from include.warehouse import session
from tests.include.maintenance.logs.log_files_made import (
    NOW,
    access,
    acts,
    all_lines,
    connect,
    known,
    names,
    old,
    text_of,
)

WRITER = Path(__file__).with_name("log_writer.py")


@pytest.fixture
def logs(warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return tmp_path / "platform_logs"


@pytest.fixture
def open_logs(logs: Path) -> Iterator[Path]:
    """The same, and a writer that has access.log open and does not open it anew."""
    with (logs / "access.log").open("a"):
        yield logs


@contextmanager
def writer(logs: Path, mode: str, environment: pytest.MonkeyPatch) -> Iterator[tuple[int, list[int]]]:
    """A process that writes to access.log, whose number the connection platform_logs tells.

    Yields its number, and, when the block is over, how many lines it wrote.
    """
    count, pid_file = logs.parent / "written", logs.parent / "writer.pid"
    process = subprocess.Popen([sys.executable, WRITER, logs / "access.log", count, mode], stdout=subprocess.PIPE)
    assert process.stdout is not None
    written: list[int] = []
    try:
        process.stdout.readline()
        pid_file.write_text(f"{process.pid}\n")
        connect(environment, logs, pid_file=str(pid_file))
        yield process.pid, written
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        process.stdout.close()
        written.append(int(count.read_text()))


def test_a_log_is_renamed_after_the_day_that_it_closes(open_logs: Path, warehouse: psycopg.Connection) -> None:
    (open_logs / "access.log").write_text("one\ntwo\n")
    (open_logs / "error.log").write_text("")
    log_rotation.rotate("r1", False, NOW)
    assert names(open_logs) == ["access.log-20261003", "error.log"]
    assert (open_logs / "access.log-20261003").read_text() == "one\ntwo\n"
    found = acts(warehouse)
    state, reason, plan, proof = found["rotate_logs", "access.log"]
    assert (state, plan["to"], plan["bytes"]) == ("proven", "access.log-20261003", 8)
    assert reason == "its writer has not opened the new log yet, so it is compressed the next time"
    assert (proof["lines"], proof["bytes_after"], proof["renamed_file"]) == (2, 8, "held")
    assert proof["inode_before"] == proof["inode_after"]
    assert found["rotate_logs", "error.log"][:2] == ["nothing_to_do", "it has 0 bytes and is rotated above 0"]
    assert found["rotate_logs", "application.log"][:2] == ["nothing_to_do", "there is no file application.log"]


def test_what_nobody_writes_to_any_more_is_compressed_at_once(logs: Path, warehouse: psycopg.Connection) -> None:
    (logs / "access.log").write_text("one\ntwo\n")
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log-20261003.zst"]
    assert text_of(logs / "access.log-20261003.zst") == "one\ntwo\n"
    found = acts(warehouse)
    assert found["rotate_logs", "access.log"][3]["renamed_file"] == "closed"
    assert found["rotate_logs", "access.log-20261003"][3]["lines"] == 2


def test_the_day_is_that_of_the_platform(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPERATIONS__PLATFORM__TIMEZONE", "Asia/Tokyo")
    settings.cache_clear()
    (logs / "access.log").write_text("one\n")
    log_rotation.rotate("r1", False, datetime(2026, 10, 3, 16, 0, tzinfo=UTC))  # 01:00 on the 4th in Tokyo
    assert names(logs) == ["access.log-20261003.zst"]
    settings.cache_clear()


def test_twice_on_a_day_and_repeated(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    (logs / "access.log").write_text("one\n")
    log_rotation.rotate("r1", False, NOW)
    query = "SELECT a::text FROM ops.maintenance_action a ORDER BY maintenance_action_id"
    first = warehouse.execute(query).fetchall()
    (logs / "access.log").write_text("two\n")
    log_rotation.rotate("r1", False, NOW)
    assert warehouse.execute(f"{query} LIMIT 1").fetchall() == first[:1], "the proven act is not repeated"
    log_rotation.rotate("r2", False, NOW + timedelta(hours=2))
    assert names(logs) == ["access.log", "access.log-20261003.zst"]
    row = warehouse.execute("SELECT reason FROM ops.maintenance_action WHERE run_id = 'r2' AND resource = 'access.log'")
    assert row.fetchone() == ("it was rotated today already, to access.log-20261003",)
    environment.setenv("OPERATIONS__MAINTENANCE__LOGS__ROTATE_AGAIN_LARGER_THAN_BYTES", "3")
    settings.cache_clear()
    log_rotation.rotate("r3", False, NOW + timedelta(hours=3))
    assert names(logs) == ["access.log-20261003.1.zst", "access.log-20261003.zst"], "it has become too large"
    assert sorted(all_lines(logs)) == ["one", "two"]
    settings.cache_clear()


@pytest.mark.parametrize("taken", ["access.log-20261003", "access.log-20261003.gz", "access.log-20261003.zst"])
def test_a_taken_name_is_never_overwritten(logs: Path, warehouse: psycopg.Connection, taken: str) -> None:
    old(logs / taken, "of another tool\n", 1)
    (logs / "access.log-20261003.1").write_text("too\n")
    (logs / "access.log").write_text("one\n")
    log_rotation.rotate("r1", False, NOW)
    assert text_of(logs / "access.log-20261003.2.zst") == "one\n"
    assert [name for name in names(logs) if name.startswith(taken)]
    assert sorted(all_lines(logs)) == ["of another tool", "one", "too"]


def test_small_logs_wait(logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__LOGS__ROTATE_LARGER_THAN_BYTES", "4")
    settings.cache_clear()
    (logs / "access.log").write_text("one\n")
    (logs / "error.log").write_text("three\n")
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log", "error.log-20261003.zst"]
    assert acts(warehouse)["rotate_logs", "access.log"][1] == "it has 4 bytes and is rotated above 4"
    settings.cache_clear()


def test_a_dry_run_changes_nothing(logs: Path, warehouse: psycopg.Connection) -> None:
    known(warehouse, "2026-09-01", "2026-09-30")
    (logs / "access.log").write_text("one\n")
    old(logs / "access.log-20260901", access("01/Sep/2026:10:00:00"), 32)
    old(logs / "access.log-20260930", access("30/Sep/2026:10:00:00"), 3)
    before = names(logs)
    log_rotation.rotate("r1", True, NOW)
    assert names(logs) == before
    found = acts(warehouse)
    assert found["rotate_logs", "access.log"][0] == "planned"
    assert found["rotate_logs", "access.log-20260930"][0] == "planned"
    assert found["delete_logs", "access.log-20260901"][0] == "planned"
    assert found["delete_logs", "access.log-20260901"][2]["days"] == ["2026-09-01"]


def test_not_a_line_is_lost_by_a_writer_that_notices_by_itself(logs: Path, warehouse: psycopg.Connection) -> None:
    log, written, stop = LogFile(logs / "access.log"), [0], threading.Event()

    def write() -> None:
        while not stop.is_set():
            log.write(f"line {written[0]}\n")
            written[0] += 1
            if written[0] % 50 == 0:
                time.sleep(0.001)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for day in range(6):
            time.sleep(0.05)
            log_rotation.rotate(f"r{day}", False, NOW + timedelta(days=day, hours=24))
    finally:
        stop.set()
        thread.join()
    assert len(list(logs.glob("access.log-*.zst"))) >= 4
    assert all_lines_are_there(logs, written[0])


def all_lines_are_there(logs: Path, written: int) -> bool:
    """Whether each line that was written stands in the logs, and just once."""
    return written > 0 and sorted(all_lines(logs)) == sorted(f"line {n}" for n in range(written))


def test_not_a_line_is_lost_by_a_writer_that_is_told(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    with writer(logs, "signal", environment) as (_, written):
        for day in range(6):
            time.sleep(0.05)
            log_rotation.rotate(f"r{day}", False, NOW + timedelta(days=day))
            last = NOW + timedelta(days=day - 1)
            packed = logs / f"access.log-{last:%Y%m%d}.zst"
            assert packed.exists(), "its writer opened the new log, so it is compressed in the same night"
    assert all_lines_are_there(logs, written[0])
    rows = warehouse.execute(
        "SELECT sum((proof ->> 'lines')::int), bool_and(applied ->> 'writer' LIKE 'SIGUSR1 sent to process%')"
        " FROM ops.maintenance_action"
    )
    in_live_log = len((logs / "access.log").read_text().splitlines())
    assert rows.fetchone() == (written[0] - in_live_log, True), "the proofs count every line"


def test_not_a_line_is_lost_by_a_writer_that_never_reopens(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__LOGS__REOPEN_WAIT_SECONDS", "0.2")
    settings.cache_clear()
    known(warehouse, "2026-10-03")
    with writer(logs, "never", environment) as (pid, written):
        log_rotation.rotate("r0", False, NOW)
        assert names(logs) == ["access.log-20261003"], "left until the next night"
        for day in (1, 30):
            with pytest.raises(MaintenanceFailed, match=f"still written to by process {pid}|still written to: its"):
                log_rotation.rotate(f"r{day}", False, NOW + timedelta(days=day))
            assert names(logs) == ["access.log-20261003"], "neither compressed nor deleted, however old"
    assert all_lines_are_there(logs, written[0])
    log_rotation.rotate("r2", False, NOW + timedelta(days=2))
    assert names(logs) == ["access.log-20261003.zst"], "its writer has ended"
    assert all_lines_are_there(logs, written[0])
    settings.cache_clear()


def test_a_writer_that_a_killed_attempt_did_not_tell_is_told(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    with writer(logs, "signal", environment) as (_, written):
        assert killed("to_disk", "before", NOW) == -signal.SIGKILL
        assert names(logs) == ["access.log-20261003"], "renamed, and the writer does not know"
        log_rotation.rotate("r2", False, NOW + timedelta(days=1))
        assert (logs / "access.log").exists()
    assert all_lines_are_there(logs, written[0])


def test_a_writer_that_cannot_be_seen_is_told_too(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    with writer(logs, "signal", environment) as (_, written):
        assert killed("to_disk", "before", NOW) == -signal.SIGKILL
        environment.setattr(log_writers, "_lease", lambda _descriptor: None)  # as for another user's files
        log_rotation.rotate("r1", False, NOW)
        ends = time.monotonic() + 5
        while not (logs / "access.log").exists() and time.monotonic() < ends:
            time.sleep(0.01)
        assert names(logs) == ["access.log", "access.log-20261003"]
    assert all_lines_are_there(logs, written[0])


KILLED = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from include.maintenance.logs import log_proofs, log_rotation
from include.platform import folders, log_checksums, log_files

name, when = sys.argv[1:3]
owners = (log_proofs, log_checksums, log_files, Path, folders)
owner = next(owner for owner in owners if hasattr(owner, name))
step = getattr(owner, name)

def killed(*arguments, **options):
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    step(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, killed)
log_rotation.rotate("r1", False, datetime.fromisoformat(sys.argv[3]))
"""


def killed(step: str, when: str, now: datetime) -> int:
    """Rotate in a process that is killed before or after a step; return how it ended."""
    command = [sys.executable, "-c", KILLED, step, when, now.isoformat()]
    ended = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    return ended.returncode


@pytest.mark.parametrize(
    ("step", "when", "live"),
    [
        ("rename", "before", True),
        ("rename", "after", True),
        ("rotation", "before", True),
        ("compress", "after", False),
        ("note", "before", False),
        ("note", "after", False),
        ("rename", "after", False),
        ("compression", "before", False),
        ("unlink", "after", False),
        ("deletion", "before", False),
    ],
)
@pytest.mark.parametrize("same_run", [True, False])
def test_a_kill_anywhere_loses_nothing(
    logs: Path, warehouse: psycopg.Connection, step: str, when: str, live: bool, same_run: bool
) -> None:
    text = access(*["02/Oct/2026:10:00:00"] * 50)
    if live:
        (logs / "access.log").write_text(text)
    else:
        old(logs / "access.log-20261001", text, 2)
    known(warehouse, "2026-09-01")
    if step in ("deletion", "unlink"):
        old(logs / "access.log-20260901", access("01/Sep/2026:10:00:00"), 30)
    assert killed(step, when, NOW) == -signal.SIGKILL
    log_rotation.rotate("r1" if same_run else "r2", False, NOW)
    assert names(logs) == ["access.log-20261003.zst" if live else "access.log-20261001.zst"]
    assert "".join(f"{line}\n" for line in all_lines(logs)) == text
    if same_run:
        states = {rest[0] for rest in acts(warehouse).values()}
        assert states == {"proven", "nothing_to_do"}


ROTATING = """
import sys
from datetime import datetime, timedelta
from include.maintenance.logs import log_rotation
print("ready", flush=True)
for turn in range(1000):
    now = datetime.fromisoformat(sys.argv[2]) + timedelta(days=turn // 2)
    log_rotation.rotate(f"{sys.argv[1]}-{turn // 2}", False, now)
    print("turn", flush=True)
"""


@pytest.mark.timeout(1800)
def test_killed_at_random_and_repeated_nothing_is_lost_or_doubled(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    """8 kills; LOG_ROTATION_KILLS=200 for more."""
    environment.setenv("OPERATIONS__MAINTENANCE__LOGS__KEEP_DAYS", "10000")
    settings.cache_clear()
    now = NOW
    with writer(logs, "signal", environment) as (_, written):
        seconds = 0.0  # of two turns on this machine, as busy as it is
        for attempt in range(int(os.environ.get("LOG_ROTATION_KILLS", "8"))):
            command = [sys.executable, "-c", ROTATING, f"k{attempt}", now.isoformat()]
            environ = os.environ | {"PYTHONPATH": str(ROOT)}
            with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE) as rotating:
                assert rotating.stdout is not None
                rotating.stdout.readline()
                if attempt == 0:
                    started = time.monotonic()
                    rotating.stdout.readline()
                    rotating.stdout.readline()
                    seconds = time.monotonic() - started
                time.sleep(random.uniform(0, 2 * seconds))
                rotating.kill()
            assert rotating.returncode == -signal.SIGKILL
            now += timedelta(days=30)
        log_rotation.rotate("last", False, now)
    assert all_lines_are_there(logs, written[0])
    assert len(list(logs.glob("access.log-*.zst"))) >= 2
    assert [path.name for path in logs.iterdir() if path.name.startswith(".")] == []
    assert [path.name for path in logs.glob("access.log-*") if path.suffix != ".zst"] == []
    done = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=logs, check=False)
    assert done.returncode == 0
    assert len((logs / "SHA256SUMS").read_text().splitlines()) == len(list(logs.glob("*.zst")))
    settings.cache_clear()


def test_what_a_person_must_correct(
    logs: Path, environment: pytest.MonkeyPatch, tmp_path: Path, warehouse: psycopg.Connection
) -> None:
    environment.setenv("OPERATIONS__TRAFFIC__ACCESS_LOGS", "access.log")
    settings.cache_clear()
    with pytest.raises(ConfigurationError, match=r"write it as 'access.log\*'"):
        log_rotation.rotate("r1", False, NOW)
    environment.delenv("OPERATIONS__TRAFFIC__ACCESS_LOGS")
    settings.cache_clear()
    for extra, message in (
        ({"url": "memory://logs"}, "no local folder"),
        ({"path": str(tmp_path / "nowhere")}, "does not exist"),
    ):
        environment.setenv("AIRFLOW_CONN_PLATFORM_LOGS", json.dumps({"conn_type": "fs", "extra": extra}))
        with pytest.raises(ConfigurationError, match=message):
            log_rotation.rotate("r1", False, NOW)
        state, reason, *_ = acts(warehouse)["rotate_logs", "all logs"]
        assert (state, message in reason) == ("failed", True), "yesterday's success is not the latest word"


def test_the_run_as_a_whole_is_an_act(logs: Path, warehouse: psycopg.Connection) -> None:
    (logs / "access.log").write_text("one\n")
    with log_files.locked(logs), pytest.raises(MaintenanceFailed, match="another run rotates"):
        log_rotation.rotate("r1", False, NOW)
    assert acts(warehouse)["rotate_logs", "all logs"][0] == "failed"
    assert log_rotation.rotate("r1", False, NOW)[-1]["resource"] == "all logs"
    state, reason, _, proof = acts(warehouse)["rotate_logs", "all logs"]
    assert (state, reason, proof) == ("proven", "", {"acts": {"proven": 2, "nothing_to_do": 2}})
    log_rotation.rotate("r2", False, NOW)
    whole = ["nothing_to_do", "3 logs were looked at and nothing was to do"]
    assert acts(warehouse)["rotate_logs", "all logs"][:2] == whole
    old(logs / "error.log-20260920.gz", "2026/09/20 10:00:00 [error] 1#1: x\n", 13).write_bytes(b"\x1f\x8b damaged")
    with pytest.raises(MaintenanceFailed, match="is damaged") as raised:
        log_rotation.rotate("r3", False, NOW)
    assert acts(warehouse)["rotate_logs", "all logs"][:2] == ["failed", str(raised.value)]


def test_an_error_is_told_also_without_the_warehouse(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    def lost() -> Path:
        environment.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://a:b@127.0.0.1:1/none")
        session_of_the_run = session._KEPT.get()
        assert session_of_the_run
        for kept in session_of_the_run.values():
            assert kept.connection is not None
            kept.connection.close()
        raise ConfigurationError("the folder does not exist")

    environment.setattr(log_files, "local_folder", lost)
    with pytest.raises(ConfigurationError, match="the folder does not exist"):
        log_rotation.rotate("r1", False, NOW)


def test_a_writer_that_cannot_be_told_does_not_keep_old_logs_from_their_turn(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    connect(environment, logs, pid_file=str(tmp_path / "none.pid"))
    known(warehouse, "2026-09-20")
    (logs / "access.log").write_text("one\n")
    old(logs / "access.log-20260920.gz", access("20/Sep/2026:10:00:00"), 13)
    old(logs / "access.log-20261001", "two\n", 2)
    with pytest.raises(ConfigurationError, match="does not hold a process id; correct its path"):
        log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log", "access.log-20261001.zst"]


def test_an_earlier_act_that_cannot_be_proven_does_not_keep_the_others_from_their_turn(
    logs: Path, warehouse: psycopg.Connection
) -> None:
    old(logs / "access.log-20261001", "one\n", 2)
    assert killed("compression", "before", NOW) == -signal.SIGKILL
    old(logs / "access.log-20261001.zst", "something else\n", 2)
    (logs / "error.log").write_text("two\n")
    for _ in range(2):  # trying again does not hide it
        with pytest.raises(MaintenanceFailed, match="zst is not the file that access.log-20261001 was compressed to"):
            log_rotation.rotate("r1", False, NOW)
        state, reason, *_ = acts(warehouse)["rotate_logs", "access.log-20261001"]
        assert (state, reason[:42]) == ("failed", "access.log-20261001.zst is not the file th")
    assert names(logs) == ["access.log-20261001.zst", "error.log-20261003.zst"]
