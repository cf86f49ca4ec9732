"""What is copied, from a real S3-speaking server and within this machine, and which errors a person must mend."""

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import zstandard

from include import connections
from include.outcome import ConfigurationError, SourceUnavailable
from include.platform import log_transfer
from include.platform.log_lines import Kind
from include.platform.logs import open_folder
from include.settings import settings
from tests.object_storage import BUCKET, ObjectStorage, one_empty_bucket, without_credentials

HOUR = timedelta(hours=1)


@pytest.fixture
def storage(object_storage: ObjectStorage, environment: pytest.MonkeyPatch) -> Iterator[ObjectStorage]:
    """The server with two access logs and another file; the connection platform_logs leads to them."""
    with one_empty_bucket(object_storage) as files:
        for name in ("access.log", "access.log.1", "other.txt"):
            files.pipe_file(f"{BUCKET}/prefix/{name}", f"{name}\n".encode())
        environment.setenv("AIRFLOW_CONN_PLATFORM_LOGS", object_storage.connection())
        yield object_storage


def fetch(target: Path, *, after: timedelta = -HOUR) -> dict[str, int]:
    """Copy the access logs written later than this long after now."""
    files, folder = connections.folder("platform_logs")
    return log_transfer.fetch(files, folder, target, ["access.log*"], datetime.now(UTC) + after, "platform_logs")


def test_matching_files_are_copied_with_their_times(storage: ObjectStorage, tmp_path: Path) -> None:
    times = fetch(tmp_path)
    assert sorted(times) == ["access.log", "access.log.1"]
    assert (tmp_path / "access.log.1").read_text() == "access.log.1\n"
    assert not (tmp_path / "other.txt").exists()
    assert all(abs(written / 1e9 - time.time()) < 600 for written in times.values())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert fetch(elsewhere, after=HOUR) == times, "of what is not copied too"
    assert list(elsewhere.iterdir()) == []


def test_a_log_is_there_whether_or_not_it_is_copied(storage: ObjectStorage) -> None:
    with open_folder(settings().traffic, ZoneInfo("UTC"), datetime.now(UTC) + 4 * HOUR) as folder:
        assert (folder.files, folder.kinds) == ([], {Kind.ACCESS: None})


def test_a_file_that_is_moved_while_it_is_copied_is_for_another_try(
    storage: ObjectStorage, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    files, folder = connections.folder("platform_logs")
    listed: list[dict[str, Any]] = files.ls(folder, detail=True)
    files.mv(f"{folder}/access.log.1", f"{folder}/access.log.2")
    environment.setattr(files, "ls", lambda *_, **__: listed)
    with pytest.raises(SourceUnavailable, match=r"access\.log\.1 of the connection platform_logs was moved while"):
        log_transfer.fetch(files, folder, tmp_path, ["access.log*"], datetime.now(UTC) - HOUR, "platform_logs")


def test_a_missing_bucket_and_refused_credentials_need_a_person(
    storage: ObjectStorage, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("AIRFLOW_CONN_PLATFORM_LOGS", storage.connection("nowhere/prefix"))
    with pytest.raises(ConfigurationError, match="the folder nowhere/prefix .* does not exist; correct its url"):
        fetch(tmp_path)
    storage.post("moto-api/reset-auth", b"0")  # from now on the server checks who asks
    environment.setenv("AIRFLOW_CONN_PLATFORM_LOGS", storage.connection(secret="not-the-secret"))
    with pytest.raises(ConfigurationError, match="the logs may not be read: .* refused it") as caught:
        fetch(tmp_path)
    assert not re.search("not-the-secret|testing-key", str(caught.value))


def test_no_credentials_at_all(storage: ObjectStorage, tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIRFLOW_CONN_PLATFORM_LOGS", without_credentials(storage, environment, tmp_path))
    with pytest.raises(ConfigurationError, match="the logs could not be read: .* has no credentials; add them"):
        fetch(tmp_path)


def test_a_server_that_is_away_is_for_another_try(
    storage: ObjectStorage, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("AIRFLOW_CONN_PLATFORM_LOGS", storage.connection(port=1))
    with pytest.raises(SourceUnavailable, match="the logs could not be read: the folder of the connection"):
        fetch(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_copy_stops_before_it_takes_the_last_free_space(
    environment: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    logs, small = tmp_path / "platform_logs", tmp_path / "small"
    small.mkdir()
    size = 32 << 20  # of which a copy leaves half to others
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not let a test mount a file system")
    try:
        environment.setenv("AIRFLOW_CONN_PLATFORM_LOGS", json.dumps({"conn_type": "fs", "extra": {"path": str(logs)}}))
        monkeypatch.setattr(tempfile, "tempdir", str(small))
        (logs / "access.log-1.zst").write_bytes(zstandard.compress(b"one line\n" * (8 << 20)))
        packed = (logs / "access.log-1.zst").stat().st_size
        said = (
            rf"access.log-1.zst of {packed} bytes cannot be read: the temporary folder {small} has no room for its "
            r"content, of which (\d+) bytes were copied; free space there"
        )
        with (
            open_folder(settings().traffic, ZoneInfo("UTC"), datetime.now(UTC)) as folder,
            pytest.raises(ConfigurationError, match=said) as raised,
        ):
            folder.readable(folder.files[0])
        held = re.search(said, str(raised.value))
        assert held
        assert 14 << 20 <= int(held[1]) <= 16 << 20
        assert list(small.glob("gold-escrow-logs-*")) == []
        (logs / "access.log-1.zst").write_bytes(zstandard.compress(b"one line\n" * (1 << 20)))
        with open_folder(settings().traffic, ZoneInfo("UTC"), datetime.now(UTC)) as folder:
            assert Path(folder.readable(folder.files[0]).path).stat().st_size == 9 << 20
        (logs / "access.log-1.zst").unlink()
        (logs / "access.log").write_text("one line, just added\n")
        with open_folder(settings().traffic, ZoneInfo("UTC"), datetime.now(UTC)) as folder:
            assert Path(folder.readable(folder.files[0]).path).read_text() == "one line, just added\n"
    finally:
        subprocess.run(["umount", small], check=True)
