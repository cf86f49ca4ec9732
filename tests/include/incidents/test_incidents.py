"""Signals become incidents: one open per fingerprint, numbered without gaps, with a timeline that is never changed."""

import multiprocessing
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from include import connections
from include.incidents import __main__ as command
from include.incidents import incidents, signals
from include.outcome import ConfigurationError, IncidentClass, SourceUnavailable
from include.settings import ROOT, settings
from include.warehouse import incidents as warehouse_incidents
from include.warehouse import signals as warehouse_signals
from tests.include.incidents.helpers import NOON, rows, signal

TIMELINE = "SELECT entry, at, actor, kind, message FROM ops.incident_timeline ORDER BY incident_id, entry"


def _write(*given: signals.Signal) -> None:
    with connections.postgres("warehouse") as connection:
        warehouse_signals.insert(connection, given)


def test_a_signal_becomes_an_incident(warehouse: psycopg.Connection) -> None:
    _write(signal(1))
    assert incidents.handle() == ["INC-2026-001"]
    at = NOON + timedelta(minutes=1)
    assert rows(warehouse, "SELECT * FROM ops.incident") == [
        (
            "INC-2026-001",
            "airflow:daily_metrics",
            "P2",
            "detected",
            "daily_metrics: task users failed (1)",
            "DAG daily_metrics",
            at,
            at,
            1,
            None,
            None,
        )
    ]
    assert rows(warehouse, TIMELINE) == [
        (1, at, "incident handler", "detected", "daily_metrics: task users failed (1)")
    ]
    assert incidents.handle() == [], "a signal is handled once"
    assert rows(warehouse, "SELECT count(*) FROM ops.incident_timeline") == [(1,)]


def test_later_signals_continue_the_incident_and_raise_its_class(warehouse: psycopg.Connection) -> None:
    _write(signal(1))
    incidents.handle()
    _write(signal(3, incident_class=IncidentClass.P3))
    incidents.handle()
    _write(signal(4, incident_class=IncidentClass.P1), signal(6, incident_class=IncidentClass.P3))
    assert incidents.handle() == ["INC-2026-001"]
    assert rows(warehouse, "SELECT class, occurrences, detected_at, last_seen_at FROM ops.incident") == [
        ("P1", 4, NOON + timedelta(minutes=1), NOON + timedelta(minutes=6))
    ]
    assert [(entry, kind, message) for entry, _, _, kind, message in rows(warehouse, TIMELINE)] == [
        (1, "detected", "daily_metrics: task users failed (1)"),
        (2, "seen_again", "Seen again: daily_metrics: task users failed (3)"),
        (3, "seen_again", "Seen 2 more times, last: daily_metrics: task users failed (6)"),
        (4, "class_raised", "Raised from P2 to P1: daily_metrics: task users failed (4)"),
    ]


def test_a_late_signal_moves_the_detection_back(warehouse: psycopg.Connection) -> None:
    _write(signal(5))
    incidents.handle()
    _write(signal(1))
    incidents.handle()
    assert rows(warehouse, "SELECT detected_at, last_seen_at FROM ops.incident") == [
        (NOON + timedelta(minutes=1), NOON + timedelta(minutes=5))
    ]


def test_many_signals_at_once_open_one_incident(warehouse: psycopg.Connection) -> None:
    _write(*(signal(number) for number in range(1, 41)), signal(99, fingerprint="airflow:other", detail={}))
    assert incidents.handle() == ["INC-2026-001", "INC-2026-002"]
    assert rows(warehouse, "SELECT incident_id, occurrences, affected FROM ops.incident ORDER BY 1") == [
        ("INC-2026-001", 40, "DAG daily_metrics"),
        ("INC-2026-002", 1, "airflow:other"),
    ]
    assert rows(warehouse, "SELECT count(*) FROM ops.incident_signal") == [(41,)]
    assert [kind for _, _, _, kind, _ in rows(warehouse, TIMELINE)] == ["detected", "seen_again", "detected"]


