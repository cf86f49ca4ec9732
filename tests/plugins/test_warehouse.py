"""What the board says when it cannot read the warehouse: nothing is shown as well, and the remedy is named."""

from __future__ import annotations

from datetime import date, timedelta

import httpx
import psycopg
import pytest
from fastapi.testclient import TestClient

from demo.processes import free_port
from plugins.operations_board import warehouse as board_warehouse
from tests.plugins import upkeep_rows
from tests.plugins.conftest import NOW, text_of

pytestmark = pytest.mark.airflow


def assert_away(answer: httpx.Response, *sentences: str) -> None:
    said = text_of(answer.text)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "60"
    assert "unknown The warehouse cannot be read" in said
    assert "✓" not in said
    for sentence in sentences:
        assert sentence in said


def test_every_page_says_that_the_warehouse_is_away_and_since_when(
    browser: TestClient, morning: date, environment: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_warehouse, "_last_read_at", NOW - timedelta(minutes=7))
    monkeypatch.setattr(board_warehouse, "_started_at", NOW - timedelta(hours=2))
    environment.setenv("AIRFLOW_CONN_WAREHOUSE_READER", f"postgresql://r:secret@127.0.0.1:{free_port()}/warehouse")
    for path in (
        "",
        "reports",
        "incidents",
        "incidents/INC-2026-005",
        "maintenance/1",
        "findings",
        "findings/1",
        "drills",
        "drills/1",
        "periods",
        "periods/week/2026-W40",
        "reports/daily_system_health/2026-10-03",
    ):
        assert_away(browser.get(path), "cannot be reached.", "no data for 7 min last read Sun 4 Oct, 03:05 UTC")
        assert "secret" not in browser.get(path).text
    monkeypatch.setattr(board_warehouse, "_last_read_at", None)
    assert_away(browser.get(""), "never read since this API server process started, Sun 4 Oct, 01:12 UTC")


def test_a_connection_that_is_not_defined_is_named(
    browser: TestClient, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.delenv("AIRFLOW_CONN_WAREHOUSE_READER")
    assert_away(browser.get(""), "The connection warehouse_reader", "is not defined; set AIRFLOW_CONN_WAREHOUSE_READER")


def test_a_warehouse_without_its_schema_is_named(browser: TestClient, warehouse: psycopg.Connection) -> None:
    warehouse.execute("DROP TABLE ops.report CASCADE")
    assert_away(browser.get("reports"), "is not migrated to the schema", "Run the migration")


def test_a_reader_without_grants_is_named(browser: TestClient, warehouse: psycopg.Connection) -> None:
    warehouse.execute("REVOKE SELECT ON ops.incident, ops.drill_stage FROM warehouse_reader")
    assert_away(browser.get("incidents"), "may not read the operations warehouse")
    number = upkeep_rows.drill(warehouse, "failover", "nightly", NOW, [upkeep_rows.passed("restore", 1)])
    assert_away(browser.get(f"drills/{number}"), "may not read the operations warehouse")


def test_a_slow_warehouse_is_given_up(
    browser: TestClient, warehouse: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_warehouse, "STATEMENT_TIMEOUT", timedelta(seconds=1))
    with warehouse.transaction():
        warehouse.execute("LOCK TABLE ops.incident IN ACCESS EXCLUSIVE MODE")
        assert_away(browser.get("incidents"), "did not answer within 1 seconds")
    assert browser.get("incidents").status_code == 200


def test_a_crowd_of_readers_does_not_take_all_threads(
    browser: TestClient, warehouse: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_warehouse, "QUEUE_SECONDS", 0.05)
    taken = [board_warehouse._readers.acquire(blocking=False) for _ in range(board_warehouse.MOST_READERS)]
    try:
        assert all(taken)
        assert_away(browser.get("incidents"), "answers too slowly for all the pages")
    finally:
        for _ in taken:
            board_warehouse._readers.release()
    assert browser.get("incidents").status_code == 200


def test_the_board_reads_and_cannot_write(warehouse: psycopg.Connection) -> None:
    with board_warehouse.read() as reader:
        assert reader._connection.execute("SHOW transaction_read_only").fetchone() == {"transaction_read_only": "on"}
        assert reader._connection.execute("SHOW statement_timeout").fetchone() == {"statement_timeout": "5s"}
        assert reader._connection.info.user == "warehouse_reader"


def test_a_broken_configuration_is_named(
    browser: TestClient, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    from include.settings import settings

    environment.setenv("OPERATIONS__PLATFORM__TIMEZONE", "Mars/Olympus")
    settings.cache_clear()
    try:
        assert_away(browser.get(""), "platform.timezone", "restart the API server")
    finally:
        environment.delenv("OPERATIONS__PLATFORM__TIMEZONE")
        settings.cache_clear()
