"""An act is one row from its plan to its proof, and a repeated task continues its own row."""

import time
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal

import psycopg
import pytest

from demo.databases import Databases
from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable
from include.warehouse import actions, session


def _plan(run_id: str = "r1", *, dry_run: bool = False, **facts: object) -> actions.Action:
    return actions.plan("vacuum", "public.users", run_id, dry_run=dry_run, plan=facts)


def _rows(warehouse: psycopg.Connection) -> list[tuple[object, ...]]:
    return warehouse.execute(
        "SELECT run_id, state, plan, applied, proof, reason, applied_at IS NOT NULL, finished_at IS NOT NULL"
        " FROM ops.maintenance_action ORDER BY 1"
    ).fetchall()


def test_plan_apply_proof(warehouse: psycopg.Connection) -> None:
    action = _plan(rows=Decimal("5"), cut_off=datetime(2026, 10, 4, tzinfo=UTC), name="é")
    plan = {"rows": 5, "cut_off": "2026-10-04T00:00:00+00:00", "name": "é"}
    assert _rows(warehouse) == [("r1", "planned", plan, None, None, "", False, False)]
    action = actions.applying(action)
    assert _rows(warehouse) == [("r1", "applying", plan, None, None, "", True, False)]
    action = actions.prove(action, {"after": 0}, {"statement": "VACUUM"})
    assert _rows(warehouse) == [("r1", "proven", plan, {"statement": "VACUUM"}, {"after": 0}, "", True, True)]
    assert action.done
    assert action.summary() == {
        "action": action.maintenance_action_id,
        "kind": "vacuum",
        "resource": "public.users",
        "state": "proven",
    }


def test_what_is_proven_stays(warehouse: psycopg.Connection) -> None:
    actions.prove(actions.applying(_plan(rows=5)), {"after": 0}, {})
    before = warehouse.execute("SELECT a::text FROM ops.maintenance_action a").fetchall()
    again = _plan(rows=0, dry_run=True)
    assert again.done
    assert again.proof == {"after": 0}
    actions_that_are_too_late = (
        actions.applying,
        lambda a: actions.nothing_to_do(a, "x"),
        lambda a: actions.fail(a, "x"),
    )
    for change in actions_that_are_too_late:
        with pytest.raises(MaintenanceFailed):
            change(again)
    assert warehouse.execute("SELECT a::text FROM ops.maintenance_action a").fetchall() == before


def test_an_attempt_that_was_killed_is_continued_with_its_first_plan(warehouse: psycopg.Connection) -> None:
    first = actions.applying(_plan(rows=5))
    again = _plan(rows=2)
    assert again.maintenance_action_id == first.maintenance_action_id
    assert (again.state, again.plan, again.planned_at) == ("planned", {"rows": 5}, first.planned_at)
    assert [action.resource for action in actions.left_by("r1")] == ["public.users"]
    actions.prove(actions.applying(again), {"after": 0}, {})
    assert actions.left_by("r1") == []


def test_an_attempt_after_one_that_failed_begins_anew(warehouse: psycopg.Connection) -> None:
    """How long it has been applying tells whether its task hangs: the pause since the first attempt does not count."""
    begun = "SELECT state, applied_at, finished_at FROM ops.maintenance_action"
    actions.fail(actions.applying(_plan(rows=5)), "the replica was away")
    [(_, first, ended)] = warehouse.execute(begun).fetchall()
    planned = _plan(rows=2)
    assert warehouse.execute(begun).fetchall() == [("planned", first, None)]
    actions.applying(planned)
    [(state, second, finished)] = warehouse.execute(begun).fetchall()
    assert (state, finished) == ("applying", None)
    assert second > ended


def test_what_changed_nothing_is_planned_anew(warehouse: psycopg.Connection) -> None:
    _plan(rows=5, dry_run=True)
    actions.nothing_to_do(_plan(rows=0), "no rows")
    assert _rows(warehouse) == [("r1", "nothing_to_do", {"rows": 0}, None, None, "no rows", False, True)]
    assert _plan(rows=3).state == "planned"
    assert _rows(warehouse) == [("r1", "planned", {"rows": 3}, None, None, "", False, False)]
    _plan("r2", rows=1)
    assert len(_rows(warehouse)) == 2, "another run has a row of its own"


def test_failures_are_recorded_and_pass_on(warehouse: psycopg.Connection) -> None:
    with pytest.raises(MaintenanceFailed), actions.failures_recorded(actions.applying(_plan())):
        raise MaintenanceFailed("it had no effect")
    assert _rows(warehouse)[0][1:6] == ("failed", {}, None, None, "it had no effect")
    with pytest.raises(ValueError, match="secret"), actions.failures_recorded(_plan()):
        raise ValueError("a row with a secret")
    assert _rows(warehouse)[0][5] == "ValueError; the task's log has its details"
    actions.fail(_plan(), "not enough", {"after": 7})
    assert _rows(warehouse)[0][4:6] == ({"after": 7}, "not enough")


def test_a_reason_holds_no_secret(warehouse: psycopg.Connection) -> None:
    sentence = "public.api_tokens: the archive sftp://backup:{}@nas/x refused it"
    with pytest.raises(ConfigurationError), actions.failures_recorded(_plan()):
        raise ConfigurationError(sentence.format("hunter2"))
    assert _rows(warehouse)[0][5] == sentence.format("***")
    for told in (actions.fail, actions.postpone):
        assert told(_plan(), sentence.format("hunter2")).reason == sentence.format("***")
        assert _rows(warehouse)[0][5] == sentence.format("***")


