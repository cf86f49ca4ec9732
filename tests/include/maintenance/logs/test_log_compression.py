"""Rotated logs are compressed, read back, and their checksums checked every night; nothing is lost on the way."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.maintenance.logs import log_rotation
from include.outcome import ConfigurationError, MaintenanceFailed, Outcome
from include.platform import log_files
from include.settings import ROOT
from tests.include.maintenance.logs.log_files_made import NOW, access, acts, connect, names, old, text_of
from tests.recorded_findings import latest_findings


@pytest.fixture
def logs(warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return tmp_path / "platform_logs"


def checked() -> dict[str, tuple[Outcome, str]]:
    return {
        one.finding.resource: (one.finding.outcome, one.finding.summary)
        for one in latest_findings("rotated_log_checksums")
    }


def test_a_file_is_compressed_with_all_that_it_holds(logs: Path, warehouse: psycopg.Connection) -> None:
    text = access(*["02/Oct/2026:10:00:00"] * 1000) + "the last line was cut"
    source = old(logs / "access.log-20261002", text, 1)
    source.chmod(0o640)
    (logs / "other.txt").write_text("not a log")
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log-20261002.zst", "other.txt"]
    packed = logs / "access.log-20261002.zst"
    assert text_of(packed) == text
    assert packed.stat().st_mode & 0o777 == 0o640
    assert packed.stat().st_mtime == (NOW - timedelta(days=1)).timestamp()
    state, _, _, proof = acts(warehouse)["rotate_logs", "access.log-20261002"]
    assert (state, proof["lines"]) == ("proven", 1001)
    assert proof["bytes_before"] == len(text) > 20 * proof["bytes_after"]
    noted = (logs / "SHA256SUMS").read_text()
    assert noted == f"{proof['sha256_of_file']}  access.log-20261002.zst\n"
    assert (
        subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=logs, capture_output=True, check=False).returncode
        == 0
    )


def test_a_file_that_is_written_to_waits_and_is_named_after_a_day(logs: Path, warehouse: psycopg.Connection) -> None:
    yesterday, before = logs / "access.log-20261003", logs / "access.log-20261001"
    old(logs / "error.log-20261001", "one\n", 2)
    with yesterday.open("w") as one, before.open("w") as other:
        for file in (one, other):
            file.write("one\n")
            file.flush()
        with pytest.raises(
            MaintenanceFailed, match=f"20261001 is still written to by process {os.getpid()}: its writer"
        ):
            log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log-20261001", "access.log-20261003", "error.log-20261001.zst"]
    assert acts(warehouse)["rotate_logs", "access.log-20261001"][0] == "failed"
    assert ("rotate_logs", "access.log-20261003") not in acts(warehouse), "it is left until the next night"


def test_lines_that_come_while_it_is_compressed_are_kept(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    same_content = log_files.same_content

    def late(packed: Path, original: Path, size: int) -> bool:
        with original.open("a") as file:
            file.write("late\n")
        return same_content(packed, original, size)

    old(logs / "access.log-20261001", "one\n", 2)
    with environment.context() as patch:
        patch.setattr(log_files, "same_content", late)
        with pytest.raises(MaintenanceFailed, match="was written to while it was compressed"):
            log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log-20261001"]
    assert (logs / "SHA256SUMS").read_text() == ""
    log_rotation.rotate("r1", False, NOW)
    assert text_of(logs / "access.log-20261001.zst").startswith("one\nlate\n")


def test_a_compressed_file_of_other_content_is_kept_beside(logs: Path, warehouse: psycopg.Connection) -> None:
    old(logs / "access.log-20261001", "one\n", 2)
    old(logs / "access.log-20261001.zst", "two\n", 2)
    with pytest.raises(MaintenanceFailed, match="holds something else"):
        log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log-20261001", "access.log-20261001.zst"]


def test_a_damaged_compression_keeps_the_original(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    compress = log_files.compress

    def damaged(source: Path, target: Path) -> tuple[int, int, str]:
        written = compress(source, target)
        content = bytearray(target.read_bytes())
        content[len(content) // 2] ^= 1
        target.write_bytes(bytes(content))
        return written

    old(logs / "access.log-20261001", access(*["01/Oct/2026:10:00:00"] * 100), 2)
    with environment.context() as patch:
        patch.setattr(log_files, "compress", damaged)
        with pytest.raises(MaintenanceFailed, match="damaged|does not read back"):
            log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log-20261001"], "the original alone is there"
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log-20261001.zst"]


FULL = """
import resource, sys
from datetime import datetime
from include.maintenance.logs import log_rotation
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
try:
    log_rotation.rotate("r1", False, datetime.fromisoformat(sys.argv[2]))
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_disk_that_is_full_loses_nothing(logs: Path, warehouse: psycopg.Connection) -> None:
    text = "".join(f"{number * 7919 % 1000003}\n" for number in range(50_000))
    old(logs / "access.log-20261001", text, 2)
    done = subprocess.run(
        [sys.executable, "-c", FULL, "20000", NOW.isoformat()],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "MaintenanceFailed access.log-20261001: File too large; no line was lost\n"
    assert [path.name for path in logs.iterdir()] == ["access.log-20261001"]
    assert acts(warehouse)["rotate_logs", "access.log-20261001"][0] == "failed"
    log_rotation.rotate("r1", False, NOW)
    assert text_of(logs / "access.log-20261001.zst") == text


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_file_system_that_is_full_loses_nothing(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], capture_output=True, check=False
    ).returncode:
        pytest.skip("this machine does not let a test mount a file system")
    try:
        connect(environment, small)
        text = "".join(f"{number * 7919 % 1000003}\n" for number in range(130_000))
        old(small / "access.log-20261001", text, 2)
        with pytest.raises(MaintenanceFailed, match="No space left on device; no line was lost"):
            log_rotation.rotate("r1", False, NOW)
        assert [path.name for path in small.iterdir()] == ["access.log-20261001"]
        assert text_of(small / "access.log-20261001") == text
    finally:
        subprocess.run(["umount", small], check=True)


