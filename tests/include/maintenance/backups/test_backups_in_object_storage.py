"""Backups that lie in object storage as folders have the time of their files, and are verified like others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import psycopg
import pytest

from demo.databases import Databases
from include.platform import backups
from include.platform.backups import Format
from include.sections import BackupSource
from include.warehouse.drills import StageOutcome
from tests.include.maintenance.backups.backup_platform import configure, filled_database, stages, verified
from tests.object_storage import BUCKET, ObjectStorage, one_empty_bucket


@pytest.fixture
def files(object_storage: ObjectStorage, environment: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """The bucket that the connection backups leads to."""
    with one_empty_bucket(object_storage) as system:
        environment.setenv("AIRFLOW_CONN_BACKUPS", object_storage.connection())
        yield system


def test_a_folder_is_as_new_as_its_newest_file(files: fsspec.AbstractFileSystem) -> None:
    for name in ("base-1/PG_VERSION", "base-1/base/1/1259", "base-2"):
        files.pipe_file(f"{BUCKET}/prefix/{name}", b"18\n")
    rule = BackupSource(name="base", format="base", files="base-*", every_hours=24)
    found = {name: (changed, size) for name, _, changed, size in backups.all_of(rule)}
    assert {name: size for name, (_, size) in found.items()} == {"base-1": 6, "base-2": 3}
    written = [files.info(f"{BUCKET}/prefix/base-1/{name}")["LastModified"] for name in ("PG_VERSION", "base/1/1259")]
    assert found["base-1"][0] == max(written)
    assert datetime.now(UTC) - found["base-2"][0] < timedelta(minutes=5)


@pytest.mark.parametrize(("kind", "tar"), [("base", False), ("base", True), ("directory", False)])
def test_a_folder_is_verified(
    warehouse: psycopg.Connection, old_databases: Databases, files: fsspec.AbstractFileSystem,
    environment: pytest.MonkeyPatch, tmp_path: Path, kind: Format, tar: bool,
) -> None:  # fmt: skip
    source: dict[str, Any] = {"name": "stored", "format": kind, "files": "escrow-*"}
    with filled_database(old_databases) as url:
        if kind == "base":
            configure(environment, tmp_path, source, query="SELECT true")
            url = old_databases.postgres.url(url.rsplit("/", 1)[-1])
        else:
            configure(environment, tmp_path, source)
        backups.take(url, tmp_path / "taken", "escrow-1", kind, tar=tar)
    files.put(f"{tmp_path}/taken", f"{BUCKET}/prefix", recursive=True)
    drill, said = verified("stored", "r1")
    found = stages(drill)
    assert found["age"].outcome is StageOutcome.PASSED
    if kind == "base" and not tar:
        assert "fetch: escrow-1 lacks the empty folders without which PostgreSQL does not start (pg_notify)" in said
        return
    assert said == "", [stage for stage in found.values() if stage.outcome is not StageOutcome.PASSED]
    assert found["row_counts"].detail["rows"] >= 2302