def test_an_incident_that_is_over_is_not_continued(warehouse: psycopg.Connection) -> None:
    _write(signal(1))
    incidents.handle()
    incidents.acknowledge("INC-2026-001", "ada")
    incidents.resolve("INC-2026-001", "ada", "The pool was enlarged.")
    _write(signal(2))
    assert incidents.handle() == ["INC-2026-002"]
    assert rows(warehouse, "SELECT incident_id, state, occurrences FROM ops.incident ORDER BY 1") == [
        ("INC-2026-001", "resolved", 1),
        ("INC-2026-002", "detected", 1),
    ]


def test_what_people_do_stands_in_the_timeline(warehouse: psycopg.Connection) -> None:
    _write(signal(1))
    incidents.handle()
    before = datetime.now(UTC)
    incidents.acknowledge("INC-2026-001", "ada")
    incidents.resolve("INC-2026-001", "grace", " The pool was enlarged. ")
    assert [(entry, actor, kind, message) for entry, _, actor, kind, message in rows(warehouse, TIMELINE)][1:] == [
        (2, "ada", "acknowledged", "Taken by ada."),
        (3, "grace", "resolved", "The pool was enlarged."),
    ]
    ((acknowledged_at, resolved_at),) = rows(warehouse, "SELECT acknowledged_at, resolved_at FROM ops.incident")
    assert before <= acknowledged_at <= resolved_at <= datetime.now(UTC)
    assert incidents.open_incidents() == []


def test_one_that_was_seen_again_since_somebody_took_it_can_be_taken_again(
    warehouse: psycopg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    """One incident is open per DAG: what else of it fails must not go unseen."""
    _write(signal(1))
    incidents.handle()
    incidents.acknowledge("INC-2026-001", "ada")
    warehouse.execute("UPDATE ops.incident SET acknowledged_at = now() - interval '2 hours'")
    assert command.main(["list"]) == 0
    assert "seen again" not in capsys.readouterr().out
    again = datetime.now(UTC) - timedelta(hours=1)
    _write(
        signal(2, occurred_at=again, title="daily_metrics: task traffic failed"),
        signal(3, occurred_at=again - timedelta(minutes=5)),
    )
    incidents.handle()
    assert command.main(["list"]) == 0
    assert capsys.readouterr().out == (
        "INC-2026-001  P2  acknowledged  2026-10-03 12:01 UTC  seen 3x  DAG daily_metrics: daily_metrics: task users"
        f" failed (1); seen again since, last {again:%Y-%m-%d %H:%M} UTC: daily_metrics: task traffic failed\n"
    )
    incidents.acknowledge("INC-2026-001", "grace")
    assert rows(warehouse, TIMELINE)[-1][2:] == ("grace", "acknowledged", "Taken by grace.")
    incidents.resolve("INC-2026-001", "grace", "Over.")
    with pytest.raises(ConfigurationError, match="is resolved and cannot become acknowledged"):
        incidents.acknowledge("INC-2026-001", "ada")


def test_a_false_alarm_is_cancelled_and_the_next_one_is_new(warehouse: psycopg.Connection) -> None:
    _write(signal(1))
    incidents.handle()
    incidents.cancel("INC-2026-001", "ada", " The clock of the probe was wrong. ")
    assert incidents.open_incidents() == []
    assert rows(warehouse, TIMELINE)[1][2:] == ("ada", "cancelled", "The clock of the probe was wrong.")
    assert rows(warehouse, "SELECT state, resolved_at FROM ops.incident") == [("cancelled", None)]
    _write(signal(2))
    assert incidents.handle() == ["INC-2026-002"]


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda: incidents.acknowledge("incident 1", "ada"), "'incident 1' is not an incident's id"),
        (lambda: incidents.acknowledge("INC-2026-009", "ada"), "there is no incident INC-2026-009"),
        (lambda: incidents.resolve("INC-2026-001", "ada", "  "), "cannot be resolved without a message"),
        (lambda: incidents.resolve("INC-2026-001", " ", "over"), "without the name of who did it"),
        (lambda: incidents.acknowledge("INC-2026-001", "ada"), "is acknowledged and cannot become acknowledged"),
        (lambda: incidents.resolve("INC-2026-002", "ada", "over"), "is resolved and cannot become resolved"),
        (lambda: incidents.cancel("INC-2026-001", "ada", " "), "cannot be cancelled without a message"),
        (lambda: incidents.cancel("INC-2026-002", "ada", "drill"), "is resolved and cannot become cancelled"),
    ],
)
def test_wrong_ids_and_states_are_one_sentence(warehouse: psycopg.Connection, act: object, sentence: str) -> None:
    _write(signal(1), signal(2, fingerprint="other"))
    incidents.handle()
    incidents.acknowledge("INC-2026-001", "ada")
    incidents.resolve("INC-2026-002", "ada", "over")
    before = rows(warehouse, TIMELINE)
    with pytest.raises(ConfigurationError, match=sentence):
        act()  # type: ignore[operator]
    assert rows(warehouse, TIMELINE) == before


