"""Where the kernel does not tell who writes to a rotated log, it goes only once the log was begun anew."""

from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from include.maintenance.logs import log_rotation
from include.outcome import ConfigurationError, MaintenanceFailed, Outcome
from tests.include.maintenance.logs.log_files_made import (
    NOW,
    access,
    acts,
    belong_to_another_user,
    connect,
    known,
    names,
    old,
    text_of,
)
from tests.recorded_findings import latest_findings

NO_NEW_LOG = "kept: no new error.log was begun, and whether its writer left this file is not known"


@pytest.fixture
def logs(warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    belong_to_another_user(environment)
    return tmp_path / "platform_logs"


def unknown() -> dict[str, str]:
    found = [one.finding for one in latest_findings("rotated_log_writers")]
    return {one.resource: one.summary for one in found if one.outcome is Outcome.UNKNOWN}


def test_a_quiet_writer_that_never_reopens_loses_no_line(logs: Path, warehouse: psycopg.Connection) -> None:
    """As nginx with its error.log, of which nobody tells it that it was renamed."""
    known(warehouse, "2026-10-03")
    with old(logs / "error.log", "2026/10/03 10:00:00 [error] 1#1: one\n", 0.5).open("a") as writer:
        for night in (0, 1, 2, 30):
            log_rotation.rotate(f"r{night}", False, NOW + timedelta(days=night))
            assert names(logs) == ["error.log-20261003"], "neither compressed nor deleted, however long it was quiet"
        for kind in ("rotate_logs", "delete_logs"):
            assert acts(warehouse)[kind, "error.log-20261003"][:2] == ["nothing_to_do", NO_NEW_LOG]
        assert list(unknown()) == ["error.log-20261003"]
        assert unknown()["error.log-20261003"].startswith(f"error.log-20261003 is {NO_NEW_LOG}; let its program be")
        writer.write("the last line\n")
    assert text_of(logs / "error.log-20261003").endswith("the last line\n")


def test_it_goes_once_the_log_was_begun_anew(logs: Path, warehouse: psycopg.Connection) -> None:
    old(logs / "error.log-20261001", "one\n", 2)
    (logs / "error.log").hardlink_to(logs / "error.log-20261001")
    log_rotation.rotate("r0", True, NOW)
    assert list(unknown()) == ["error.log-20261001"], "the same file by another name is no new log"
    (logs / "error.log").unlink()
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["error.log-20261001"]
    (logs / "error.log").touch()
    log_rotation.rotate("r2", False, NOW)
    assert names(logs) == ["error.log", "error.log-20261001.zst"]
    assert unknown() == {}


def test_a_log_that_was_rotated_again_since_had_been_begun_anew(logs: Path, warehouse: psycopg.Connection) -> None:
    for name in ("error.log-20261001", "error.log-20261002.1", "error.log-20261002", "access.log-20261001"):
        old(logs / name, "one\n", 2)
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == [
        "access.log-20261001", "error.log-20261001.zst", "error.log-20261002", "error.log-20261002.1",
    ]  # fmt: skip
    assert list(unknown()) == ["access.log-20261001", "error.log-20261002", "error.log-20261002.1"]


@pytest.mark.parametrize("days", [59 / 1440, 0.9])
def test_who_writes_long_after_the_renaming_did_not_reopen(
    logs: Path, warehouse: psycopg.Connection, days: float
) -> None:
    known(warehouse, "2026-09-20")
    (logs / "access.log").touch()
    old(logs / "access.log-20261001", "one\n", days)
    old(logs / "access.log-20260920", access("20/Sep/2026:10:00:00"), days)
    with pytest.raises(MaintenanceFailed, match="still written to: its writer did not open the new log.*2 more of"):
        log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log", "access.log-20260920", "access.log-20261001"]


def test_the_newest_file_waits_for_the_next_night(logs: Path, warehouse: psycopg.Connection) -> None:
    (logs / "access.log").touch()
    old(logs / "access.log-20261003", "two\n", 0.9)
    log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["access.log", "access.log-20261003"]
    assert unknown() == {}
    log_rotation.rotate("r2", False, NOW + timedelta(days=1))
    assert names(logs) == ["access.log", "access.log-20261003.zst"]


@pytest.mark.parametrize("extra", [{"reopen_command": "false"}, {"pid_file": "/no/such/file"}])
def test_nothing_goes_while_a_writer_cannot_be_told(
    logs: Path, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, extra: dict[str, str]
) -> None:
    connect(environment, logs, **extra)
    old(logs / "error.log-20261001", "one\n", 2)
    (logs / "error.log").touch()  # by another program, say
    with pytest.raises(Exception, match="reopen_command|pid_file"):
        log_rotation.rotate("r1", False, NOW)
    assert names(logs) == ["error.log", "error.log-20261001"]
    reason = "kept: its writer could not be told to open the new log, and whether it did so is not known"
    assert acts(warehouse)["rotate_logs", "error.log-20261001"][:2] == ["nothing_to_do", reason]
    assert list(unknown()) == ["error.log-20261001"]
    with suppress(ConfigurationError):  # of a process id that cannot be read
        log_rotation.rotate("r2", True, NOW)
    assert list(unknown()) == ["error.log-20261001"], "a dry run tells nobody, and so does not call it well"


def test_a_compressed_file_must_only_be_quiet(logs: Path, warehouse: psycopg.Connection) -> None:
    known(warehouse, "2026-09-20")
    path = old(logs / "access.log-20260920.gz", access("20/Sep/2026:10:00:00"), 59 / 1440)
    with pytest.raises(MaintenanceFailed, match="still written to"):
        log_rotation.rotate("r1", False, NOW)
    old(path, access("20/Sep/2026:10:00:00"), 61 / 1440)
    (logs / "SHA256SUMS").unlink()
    log_rotation.rotate("r2", False, NOW)
    assert names(logs) == []
