"""Idle replication slots and forgotten prepared transactions, on a cluster of the test's own that has both."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.postgres import slots
from include.outcome import Outcome, SourceUnavailable
from include.settings import settings
from include.warehouse.findings import Finding
from tests.recorded_findings import latest_findings


@pytest.fixture
def superuser(
    own_cluster: Databases, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection]:
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", own_cluster.url("escrow", "operations_maintainer"))
    with psycopg.connect(own_cluster.postgres.url("escrow"), autocommit=True) as connection:
        yield connection
        connection.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def found(check: str) -> dict[str, Finding]:
    return {one.finding.resource: one.finding for one in latest_findings(check)}


def test_no_slots_are_ok(superuser: psycopg.Connection) -> None:
    assert slots.check_slots("run")["outcome"] == "ok"


def test_an_idle_slot_is_found_with_what_it_keeps(
    superuser: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    superuser.execute("SELECT pg_create_physical_replication_slot('standby_b', true)")
    superuser.execute("SELECT pg_create_logical_replication_slot('reports', 'pgoutput')")
    superuser.execute("SELECT pg_create_physical_replication_slot('unused')")
    superuser.execute("CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 3000)")
    [(kept,)] = superuser.execute(
        "SELECT pg_current_wal_lsn() - restart_lsn FROM pg_replication_slots WHERE slot_name = 'standby_b'"
    )
    slots.check_slots("run 1")
    tells = superuser.info.server_version >= 170000
    idle = found("replication_slots")["standby_b"]
    assert idle.outcome is (Outcome.OK if tells else Outcome.UNKNOWN), "a reader may be away for a moment"
    assert idle.evidence["retained_bytes"] == pytest.approx(float(kept), rel=0.05)
    assert "pg_drop_replication_slot" not in idle.remedy
    assert found("replication_slots")["reports"].evidence["plugin"] == "pgoutput"
    assert "never used" in found("replication_slots")["unused"].summary
    assert "nobody has read it since 20" in idle.summary

    environment.setenv("OPERATIONS__MAINTENANCE__MONTHLY__SLOT_RETAINED_BYTES", "1000000")
    settings.cache_clear()
    slots.check_slots("run 2")
    large = found("replication_slots")["standby_b"]
    assert large.outcome is Outcome.CRITICAL, "large, and without a limit"
    assert large.remedy.startswith("-- start the reader of standby_b")
    superuser.execute("DROP TABLE t")


def test_a_slot_is_forgotten_when_it_was_unread_for_a_day(
    superuser: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    superuser.execute("SELECT pg_create_physical_replication_slot('standby_b', true)")
    superuser.execute("SELECT pg_create_logical_replication_slot('reports', 'pgoutput')")
    superuser.execute("CREATE TABLE t AS SELECT 1 AS id")
    slots.check_slots("run 1")
    warehouse.execute(  # as if the run had been yesterday
        "UPDATE ops.finding SET evidence = jsonb_set(evidence, '{unread_since}', to_jsonb(now() - interval '25 hours'))"
    )
    superuser.execute("DROP TABLE t")
    superuser.execute("SELECT pg_replication_slot_advance('reports', pg_current_wal_lsn())")
    for run_id in ("run 2", "run 2", "run 3"):
        slots.check_slots(run_id)
        forgotten = found("replication_slots")["standby_b"]
        assert forgotten.outcome is Outcome.WARNING
        assert forgotten.remedy.startswith("-- first look for the reader of standby_b ")
        assert "-- only when it is gone for good: SELECT pg_drop_replication_slot('standby_b');" in forgotten.remedy
        assert _does_nothing(forgotten.remedy), "a standby that is off for a weekend keeps its slot"
        assert forgotten.estimated_gain == {"bytes": forgotten.evidence["retained_bytes"]}
        assert "max_slot_wal_keep_size" in forgotten.remedy
        read = found("replication_slots")["reports"]
        assert read.outcome is not Outcome.WARNING, "somebody has read it since"
        assert "pg_drop_replication_slot" not in read.remedy


def test_an_invalidated_slot_is_critical(superuser: psycopg.Connection) -> None:
    superuser.execute("SELECT pg_create_physical_replication_slot('lost', true)")
    superuser.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    superuser.execute("SELECT pg_reload_conf()")
    for _ in range(3):
        superuser.execute("CREATE TABLE w AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
        superuser.execute("DROP TABLE w")
        superuser.execute("SELECT pg_switch_wal()")
    superuser.execute("CHECKPOINT")
    slots.check_slots("run")
    lost = found("replication_slots")["lost"]
    assert lost.outcome is Outcome.CRITICAL
    assert _does_nothing(lost.remedy)
    assert "its reader has lost changes" in lost.summary or "about to lose" in lost.summary


def test_a_name_cannot_leave_the_comment_of_a_remedy(environment: pytest.MonkeyPatch) -> None:
    row = ("transfer", "me\nDROP TABLE a;", "b\r\\! reboot", datetime(2026, 10, 1, tzinfo=UTC), 90_000.0, 7)
    remedy = slots._prepared(row).remedy
    assert _does_nothing(remedy)
    assert "in the database b?\\! reboot, as me?DROP TABLE a; or a superuser" in remedy


def test_prepared_transactions_by_their_age(superuser: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    slots.check_prepared("run 0")
    assert found("prepared_transactions")["all"].outcome is Outcome.OK
    superuser.execute("BEGIN; CREATE TABLE p (id integer); PREPARE TRANSACTION 'transfer''17'")
    try:
        slots.check_prepared("run 1")
        young = found("prepared_transactions")["transfer'17"]
        assert young.outcome is Outcome.OK
        assert young.evidence["database"] == "escrow"
        environment.setattr("include.maintenance.postgres.slots.settings", _a_minute_is_too_long)
        time.sleep(0.1)
        slots.check_prepared("run 2")
        old = found("prepared_transactions")["transfer'17"]
        assert old.outcome is Outcome.WARNING
        assert old.remedy.splitlines() == [
            "-- first ask its coordinator what was decided: what was to be committed and is rolled back here is lost",
            "-- then in the database escrow, as postgres or a superuser",
            "-- where it was to be committed: COMMIT PREPARED 'transfer''17';",
            "-- where it was to be rolled back: ROLLBACK PREPARED 'transfer''17';",
        ]
    finally:
        superuser.execute("ROLLBACK PREPARED 'transfer''17'")


@pytest.mark.parametrize(
    ("check", "name"),
    [(slots.check_slots, "replication_slots"), (slots.check_prepared, "prepared_transactions")],
)
def test_what_could_not_be_looked_at_is_unknown(
    platform: psycopg.Connection, environment: pytest.MonkeyPatch, check: Callable[[str], Any], name: str
) -> None:
    check("run 1")
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", "postgresql://x:y@127.0.0.1:1/escrow")
    with pytest.raises(SourceUnavailable):
        check("run 2")
    assert {resource: one.outcome for resource, one in found(name).items()} == {"the check": Outcome.UNKNOWN}


def _does_nothing(remedy: str) -> bool:
    """Whether it is only words for who pastes it."""
    return all(line.startswith("-- ") for line in remedy.splitlines())


def _a_minute_is_too_long() -> Any:
    given = settings()
    monthly = given.maintenance.monthly.model_copy(update={"prepared_transaction_minutes": 0.001})
    return given.model_copy(update={"maintenance": given.maintenance.model_copy(update={"monthly": monthly})})


def test_a_prepared_transaction_of_yesterday_is_critical(environment: pytest.MonkeyPatch) -> None:
    finding = slots._prepared(("x", "me", "escrow", None, 24 * 3600.0, 5))
    assert finding.outcome is Outcome.CRITICAL
    assert slots._prepared(("x", "me", "escrow", None, 3599.0, 5)).outcome is Outcome.OK
    assert slots._prepared(("x", "me", "escrow", None, 3600.0, 5)).outcome is Outcome.WARNING


def test_switched_off_prepared_transactions_are_not_applicable(any_platform: psycopg.Connection) -> None:
    slots.check_prepared("run")
    assert found("prepared_transactions")["all"].outcome is Outcome.NOT_APPLICABLE


NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)
SLOT = {
    "slot_name": "s", "active": True, "wal_status": "reserved", "retained_bytes": 1000, "transaction_age": None,
    "invalidation_reason": None, "inactive_since": None, "synced": False, "temporary": False, "position": "0/1 0/2",
    "freeze_age": 200_000_000, "seen_at": NOON,
}  # fmt: skip


def _ago(**span: float) -> datetime:
    return NOON - timedelta(**span)


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        ({}, Outcome.OK),
        ({"retained_bytes": 2 * 2**30}, Outcome.WARNING),
        ({"active": False}, Outcome.UNKNOWN),
        ({"active": False, "inactive_since": _ago(minutes=1)}, Outcome.OK),
        ({"active": False, "inactive_since": _ago(hours=24)}, Outcome.WARNING),
        ({"active": False, "retained_bytes": 2 * 2**30}, Outcome.CRITICAL),
        ({"wal_status": "unreserved"}, Outcome.CRITICAL),
        ({"wal_status": "lost"}, Outcome.CRITICAL),
        ({"invalidation_reason": "rows_removed"}, Outcome.CRITICAL),
        ({"transaction_age": 99_999_999}, Outcome.OK),
        ({"transaction_age": 100_000_000}, Outcome.WARNING),
        ({"transaction_age": 200_000_000}, Outcome.CRITICAL),
        ({"active": False, "inactive_since": _ago(hours=24), "transaction_age": 200_000_000}, Outcome.CRITICAL),
    ],
)
def test_how_bad_a_slot_is(environment: pytest.MonkeyPatch, changed: dict[str, Any], outcome: Outcome) -> None:
    slot = SLOT | changed
    finding = slots._slot(slot, bounded=False, unread_since=slots._unread_since(slot, {}))
    assert finding.outcome is outcome
    may_be_dropped = slot["wal_status"] == "lost" or slot["invalidation_reason"] == "rows_removed"
    may_be_dropped |= slot["inactive_since"] == _ago(hours=24)
    assert ("SELECT pg_drop_replication_slot('s');" in finding.remedy) == may_be_dropped
    assert _does_nothing(finding.remedy)
    if outcome not in (Outcome.OK, Outcome.UNKNOWN):
        assert finding.remedy, "what is to be done is said"
    if slot["transaction_age"] == 200_000_000:
        assert "the dead rows of the last 200,000,000 transactions" in finding.summary


def test_since_when_nobody_reads_a_slot(environment: pytest.MonkeyPatch) -> None:
    unread = SLOT | {"active": False}
    week = {"unread_since": _ago(days=7).isoformat(), "position": "0/1 0/2"}
    assert slots._unread_since(SLOT, week) is None, "it is read now"
    assert slots._unread_since(unread, {}) == NOON
    assert slots._unread_since(unread, week) == _ago(days=7)
    assert slots._unread_since(unread, week | {"position": "0/1 0/1"}) == NOON, "it has moved since"
    assert slots._unread_since(unread, {"unread_since": None, "position": "0/1 0/2"}) == NOON, "it was read then"
    restarted = unread | {"inactive_since": _ago(hours=1)}  # as told after a restart of the server
    assert slots._unread_since(restarted, week) == _ago(days=7)
    assert slots._unread_since(restarted, {}) == _ago(hours=1)