def test_numbers_start_again_each_year(warehouse: psycopg.Connection) -> None:
    for number, at in enumerate(
        [
            datetime(2025, 12, 31, 23, 59, tzinfo=UTC),
            datetime(2026, 1, 1, tzinfo=UTC),
            datetime(2025, 12, 31, tzinfo=UTC),
        ]
    ):
        _write(signal(number, occurred_at=at, fingerprint=f"cause {number}"))
        incidents.handle()
    assert rows(warehouse, "SELECT incident_id FROM ops.incident ORDER BY 1") == [
        ("INC-2025-001",),
        ("INC-2025-002",),
        ("INC-2026-001",),
    ]


def test_the_year_has_more_than_999_numbers(warehouse: psycopg.Connection) -> None:
    warehouse.execute("INSERT INTO ops.incident_counter VALUES (2026, 999)")
    _write(signal(1))
    assert incidents.handle() == ["INC-2026-1000"]


# ------------------------------------------------------------------------------------- concurrency and rollbacks
def _handle_in_a_process() -> None:
    incidents.handle()


def test_many_handlers_at_once_give_each_number_once(warehouse: psycopg.Connection) -> None:
    for start in (0, 25):
        _write(*(signal(n, fingerprint=f"cause {n}") for n in range(start, start + 25)))
        _write(*(signal(1000 + n, fingerprint=f"cause {n}") for n in range(start, start + 25)))
        processes: list[Any] = [
            multiprocessing.get_context("fork").Process(target=_handle_in_a_process) for _ in range(4)
        ]
        threads = [threading.Thread(target=_handle_in_a_process) for _ in range(4)]
        for worker in (*processes, *threads):
            worker.start()
        for worker in (*processes, *threads):
            worker.join()
        assert [process.exitcode for process in processes] == [0] * 4
    incidents.handle()
    ids = [incident_id for (incident_id,) in rows(warehouse, "SELECT incident_id FROM ops.incident ORDER BY 1")]
    assert ids == [f"INC-2026-{number:03d}" for number in range(1, 51)]
    assert rows(warehouse, "SELECT count(DISTINCT fingerprint), sum(occurrences) FROM ops.incident") == [(50, 100)]
    assert rows(warehouse, "SELECT count(*) FROM ops.incident_signal") == [(100,)]
    assert (
        rows(
            warehouse,
            "SELECT incident_id FROM ops.incident_timeline GROUP BY 1 HAVING max(entry) <> count(*) OR min(entry) <> 1",
        )
        == []
    )


def test_one_fingerprint_and_many_handlers_give_one_incident(warehouse: psycopg.Connection) -> None:
    def work(worker: int) -> None:
        for number in range(6):
            _write(signal(worker * 100 + number))
            incidents.handle()

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    incidents.handle()
    assert rows(warehouse, "SELECT incident_id, occurrences FROM ops.incident") == [("INC-2026-001", 48)]
    assert rows(warehouse, "SELECT count(*) = max(entry) FROM ops.incident_timeline") == [(True,)]


