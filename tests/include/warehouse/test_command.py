"""The migration commands say in one sentence what they did or why not."""

import psycopg
import pytest

from include.warehouse import migrate
from include.warehouse.__main__ import main


def test_migrate_and_downgrade(warehouse: psycopg.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate"]) == 0
    assert main(["downgrade", "base"]) == 1, "it asks first"
    assert warehouse.execute("SELECT to_regclass('ops.signal') IS NULL").fetchone() == (False,)
    assert main(["downgrade", "9999", "--yes"]) == 1
    assert main(["downgrade", "0003", "--yes"]) == 0
    assert warehouse.execute("SELECT to_regclass('ops.signal') IS NULL").fetchone() == (True,)
    assert main(["migrate"]) == 0
    assert warehouse.execute("SELECT to_regclass('ops.signal') IS NULL").fetchone() == (False,)
    said = capsys.readouterr()
    later = sorted(path.stem for path in migrate.VERSIONS.glob("[0-9]*.py") if path.stem >= "0004")
    assert said.out.splitlines() == [
        "The warehouse is at the newest migration.",
        "The warehouse is at 0003.",
        f"Applied: {', '.join(later)}.",
    ]
    assert [line.split(";")[0] for line in said.err.splitlines()] == [
        "going back to base drops newer tables and their rows",
        "there is no migration 9999",
    ]


def test_a_wrong_connection_is_one_sentence(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("AIRFLOW_CONN_WAREHOUSE_OWNER", "postgresql://x:hunter2@127.0.0.1:1/warehouse")
    assert main(["migrate"]) == 1
    assert capsys.readouterr().err == "warehouse_owner (127.0.0.1:1/warehouse) cannot be reached\n"
