"""What the database itself holds of incidents, whoever writes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from include import connections
from include.warehouse import incidents
from include.warehouse import signals as warehouse_signals
from include.warehouse.signals import Signal
from tests.include.incidents.helpers import rows, signal

INSERT = """
    INSERT INTO ops.incident (incident_id, fingerprint, class, state, title, affected, detected_at, last_seen_at)
    VALUES (%s, 'airflow:daily_metrics', 'P2', %s, 't', 'a', now(), now())
"""
TIMELINE = "SELECT at, message FROM ops.incident_timeline ORDER BY entry"


@pytest.fixture
def empty(warehouse: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A connection of the writer to a warehouse without signals."""
    with connections.postgres("warehouse", autocommit=True) as connection:
        yield connection


@pytest.fixture
def writer(empty: psycopg.Connection) -> psycopg.Connection:
    warehouse_signals.insert(empty, [signal(1)])
    return empty


def test_the_timeline_and_the_signals_refuse_changes_even_by_their_owner(
    warehouse: psycopg.Connection, writer: psycopg.Connection
) -> None:
    incidents.take_signals(writer, "airflow:daily_metrics", "test")
    before = rows(warehouse, "SELECT * FROM ops.incident_timeline")
    for statement in (
        "UPDATE ops.incident_timeline SET message = 'nothing happened'",
        "DELETE FROM ops.incident_timeline",
        "UPDATE ops.signal SET class = 'P3'",
        "DELETE FROM ops.signal",
    ):
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            warehouse.execute(statement)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            writer.execute(statement)
    assert rows(warehouse, "SELECT * FROM ops.incident_timeline") == before


@pytest.mark.parametrize("state", ["detected", "acknowledged", "mitigated"])
def test_a_second_open_incident_of_a_fingerprint_is_refused(
    warehouse: psycopg.Connection, writer: psycopg.Connection, state: str
) -> None:
    incidents.take_signals(writer, "airflow:daily_metrics", "test")
    with pytest.raises(psycopg.errors.UniqueViolation):
        warehouse.execute(INSERT, ("INC-2026-002", state))
    warehouse.execute(INSERT, ("INC-2026-002", "resolved"))


