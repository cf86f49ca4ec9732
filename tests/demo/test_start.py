"""What a start of the demo keeps of an earlier one, and what it does for a platform that is not its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from demo import __main__ as demo
from demo.databases import Databases
from demo.platform_run import Servers
from demo.processes import StartError
from include.outcome import MaintenanceFailed, Outcome
from include.platform import probes

DAY = date(2026, 10, 3)


class _OneDatabase(Databases):
    """The run's cluster, where the demo's database of the platform has another name."""

    name = ""

    def url(self, _: str, role: str) -> str:
        """Lead to that database."""
        return super().url(self.name, role)


def test_a_backup_that_was_interrupted_is_taken_up_again(
    new_escrow: Callable[[], str], databases: Databases, tmp_path: Path
) -> None:
    demo_servers, cluster = Servers(tmp_path), _OneDatabase(databases.postgres, databases.file.parent)
    demo_servers.databases, cluster.name = cluster, new_escrow()
    folder = tmp_path / "backups"
    folder.mkdir()
    for name in ("globals-20261003.sql", "operations-20261003.yaml", "escrow-20261003.dump"):
        (folder / name).write_text("what was written before the interruption\n")
    demo_servers.take_backup(DAY)
    whole = folder / "escrow-20261003.dump"
    assert whole.read_bytes()[:5] == b"PGDMP"
    assert (folder / "escrow-20261003.dump.facts.json").exists()
    taken = whole.stat().st_mtime_ns
    demo_servers.take_backup(DAY)
    assert whole.stat().st_mtime_ns == taken, "one that is whole is kept"


def test_a_start_on_a_later_day_goes_on_to_yesterday(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    servers.databases = _OneDatabase.__new__(_OneDatabase)  # what is there already is not asked for anything
    servers.history_file().write_text('{"first_day": "2026-08-30", "last_day": "2026-10-03", "rows": {}}')
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    assert servers.make_history() == (date(2026, 8, 30), yesterday, False)


def test_what_a_connection_replaces_is_not_made(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    for name in ("PLATFORM_DB", "WAREHOUSE", "WAREHOUSE_READER", "WAREHOUSE_OWNER"):
        environment.delenv(f"AIRFLOW_CONN_{name}", raising=False)
    environment.delenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", raising=False)
    ours = {"airflow": "airflow", "warehouse": "warehouse_owner", "escrow": "escrow_owner"}
    assert Servers(tmp_path).databases_to_create() == ours
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB", "postgresql://reader@platform.example.org/app")
    assert Servers(tmp_path).databases_to_create() == {"airflow": "airflow", "warehouse": "warehouse_owner"}
    environment.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://writer@platform.example.org/warehouse")
    environment.setenv("AIRFLOW_CONN_WAREHOUSE_OWNER", "postgresql://owner@platform.example.org/warehouse")
    with pytest.raises(StartError, match="a warehouse of your own needs AIRFLOW_CONN_WAREHOUSE_READER too"):
        Servers(tmp_path).databases_to_create()
    environment.setenv("AIRFLOW_CONN_WAREHOUSE_READER", "postgresql://reader@platform.example.org/warehouse")
    assert Servers(tmp_path).databases_to_create() == {"airflow": "airflow"}
    environment.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://airflow@platform.example.org/airflow")
    environment.setenv("AIRFLOW_CONN_PLATFORM_REDIS", "redis://platform.example.org")
    environment.setenv("AIRFLOW_CONN_PLATFORM_CHAIN", "http://platform.example.org:8545")
    servers = Servers(tmp_path)
    assert servers.start() == []
    assert servers.processes.sweep() == 0, "nothing was started"


def test_nothing_stands_in_for_parts_of_a_platform_of_ones_own(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://airflow@platform.example.org/airflow")
    for name in ("PLATFORM_DB", "WAREHOUSE", "WAREHOUSE_READER", "WAREHOUSE_OWNER"):
        environment.setenv(f"AIRFLOW_CONN_{name}", "postgresql://reader@platform.example.org/app")
    for name in ("PLATFORM_REDIS", "PLATFORM_CHAIN", "PLATFORM_LOGS", "BACKUPS"):
        environment.delenv(f"AIRFLOW_CONN_{name}")
    servers = Servers(tmp_path)
    assert servers.start() == []
    assert {name for name in servers.connections if name in os.environ} == {
        "AIRFLOW_CONN_ARCHIVE",
        "AIRFLOW_CONN_REPORTS",
    }
    assert not any(f"AIRFLOW_CONN_{name}" in os.environ for name in ("PLATFORM_REDIS", "PLATFORM_LOGS", "BACKUPS"))
    assert probes.cache().outcome == probes.chain().outcome == Outcome.UNKNOWN


def test_the_platform_of_the_demo_lives_in_utc(
    tmp_path: Path, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setattr(demo, "FOLDER", tmp_path)
    environment.setattr(demo, "SUMMARY", tmp_path / "summary.json")
    environment.setenv("OPERATIONS__PLATFORM__TIMEZONE", "America/New_York")
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB", "postgresql://somebody@db.example/escrow")
    demo.Demo().keep_time()
    assert os.environ["OPERATIONS__PLATFORM__TIMEZONE"] == "America/New_York"
    environment.delenv("AIRFLOW_CONN_PLATFORM_DB")
    demo.Demo().keep_time()
    assert os.environ["OPERATIONS__PLATFORM__TIMEZONE"] == "UTC"
    assert "America/New_York counts for a platform of your own" in capsys.readouterr().out


def test_a_scale_that_comes_too_late_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    servers = Servers(tmp_path)
    servers.databases = _OneDatabase.__new__(_OneDatabase)
    servers.history_file().write_text('{"first_day": "2026-08-30", "last_day": "2026-10-03", "rows": {}}')
    monkeypatch.setenv("SCALE", "1")
    servers.make_history()
    assert servers.remarks == []
    monkeypatch.setenv("SCALE", "10")
    servers.make_history()
    assert servers.remarks == [
        f"SCALE=10 changes nothing: the history of scale 1 is kept (for another remove {tmp_path})"
    ]


class _Runs:
    """What Airflow tells of its runs."""

    url = "http://127.0.0.1:9"

    def __init__(self, **state: str) -> None:
        self.state = state

    def runs(self) -> list[dict[str, object]]:
        now = datetime.now(UTC).isoformat()
        return [
            {"dag_id": dag, "dag_run_id": f"{kind}__x", "state": state.removeprefix("due "), "queued_at": now}
            for dag, state in self.state.items()
            for kind in ("scheduled" if state.startswith("due ") else "manual",)
        ]


@pytest.mark.usefixtures("warehouse")
@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ({"daily_metrics": "success", "platform_watch": "running"}, "success"),
        ({"daily_metrics": "success", "weekly_metrics": "failed"}, "failed"),
        ({"daily_metrics": "success", "weekly_metrics": "queued"}, "failed"),
        ({"daily_metrics": "success", "weekly_maintenance": "due running"}, "success"),
        ({"daily_metrics": "success", "weekly_maintenance": "due failed"}, "failed"),
    ],
)
def test_what_is_no_success_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, str], outcome: str
) -> None:
    monkeypatch.setattr(demo, "FOLDER", tmp_path)
    monkeypatch.setattr(demo, "SUMMARY", tmp_path / "summary.json")
    start = demo.Demo()
    start.airflow = _Runs(**state)  # type: ignore[assignment]
    assert start.summarise()["outcome"] == outcome


def test_an_incident_of_this_start_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warehouse: psycopg.Connection
) -> None:
    monkeypatch.setattr(demo, "FOLDER", tmp_path)
    monkeypatch.setattr(demo, "SUMMARY", tmp_path / "summary.json")
    start = demo.Demo()
    start.airflow = _Runs(daily_metrics="success")  # type: ignore[assignment]
    for number, (ago, outcome) in enumerate((("1 day", "success"), ("0 s", "failed")), 1):
        warehouse.execute(
            """INSERT INTO ops.incident
                   (incident_id, fingerprint, class, state, title, affected, detected_at, last_seen_at)
               VALUES (%s, %s, 'P2', 'detected', 'x', 'x', now() - %s::interval, now())""",
            (f"INC-2026-00{number}", str(number), ago),
        )
        summary = start.summarise()
        assert summary["outcome"] == outcome
        assert len(summary["incidents"]) == number


def test_a_backup_that_fails_is_told_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object) -> None:
        raise MaintenanceFailed("the disk is full")

    monkeypatch.setattr(demo, "FOLDER", tmp_path)
    monkeypatch.setattr(demo, "SUMMARY", tmp_path / "summary.json")
    monkeypatch.setattr(Servers, "take_backup", failing)
    assert not demo._back_up(demo.Demo())
    assert "backup failed, and is tried again: the disk is full" in capsys.readouterr().err


def test_a_missing_connection_to_a_platform_of_ones_own_is_not_replaced(
    databases: Databases, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    ours = databases.connections(warehouse="warehouse", escrow="escrow")
    for name in ours:
        environment.delenv(name, raising=False)
    assert Servers(tmp_path)._to_databases(ours) == ours
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB", "postgresql://reader@platform.example.org/app")
    warehouse = {"AIRFLOW_CONN_WAREHOUSE", "AIRFLOW_CONN_WAREHOUSE_READER", "AIRFLOW_CONN_WAREHOUSE_OWNER"}
    own = Servers(tmp_path)
    assert set(own._to_databases(ours)) == warehouse | {"AIRFLOW_CONN_PLATFORM_DB"}
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", "postgresql://keeper@platform.example.org/app")
    assert set(own._to_databases(ours)) == set(ours)
    own._connect({name: ours[name] for name in ours if "MAINTENANCE" in name})
    assert own.connections["AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE"] == "postgresql://keeper@platform.example.org/app"


def test_a_start_that_fails_says_why_and_leaves_no_summary_of_an_earlier_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(_: demo.Demo) -> None:
        raise MaintenanceFailed("pg_dumpall of the roles failed: the disk is full")

    monkeypatch.setattr(demo, "FOLDER", tmp_path)
    monkeypatch.setattr(demo, "SUMMARY", tmp_path / "summary.json")
    monkeypatch.setattr(demo.Demo, "start", failing)
    monkeypatch.setattr(demo, "_on_interrupt", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["demo", "--oneshot"])
    (tmp_path / "summary.json").write_text('{"outcome": "success"}\n')
    assert demo.main() == 1
    said = capsys.readouterr()
    assert said.err == "\npg_dumpall of the roles failed: the disk is full\n"
    assert "What happened" not in said.out
    assert not (tmp_path / "summary.json").exists()