def test_a_dry_run_cannot_be_applied(warehouse: psycopg.Connection) -> None:
    with pytest.raises(MaintenanceFailed, match="dry run"):
        actions.applying(_plan(dry_run=True))


def test_the_last_proven_act(warehouse: psycopg.Connection) -> None:
    assert actions.last_proven("vacuum", "public.users") is None
    for run_id, value in (("r1", 1), ("r2", 2)):
        actions.prove(actions.applying(_plan(run_id)), {"after": value}, {})
    actions.applying(_plan("r3"))
    found = actions.last_proven("vacuum", "public.users")
    assert found is not None
    assert found.proof == {"after": 2}
    assert [action.run_id for action in actions.begun("vacuum", "public.users")] == ["r3", "r2", "r1"]
    mine = actions.find("vacuum", "public.users", "r1")
    assert mine is not None
    assert mine.proof == {"after": 1}
    assert actions.find("analyze", "public.users", "r1") is None


def test_a_postponed_act_is_planned_anew(warehouse: psycopg.Connection) -> None:
    actions.postpone(_plan(rows=5), "the window is over")
    assert _rows(warehouse)[0][1:6] == ("postponed", {"rows": 5}, None, None, "the window is over")
    stopped = actions.postpone(actions.applying(_plan(rows=5)), "it was stopped", {"seconds": 7})
    assert _rows(warehouse)[0][1:6] == ("postponed", {"rows": 5}, {"seconds": 7}, None, "it was stopped")
    assert (stopped.state, stopped.applied) == ("postponed", {"seconds": 7})
    again = actions.prove(actions.applying(_plan(rows=5)), {"after": 0}, {})
    with pytest.raises(MaintenanceFailed):
        actions.postpone(again, "too late")


def test_the_recent_acts_of_some_resources(warehouse: psycopg.Connection) -> None:
    for run_id in ("r1", "r2", "r3"):
        actions.nothing_to_do(_plan(run_id), "no rows")
        actions.plan("analyze", "public.users", run_id, dry_run=False, plan={})
        actions.plan("vacuum", "public.others", run_id, dry_run=False, plan={})
    _plan("r4", dry_run=True)
    found = actions.recent(["vacuum", "analyze"], ["public.users"], each=2)
    assert [(action.kind, action.run_id) for action in found] == [
        ("analyze", "r3"), ("vacuum", "r3"), ("analyze", "r2"), ("vacuum", "r2")
    ]  # fmt: skip
    assert actions.recent(["vacuum"], []) == []
    assert [action.resource for action in actions.of_run("r2", ["vacuum"])] == ["public.users", "public.others"]


def test_a_kept_connection_is_shared_and_replaced_when_it_is_lost(
    warehouse: psycopg.Connection, databases: Databases
) -> None:
    writers = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = 'warehouse_writer'"
    with session.kept_open():
        _plan(rows=1)
        first = warehouse.execute(writers).fetchall()
        _plan(rows=2)
        assert warehouse.execute(writers).fetchall() == first
        assert len(first) == 1
        with session.transaction() as outer:
            _plan(rows=3)  # within another transaction it is one of its own, as without a kept connection
            outer.rollback()
        assert _rows(warehouse)[0][2] == {"rows": 3}
        with suppress(ValueError), session.transaction() as undone:
            undone.execute("UPDATE ops.maintenance_action SET reason = 'changed'")
            raise ValueError
        assert _rows(warehouse)[0][5] == ""
        with psycopg.connect(databases.postgres.url("postgres")) as superuser:
            superuser.execute("SELECT pg_terminate_backend(%s, 5000)", first[0])
        with pytest.raises(SourceUnavailable):
            _plan(rows=4)
        _plan(rows=5)
        with session.kept_open():
            _plan(rows=6)
        with pytest.raises(ConfigurationError), session.transaction() as connection:
            connection.execute("SELECT * FROM ops.nothing")
        _plan(rows=7)
    assert _rows(warehouse)[0][2] == {"rows": 7}
    deadline = time.monotonic() + 10  # the server takes a moment to see a connection end
    while warehouse.execute(writers).fetchall() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert warehouse.execute(writers).fetchall() == []


def test_bad_input_and_a_lost_warehouse(warehouse: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="'defragment' is not a kind"):
        actions.plan("defragment", "x", "r1", dry_run=False, plan={})
    action = _plan()
    environment.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://x:y@127.0.0.1:1/warehouse")
    with pytest.raises(SourceUnavailable, match="warehouse"):
        actions.applying(action)
    with pytest.raises(MaintenanceFailed, match="the first error"), actions.failures_recorded(action):
        raise MaintenanceFailed("the first error")


def test_what_ends_the_task_from_outside_is_a_failure_too(warehouse: psycopg.Connection) -> None:
    """Airflow's time limit of a task is no Exception."""
    with pytest.raises(KeyboardInterrupt), actions.failures_recorded(actions.applying(_plan())):
        raise KeyboardInterrupt
    assert _rows(warehouse)[0][1] == "failed"
    assert _rows(warehouse)[0][5] == "it was ended from outside before it was done (KeyboardInterrupt)"