def test_an_incident_opened_by_somebody_else_is_joined_and_the_number_given_back(
    warehouse: psycopg.Connection, writer: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse.execute(INSERT, ("INC-2026-001", "detected"))
    warehouse.execute("INSERT INTO ops.incident_counter VALUES (2026, 1)")
    look, first = incidents._open_incident, [True]

    def blind_at_first(connection: psycopg.Connection, fingerprint: str) -> str | None:
        return None if first and first.pop() else look(connection, fingerprint)

    monkeypatch.setattr(incidents, "_open_incident", blind_at_first)
    assert incidents.take_signals(writer, "airflow:daily_metrics", "test") == "INC-2026-001"
    assert rows(warehouse, "SELECT last FROM ops.incident_counter") == [(1,)]
    assert rows(warehouse, "SELECT occurrences FROM ops.incident") == [(2,)]


def test_nothing_waiting_is_nothing_done(warehouse: psycopg.Connection, writer: psycopg.Connection) -> None:
    assert incidents.take_signals(writer, "airflow:unheard_of", "test") is None
    assert rows(warehouse, "SELECT count(*) FROM ops.incident_counter") == [(0,)]


def test_insert_counts_only_new_signals(warehouse: psycopg.Connection, writer: psycopg.Connection) -> None:
    assert warehouse_signals.insert(writer, [signal(1), signal(2), signal(2), signal(3)]) == 2
    assert warehouse_signals.insert(writer, []) == 0


def _failed(
    ago: float, task: str | None, run: int = 1, copy: int = 0, kind: str = "task_failed", cleared: int = 0
) -> Signal:
    """A signal as include/dag_signals.py writes it of a task, or of a run that this task has failed."""
    of_task = {"task_id": task} if kind == "task_failed" else {"task_id": "", **({"task": task} if task else {})}
    mapped = {"map_index": copy} if task else {}
    return signal(
        idempotency_key=f"{ago} {task} {run} {copy} {kind} {cleared}",
        kind=kind,
        occurred_at=datetime.now(UTC) - timedelta(hours=ago),
        title=f"{task} of run {run} {kind}",
        detail={"dag_id": "daily_metrics", "run_id": f"run-{run}", "try_number": cleared} | of_task | mapped,
    )


def _attach(connection: psycopg.Connection, *given: Signal) -> None:
    """Write signals of the DAG and make them part of its incident."""
    warehouse_signals.insert(connection, given)
    incidents.take_signals(connection, "airflow:daily_metrics", "test")


@pytest.mark.parametrize(
    ("told", "later", "is_seen_again"),
    [
        ([_failed(5, "a")], _failed(1, "a", kind="dag_failed"), False),
        ([_failed(5, "a"), _failed(4.9, "b")], _failed(1, "b", kind="dag_failed"), False),
        ([_failed(5, "a")], _failed(1, "b", kind="dag_failed"), True),  # b's process was killed
        ([_failed(5, "a")], _failed(1, "a", copy=1, kind="dag_failed"), True),
        ([_failed(5, "a")], _failed(1, "a", run=2, kind="dag_failed"), True),
        ([_failed(5, "a")], _failed(1, None, kind="dag_failed"), True),
        ([_failed(5, "a")], _failed(1, None, kind="deadline_missed"), True),
        ([_failed(5, "a")], _failed(1, "a"), True),
        # The run was cleared, and the process of its task was killed.
        ([_failed(5, "a"), _failed(4.9, "a", kind="dag_failed")], _failed(1, "a", kind="dag_failed"), True),
        ([_failed(6, "a"), _failed(5.5, "a", kind="dag_failed"), _failed(5, "a")],
         _failed(1, "a", kind="dag_failed", cleared=1), False),
    ],
)  # fmt: skip
def test_a_run_that_fails_of_a_task_that_was_told_has_not_failed_again(
    warehouse: psycopg.Connection, empty: psycopg.Connection, told: list[Signal], later: Signal, is_seen_again: bool
) -> None:
    _attach(empty, *told)
    warehouse.execute("UPDATE ops.incident SET state = 'acknowledged', acknowledged_at = now() - interval '3 hours'")
    _attach(empty, later)
    (one,) = incidents.open_incidents(empty)
    assert one.occurrences == len(told) + 1
    assert one.seen_again == is_seen_again
    latest = later if is_seen_again else told[-1]
    assert (one.last_seen_at, one.last_title) == (latest.occurred_at, latest.title)
    said = "Seen again" if is_seen_again else "The run ended"
    assert rows(warehouse, f"{TIMELINE} DESC")[0] == (later.occurred_at, f"{said}: {later.title}")


KINDS = "SELECT kind, at, message FROM ops.incident_timeline ORDER BY incident_id, entry"
INCIDENTS = "SELECT state, occurrences, last_seen_at FROM ops.incident ORDER BY incident_id"
LINKED = "SELECT incident_id FROM ops.incident_signal ORDER BY signal_id"


@pytest.mark.parametrize("state", ["resolved", "cancelled"])
def test_the_end_of_a_run_goes_to_the_incident_of_its_task_though_that_is_over(
    warehouse: psycopg.Connection, empty: psycopg.Connection, state: str
) -> None:
    told, end = _failed(2, "a"), _failed(0.5, "a", kind="dag_failed")
    _attach(empty, told)
    warehouse.execute("UPDATE ops.incident SET state = %s", (state,))
    _attach(empty, end)
    assert rows(warehouse, INCIDENTS) == [(state, 2, told.occurred_at)]
    assert rows(warehouse, KINDS)[1:] == [("run_ended", end.occurred_at, "The run ended: a of run 1 dag_failed")]
    assert incidents.pending_fingerprints(empty) == []
    assert rows(warehouse, "SELECT last FROM ops.incident_counter") == [(1,)]


def test_the_end_of_a_run_is_not_seen_in_the_open_incident_of_another(
    warehouse: psycopg.Connection, empty: psycopg.Connection
) -> None:
    _attach(empty, _failed(5, "a"))
    warehouse.execute("UPDATE ops.incident SET state = 'resolved'")
    other, more = _failed(4, "a", run=2), _failed(2, "b", run=3)
    _attach(empty, other)
    _attach(empty, _failed(3, "a", kind="dag_failed"), more, _failed(1, "b", run=3, kind="dag_failed"))
    first, second = rows(warehouse, INCIDENTS)
    assert (first[:2], second) == (("resolved", 2), ("detected", 3, more.occurred_at))
    of_closed, of_open = (one for (one,) in rows(warehouse, "SELECT incident_id FROM ops.incident ORDER BY 1"))
    assert [one for (one,) in rows(warehouse, LINKED)] == [of_closed, of_open, of_closed, of_open, of_open]
    assert [kind for kind, *_ in rows(warehouse, KINDS)] == [
        *("detected", "run_ended"),
        *("detected", "seen_again", "run_ended"),
    ]


def test_the_ends_of_runs_that_come_together_each_stand_in_the_timeline(
    warehouse: psycopg.Connection, empty: psycopg.Connection
) -> None:
    told = [_failed(6, "a"), _failed(5, "a", run=2)]
    ends = [_failed(1, "a", kind="dag_failed"), _failed(2, "a", run=2, kind="dag_failed")]
    _attach(empty, *told, *ends)
    assert rows(warehouse, INCIDENTS) == [("detected", 4, told[1].occurred_at)]
    assert [message for _, _, message in rows(warehouse, KINDS)] == [
        "a of run 1 task_failed",
        "Seen again: a of run 2 task_failed",
        "The run ended: a of run 2 dag_failed",
        "The run ended: a of run 1 dag_failed",
    ]


@pytest.mark.parametrize(
    "end",
    [
        _failed(1, "a", kind="dag_failed", cleared=1),  # and the task, run again, was killed
        _failed(1, "b", kind="dag_failed"),
        _failed(1, "a", run=2, kind="dag_failed"),
        _failed(1, None, kind="dag_failed"),
    ],
)
def test_a_run_that_fails_of_what_was_not_told_opens_an_incident_once_the_first_is_over(
    warehouse: psycopg.Connection, empty: psycopg.Connection, end: Signal
) -> None:
    _attach(empty, _failed(5, "a"))
    warehouse.execute("UPDATE ops.incident SET state = 'resolved'")
    _attach(empty, end)
    assert [state for state, *_ in rows(warehouse, INCIDENTS)] == ["resolved", "detected"]


def test_a_clock_that_is_ahead_keeps_nobody_from_taking_what_it_told(
    warehouse: psycopg.Connection, empty: psycopg.Connection
) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=5)
    for number in (1, 2):
        _attach(empty, signal(number, occurred_at=ahead + timedelta(minutes=number)))
    ((detected, seen),) = rows(warehouse, "SELECT detected_at, last_seen_at FROM ops.incident")
    assert [(detected,), (seen,)] == rows(warehouse, "SELECT received_at FROM ops.signal ORDER BY signal_id")
    assert [at for at, _ in rows(warehouse, TIMELINE)] == [detected, seen]
    warehouse.execute("UPDATE ops.incident SET state = 'acknowledged', acknowledged_at = now()")
    assert not incidents.open_incidents(empty)[0].seen_again
    _attach(empty, signal(3, occurred_at=datetime.now(UTC)))
    (one,) = incidents.open_incidents(empty)
    assert one.seen_again
    assert one.last_title == "daily_metrics: task users failed (3)"