def test_a_transaction_that_is_rolled_back_leaves_no_gap(warehouse: psycopg.Connection) -> None:
    _write(signal(1))
    warehouse.execute(
        """
        CREATE FUNCTION ops.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken on purpose'; END $$;
        CREATE TRIGGER fail BEFORE INSERT ON ops.incident_signal FOR EACH ROW EXECUTE FUNCTION ops.fail();
        """
    )
    for _ in range(3):
        with pytest.raises(psycopg.errors.RaiseException):
            incidents.handle()
    assert rows(
        warehouse, "SELECT (SELECT count(*) FROM ops.incident), (SELECT count(*) FROM ops.incident_counter)"
    ) == [(0, 0)]
    warehouse.execute("DROP TRIGGER fail ON ops.incident_signal; DROP FUNCTION ops.fail()")
    assert incidents.handle() == ["INC-2026-001"]


def test_a_handler_that_dies_with_its_transaction_open_is_followed_by_the_next(
    warehouse: psycopg.Connection, databases: Databases
) -> None:
    _write(signal(1))
    dying = connections.postgres("warehouse")
    dying.execute("SELECT 1")  # opens its transaction
    assert warehouse_incidents.take_signals(dying, "airflow:daily_metrics", "x") == "INC-2026-001"
    assert incidents.handle() == [], "the fingerprint is in another handler's hands"
    with psycopg.connect(databases.postgres.url("postgres")) as superuser:
        superuser.execute("SELECT pg_terminate_backend(%s)", (dying.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError):
        dying.execute("SELECT 1")
    dying.close()
    assert incidents.handle() == ["INC-2026-001"]
    assert rows(warehouse, "SELECT last FROM ops.incident_counter") == [(1,)]


def test_a_signal_that_comes_while_somebody_resolves_opens_a_new_incident(warehouse: psycopg.Connection) -> None:
    _write(signal(1))
    incidents.handle()
    _write(signal(2))
    with (
        connections.postgres("warehouse") as person,
        warehouse_incidents.locked(person, "INC-2026-001") as before,
    ):
        assert before == warehouse_incidents.Held("detected", seen_again=False)
        touched: list[str] = []
        handler = threading.Thread(target=lambda: touched.extend(incidents.handle()))
        handler.start()
        handler.join(0.5)
        assert handler.is_alive(), "it waits for the person to finish"
        warehouse_incidents.change_state(
            person, "INC-2026-001", before=before.state, state="resolved", actor="ada", message="Over."
        )
    handler.join(10)
    assert touched == ["INC-2026-002"]
    assert rows(warehouse, "SELECT incident_id, state, occurrences FROM ops.incident ORDER BY 1") == [
        ("INC-2026-001", "resolved", 1),
        ("INC-2026-002", "detected", 1),
    ]


def test_the_warehouse_down_is_one_sentence(warehouse: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://x:y@127.0.0.1:1/warehouse")
    with pytest.raises(SourceUnavailable, match="warehouse .* cannot be reached"):
        incidents.handle()


def test_a_warehouse_that_is_not_migrated_names_the_remedy(warehouse: psycopg.Connection) -> None:
    warehouse.execute("ALTER TABLE ops.signal RENAME TO elsewhere")
    with pytest.raises(ConfigurationError, match="not migrated"):
        incidents.handle()


# ------------------------------------------------------------------------------------------------------ commands
def test_the_commands(warehouse: psycopg.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["list"]) == 0
    signals.record(signal(1))
    assert command.main(["handle"]) == 0
    assert command.main(["list"]) == 0
    assert command.main(["acknowledge", "INC-2026-001", "--actor", "ada"]) == 0
    assert command.main(["resolve", "INC-2026-001", "--actor", "ada", "--message", "Fixed."]) == 0
    assert command.main(["resolve", "INC-2026-001", "--actor", "ada", "--message", "Again."]) == 1
    signals.record(signal(2))
    assert command.main(["handle"]) == 0
    assert command.main(["cancel", "INC-2026-002", "--actor", "ada", "--message", "A drill."]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "No incident is open.",
        "Spool: 0 recorded, 0 known already, 0 broken.",
        "Incidents opened or continued: INC-2026-001.",
        "INC-2026-001  P2  detected      2026-10-03 12:01 UTC  seen 1x  "
        "DAG daily_metrics: daily_metrics: task users failed (1)",
        "INC-2026-001 is acknowledged by ada.",
        "INC-2026-001 is resolved.",
        "Spool: 0 recorded, 0 known already, 0 broken.",
        "Incidents opened or continued: INC-2026-002.",
        "INC-2026-002 is cancelled.",
    ]
    assert said.err == (
        "INC-2026-001 is resolved and cannot become resolved; that is possible from detected or acknowledged or"
        " mitigated\n"
    )


@pytest.mark.parametrize(
    ("minutes", "status", "said"),
    [
        (9, 0, "handled within a minute"),
        (
            11,
            1,
            "nobody makes incidents of them; look at the DAG incident_watch, or run python -m include.incidents handle",
        ),
    ],
)
def test_signals_that_wait_are_told_of(
    warehouse: psycopg.Connection, capsys: pytest.CaptureFixture[str], minutes: int, status: int, said: str
) -> None:
    since = datetime.now(UTC) - timedelta(minutes=minutes)
    for number, at in ((1, datetime.now(UTC)), (2, since)):
        warehouse.execute(
            "INSERT INTO ops.signal (idempotency_key, kind, occurred_at, received_at, fingerprint, class, title)"
            " VALUES (%s, 'task_failed', now(), %s, 'f', 'P1', 't')",
            (str(number), at),
        )
    assert command.main(["list"]) == status
    assert capsys.readouterr().out == f"2 signals wait since {since:%Y-%m-%d %H:%M} UTC: {said}.\n"
    incidents.handle()
    assert command.main(["list"]) == 0


def _block(spool: Path) -> None:
    """Let nobody, not even root, open the lock of a spool."""
    spool.with_name(f"{spool.name}.drain-lock").mkdir(parents=True)


def test_what_is_in_the_warehouse_does_not_wait_for_the_spool(
    warehouse: psycopg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = settings().incidents.spool
    _block(spool)
    _write(signal(1))
    with pytest.raises(ConfigurationError, match="signals.jsonl cannot be drained .Is a directory.; let this user"):
        incidents.drain_and_handle()
    assert [one.incident_id for one in incidents.open_incidents()] == ["INC-2026-001"]
    assert command.main(["handle"]) == 1
    assert capsys.readouterr().err.startswith(f"the spool {spool} cannot be drained")
    spool.with_name(f"{spool.name}.drain-lock").rmdir()
    assert incidents.drain_and_handle()["incidents"] == []


def test_the_handler_goes_on_while_the_spool_cannot_be_opened(warehouse: psycopg.Connection) -> None:
    arguments = [sys.executable, "-m", "include.incidents", "handle", "--every", "1"]
    _block(spool := settings().incidents.spool)
    running = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert running.stderr
        assert "cannot be drained" in running.stderr.readline()
        _write(signal(1))
        assert "cannot be drained" in running.stderr.readline()
        spool.with_name(f"{spool.name}.drain-lock").rmdir()
        assert running.stdout
        assert running.stdout.readline() == "Spool: 0 recorded, 0 known already, 0 broken.\n"
    finally:
        running.terminate()
        running.communicate(timeout=10)


def test_the_handler_goes_on_over_an_outage(warehouse: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    """``handle --every`` without Airflow: an outage is said and does not end it."""
    arguments = [sys.executable, "-m", "include.incidents", "handle", "--every", "1"]
    _write(signal(1))
    with psycopg.connect(warehouse.info.dsn, password=warehouse.info.password, autocommit=True) as outage:
        outage.execute("ALTER TABLE ops.signal RENAME TO away")
        running = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert running.stderr
            assert "not migrated" in running.stderr.readline()
            outage.execute("ALTER TABLE ops.away RENAME TO signal")
            assert running.stdout
            said = [running.stdout.readline(), running.stdout.readline()]
        finally:
            running.terminate()
            running.communicate(timeout=10)
    assert said[1] == "Incidents opened or continued: INC-2026-001.\n"