def test_later_damage_and_loss_are_found_and_named(logs: Path, warehouse: psycopg.Connection) -> None:
    for day in (1, 2, 3):
        old(logs / f"access.log-2026100{day}", access(f"0{day}/Oct/2026:10:00:00") * 50, 1)
    log_rotation.rotate("r1", False, NOW)
    log_rotation.rotate("r2", False, NOW)
    assert checked() == {"platform_logs": (Outcome.OK, "all 3 compressed logs are as they were written")}
    content = bytearray((logs / "access.log-20261002.zst").read_bytes())
    content[40] ^= 1
    (logs / "access.log-20261002.zst").write_bytes(bytes(content))
    (logs / "access.log-20261003.zst").unlink()
    log_rotation.rotate("r3", False, NOW)
    found = checked()
    assert {name: outcome for name, (outcome, _) in found.items()} == {
        "access.log-20261002.zst": Outcome.CRITICAL, "access.log-20261003.zst": Outcome.CRITICAL
    }  # fmt: skip
    assert "its checksum changed" in found["access.log-20261002.zst"][1]
    assert "is gone" in found["access.log-20261003.zst"][1]
    remedy = latest_findings("rotated_log_checksums")[1].finding.remedy
    subprocess.run(["bash", "-c", remedy], cwd=logs, check=True)
    assert len((logs / "SHA256SUMS").read_text().splitlines()) == 2


def test_files_of_other_tools_are_noted_once_they_are_read(logs: Path, warehouse: psycopg.Connection) -> None:
    old(logs / "access.log-20261001.gz", access("01/Oct/2026:10:00:00"), 1)
    damaged = old(logs / "access.log-20261002.gz", access("02/Oct/2026:10:00:00") * 100, 1)
    damaged.write_bytes(damaged.read_bytes()[:-12])
    log_rotation.rotate("dry", True, NOW)
    assert not (logs / "SHA256SUMS").exists()
    log_rotation.rotate("r1", False, NOW)
    assert [line.split()[1] for line in (logs / "SHA256SUMS").read_text().splitlines()] == ["access.log-20261001.gz"]
    assert list(checked()) == ["access.log-20261002.gz"]
    (logs / "SHA256SUMS").write_text("nonsense\n")
    with pytest.raises(MaintenanceFailed, match="line 1 of SHA256SUMS is not a checksum"):
        log_rotation.rotate("r2", False, NOW)
    [(outcome, summary)] = checked().values()
    assert (outcome, summary[:64]) == (
        Outcome.UNKNOWN, "It could not be checked: line 1 of SHA256SUMS is not a checksum "
    )  # fmt: skip


def test_a_file_that_may_not_be_read_does_not_keep_the_others_from_their_turn(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    open_file = os.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> int:
        if str(path).endswith("access.log-20261001"):
            raise PermissionError(13, "Permission denied", str(path))
        return open_file(path, *arguments, **options)

    environment.setattr(os, "open", refuse)  # the tests may run as root, whom no permission stops
    connect(environment, logs, reopen_command=["touch", str(logs.parent / "told")])
    old(logs / "access.log-20261001", "one\n", 2)
    old(logs / "error.log-20261001", "two\n", 2)
    with pytest.raises(ConfigurationError, match="access.log-20261001 in the folder .* may not be read or changed"):
        log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log-20261001", "error.log-20261001.zst"]
    assert checked()["platform_logs"][0] is Outcome.OK
    assert (logs.parent / "told").exists(), "it may be the one that a killed attempt did not tell its writer of"
