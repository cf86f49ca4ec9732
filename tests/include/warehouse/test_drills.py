"""A drill is one row from its begin to its end, and one that could not check something never passes."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal

import psycopg
import pytest

from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable
from include.warehouse import actions, drills
from include.warehouse.drills import Drill, DrillOutcome, Stage, StageOutcome

PASSED = Stage("restore", StageOutcome.PASSED, 1.5, detail={"bytes": 7})


def _begin(run_id: str = "r1") -> Drill:
    return drills.begin("backup_verification", "nightly", run_id, rpo_target_seconds=60, rto_target_seconds=30)


def _pass(run_id: str, rpo: float, rto: float) -> Drill:
    drill = _begin(run_id)
    drills.record(drill, PASSED)
    return drills.finish(drill, DrillOutcome.PASSED, rpo_seconds=rpo, rto_seconds=rto)


def test_begin_stages_finish(warehouse: psycopg.Connection) -> None:
    drill = _begin()
    assert (drill.outcome, drill.attempts, drill.rpo_target_seconds) == (DrillOutcome.RUNNING, 1, 60)
    drills.record(drill, PASSED)
    drills.record(drill, Stage("wal", StageOutcome.NOT_APPLICABLE, None, "a dump has none"))
    at = datetime(2026, 10, 4, tzinfo=UTC)
    drills.record(drill, Stage("restore", StageOutcome.PASSED, 2.25, detail={"at": at, "n": Decimal("3"), "name": "é"}))
    done = drills.finish(drill, DrillOutcome.PASSED, rpo_seconds=12.5, rto_seconds=2.25, detail={"backup": "x.dump"})
    assert [(stage.name, stage.seconds, stage.detail) for stage in drills.stages_of(drill)] == [
        ("wal", None, {}),
        ("restore", 2.25, {"at": "2026-10-04T00:00:00+00:00", "n": 3, "name": "é"}),
    ], "a stage that is recorded again takes the later place"
    assert done.summary() == {
        "drill": done.drill_id, "kind": "backup_verification", "resource": "nightly", "outcome": "passed",
        "rpo_seconds": 12.5, "rto_seconds": 2.25,
    }  # fmt: skip
    assert drills.find("backup_verification", "nightly", "r1") == done
    assert drills.find("failover", "nightly", "r1") is None


def test_the_reasons_of_a_drill_hold_no_secret(warehouse: psycopg.Connection) -> None:
    drill = _begin()
    drills.record(drill, Stage("restore", StageOutcome.FAILED, 1, "it said password=hunter2"))
    done = drills.finish(drill, DrillOutcome.FAILED, "restore: it said password=hunter2")
    assert [stage.reason for stage in drills.stages_of(drill)] == ["it said password=***"]
    act = actions.find("backup_verification", "nightly", "r1")
    assert act is not None
    assert (done.reason, act.reason) == ("restore: it said password=***",) * 2


def test_a_drill_is_an_act_of_maintenance(warehouse: psycopg.Connection) -> None:
    def act() -> tuple[object, ...]:
        found = actions.find("backup_verification", "nightly", "r1")
        assert found is not None
        [(finished,)] = warehouse.execute("SELECT finished_at IS NOT NULL FROM ops.maintenance_action").fetchall()
        return found.dry_run, found.state, found.plan, found.applied, found.proof, found.reason, finished

    targets = {"rpo_target_seconds": 60, "rto_target_seconds": 30}
    actions.plan("backup_verification", "nightly", "r1", dry_run=True, plan={"backup": "x.dump"})
    assert act() == (True, "planned", {"backup": "x.dump"}, None, None, "", False)
    drill = _begin()
    assert act() == (False, "applying", targets, None, None, "", False)
    drills.record(drill, PASSED)
    drills.record(drill, Stage("wal", StageOutcome.UNKNOWN, 2, "no WAL"))
    drills.finish(drill, DrillOutcome.COULD_NOT_RUN, "wal: no WAL", rto_seconds=1.5)
    measured = {"drill": drill.drill_id, "rpo_seconds": None, "rto_seconds": 1.5}
    assert act() == (
        False, "failed", targets, {"stages": ["restore", "wal"], "seconds": 3.5},
        measured | {"outcome": "could_not_run", "attempts": 1, "stages": {"passed": 1, "unknown": 1}},
        "wal: no WAL", True,
    )  # fmt: skip
    drill = _begin()
    assert act() == (False, "applying", targets, None, None, "", False)
    drills.record(drill, PASSED)
    drills.finish(drill, DrillOutcome.PASSED, rpo_seconds=0.5, rto_seconds=1.5)
    proven = (
        False, "proven", targets, {"stages": ["restore"], "seconds": 1.5},
        measured | {"outcome": "passed", "attempts": 2, "rpo_seconds": 0.5, "stages": {"passed": 1}}, "", True,
    )  # fmt: skip
    assert act() == proven
    assert _begin().done
    assert act() == proven, "what has passed is not begun again"


def test_what_has_passed_stays_and_what_has_not_begins_again(warehouse: psycopg.Connection) -> None:
    done = _pass("r1", 1, 1)
    again = _begin()
    assert again.done
    assert again == done
    assert [stage.name for stage in drills.stages_of(again)] == ["restore"]

    killed = _begin("r2")
    drills.record(killed, PASSED)
    second = _begin("r2")
    assert (second.drill_id, second.attempts, second.outcome) == (killed.drill_id, 2, DrillOutcome.RUNNING)
    assert drills.stages_of(second) == [], "the stages of the killed attempt are forgotten"
    with pytest.raises(MaintenanceFailed, match="not running"):
        drills.record(killed, PASSED)
    drills.finish(second, DrillOutcome.FAILED, "row counts differ")
    third = _begin("r2")
    assert third.attempts == 3
    drills.record(third, Stage("row_counts", StageOutcome.UNKNOWN, 1, "no facts"))
    drills.finish(third, DrillOutcome.COULD_NOT_RUN, "the disk is full")
    last = _begin("r2")
    drills.record(last, PASSED)
    done = drills.finish(last, DrillOutcome.PASSED, detail={"backup": "x.dump"})
    assert done.detail.pop("backup") == "x.dump"
    earlier = done.detail.pop("earlier_attempts")
    assert {datetime.fromisoformat(one.pop("started_at")) < done.started_at for one in earlier} == {True}
    assert earlier == [
        {"attempt": 1, "outcome": "killed"},
        {"attempt": 2, "outcome": "failed", "reason": "row counts differ"},
        {"attempt": 3, "outcome": "could_not_run", "reason": "the disk is full", "stages_not_passed": ["row_counts"]},
    ], "a drill that passes at last does not hide that it failed before"
    assert done.detail == {}
    assert warehouse.execute("SELECT count(*) FROM ops.drill").fetchone() == (2,)


@pytest.mark.parametrize("outcome", [StageOutcome.FAILED, StageOutcome.UNKNOWN])
def test_a_drill_with_such_a_stage_cannot_pass(warehouse: psycopg.Connection, outcome: StageOutcome) -> None:
    drill = _begin()
    with pytest.raises(MaintenanceFailed, match="did not pass"):
        drills.finish(drill, DrillOutcome.PASSED)  # nothing was checked
    drills.record(drill, PASSED)
    drills.record(drill, Stage("row_counts", outcome, 1, "no facts were recorded"))
    with pytest.raises(MaintenanceFailed, match="did not pass"):
        drills.finish(drill, DrillOutcome.PASSED)
    if outcome is StageOutcome.UNKNOWN:
        drills.finish(drill, DrillOutcome.PASSED, accepted_unknown=["row_counts"])
    else:
        with pytest.raises(MaintenanceFailed, match="did not pass"):
            drills.finish(drill, DrillOutcome.PASSED, accepted_unknown=["row_counts"])
        drills.finish(drill, DrillOutcome.FAILED, "row counts differ")


def test_an_error_is_no_pass(warehouse: psycopg.Connection) -> None:
    drill = _begin()
    with pytest.raises(ConfigurationError), drills.failures_recorded(drill):
        raise ConfigurationError("no programs of PostgreSQL 9")
    found = drills.find(drill.kind, drill.resource, drill.run_id)
    assert found is not None
    assert (found.outcome, found.reason) == (DrillOutcome.COULD_NOT_RUN, "no programs of PostgreSQL 9")
    drill = _begin()
    with pytest.raises(ValueError, match="secret"), drills.failures_recorded(drill):
        raise ValueError("a secret")
    found = drills.find(drill.kind, drill.resource, drill.run_id)
    assert found is not None
    assert found.reason == "ValueError; the task's log has its details"
    drill = _begin()
    drills.finish(drill, DrillOutcome.FAILED, "the restored rows differ")
    with pytest.raises(MaintenanceFailed), drills.failures_recorded(drill):
        raise MaintenanceFailed("another sentence")
    found = drills.find(drill.kind, drill.resource, drill.run_id)
    assert found is not None
    assert found.outcome is DrillOutcome.FAILED, "an end that is recorded already stays"


def test_stages_from_several_threads(warehouse: psycopg.Connection) -> None:
    drill = _begin()
    names = [f"stage_{number}" for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: drills.record(drill, Stage(name, StageOutcome.PASSED, 0)), names))
    places = warehouse.execute("SELECT name, position FROM ops.drill_stage ORDER BY position").fetchall()
    assert [place for _, place in places] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert {name for name, _ in places} == set(names)


def test_finished_drills(warehouse: psycopg.Connection) -> None:
    _pass("r1", 10, 1)
    drills.finish(_begin("r2"), DrillOutcome.FAILED, "no", rto_seconds=100)
    _pass("r3", 5, 4)
    _begin("r4")
    drills.finish(drills.begin("failover", "nightly", "r4"), DrillOutcome.FAILED, "another kind")
    found = drills.finished("backup_verification", "nightly")
    assert [(one.run_id, one.outcome.value, one.rpo_seconds, one.rto_seconds) for one in found] == [
        ("r3", "passed", 5, 4),
        ("r2", "failed", None, 100),
        ("r1", "passed", 10, 1),
    ]
    assert drills.finished("backup_verification", "nowhere") == []
    for number in range(5, 30):
        _pass(f"r{number}", 1, 1)
    assert [one.run_id for one in drills.finished("backup_verification", "nightly")][-2:] == ["r5", "r3"]


def test_bad_input_and_a_lost_warehouse(warehouse: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="'fire' is not a kind of drill"):
        drills.begin("fire", "x", "r1")
    drill = _begin()
    with pytest.raises(psycopg.errors.CheckViolation):
        drills.record(drill, Stage("restore", StageOutcome.FAILED, 1))
    environment.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://x:y@127.0.0.1:1/warehouse")
    with pytest.raises(SourceUnavailable, match="warehouse"):
        drills.record(drill, PASSED)


class AirflowTaskTimeout(BaseException):
    """As Airflow's own, which is no Exception."""


def test_a_time_limit_ends_the_drill(warehouse: psycopg.Connection) -> None:
    drill = _begin()
    with pytest.raises(AirflowTaskTimeout), drills.failures_recorded(drill):
        raise AirflowTaskTimeout
    found = drills.find(drill.kind, drill.resource, drill.run_id)
    assert found is not None
    assert found.outcome is DrillOutcome.COULD_NOT_RUN
    assert "the time limit of the task was reached" in found.reason
