"""Old findings, snapshots and folders of killed tasks go; what is still compared with or looked at stays."""

import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.maintenance.airflow import leftovers
from include.outcome import ConfigurationError, Outcome
from include.platform.scratch_place import MARKER, PREFIX
from include.warehouse import actions, findings, snapshots
from include.warehouse.findings import Finding
from tests.recorded_findings import latest_findings

NOW = datetime(2026, 10, 4, tzinfo=UTC)


@pytest.fixture(autouse=True)
def own_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def finding(warehouse: psycopg.Connection, check: str, run_id: str, days: float) -> None:
    findings.replace(run_id, check, [Finding("a", Outcome.WARNING, "A."), Finding("b", Outcome.OK, "B.")])
    at = NOW - timedelta(days=days)
    warehouse.execute(
        "UPDATE ops.finding SET found_at = %(at)s, first_found_at = least(first_found_at, %(at)s)"
        " WHERE run_id = %(run_id)s AND outcome = 'warning'",
        {"at": at, "run_id": run_id},
    )
    warehouse.execute("UPDATE ops.finding SET found_at = %s WHERE run_id = %s", (at, run_id))


def snapshot(at: datetime, database: str = "escrow") -> None:
    facts = {
        "run_id": f"{database} {at}", "month": f"{at:%Y-%m}", "taken_at": at, "database_name": database,
        "server_version": 180001, "system_identifier": 1, "next_transaction": 1, "next_multixact": 1,
        "counters_since": None, "unreadable": {},
    }  # fmt: skip
    table = snapshots.TableSize("public.users", 1, 1, 1, 1, 1)
    snapshots.record(facts, [table], [snapshots.Definition("table", "public.users", "one column")])


def left(warehouse: psycopg.Connection, statement: str) -> list[Any]:
    return [row[0] for row in warehouse.execute(statement.encode())]


def test_old_findings_go_and_the_latest_of_a_check_stay(warehouse: psycopg.Connection) -> None:
    for check, run_id, days in (
        ("weekly", "w1", 500), ("weekly", "w2", 401), ("weekly", "w3", 399), ("weekly", "w4", 1),
        ("given up", "g1", 900), ("given up", "g2", 800),
    ):  # fmt: skip
        finding(warehouse, check, run_id, days)
    before = latest_findings()
    runs = "SELECT DISTINCT run_id FROM ops.finding ORDER BY 1"
    assert leftovers.clean("dry", True, NOW)["state"] == "planned"
    assert left(warehouse, runs) == ["g1", "g2", "w1", "w2", "w3", "w4"], "a dry run removes nothing"
    assert leftovers.clean("r1", False, NOW)["state"] == "proven"
    assert left(warehouse, runs) == ["g2", "w3", "w4"]
    assert latest_findings() == before
    act = actions.find("remove_leftovers", leftovers.RESOURCE, "r1")
    assert act is not None
    assert act.applied == {"findings": 6, "snapshots": 0, "definitions": 0, "folders": []}
    assert leftovers.clean("r2", False, NOW)["state"] == "nothing_to_do"


@pytest.mark.usefixtures("clock_ahead")
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_clock_that_is_wrong_forgets_nothing(warehouse: psycopg.Connection, dry_run: bool) -> None:
    finding(warehouse, "weekly", "w1", 900)
    finding(warehouse, "weekly", "w2", 800)
    with pytest.raises(ConfigurationError, match="set the clock that is wrong") as raised:
        leftovers.clean("r1", dry_run)
    act = actions.find("remove_leftovers", leftovers.RESOURCE, "r1")
    assert act is not None
    assert (act.state, act.reason) == ("failed", str(raised.value))
    assert left(warehouse, "SELECT DISTINCT run_id FROM ops.finding ORDER BY 1") == ["w1", "w2"]


def test_definitions_go_before_their_snapshots_and_what_is_compared_stays(warehouse: psycopg.Connection) -> None:
    for days in range(1, 500, 20):
        snapshot(NOW - timedelta(days=days))
    snapshot(NOW - timedelta(days=700), "given_up")
    for days in (900, 901, 940):
        snapshot(NOW - timedelta(days=days), "given_up")
    assert leftovers.clean("r1", False, NOW)["state"] == "proven"
    ages = "SELECT extract(day FROM timestamptz '2026-10-04 00:00+00' - taken_at)::integer FROM ops.platform_snapshot"
    kept = "WHERE database_name = 'escrow' {} ORDER BY taken_at DESC"
    assert left(warehouse, f"{ages} {kept.format('')}") == list(range(1, 400, 20))
    defined = "AND platform_snapshot_id IN (SELECT platform_snapshot_id FROM ops.platform_definition)"
    assert left(warehouse, f"{ages} {kept.format(defined)}") == [1, 21, 41, 61, 81]
    assert left(warehouse, f"{ages} WHERE database_name = 'given_up'") == [700], "the newest of a database stays"


def test_the_month_that_is_compared_with_keeps_its_definitions(warehouse: psycopg.Connection) -> None:
    for at in (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 8, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)):
        snapshot(at)
    newest = NOW - timedelta(days=1)
    snapshot(newest)
    leftovers.clean("r1", False, NOW)
    this = snapshots.required(f"escrow {newest}")
    compared = snapshots.to_compare_with(this)
    assert compared is not None
    assert compared.month == "2026-04"
    assert snapshots.changes(compared, this) == [], "months without a run in between make nothing look new"
    march = snapshots.required("escrow 2026-03-01 00:00:00+00:00")
    assert snapshots.number_of_definitions(march) == {}


def test_what_killed_drills_left_goes(warehouse: psycopg.Connection, tmp_path: Path) -> None:
    place = tmp_path / f"{PREFIX}left"
    place.mkdir()
    (place / MARKER).write_text(json.dumps({"made_by": PREFIX}))
    (place / "copy of production").touch()
    leftovers.clean("dry", True, NOW)
    assert place.exists()
    leftovers.clean("r1", False, NOW)
    assert not place.exists()
    act = actions.find("remove_leftovers", leftovers.RESOURCE, "r1")
    assert act is not None
    assert act.applied is not None
    assert act.applied["folders"] == [place.name]
