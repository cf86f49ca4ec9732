"""Logs are renamed, compressed and deleted without losing a line, whoever writes to them meanwhile."""

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import zstandard

from demo.platform.live_logs import LogFile
from include.maintenance import log_rotation
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import log_files
from include.settings import ROOT, settings

NOW = datetime(2026, 10, 4, 3, 0, tzinfo=UTC)


@pytest.fixture
def logs(warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return tmp_path / "platform_logs"


def access(*times: str) -> str:
    return "".join(f'10.0.0.1 - - [{time} +0000] "GET / HTTP/1.1" 200 5 "-" "-" 0.001\n' for time in times)


def old(path: Path, text: str, days: int) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    seconds = (NOW - timedelta(days=days)).timestamp()
    os.utime(path, (seconds, seconds))
    return path


def known(warehouse: psycopg.Connection, *days: str, state: str = "complete") -> None:
    for day in days:
        warehouse.execute(
            "INSERT INTO ops.daily_subject (day, subject, state, completeness, content_hash)"
            " VALUES (%s, 'traffic', %s, 1, '')",
            (day, state),
        )


def acts(warehouse: psycopg.Connection) -> dict[tuple[str, str], list[Any]]:
    found = warehouse.execute("SELECT kind, resource, state, reason, plan, proof FROM ops.maintenance_action")
    return {(kind, resource): rest for kind, resource, *rest in found}


def names(logs: Path) -> list[str]:
    return sorted(path.name for path in logs.iterdir())


def test_a_log_is_renamed_after_the_day_that_it_closes(logs: Path, warehouse: psycopg.Connection) -> None:
    (logs / "access.log").write_text("one\ntwo\n")
    (logs / "error.log").write_text("")
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log-20261003", "error.log"]
    assert (logs / "access.log-20261003").read_text() == "one\ntwo\n"
    found = acts(warehouse)
    state, reason, plan, proof = found["rotate_logs", "access.log"]
    assert (state, reason, plan["to"], plan["bytes"]) == ("proven", "", "access.log-20261003", 8)
    assert (proof["lines"], proof["bytes_after"]) == (2, 8)
    assert proof["inode_before"] == proof["inode_after"]
    assert found["rotate_logs", "error.log"][:2] == ["nothing_to_do", "it has 0 bytes and is rotated above 0"]
    assert found["rotate_logs", "application.log"][:2] == ["nothing_to_do", "there is no file application.log"]


def test_the_day_is_that_of_the_platform(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPERATIONS__PLATFORM__TIMEZONE", "Asia/Tokyo")
    settings.cache_clear()
    (logs / "access.log").write_text("one\n")
    log_rotation.rotate("r1", False, datetime(2026, 10, 3, 16, 0, tzinfo=UTC))  # 01:00 on the 4th in Tokyo
    assert names(logs) == ["access.log-20261003"]
    settings.cache_clear()


def test_twice_on_a_day_and_repeated(logs: Path, warehouse: psycopg.Connection) -> None:
    (logs / "access.log").write_text("one\n")
    log_rotation.rotate("r1", False, NOW)
    query = "SELECT a::text FROM ops.maintenance_action a ORDER BY maintenance_action_id"
    first = warehouse.execute(query).fetchall()
    (logs / "access.log").write_text("two\n")
    log_rotation.rotate("r1", False, NOW)
    assert warehouse.execute(f"{query} LIMIT 1").fetchall() == first[:1], "the proven act is not repeated"
    log_rotation.rotate("r2", False, NOW + timedelta(hours=2))
    assert names(logs) == ["access.log", "access.log-20261003"]
    row = warehouse.execute("SELECT reason FROM ops.maintenance_action WHERE run_id = 'r2' AND resource = 'access.log'")
    assert row.fetchone() == ("it was rotated today already, to access.log-20261003",)
    os.utime(logs / "access.log-20261003", (NOW.timestamp(),) * 2)
    log_rotation.rotate("r3", False, NOW + timedelta(days=1))
    assert names(logs) == ["access.log-20261003.zst", "access.log-20261004"]


@pytest.mark.parametrize("taken", ["access.log-20261003", "access.log-20261003.gz", "access.log-20261003.zst"])
def test_a_taken_name_is_never_overwritten(logs: Path, warehouse: psycopg.Connection, taken: str) -> None:
    (logs / taken).write_text("of another tool\n")
    (logs / "access.log-20261003.1").write_text("too\n")
    (logs / "access.log").write_text("one\n")
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == sorted([taken, "access.log-20261003.1", "access.log-20261003.2"])
    assert (logs / taken).read_text() == "of another tool\n"


def test_small_logs_wait(logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__ROTATE_LOGS_LARGER_THAN_BYTES", "4")
    settings.cache_clear()
    (logs / "access.log").write_text("one\n")
    (logs / "error.log").write_text("three\n")
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log", "error.log-20261003"]
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


def test_files_older_than_a_day_are_compressed(logs: Path, warehouse: psycopg.Connection) -> None:
    text = access(*["02/Oct/2026:10:00:00"] * 1000) + "the last line was cut"
    source = old(logs / "access.log-20261002", text, 1)
    source.chmod(0o640)
    old(logs / "access.log-20261003", "yesterday's\n", 0)
    (logs / "other.txt").write_text("not a log")
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log-20261002.zst", "access.log-20261003", "other.txt"]
    packed = logs / "access.log-20261002.zst"
    with zstandard.open(packed, "rt", newline="") as content:
        assert content.read() == text
    assert packed.stat().st_mode & 0o777 == 0o640
    assert packed.stat().st_mtime == (NOW - timedelta(days=1)).timestamp()
    state, _, _, proof = acts(warehouse)["rotate_logs", "access.log-20261002"]
    assert state == "proven"
    assert (proof["lines_before"], proof["lines_after"]) == (1001, 1001)
    assert proof["bytes_before"] == len(text) > 20 * proof["bytes_after"]


def test_a_file_that_is_still_written_to_is_not_compressed(logs: Path, warehouse: psycopg.Connection) -> None:
    path = logs / "access.log-20261001"
    path.write_text("one\n")
    os.utime(path, (NOW.timestamp() - 60,) * 2)
    old(logs / "error.log-20261001", "one\n", 2)
    with pytest.raises(MaintenanceFailed, match="still written to: its writer did not open the new log"):
        log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log-20261001", "error.log-20261001.zst"], "the other file has its turn"
    assert acts(warehouse)["rotate_logs", "access.log-20261001"][0] == "failed"


def test_a_compressed_file_of_other_content_is_kept_beside(logs: Path, warehouse: psycopg.Connection) -> None:
    old(logs / "access.log-20261001", "one\n", 2)
    (logs / "access.log-20261001.zst").write_bytes(zstandard.compress(b"two\n"))
    with pytest.raises(MaintenanceFailed, match="holds something else"):
        log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log-20261001", "access.log-20261001.zst"]


def test_a_damaged_compression_keeps_the_original(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    compress = log_files.compress

    def damaged(source: Path, target: Path) -> None:
        compress(source, target)
        content = bytearray(target.read_bytes())
        content[len(content) // 2] ^= 1
        target.write_bytes(bytes(content))

    old(logs / "access.log-20261001", access(*["01/Oct/2026:10:00:00"] * 100), 2)
    with environment.context() as patch:
        patch.setattr(log_files, "compress", damaged)
        with pytest.raises(MaintenanceFailed, match="damaged|does not read back"):
            log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log-20261001"], "the original alone is there"
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log-20261001.zst"]


def test_only_what_the_warehouse_knows_is_deleted(logs: Path, warehouse: psycopg.Connection) -> None:
    known(warehouse, "2026-09-20", "2026-09-22")
    known(warehouse, "2026-09-21", state="partial")
    known(warehouse, "2026-09-23", state="missing")
    warehouse.execute(
        "INSERT INTO ops.daily_subject (day, subject, state, completeness, content_hash)"
        " VALUES ('2026-09-24', 'uptime', 'complete', 1, '')"
    )
    old(logs / "access.log-20260920.gz", access("20/Sep/2026:03:00:00", "21/Sep/2026:02:59:59"), 13)
    old(logs / "access.log-20260921.gz", access("22/Sep/2026:23:59:59", "23/Sep/2026:00:00:00"), 12)
    old(
        logs / "error.log-20260922",
        "2026/09/22 10:00:00 [error] 1#1: x\n  more of it\n2026/09/24 00:00:00 [error] y\n",
        11,
    )
    old(logs / "application.log-20260925", '{"time": "2026-09-20T10:00:00Z", "level": "info"}\n', 8)
    old(logs / "access.log-20260926", "no time at all\n", 8)
    old(logs / "access.log-20260924", "", 8)
    old(logs / "access.log-20260927", access("20/Sep/2026:10:00:00"), 7)  # seven days old: kept
    log_rotation.rotate("r1", False, NOW)
    found = acts(warehouse)
    assert {resource: rest[:2] for (kind, resource), rest in found.items() if kind == "delete_logs"} == {
        "access.log-20260920.gz": ["proven", ""],
        "access.log-20260921.gz": ["nothing_to_do", "kept: day 2026-09-23 is not in the warehouse yet"],
        "error.log-20260922": ["nothing_to_do", "kept: day 2026-09-24 is not in the warehouse yet"],
        "application.log-20260925": ["proven", ""],
        "access.log-20260926": ["nothing_to_do", "kept: no line of it carries a time that can be read"],
        "access.log-20260924": ["proven", ""],
    }
    assert names(logs) == [
        "access.log-20260921.gz",
        "access.log-20260926.zst",
        "access.log-20260927.zst",
        "error.log-20260922.zst",
    ]


def test_a_damaged_old_file_is_a_failure(logs: Path, warehouse: psycopg.Connection) -> None:
    path = old(logs / "access.log-20260920.gz", access("20/Sep/2026:03:00:00") * 100, 13)
    path.write_bytes(path.read_bytes()[:-12])
    known(warehouse, "2026-09-20")
    with pytest.raises(MaintenanceFailed, match="is damaged"):
        log_rotation.rotate("r1", False, NOW)
    assert path.exists()


def test_not_a_line_is_lost_while_a_writer_goes_on(logs: Path, warehouse: psycopg.Connection) -> None:
    log, written, stop = LogFile(logs / "access.log"), [0], threading.Event()

    def write() -> None:
        while not stop.is_set():
            log.write(f"line {written[0]}\n")
            written[0] += 1
            if written[0] % 50 == 0:
                time.sleep(0.001)

    writer = threading.Thread(target=write)
    writer.start()
    for day in range(10):
        time.sleep(0.05)
        log_rotation.rotate(f"r{day}", False, NOW + timedelta(days=day, hours=24))
        for file in logs.glob("access.log-*"):  # as if nobody had written to it for long
            if not file.name.endswith(".zst"):
                os.utime(file, (NOW.timestamp(),) * 2)
    stop.set()
    writer.join()
    lines: list[str] = []
    for file in logs.iterdir():
        with zstandard.open(file, "rt") if file.suffix == ".zst" else file.open() as content:
            lines += content.read().splitlines()
    assert len(list(logs.glob("access.log-*.zst"))) >= 7
    assert sorted(lines) == sorted(f"line {n}" for n in range(written[0])), "each line stands there once"


def test_the_writer_is_told(logs: Path, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "import signal, sys; signal.signal(signal.SIGUSR1, lambda *_: sys.exit(7)); print('ready', flush=True)\n"
    writer = subprocess.Popen(
        [sys.executable, "-c", f"{code}while True: signal.pause()"], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    (tmp_path / "writer.pid").write_text(f"{writer.pid}\n")
    extra = {"path": str(logs), "pid_file": str(tmp_path / "writer.pid"), "reopen_signal": "SIGUSR1"}
    environment.setenv("AIRFLOW_CONN_PLATFORM_LOGS", json.dumps({"conn_type": "fs", "extra": extra}))
    (logs / "access.log").write_text("one\n")
    log_rotation.rotate("r1", False, NOW)
    assert writer.wait(5) == 7
    writer.stdout.close()
    (tmp_path / "writer.pid").write_text("none")
    with pytest.raises(ConfigurationError, match="does not hold a process id"):
        log_rotation.rotate("r2", False, NOW)


KILLED = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from include.maintenance import log_proofs, log_rotation
from include.platform import log_files

name, when = sys.argv[1:3]
owner = log_proofs if hasattr(log_proofs, name) else Path if hasattr(Path, name) else log_files
step = getattr(owner, name)

def killed(*arguments, **options):
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    step(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, killed)
log_rotation.rotate("r1", False, datetime.fromisoformat(sys.argv[3]))
"""


@pytest.mark.parametrize(
    ("step", "when", "live"),
    [
        ("rename", "before", True),
        ("rename", "after", True),
        ("rotation", "before", True),
        ("compress", "after", False),
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
    command = [sys.executable, "-c", KILLED, step, when, NOW.isoformat()]
    ended = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert ended.returncode == -signal.SIGKILL
    log_rotation.rotate("r1" if same_run else "r2", False, NOW)
    assert names(logs) == ["access.log-20261003" if live else "access.log-20261001.zst"]
    [path] = logs.iterdir()
    with zstandard.open(path, "rt") if path.suffix == ".zst" else path.open() as content:
        assert content.read() == text
    if same_run:
        states = {rest[0] for rest in acts(warehouse).values()}
        assert states == {"proven", "nothing_to_do"}


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


def test_two_at_once(logs: Path, warehouse: psycopg.Connection) -> None:
    with log_files.locked(logs), pytest.raises(MaintenanceFailed, match="another run rotates"):
        log_rotation.rotate("r1", False, NOW)
