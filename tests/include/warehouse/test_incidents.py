"""What the database itself holds of incidents, whoever writes."""

from collections.abc import Iterator

import psycopg
import pytest

from include import connections
from include.warehouse import incidents
from include.warehouse import signals as warehouse_signals
from tests.include.incidents.helpers import rows, signal

INSERT = """
    INSERT INTO ops.incident (incident_id, fingerprint, class, state, title, affected, detected_at, last_seen_at)
    VALUES (%s, 'airflow:daily_metrics', 'P2', %s, 't', 'a', now(), now())
"""


@pytest.fixture
def writer(warehouse: psycopg.Connection) -> Iterator[psycopg.Connection]:
    with connections.postgres("warehouse", autocommit=True) as connection:
        warehouse_signals.insert(connection, [signal(1)])
        yield connection


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
