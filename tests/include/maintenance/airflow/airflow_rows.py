"""Rows of Airflow's metadata database as Airflow 3.3.2 writes them, as old as a test wants them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg

DAGS = ("upkeep_daily", "upkeep_by_hand")
NOW = datetime.now(UTC)


def ago(days: float) -> datetime:
    """A moment so many days ago."""
    return NOW - timedelta(days=days)


@contextmanager
def rows_of_our_own(url: str) -> Iterator[psycopg.Connection]:
    """Two DAGs without runs, gone afterwards with all that a test wrote for them."""
    with psycopg.connect(url, autocommit=True) as airflow:
        airflow.execute("INSERT INTO dag_bundle (name, active) VALUES ('upkeep', true) ON CONFLICT DO NOTHING")
        for dag in DAGS:
            airflow.execute(
                "INSERT INTO dag (dag_id, bundle_name, is_stale, is_paused, max_active_tasks,"
                " max_consecutive_failed_dag_runs, has_task_concurrency_limits, exceeds_max_non_backfill, fileloc,"
                " timetable_type, timetable_partitioned, timetable_periodic, partition_mapper_info)"
                " VALUES (%s, 'upkeep', false, false, 16, 0, false, false, '', '', false, false, '{}')",
                (dag,),
            )
        try:
            yield airflow
        finally:
            for table, column in (
                *((name, "dag_id") for name in ("task_instance", "dag_run", "log", "backfill", "job")),
                *(("asset_event", "source_dag_id"), ("asset_partition_dag_run", "target_dag_id")),
                ("partitioned_asset_key_log", "target_dag_id"),
            ):
                airflow.execute(f"DELETE FROM {table} WHERE {column} = ANY (%s)", (list(DAGS),))
            airflow.execute("DELETE FROM asset WHERE name = 'upkeep'")
            airflow.execute("DELETE FROM dag WHERE dag_id = ANY (%s)", (list(DAGS),))
            airflow.execute("DELETE FROM trigger WHERE classpath = 'upkeep'")


def add_run(airflow: psycopg.Connection, dag: str, days: float, kind: str, state: str = "success") -> str:
    """Add a run that began so many days ago, with one task, its XCom and a line of the audit log."""
    run_id, at = f"{kind}__{ago(days):%Y-%m-%d}", ago(days)
    row = airflow.execute(
        "INSERT INTO dag_run (dag_id, run_id, run_type, state, start_date, queued_at, run_after, created_at,"
        " clear_number, log_template_id) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 0,"
        " (SELECT max(id) FROM log_template)) RETURNING id",
        (dag, run_id, kind, state, at, at, at, at),
    ).fetchone()
    assert row
    airflow.execute(
        "INSERT INTO task_instance (id, task_id, dag_id, run_id, map_index, state, start_date, pool, pool_slots,"
        " try_number, max_tries) VALUES (gen_random_uuid(), 'one', %s, %s, -1, %s, %s, 'default_pool', 1, 1, 0)",
        (dag, run_id, state, at),
    )
    airflow.execute(
        "INSERT INTO xcom (dag_run_id, task_id, map_index, key, dag_id, run_id, value, timestamp, dag_result)"
        " VALUES (%s, 'one', -1, 'return_value', %s, %s, '1', %s, false)",
        (row[0], dag, run_id, at),
    )
    airflow.execute("INSERT INTO log (dttm, dag_id, event) VALUES (%s, %s, 'success')", (at, dag))
    return run_id


def add_backfill(airflow: psycopg.Connection, dag: str) -> int:
    """Add a backfill that is not complete; return its id."""
    row = airflow.execute(
        "INSERT INTO backfill (dag_id, from_date, to_date, is_paused, max_active_runs, reprocess_behavior, created_at,"
        " updated_at, dag_run_conf) VALUES (%s, now(), now(), false, 1, 'none', now(), now(), '{}') RETURNING id",
        (dag,),
    ).fetchone()
    assert row
    return int(row[0])


def add_asset_event(airflow: psycopg.Connection, days: float) -> tuple[int, int]:
    """Add an asset with an event; return the ids of both."""
    asset = airflow.execute(
        'INSERT INTO asset (name, uri, "group", extra, created_at, updated_at)'
        " VALUES ('upkeep', 'upkeep', '', '{}', now(), now()) RETURNING id"
    ).fetchone()
    assert asset
    event = airflow.execute(
        "INSERT INTO asset_event (asset_id, extra, source_dag_id, timestamp, source_map_index)"
        " VALUES (%s, '{}', %s, %s, -1) RETURNING id",
        (asset[0], DAGS[0], ago(days)),
    ).fetchone()
    assert event
    return asset[0], event[0]
