"""The monthly maintenance and the disaster recovery run as DAGs, against real servers."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from demo.platform import backups
from include.maintenance.pruning import prune
from include.settings import settings
from tests.conftest import Platform
from tests.dags.test_runs import run
from tests.include.maintenance.backups.drill_places import own_scratch_folder

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("airflow_database")]


@pytest.fixture
def query(platform: Platform, databases: Databases) -> Iterator[Any]:
    with psycopg.connect(databases.url(platform.warehouse, "warehouse_reader"), autocommit=True) as connection:
        yield lambda text: connection.execute(text).fetchall()


@pytest.fixture(autouse=True)
def scratch_folder(environment: pytest.MonkeyPatch) -> Iterator[Path]:
    with own_scratch_folder(environment) as folder:
        yield folder


def test_monthly_maintenance_finds_and_changes_nothing(query: Any, platform: Platform, databases: Databases) -> None:
    [rule] = settings().maintenance.prune
    prune.prune(rule, "prune", False)
    with psycopg.connect(databases.url(platform.warehouse, "warehouse_owner"), autocommit=True) as owner:
        owner.execute("UPDATE ops.archive SET created_at = '2026-10-01'")  # before the run is due
    assert run("monthly_maintenance", archive_sample=1).state == "success"
    assert [check for (check,) in query("SELECT DISTINCT check_name FROM ops.finding ORDER BY 1")] == [
        "archive_samples", "definition_drift", "key_exhaustion", "prepared_transactions", "pruning_backlog",
        "replication_slots", "server_health", "tables_to_partition", "wraparound",
    ]  # fmt: skip
    assert query("SELECT DISTINCT outcome FROM ops.finding WHERE check_name = 'archive_samples' ORDER BY 1") == [
        ("not_applicable",), ("ok",)
    ]  # fmt: skip
    assert query("SELECT outcome FROM ops.finding WHERE resource = 'baseline'") == [("not_applicable",)]
    assert query("SELECT month FROM ops.platform_snapshot") == [("2026-10",)]
    with psycopg.connect(databases.url(platform.escrow, "escrow_owner"), autocommit=True) as escrow:
        escrow.execute("CREATE TABLE public.surprise (id integer)")
    assert run("monthly_maintenance", archive_sample=1).state == "success"
    assert query(
        "SELECT evidence #>> '{added,0,name}' FROM ops.latest_finding"
        " WHERE check_name = 'definition_drift' AND resource = 'table'"
    ) == [("public.surprise",)]


def test_a_snapshot_that_cannot_be_taken_fails_the_run(query: Any, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", "postgresql://x:y@127.0.0.1:1/escrow")
    environment.setenv("OPERATIONS__RUNS__RETRIES", "0")
    settings.cache_clear()
    done = run("monthly_maintenance", archive_sample=1)
    assert done.state == "failed"
    unknown = query("SELECT check_name FROM ops.finding WHERE outcome = 'unknown' ORDER BY 1")
    assert [check for (check,) in unknown] == [
        "definition_drift", "key_exhaustion", "prepared_transactions", "replication_slots", "server_health",
        "tables_to_partition", "wraparound",
    ]  # fmt: skip


def test_disaster_recovery(query: Any, platform: Platform, databases: Databases, tmp_path: Path) -> None:
    backups.take(databases.url(platform.escrow, "escrow_owner"), tmp_path / "backups", date(2026, 10, 9))
    assert run("monthly_disaster_recovery", dry_run=True).state == "success"
    assert query("SELECT count(*) FROM ops.drill") == [(0,)]
    acts = "SELECT kind, dry_run, state, plan ? 'backup' FROM ops.maintenance_action ORDER BY dry_run, kind"
    assert query(acts) == [("failover", True, "planned", True), ("full_restoration", True, "planned", True)]

    short = {"load_seconds": 1, "heartbeat_milliseconds": 10, "synchronous": "remote_apply"}
    assert run("monthly_disaster_recovery", source="nightly", **short).state == "success"
    assert query("SELECT kind, outcome, rto_seconds > 0 FROM ops.drill ORDER BY kind") == [
        ("failover", "passed", True), ("full_restoration", "passed", True)
    ]  # fmt: skip
    assert query(
        "SELECT count(*) FROM ops.drill_stage WHERE name IN ('globals', 'configuration') AND outcome = 'passed'"
    ) == [(2,)]
    [(lost, away)] = query("SELECT detail ->> 'lost_writes', rto_seconds FROM ops.drill WHERE kind = 'failover'")
    assert lost == "0"
    assert away > 0
    done = [("failover", False, "proven", False), ("full_restoration", False, "proven", False)]
    assert query(acts)[:2] == done, "the drills are acts as all others are"


def test_a_source_that_is_not_configured_is_refused(query: Any) -> None:
    assert run("monthly_disaster_recovery", source="other").state == "failed"
    assert query("SELECT count(*) FROM ops.drill") == [(0,)]
