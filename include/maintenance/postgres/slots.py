"""Finds replication slots that nobody reads and prepared transactions that nobody ends: both fill disks in silence.

One moment without a reader is no proof: readers restart. PostgreSQL 17 tells since when nobody reads a slot; before,
that is the first of the runs in a row that saw it unread at the same position.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from include.outcome import Outcome, worst
from include.platform import database
from include.settings import settings
from include.warehouse import findings
from include.warehouse.findings import Finding
from include.warehouse.statements import statements

SLOTS = "replication_slots"
PREPARED = "prepared_transactions"
_CRITICAL_MINUTES = 24 * 60  # a prepared transaction this old was forgotten
_WARNING_SHARE = 0.5  # of autovacuum_freeze_max_age; from all of it on the server vacuums all the time, and in vain
_STATEMENTS = statements(__file__)


def check_slots(run_id: str) -> dict[str, Any]:
    """Judge every replication slot by what it keeps and since when nobody has read it; write the findings.

    Raises as ``maintenance_session`` does.
    """
    from psycopg.rows import dict_row

    with findings.unknown_recorded(run_id, SLOTS, "the check"):
        with (
            database.maintenance_session("the check of replication slots") as connection,
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            found = cursor.execute(_STATEMENTS["slots"]).fetchall()
            limit = connection.execute(_STATEMENTS["limit"]).fetchone()
        bounded = limit is not None and limit[0] >= 0
        seen = findings.last_seen(SLOTS)
        findings_of_slots = [
            _slot(slot, bounded, _unread_since(slot, seen.get(slot["slot_name"], {})))
            for slot in found
            if not slot["temporary"]
        ]
        none = Finding("all slots", Outcome.OK, "there are no replication slots", {"slots": 0})
        return findings.replace(run_id, SLOTS, findings_of_slots or [none])


def _unread_since(slot: dict[str, Any], before: dict[str, Any]) -> datetime | None:
    """Since when at least nobody reads a slot: as the server tells, or as the runs before saw (``before``)."""
    if slot["active"]:
        return None
    known: list[datetime | None] = [slot["inactive_since"], slot["seen_at"]]
    if before.get("unread_since") and before.get("position") == slot["position"]:
        known.append(datetime.fromisoformat(before["unread_since"]))
    return min(at for at in known if at is not None)


def _slot(slot: dict[str, Any], bounded: bool, unread_since: datetime | None) -> Finding:
    name, retained = slot["slot_name"], slot["retained_bytes"]
    left_out = ("slot_name", "temporary", "seen_at")
    evidence = {key: value for key, value in slot.items() if key not in left_out and value is not None}
    evidence |= {"max_slot_wal_keep_size_set": bounded, "unread_since": unread_since}
    forgotten = _is_forgotten(slot, unread_since)
    outcome, why = _judged(slot, bounded, unread_since)
    held, what_is_held = _holding(slot)
    if what_is_held:
        outcome, why = worst([outcome, held]), f"{why}; {what_is_held}"
    remedy = _remedy(slot, bounded, forgotten) if outcome in (Outcome.WARNING, Outcome.CRITICAL) else ""
    if outcome is Outcome.UNKNOWN:
        remedy = f"-- see whether the reader of {name} is away for good; a later run tells whether it came back"
    gain = {"bytes": retained} if "pg_drop_replication_slot" in remedy and retained else None
    return Finding(name, outcome, f"slot {name}: {why}", evidence, remedy, gain)


def _remedy(slot: dict[str, Any], bounded: bool, forgotten: bool) -> str:
    name = slot["slot_name"]
    drop = f"SELECT pg_drop_replication_slot({database.literal(name)});"
    if slot["synced"]:
        return f"-- {name} is copied from the primary: drop it there, when its reader is gone for good"
    if slot["wal_status"] == "lost" or slot["invalidation_reason"]:
        return (
            f"-- first see where the reader of {name} stopped: it must start anew from a copy\n"
            f"-- then this slot is of no use any more: {drop}"
        )
    if slot["active"]:
        return (
            f"-- find out why the reader of {name} does not confirm what it has read, or which long query of its "
            "standby holds rows; the slot must stay"
        )
    bound = "\n-- and bound what slots may keep: ALTER SYSTEM SET max_slot_wal_keep_size = '50GB';"
    if not forgotten:
        return f"-- start the reader of {name}, which may be away for a moment only" + ("" if bounded else bound)
    return (
        f"-- first look for the reader of {name} (a standby, a subscription, an export) and start it: without its slot "
        f"it has to be copied anew\n-- only when it is gone for good: {drop}"
    ) + ("" if bounded else bound)


def _is_forgotten(slot: dict[str, Any], unread_since: datetime | None) -> bool:
    hours = settings().maintenance.monthly.slot_unread_hours
    return unread_since is not None and slot["seen_at"] - unread_since >= timedelta(hours=hours)


def _judged(slot: dict[str, Any], bounded: bool, unread_since: datetime | None) -> tuple[Outcome, str]:
    allowed, retained = settings().maintenance.monthly.slot_retained_bytes, slot["retained_bytes"]
    if slot["wal_status"] == "lost" or slot["invalidation_reason"]:
        reason = slot["invalidation_reason"] or "its WAL was removed"
        return Outcome.CRITICAL, f"invalidated ({reason}): its reader has lost changes"
    if slot["wal_status"] == "unreserved":
        return Outcome.CRITICAL, "about to lose the WAL that its reader still needs"
    keeps = f"keeps {(retained or 0) / 2**20:,.0f} MiB of WAL"
    large = (retained or 0) >= allowed
    if unread_since is None:
        return (Outcome.WARNING, f"in use, but {keeps}") if large else (Outcome.OK, f"in use, {keeps}")
    since = f"since {unread_since:%Y-%m-%d %H:%M} UTC"
    if large and not bounded:
        return Outcome.CRITICAL, f"nobody has read it {since}; it {keeps}, without a limit"
    if retained is None and slot["transaction_age"] is None:
        # A physical slot that was never connected has reserved nothing yet.
        why = f"never used, as far as is known {since}: it keeps nothing"
    else:
        why = f"nobody has read it {since}; it {keeps}"
    if large or _is_forgotten(slot, unread_since):
        return Outcome.WARNING, why
    if slot["inactive_since"]:
        return Outcome.OK, f"{why}; that is not long"
    return Outcome.UNKNOWN, f"{why}; this server does not tell whether it was read shortly before"


def _holding(slot: dict[str, Any]) -> tuple[Outcome, str]:
    """Judge the transactions whose dead rows a slot keeps from vacuum, and whose ids from being frozen."""
    age, limit = slot["transaction_age"], slot["freeze_age"]
    if age is None or age < _WARNING_SHARE * limit:
        return Outcome.OK, ""
    why = f"it keeps the dead rows of the last {age:,} transactions"
    if age < limit:
        return Outcome.WARNING, why
    return Outcome.CRITICAL, f"{why}, and their ids from being frozen (autovacuum_freeze_max_age is {limit:,})"


def check_prepared(run_id: str) -> dict[str, Any]:
    """Find prepared transactions that are older than configured and write the findings. Raises as above."""
    with findings.unknown_recorded(run_id, PREPARED, "the check"):
        with database.maintenance_session("the check of prepared transactions") as connection:
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
        remedy = "\n".join(
            f"-- {database.in_comment(line)}"
            for line in (
                "first ask its coordinator what was decided: what was to be committed and is rolled back here is lost",
                f"then in the database {name}, as {owner} or a superuser",
                f"where it was to be committed: COMMIT PREPARED {database.literal(gid)};",
                f"where it was to be rolled back: ROLLBACK PREPARED {database.literal(gid)};",
            )
        )
    summary = f"{gid} of {owner} has been prepared for {minutes:,.0f} minutes; it holds its locks and keeps dead rows"
    return Finding(gid, outcome, summary, evidence, remedy)
