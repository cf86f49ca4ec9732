"""Finds replication slots that nobody reads and prepared transactions that nobody ends: both fill disks in silence."""

from __future__ import annotations

from typing import Any

from include.outcome import Outcome
from include.platform import database
from include.settings import settings
from include.warehouse import findings
from include.warehouse.findings import Finding
from include.warehouse.statements import statements

SLOTS = "replication_slots"
PREPARED = "prepared_transactions"
_CRITICAL_MINUTES = 24 * 60  # a prepared transaction this old was forgotten
_STATEMENTS = statements(__file__)


def check_slots(run_id: str) -> dict[str, Any]:
    """Judge every replication slot by what it keeps; write the findings. Raises as ``maintenance_session`` does."""
    from psycopg.rows import dict_row

    with findings.unknown_recorded(run_id, SLOTS, "the check"):
        with (
            database.maintenance_session() as connection,
            database.errors_named("the check of replication slots"),
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            found = cursor.execute(_STATEMENTS["slots"]).fetchall()
            limit = connection.execute(_STATEMENTS["limit"]).fetchone()
        bounded = limit is not None and limit[0] >= 0
        findings_of_slots = [_slot(slot, bounded) for slot in found if not slot["temporary"]]
        none = Finding("all slots", Outcome.OK, "there are no replication slots", {"slots": 0})
        return findings.replace(run_id, SLOTS, findings_of_slots or [none])


def _slot(slot: dict[str, Any], bounded: bool) -> Finding:
    name, retained = slot["slot_name"], slot["retained_bytes"]
    evidence = {
        key: value for key, value in slot.items() if key not in ("slot_name", "temporary") and value is not None
    }
    evidence["max_slot_wal_keep_size_set"] = bounded
    outcome, why = _judged(slot, bounded)
    drop = f"SELECT pg_drop_replication_slot({_literal(name)});"
    remedy = ""
    if outcome in (Outcome.WARNING, Outcome.CRITICAL):
        if slot["synced"]:
            remedy = f"-- {name} is copied from the primary: drop it there, when its reader is gone for good"
        elif slot["wal_status"] == "lost":
            remedy = f"{drop}  -- its reader must start anew from a copy"
        elif slot["active"]:
            remedy = f"-- find out why the reader of {name} does not confirm what it has read; the slot must stay"
        else:
            remedy = f"{drop}  -- only when its reader is gone for good; else start the reader"
            if not bounded:
                remedy += "\n-- and bound what slots may keep: ALTER SYSTEM SET max_slot_wal_keep_size = '50GB';"
    gain = {"bytes": retained} if remedy.startswith("SELECT") and retained else None
    return Finding(name, outcome, f"slot {name}: {why}", evidence, remedy, gain)


def _judged(slot: dict[str, Any], bounded: bool) -> tuple[Outcome, str]:
    allowed, retained = settings().maintenance.monthly.slot_retained_bytes, slot["retained_bytes"]
    if slot["wal_status"] == "lost" or slot["invalidation_reason"]:
        reason = slot["invalidation_reason"] or "its WAL was removed"
        return Outcome.CRITICAL, f"invalidated ({reason}): its reader has lost changes"
    if slot["wal_status"] == "unreserved":
        return Outcome.CRITICAL, "about to lose the WAL that its reader still needs"
    if retained is None and slot["transaction_age"] is None:
        # A physical slot that was never connected has reserved nothing yet.
        return Outcome.WARNING if not slot["active"] else Outcome.OK, "never used: it keeps nothing"
    keeps = f"keeps {(retained or 0) / 2**20:,.0f} MiB of WAL"
    large = (retained or 0) >= allowed
    if slot["active"]:
        return (Outcome.WARNING, f"in use, but {keeps}") if large else (Outcome.OK, f"in use, {keeps}")
    since = f" since {slot['inactive_since']:%Y-%m-%d %H:%M} UTC" if slot["inactive_since"] else ""
    if large and not bounded:
        return Outcome.CRITICAL, f"nobody reads it{since}; it {keeps}, without a limit"
    return Outcome.WARNING, f"nobody reads it{since}; it {keeps}"


def check_prepared(run_id: str) -> dict[str, Any]:
    """Find prepared transactions that are older than configured and write the findings. Raises as above."""
    with findings.unknown_recorded(run_id, PREPARED, "the check"):
        with database.maintenance_session() as connection, database.errors_named("the check of prepared transactions"):
            found = connection.execute(_STATEMENTS["prepared"]).fetchall()
            allowed = connection.execute(_STATEMENTS["prepared_allowed"]).fetchone()
        if not found:
            if allowed == (0,):
                none = Finding("all", Outcome.NOT_APPLICABLE, "prepared transactions are switched off", {"allowed": 0})
            else:
                none = Finding("all", Outcome.OK, "there are no prepared transactions", {"prepared_transactions": 0})
            return findings.replace(run_id, PREPARED, [none])
        return findings.replace(run_id, PREPARED, [_prepared(row) for row in found])


def _prepared(row: tuple[Any, ...]) -> Finding:
    gid, owner, name, prepared_at, seconds, age = row
    minutes = seconds / 60
    evidence = {"owner": owner, "database": name, "prepared_at": prepared_at, "minutes": round(minutes, 1), "age": age}
    allowed = settings().maintenance.monthly.prepared_transaction_minutes
    outcome = Outcome.OK if minutes < allowed else Outcome.WARNING
    if minutes >= max(allowed, _CRITICAL_MINUTES):
        outcome = Outcome.CRITICAL
    remedy = ""
    if outcome is not Outcome.OK:
        remedy = (
            f"ROLLBACK PREPARED {_literal(gid)};  -- in the database {name}, as {owner} or a superuser; "
            "or COMMIT PREPARED, as its coordinator decides"
        )
    summary = f"{gid} of {owner} is prepared for {minutes:,.0f} minutes; it holds its locks and keeps dead rows"
    return Finding(gid, outcome, summary, evidence, remedy)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
