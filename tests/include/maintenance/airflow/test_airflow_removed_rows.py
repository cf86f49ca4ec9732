"""What ``airflow db clean`` sets aside is exported whole, whatever it holds, before it is dropped."""

import csv
import io
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import psycopg
import pytest
import zstandard

from include.maintenance.airflow import airflow_removed_rows

TABLE = "_airflow_deleted__xcom__20260101000000"


def test_a_value_of_any_length_is_exported(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    large = 'a "quoted" line\n' * 20_000
    warehouse.execute(f"CREATE TABLE public.{TABLE} (key text, value text)")
    warehouse.execute(f"INSERT INTO public.{TABLE} VALUES ('large', %s), ('none', NULL)", (large,))
    before = csv.field_size_limit(131_072)  # as a new process has it
    try:
        done = airflow_removed_rows.take_away(warehouse, [TABLE], export=True)
    finally:
        csv.field_size_limit(before)
    assert (done[TABLE]["rows"], done[TABLE]["file"]) == (2, f"airflow/{TABLE}.csv.zst")
    assert [path.name for path in (tmp_path / "archive" / "airflow").iterdir()] == [f"{TABLE}.csv.zst"]
    csv.field_size_limit(sys.maxsize)
    with zstandard.open(tmp_path / "archive" / done[TABLE]["file"], "rt", newline="") as content:
        assert list(csv.reader(io.StringIO(content.read(), newline=""))) == [
            ["key", "value"], ["large", large], ["none", ""],
        ]  # fmt: skip
    csv.field_size_limit(before)
    assert warehouse.execute("SELECT to_regclass(%s)", (f"public.{TABLE}",)).fetchone() == (None,)


def test_the_file_is_safe_on_disk_before_its_table_is_dropped(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    synced: list[tuple[Path, bool]] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        there = warehouse.execute("SELECT to_regclass(%s)", (f"public.{TABLE}",)).fetchone() != (None,)
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), there))
        sync(descriptor)

    warehouse.execute(f"CREATE TABLE public.{TABLE} AS SELECT 1 AS value")
    environment.setattr(os, "fsync", noted)
    airflow_removed_rows.take_away(warehouse, [TABLE], export=True)
    folder = tmp_path / "archive" / "airflow"
    assert synced == [(folder / f".{TABLE}.partial", True), (folder, True), (folder.parent, True)]
    assert [path.name for path in folder.iterdir()] == [f"{TABLE}.csv.zst"]


def test_nobody_else_reads_a_file_while_it_is_written(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    modes: list[int] = []
    lines = airflow_removed_rows._lines

    def noted(files: fsspec.AbstractFileSystem, name: str, digest: Any) -> Iterator[str]:
        modes.append(stat.S_IMODE(Path(name).stat().st_mode))
        return lines(files, name, digest)

    environment.setattr(airflow_removed_rows, "_lines", noted)
    folder = tmp_path / "archive" / "airflow"
    folder.mkdir()
    (tmp_path / "elsewhere").write_bytes(b"untouched")
    (folder / f".{TABLE}.partial").symlink_to(tmp_path / "elsewhere")
    warehouse.execute(f"CREATE TABLE public.{TABLE} AS SELECT 1 AS value")
    airflow_removed_rows.take_away(warehouse, [TABLE], export=True)
    [written] = folder.iterdir()
    assert (modes, stat.S_IMODE(written.stat().st_mode)) == ([0o600], 0o600)
    assert (tmp_path / "elsewhere").read_bytes() == b"untouched"


def test_an_object_storage_takes_the_file_as_it_is(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    connection = {"conn_type": "fs", "extra": {"url": "memory://removed-rows-of-a-test"}}
    environment.setenv("AIRFLOW_CONN_ARCHIVE", json.dumps(connection))
    warehouse.execute(f"CREATE TABLE public.{TABLE} AS SELECT 1 AS value")
    done = airflow_removed_rows.take_away(warehouse, [TABLE], export=True)
    packed = fsspec.filesystem("memory").cat_file(f"/removed-rows-of-a-test/{done[TABLE]['file']}")
    assert zstandard.ZstdDecompressor().stream_reader(packed).read() == b"value\n1\n"
    fsspec.filesystem("memory").rm("/removed-rows-of-a-test", recursive=True)
