"""The week's maintenance by command: the reviews, and the rebuilding of what is small or approved."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from include.maintenance.__main__ import main
from include.settings import settings


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def bloated(platform: psycopg.Connection, environment: pytest.MonkeyPatch) -> psycopg.Connection:
    environment.setenv("OPERATIONS__MAINTENANCE__INDEX_REVIEW__BLOAT_MINIMUM_BYTES", "65536")
    environment.setenv("OPERATIONS__MAINTENANCE__REINDEX__WITHOUT_APPROVAL_UP_TO_BYTES", "600000")
    settings.cache_clear()
    for name, rows in (("small", 20_000), ("large", 40_000)):
        platform.execute(f"CREATE TABLE {name} (id bigint) WITH (autovacuum_enabled = off)".encode())
        platform.execute(f"INSERT INTO {name} SELECT generate_series(1, {rows})".encode())
        platform.execute(f"CREATE INDEX {name}_id ON {name} (id)".encode())
        platform.execute(f"DELETE FROM {name} WHERE id % 10 <> 0; ".encode())
        platform.execute(f"VACUUM (ANALYZE, TRUNCATE off) {name}".encode())
    return platform


def test_weekly(bloated: psycopg.Connection, warehouse: psycopg.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    def states() -> list[tuple[Any, ...]]:
        return warehouse.execute("SELECT resource, state, reason FROM ops.maintenance_action ORDER BY 1").fetchall()

    assert main(["weekly", "--dry-run", "--run-id", "w"]) == 0
    assert len([line for line in _lines(capsys) if "check" in line]) == 10
    assert states() == [("public.large_id", "planned", ""), ("public.small_id", "planned", "")]
    assert main(["weekly", "--run-id", "w"]) == 0
    assert states() == [
        ("public.large_id", "nothing_to_do", "not approved; repeat the command with --approve public.large_id"),
        ("public.small_id", "proven", ""),
    ]
    assert main(["weekly", "--run-id", "w", "--approve", "public.large_id"]) == 0
    assert states() == [("public.large_id", "proven", ""), ("public.small_id", "proven", "")]


def test_every_act_says_what_became_of_it(
    bloated: psycopg.Connection,
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__REINDEX__WAIT_SECONDS", "0.3")
    settings.cache_clear()
    with bloated.transaction():
        bloated.execute("LOCK TABLE small, large IN SHARE UPDATE EXCLUSIVE MODE")
        assert main(["weekly", "--run-id", "w", "--approve", "public.large_id"]) == 1
    said = capsys.readouterr()
    waited = [
        line.partition(", vacuums or changes it for longer than the rebuilding of ") for line in said.err.splitlines()
    ]
    assert [(began[-12:], index.split(" ")[0]) for began, _, index in waited] == [
        ("public.large", "public.large_id"),
        ("public.small", "public.small_id"),
    ]
    assert [json.loads(line)["check"] for line in said.out.splitlines()] == [
        *("unused_indexes", "redundant_indexes", "invalid_indexes", "foreign_keys_without_index"),
        *("query_statistics", "slow_queries", "query_regressions", "index_advice", "index_bloat", "table_bloat"),
    ]


def test_a_failed_review_is_the_exit_status(
    platform: psycopg.Connection, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", "postgresql://x:y@127.0.0.1:1/escrow")
    assert main(["weekly"]) == 1
    assert "platform_db_maintenance" in capsys.readouterr().err
