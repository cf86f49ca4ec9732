"""Reports written to folders: a local one, an object store in memory and a real S3-speaking server."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import fsspec
import pytest

from include.outcome import ConfigurationError, SourceUnavailable
from include.reporting import delivery
from include.warehouse.reports import Report
from tests.object_storage import BUCKET, Line, ObjectStorage, one_empty_bucket


def report(markdown: str = "text ü", kind: str = "daily_system_health") -> Report:
    start, end = datetime(2026, 10, 3, tzinfo=UTC), datetime(2026, 10, 4, tzinfo=UTC)
    return Report(
        kind,
        "2026-10-03",
        start,
        end,
        "Title",
        "ok",
        "Fine.",
        Decimal(1),
        [],
        [],
        markdown,
        f"<p>{markdown}</p>",
        "h",
        {},
    )


MD, HTML = "2026-10-03/daily_system_health.md", "2026-10-03/daily_system_health.html"


def test_a_local_folder(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    assert delivery.deliver([report()]) == [MD, HTML]
    assert (folder / MD).read_text() == "text ü"
    assert (folder / HTML).read_text() == "<p>text ü</p>"
    written = (folder / MD).stat()
    assert delivery.deliver([report()]) == []
    assert ((folder / MD).stat().st_mtime_ns, (folder / MD).stat().st_ino) == (written.st_mtime_ns, written.st_ino)
    assert delivery.deliver([report("other")]) == [MD, HTML]
    assert (folder / MD).read_text() == "other"
    assert sorted(each.name for each in (folder / "2026-10-03").iterdir()) == sorted(
        Path(each).name for each in (MD, HTML)
    )
    assert oct((folder / MD).stat().st_mode & 0o777) == oct(0o644 & ~_umask())


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_an_object_store(environment: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "fs", "extra": {"url": "memory://reports-of-a-test/prefix"}}
    environment.setenv("AIRFLOW_CONN_REPORTS", json.dumps(connection))
    assert delivery.deliver([report()]) == [MD, HTML]
    assert fsspec.filesystem("memory").cat_file(f"/reports-of-a-test/prefix/{MD}") == "text ü".encode()
    assert delivery.deliver([report()]) == []
    assert delivery.deliver([report("other")]) == [MD, HTML]
    fsspec.filesystem("memory").rm("/reports-of-a-test", recursive=True)


def test_a_write_that_breaks_leaves_the_old_file(
    environment: pytest.MonkeyPatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery.deliver([report()])

    def no_room(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(SourceUnavailable, match=r"connection reports failed \(No space left on device\)$"):
        delivery.deliver([report("other")])
    assert (tmp_path / "reports" / MD).read_text() == "text ü"
    assert len(list((tmp_path / "reports" / "2026-10-03").iterdir())) == 2


def test_a_place_that_cannot_be_a_folder_needs_a_person(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "reports" / "2026-10-03").write_text("in the way")
    with pytest.raises(ConfigurationError, match="correct the connection's credentials or the folder's permissions"):
        delivery.deliver([report()])


def test_an_undefined_connection_is_named(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("AIRFLOW_CONN_REPORTS")
    with pytest.raises(ConfigurationError, match="the connection reports "):
        delivery.deliver([report()])


def test_secrets_of_the_storage_stay_out_of_the_error(
    environment: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.setenv("AIRFLOW_CONN_REPORTS", json.dumps({"conn_type": "fs", "extra": {"url": "memory://x"}}))

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("key=TOPSECRET was refused")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", refuse)
    with pytest.raises(SourceUnavailable) as caught:
        delivery.deliver([report()])
    assert "TOPSECRET" not in str(caught.value)


# ---------------------------------------------------------------------------------------------- object storage
@pytest.fixture
def storage(object_storage: ObjectStorage, environment: pytest.MonkeyPatch) -> Iterator[ObjectStorage]:
    """The server with one empty bucket, which the connection reports leads to."""
    with one_empty_bucket(object_storage):
        environment.setenv("AIRFLOW_CONN_REPORTS", object_storage.connection())
        yield object_storage


def _held(server: ObjectStorage) -> dict[str, str]:
    files = fsspec.filesystem("s3", **server.options())
    return {name.removeprefix(f"{BUCKET}/prefix/"): files.cat_file(name).decode() for name in files.find(BUCKET)}


def test_reports_on_s3(storage: ObjectStorage) -> None:
    assert delivery.deliver([report()]) == [MD, HTML]
    assert _held(storage) == {MD: "text ü", HTML: "<p>text ü</p>"}
    assert delivery.deliver([report()]) == []
    fsspec.filesystem("s3", **storage.options()).pipe_file(f"{BUCKET}/prefix/{MD}", b"overwritten")
    assert delivery.deliver([report()]) == [MD], "what somebody overwrote is written again"
    assert _held(storage)[MD] == "text ü"


def test_an_interrupted_upload_keeps_the_old_report_and_is_tried_again(
    storage: ObjectStorage, environment: pytest.MonkeyPatch
) -> None:
    delivery.deliver([report()])
    line = Line(storage.port)
    environment.setenv("AIRFLOW_CONN_REPORTS", storage.connection(port=line.port))
    long = report("long " * 100_000)
    line.left = 100_000
    with pytest.raises(SourceUnavailable, match="the folder of the connection reports failed"):
        delivery.deliver([long])
    assert _held(storage)[MD] == "text ü"
    line.left = float("inf")
    assert delivery.deliver([long]) == [MD, HTML]
    assert _held(storage)[MD] == long.markdown
    line.close()


def test_wrong_credentials_and_a_missing_bucket_need_a_person(
    storage: ObjectStorage, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("AIRFLOW_CONN_REPORTS", storage.connection("nowhere/prefix"))
    with pytest.raises(ConfigurationError, match="its bucket or folder is missing"):
        delivery.deliver([report()])
    storage.post("moto-api/reset-auth", b"0")
    environment.setenv("AIRFLOW_CONN_REPORTS", storage.connection(secret="not-the-secret"))
    with pytest.raises(ConfigurationError, match="refused it .* correct the connection's credentials") as caught:
        delivery.deliver([report()])
    assert "not-the-secret" not in str(caught.value)
