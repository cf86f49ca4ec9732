"""What ``airflow db clean`` sets aside is exported whole, whatever it holds, before it is dropped."""

import csv
import io
import sys
from pathlib import Path

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
