"""A finding is one row per check, resource and run; it is open until a run of its check settles it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

import psycopg
import pytest

from include.outcome import MaintenanceFailed, Outcome, SourceUnavailable
from include.warehouse import findings, session
from include.warehouse.findings import Finding
from tests.recorded_findings import latest_findings

OK, WARNING, CRITICAL, UNKNOWN = Outcome.OK, Outcome.WARNING, Outcome.CRITICAL, Outcome.UNKNOWN


def _find(run_id: str, **outcomes: Outcome) -> dict[str, object]:
    return findings.replace(run_id, "unused_indexes", [Finding(name, one, "A.") for name, one in outcomes.items()])


def _ages(warehouse: psycopg.Connection, run_id: str) -> dict[str, str | None]:
    """The run that each finding of a run is as old as."""
    return dict(
        warehouse.execute(
            "SELECT f.resource, f.first_run_id FROM ops.finding f WHERE f.run_id = %s AND (f.first_found_at IS NULL OR"
            " f.first_found_at <= (SELECT found_at FROM ops.finding o WHERE o.run_id = f.first_run_id LIMIT 1))",
            (run_id,),
        ).fetchall()
    )


def test_a_finding_with_all_it_has(warehouse: psycopg.Connection) -> None:
    evidence = {"scans": 0, "size_bytes": Decimal("8192"), "since": datetime(2026, 10, 4, tzinfo=UTC), "share": 0.5}
    finding = Finding("public.é", WARNING, "It is unused.", evidence, 'DROP INDEX CONCURRENTLY "é";', {"bytes": 8192})
    done = findings.replace("r1", "unused_indexes", [finding, Finding("public.b", OK, "It is used.")])
    assert done == {"check": "unused_indexes", "outcome": "warning", "warning": 1, "ok": 1}
    plain = {"scans": 0, "size_bytes": 8192, "since": "2026-10-04T00:00:00+00:00", "share": 0.5}
    [first, second] = latest_findings("unused_indexes")
    assert (first.check, first.run_id, first.is_new) == ("unused_indexes", "r1", True)
    assert first.finding == Finding(
        "public.é", WARNING, "It is unused.", plain, 'DROP INDEX CONCURRENTLY "é";', {"bytes": 8192}
    )
    assert first.found_at == first.first_found_at
    assert second.finding == Finding("public.b", OK, "It is used.", {}, "", None)
    assert (second.first_found_at, second.is_new) == (None, False)
    assert latest_findings("another_check") == []


def test_a_repeated_run_leaves_the_same_rows(warehouse: psycopg.Connection) -> None:
    rows = "SELECT finding_id, run_id, resource, outcome, first_found_at, first_run_id FROM ops.finding ORDER BY 1"
    _find("r1", a=WARNING, b=CRITICAL)
    before = warehouse.execute(rows).fetchall()
    _find("r1", a=WARNING, b=CRITICAL)
    assert warehouse.execute(rows).fetchall() == before
    _find("r1", b=OK, c=UNKNOWN)
    assert [row[1:4] for row in warehouse.execute(rows)] == [("r1", "b", "ok"), ("r1", "c", "unknown")]
    findings.replace("r1", "another_check", [Finding("a", OK, "A.")])
    assert len(warehouse.execute(rows).fetchall()) == 3, "another check's rows are its own"


def test_a_finding_is_open_until_a_run_settles_it(warehouse: psycopg.Connection) -> None:
    _find("r1", a=WARNING, b=WARNING, c=WARNING, d=UNKNOWN)
    assert _ages(warehouse, "r1") == {"a": "r1", "b": "r1", "c": "r1", "d": "r1"}
    _find("r2", a=CRITICAL, b=OK, d=WARNING)  # b is settled by name, c by not being found any more
    assert _ages(warehouse, "r2") == {"a": "r1", "b": None, "d": "r1"}
    _find("r3", a=WARNING, b=WARNING, c=WARNING)
    assert _ages(warehouse, "r3") == {"a": "r1", "b": "r3", "c": "r3"}
    new = {one.finding.resource: one.is_new for one in latest_findings()}
    assert new == {"a": False, "b": True, "c": True}
    findings.replace("r4", "another_check", [Finding("a", WARNING, "A.")])
    assert _ages(warehouse, "r4") == {"a": "r4"}, "the age of another check's finding is its own"
    _find("r3", a=WARNING, b=WARNING, c=WARNING)
    assert _ages(warehouse, "r3") == {"a": "r1", "b": "r3", "c": "r3"}, "a repetition makes nothing younger or older"


def test_a_run_that_could_not_look_settles_nothing(warehouse: psycopg.Connection) -> None:
    _find("r1", a=WARNING, b=WARNING)
    _find("r2", a=UNKNOWN, database=UNKNOWN)
    _find("r3", a=WARNING, b=WARNING)
    assert _ages(warehouse, "r3") == {"a": "r1", "b": "r1"}
    _find("r4", b=UNKNOWN)
    _find("r5", a=WARNING, b=OK)
    _find("r6", a=WARNING, b=WARNING)
    assert _ages(warehouse, "r6") == {"a": "r1", "b": "r6"}


def test_the_latest_run_speaks(warehouse: psycopg.Connection) -> None:
    _find("r1", a=WARNING, b=UNKNOWN, c=CRITICAL, d=OK)
    assert [one.finding.resource for one in latest_findings()] == ["c", "a", "b", "d"], "the worst first"
    _find("r2", database=OK)
    assert [one.finding.resource for one in latest_findings()] == ["database"]
    _find("r1", a=WARNING)  # an older run that is repeated has looked last
    assert [(one.run_id, one.finding.resource) for one in latest_findings()] == [("r1", "a")]


def test_what_was_last_seen_of_a_resource_is_not_forgotten(warehouse: psycopg.Connection) -> None:
    for run_id, names in (("r1", "ab"), ("r2", "b")):
        findings.replace(run_id, "unused_indexes", [Finding(name, OK, "A.", {"run": run_id}) for name in names])
    findings.replace("r3", "another_check", [Finding("b", OK, "A.", {"run": "r3"})])
    assert findings.last_seen("unused_indexes") == {"a": {"run": "r1"}, "b": {"run": "r2"}}
    assert findings.last_seen("a_third_check") == {}


def test_bad_input_and_a_lost_warehouse(warehouse: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="reports nothing"):
        findings.replace("r1", "unused_indexes", [])
    with pytest.raises(ValueError, match="reports a more than once"):
        findings.replace("r1", "unused_indexes", [Finding("a", OK, "A."), Finding("a", WARNING, "B.")])
    with pytest.raises(TypeError, match="object is not a fact"):
        findings.replace("r1", "unused_indexes", [Finding("a", OK, "A.", {"x": object()})])
    with pytest.raises(psycopg.errors.CheckViolation):
        findings.replace("r1", "unused_indexes", [Finding("a", OK, "A."), Finding("b", WARNING, "")])
    assert warehouse.execute("SELECT count(*) FROM ops.finding").fetchone() == (0,), "all or nothing"
    environment.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://x:y@127.0.0.1:1/warehouse")
    with pytest.raises(SourceUnavailable, match="warehouse"):
        _find("r1", a=OK)


def test_each_check_has_its_turn() -> None:
    made: list[str] = []

    def check(name: str, error: str = "") -> dict[str, str]:
        made.append(name)
        if error:
            raise MaintenanceFailed(error)
        return {"check": name}

    both = findings.each_in_turn("r1", {name: partial(check, name) for name in "ab"})
    assert both == [{"check": "a"}, {"check": "b"}]
    made.clear()
    with pytest.raises(MaintenanceFailed, match="first"):
        findings.each_in_turn(
            "r1", {"a": partial(check, "a", "first"), "b": partial(check, "b"), "c": partial(check, "c", "second")}
        )
    assert made == ["a", "b", "c"]


class AirflowTaskTimeout(BaseException):
    """As Airflow's own, which is no Exception."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise as Airflow's time limit does: from the handler of a signal, amid whatever the process waits for."""

    def reached(*_: object) -> None:
        raise AirflowTaskTimeout

    before = signal.signal(signal.SIGALRM, reached)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_the_time_limit_of_the_task_leaves_no_older_ok(warehouse: psycopg.Connection) -> None:
    for check in ("bloat", "unused_indexes", "foreign_keys"):
        findings.replace("last week", check, [Finding("all", OK, "A.")])

    def waits(check: str) -> dict[str, object]:
        with findings.unknown_recorded("this week", check, "all"), session.kept_open():
            with session.transaction() as connection:
                connection.execute("SELECT pg_sleep(30)")
            raise AssertionError("the limit comes first")

    with pytest.raises(AirflowTaskTimeout), _time_limit(0.2):
        findings.each_in_turn("this week", {name: partial(waits, name) for name in ("bloat", "unused_indexes")})
    told = {one.check: (one.run_id, one.finding.outcome, one.finding.summary) for one in latest_findings()}
    reached = "the time limit of the task was reached before it was done; the task's log tells what it was doing"
    assert told == {
        "bloat": ("this week", UNKNOWN, f"It could not be checked: {reached}"),
        "unused_indexes": ("this week", UNKNOWN, f"It was not its turn yet: {reached}"),
        "foreign_keys": ("last week", OK, "A."),
    }


def test_a_time_limit_amid_a_statement_spoils_no_kept_connection(warehouse: psycopg.Connection) -> None:
    with session.kept_open():
        with pytest.raises(KeyboardInterrupt), findings.unknown_recorded("r1", "bloat", "all"):
            raise KeyboardInterrupt
        with pytest.raises(AirflowTaskTimeout), _time_limit(0.2), session.transaction() as connection:
            connection.execute("SELECT pg_sleep(30)")
        [found] = latest_findings("bloat")
    assert found.finding.summary == (
        "It could not be checked: it was ended from outside before it was done (KeyboardInterrupt)"
    )
