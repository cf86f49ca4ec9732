"""Archives on a real S3-speaking server: complete, interrupted, refused, overwritten, and tried again."""

import re
from collections.abc import Iterator
from pathlib import Path

import fsspec
import psycopg
import pytest

from include.maintenance.pruning import manifests, prune
from include.maintenance.pruning.restore import restore
from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable
from tests.include.maintenance.pruning.audit_log_rows import CUT_OFF, NOW, archived, in_table, rule
from tests.object_storage import (
    BUCKET,
    Line,
    ObjectStorage,
    one_empty_bucket,
    running_object_storage,
    without_credentials,
)


@pytest.fixture
def storage(object_storage: ObjectStorage, environment: pytest.MonkeyPatch) -> Iterator[ObjectStorage]:
    """The server with one empty bucket, which the connection archive leads to."""
    with one_empty_bucket(object_storage):
        environment.setenv("AIRFLOW_CONN_ARCHIVE", object_storage.connection())
        yield object_storage


@pytest.fixture
def filled(platform: psycopg.Connection) -> psycopg.Connection:
    platform.execute(
        "INSERT INTO public.audit_logs (created_at, actor, action, detail)"
        " SELECT %s::timestamptz - n * interval '1 hour', md5(n::text), 'x', to_jsonb(n)"
        " FROM generate_series(-4, 20) AS n",
        (CUT_OFF,),
    )
    return platform


def _files(server: ObjectStorage) -> fsspec.AbstractFileSystem:
    return fsspec.filesystem("s3", **server.options())


def _names(server: ObjectStorage) -> list[str]:
    return sorted(name.removeprefix(f"{BUCKET}/prefix/") for name in _files(server).find(BUCKET))


def test_archives_are_put_verified_and_restored(
    filled: psycopg.Connection, warehouse: psycopg.Connection, storage: ObjectStorage
) -> None:
    before = in_table(filled)
    assert prune.prune(rule(), "r1", dry_run=False, now=NOW)["archives"] == 2
    assert in_table(filled) + archived(filled, warehouse) == before
    recorded = warehouse.execute("SELECT location FROM ops.archive ORDER BY 1").fetchall()
    assert _names(storage) == sorted(name for (one,) in recorded for name in (one, f"{one}.manifest.json"))
    assert manifests.verify_chain("public.audit_logs")["rows"] == 20


def test_an_interrupted_upload_leaves_nothing_and_is_tried_again(
    filled: psycopg.Connection,
    warehouse: psycopg.Connection,
    storage: ObjectStorage,
    environment: pytest.MonkeyPatch,
) -> None:
    before, line = in_table(filled), Line(storage.port)
    environment.setenv("AIRFLOW_CONN_ARCHIVE", storage.connection(port=line.port))
    line.left = 1500  # the head of the request passes, the whole file does not
    with pytest.raises(SourceUnavailable, match="could not be written: the folder of the connection archive failed"):
        prune.prune(rule(archive_rows=100), "r1", dry_run=False, now=NOW)
    assert _names(storage) == []
    assert in_table(filled) == before
    line.left = float("inf")
    assert prune.prune(rule(archive_rows=100), "r1", dry_run=False, now=NOW)["rows"] == 20
    assert in_table(filled) + archived(filled, warehouse) == before
    line.close()


def test_a_server_that_comes_back(
    filled: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    before = in_table(filled)
    with running_object_storage() as own:
        environment.setenv("AIRFLOW_CONN_ARCHIVE", own.connection())
        own.stop()
        with pytest.raises(SourceUnavailable, match="the folder of the connection archive failed"):
            prune.prune(rule(), "r1", dry_run=False, now=NOW)
        assert in_table(filled) == before
        own.start()
        _files(own).mkdir(BUCKET)
        assert prune.prune(rule(), "r1", dry_run=False, now=NOW)["rows"] == 20
        assert in_table(filled) + archived(filled, warehouse) == before


def test_wrong_credentials_are_one_sentence_without_them(
    filled: psycopg.Connection, storage: ObjectStorage, environment: pytest.MonkeyPatch
) -> None:
    before = in_table(filled)
    storage.post("moto-api/reset-auth", b"0")  # from now on the server checks who asks
    environment.setenv("AIRFLOW_CONN_ARCHIVE", storage.connection(secret="not-the-secret"))
    with pytest.raises(ConfigurationError, match="refused it .* correct the connection's credentials") as caught:
        prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert not re.search("not-the-secret|testing-key", str(caught.value))
    assert in_table(filled) == before


def test_no_credentials_at_all(
    filled: psycopg.Connection, storage: ObjectStorage, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.setenv("AIRFLOW_CONN_ARCHIVE", without_credentials(storage, environment, tmp_path))
    with pytest.raises(ConfigurationError, match="has no credentials; add them"):
        prune.prune(rule(), "r1", dry_run=False, now=NOW)


def test_a_missing_bucket_needs_a_person(
    filled: psycopg.Connection, storage: ObjectStorage, environment: pytest.MonkeyPatch
) -> None:
    before = in_table(filled)
    environment.setenv("AIRFLOW_CONN_ARCHIVE", storage.connection("nowhere/prefix"))
    with pytest.raises(ConfigurationError, match="its bucket or folder is missing"):
        prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert in_table(filled) == before


def test_an_overwritten_object_is_found(
    filled: psycopg.Connection, warehouse: psycopg.Connection, storage: ObjectStorage
) -> None:
    prune.prune(rule(), "r1", dry_run=False, now=NOW)
    first, second = (name for name in _names(storage) if name.endswith(".parquet"))
    files = _files(storage)
    files.pipe_file(f"{BUCKET}/prefix/{first}", files.cat_file(f"{BUCKET}/prefix/{second}"))
    with pytest.raises(MaintenanceFailed, match="is damaged: its SHA-256 is not the recorded one"):
        restore(first.removesuffix(".parquet"), "platform_owner", "public.restored")
    with pytest.raises(MaintenanceFailed, match="is damaged"):
        manifests.verify_chain("public.audit_logs")
    files.rm_file(f"{BUCKET}/prefix/{first}")
    with pytest.raises(MaintenanceFailed, match="is missing"):
        manifests.verify_chain("public.audit_logs")
