"""Whoever may write to the folder of the logs lays links there: no file outside of it is read or changed."""

import os
import subprocess
from pathlib import Path

import psycopg
import pytest

from include.maintenance.logs import log_rotation
from include.outcome import MaintenanceFailed, Outcome
from include.platform import log_checksums, log_files
from include.settings import settings
from tests.include.maintenance.logs.log_files_made import NOW, access, acts, names, old, text_of
from tests.recorded_findings import latest_findings

CODE = "print('the code of a worker')\n"
DIGEST = "0" * 64


@pytest.fixture
def logs(warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return tmp_path / "platform_logs"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A file of this user outside the folder."""
    path = tmp_path / "code.py"
    path.write_text(CODE)
    os.utime(path, (0, 0))
    return path


def found() -> dict[str, tuple[Outcome, str, str]]:
    """What the check of the checksums found last."""
    recorded = [one.finding for one in latest_findings("rotated_log_checksums")]
    return {one.resource: (one.outcome, one.summary, one.remedy) for one in recorded}


def test_a_link_under_the_name_of_a_file_to_come_is_not_written_through(
    logs: Path, code: Path, warehouse: psycopg.Connection
) -> None:
    old(logs / "access.log-20261002", "one\n", 1)
    for name in (
        ".SHA256SUMS.partial",
        ".access.log-20261002.zst.partial",
        ".access.log-20261002.zst.00000000.partial",
    ):
        (logs / name).symlink_to(code)
    (logs / "access.log-20261002.zst").symlink_to(logs.parent / "nothing")
    with pytest.raises(MaintenanceFailed, match=r"^access.log-20261002.zst is a link or no ordinary file"):
        log_rotation.rotate("r1", False, NOW)
    (logs / "access.log-20261002.zst").unlink()
    log_rotation.rotate("r2", False, NOW)
    assert code.read_text() == CODE
    assert names(logs) == ["access.log-20261002.zst"]
    assert not (logs / "access.log-20261002.zst").is_symlink()
    assert text_of(logs / "access.log-20261002.zst") == "one\n"


def test_a_link_is_no_rotated_log_and_is_named(logs: Path, code: Path, warehouse: psycopg.Connection) -> None:
    for name in ("access.log-20261001", "error.log-20260901.gz", "access.log-20261002.zst", "other-20261001"):
        (logs / name).symlink_to(code)
    (logs / "SHA256SUMS").write_text(f"{DIGEST}  access.log-20261002.zst\n")
    before = names(logs)
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == before, "no copy, and nothing is deleted"
    left_out = "is a link and is left out: it is neither read, compressed nor deleted; put the file in its place"
    assert found() == {
        "access.log-20261001": (Outcome.WARNING, f"access.log-20261001 {left_out}", ""),
        "error.log-20260901.gz": (Outcome.WARNING, f"error.log-20260901.gz {left_out}", ""),
        "access.log-20261002.zst": (Outcome.CRITICAL, f"access.log-20261002.zst {left_out}", ""),
    }


def test_a_link_that_comes_after_the_look_at_the_folder_is_not_followed(logs: Path, code: Path) -> None:
    path, target = logs / "access.log-20261001", logs / "target"
    path.symlink_to(code)
    for act in (
        lambda: log_files.compress(path, target),
        lambda: log_files.measure(path),
        lambda: log_files.count_lines(path),
        lambda: log_files.regular_file_sha256(path),
        lambda: log_files.same_content(code, path, len(CODE)),
    ):
        with pytest.raises(OSError, match="is a link or no ordinary file"):
            act()
    assert not target.exists()


def test_a_live_log_that_is_a_link_is_left_alone(logs: Path, code: Path, warehouse: psycopg.Connection) -> None:
    old(logs / "access.log-20261003", access("03/Oct/2026:10:00:00"), 0)
    (logs / "access.log").symlink_to("access.log-20261003")  # as cronolog does
    (logs / "error.log").symlink_to("/dev/stderr")  # as the images of nginx do
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log", "access.log-20261003.zst", "error.log"]
    state, reason, *_ = acts(warehouse)["rotate_logs", "access.log"]
    left_alone = (
        "is a link and is left alone, neither read nor rotated; put the file itself in its place unless it is a log of "
        "this folder too"
    )
    assert (state, reason) == ("nothing_to_do", f"access.log {left_alone}")
    assert acts(warehouse)["rotate_logs", "error.log"][0] == "nothing_to_do"


def test_a_live_log_of_a_pattern_that_is_a_link_is_named(
    logs: Path, code: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPERATIONS__TRAFFIC__ACCESS_LOGS", "access*.log*")
    settings.cache_clear()
    old(logs / "access-web1.log", "one\n", 0)
    (logs / "access-web2.log").symlink_to(code)
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access-web1.log-20261003.zst", "access-web2.log"]
    assert (logs / "access-web2.log").is_symlink()
    state, reason, *_ = acts(warehouse)["rotate_logs", "access-web2.log"]
    assert state == "nothing_to_do"
    assert reason.startswith("access-web2.log is a link and is left alone")
    assert code.read_text() == CODE


def test_checksums_are_not_read_through_a_link(logs: Path, code: Path, warehouse: psycopg.Connection) -> None:
    (logs / "SHA256SUMS").symlink_to(code)
    old(logs / "access.log-20261002", "one\n", 1)
    with pytest.raises(
        MaintenanceFailed, match=r"^SHA256SUMS is a link or no ordinary file, and is left alone; remove"
    ):
        log_rotation.rotate("r1", False, NOW)
    assert code.read_text() == CODE
    assert names(logs) == ["access.log-20261002"], "it stays until its checksum can be noted"


def test_what_killed_runs_left_is_removed_and_nothing_else(logs: Path, warehouse: psycopg.Connection) -> None:
    left = [".SHA256SUMS.partial", ".SHA256SUMS.0123abcd.partial", ".access.log-20261002.zst.0123abcd.partial",
            ".access.log-20261002.1.zst.partial"]  # fmt: skip
    others = [".access.log.partial", ".backup.zst.partial", ".access.log-20261002.zst.swp", "SHA256SUMS.partial"]
    for name in [*left, *others]:
        (logs / name).write_text("half")
    log_rotation.rotate("dry", True, NOW)
    assert names(logs) == sorted([*left, *others])
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == sorted(others)


@pytest.mark.parametrize(
    "name",
    [
        "access.log-20261001.zst",
        "x';touch planted;'",
        "$(touch planted)`touch planted`",
        "a.*\\[b]^$|d;w planted #",
        '-e "e touch planted" \' &',
    ],
)
def test_a_remedy_takes_a_name_for_nothing_but_a_name(logs: Path, warehouse: psycopg.Connection, name: str) -> None:
    log_checksums.note(logs, name, DIGEST)
    log_checksums.note(logs, "access.log-20260901.zst", DIGEST)
    log_rotation.rotate("r1", False, NOW)
    outcome, _, remedy = found()[name]
    assert outcome is Outcome.CRITICAL
    subprocess.run(["bash", "-c", remedy], cwd=logs, check=True)
    assert (logs / "SHA256SUMS").read_text() == f"{DIGEST}  access.log-20260901.zst\n"
    assert sorted(path.name for path in logs.iterdir()) == ["SHA256SUMS"]


def test_no_remedy_holds_what_a_terminal_obeys(logs: Path, warehouse: psycopg.Connection) -> None:
    log_checksums.note(logs, "x\x1b[201~touch planted", DIGEST)
    log_rotation.rotate("r1", False, NOW)
    [(_, _, remedy)] = found().values()
    assert remedy == "# remove the line of this file from SHA256SUMS with an editor"
