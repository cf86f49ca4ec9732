"""Vacuums and analyzes one table of the platform, and proves by the server's own statistics that it had its effect.

Guide, "Database Maintenance". ``vacuum_plan`` decides which tables; the statements stand in vacuum.sql.
"""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.maintenance.postgres import vacuum_findings, vacuum_plan, vacuum_statement
from include.maintenance.postgres.vacuum_plan import ALL_TABLES, KINDS, composed, kind_of
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import database
from include.platform.database import Table
from include.platform.statement_bound import statements_bounded
from include.settings import settings
from include.warehouse import actions, session
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

    from include.platform.database import Horizon

_STATEMENTS = statements(__file__)
_STATISTICS_PATIENCE_SECONDS = 5.0  # before PostgreSQL 15 statistics travel through a collector, twice a second
_NO_MEASUREMENTS = (
    *("partitioned", "may_maintain", "owner", "owned_by_superuser", "rows_of", "busy_with", "busy_analyzes"),
    *("next_transaction", "table_changes"),
)


def maintain(
    item: dict[str, Any],
    run_id: str,
    dry_run: bool,
    *,
    connection: psycopg.Connection[Any] | None = None,
) -> dict[str, Any]:
    """Vacuum and analyze one table as ``vacuum_plan.plan_tables`` says, and prove it. Returns the action's summary.

    A worker that maintains several tables gives its own ``database.maintenance_session`` as ``connection``. A table
    that would not be done by the end of the window is postponed, one that has begun is stopped then; only a table in
    danger of wraparound is begun and finished regardless. A repeated task does not repeat what shows its effect.
    Raises ConfigurationError (a missing privilege), MaintenanceFailed (a lock held by another, skipped or without
    effect, with the name of who is in the way) or SourceUnavailable.
    """
    name = item["table"]
    what = f"{kind_of(item)} of {name}"
    opened = database.maintenance_session() if connection is None else nullcontext(connection)
    with session.kept_open(), opened as server, database.errors_named(what):
        found = _measure(server, name)
        plan = vacuum_plan.plan_of(item) | {"before": _measured(found[1]) if found else None}
        action = actions.plan(kind_of(item), name, run_id, dry_run=dry_run, plan=plan)
        if action.done or dry_run:
            return action.summary()
        if found is None:
            return actions.nothing_to_do(action, "the table does not exist any more").summary()
        with actions.failures_recorded(action), database.errors_named(what):
            return _acted(server, action, item, *found).summary()


def _acted(
    connection: psycopg.Connection[Any],
    action: actions.Action,
    item: dict[str, Any],
    table: Table,
    before: dict[str, Any],
) -> actions.Action:
    """Do the work unless something speaks against it, and record what became of it."""
    if not before["may_maintain"]:
        raise ConfigurationError(
            f"the {action.kind} of {action.resource} would be skipped: the role of {database.MAINTENANCE} may not do "
            "it; " + vacuum_plan.remedy_of_privilege(database.server_version(connection), action.resource, before)
        )
    if others := vacuum_plan.left_to(item, before):
        leave = actions.postpone if vacuum_plan.waits(item, before) else actions.nothing_to_do
        return leave(action, others)
    if shown := _shown_already(action, item, before):
        earlier = {"attempt": "an earlier one"}
        return actions.prove(actions.applying(action), shown, earlier, "it was done before the task was cut off")
    left = _seconds_left(item)
    if left is not None and item["expected_seconds"] > left:
        return actions.postpone(
            action, f"{item['expected_seconds']:.1f} s are expected and {max(0.0, left):.1f} s of the window are left"
        )
    if not (item["vacuum"] or item["freeze"] or item["analyze"]):
        raise MaintenanceFailed(_hopeless(action.resource, before, item["held_by"]))
    action = actions.applying(action)
    statement = vacuum_statement.statement(connection, item, table, before)
    begun = time.monotonic()
    ended, warnings, told = _run(connection, action, item, table, statement, left)
    applied = {
        "statement": statement.as_string(connection),
        "seconds": round(time.monotonic() - begun, 3),
        "cost_delay_milliseconds": settings().maintenance.vacuum.cost_delay_milliseconds,
    }
    if not ended:
        reason = f"it was stopped after {applied['seconds']:.1f} s, at the end of the maintenance window"
        return actions.postpone(action, reason, applied)
    after = _after(connection, action, item, before, warnings, told)
    proof = _proof(item, _measured(before), after)
    reason = _judged(action, item, proof, _holder(connection, before))
    return actions.prove(action, proof, applied, reason)


# ------------------------------------------------------------------------------------------------- measurement
def _measure(connection: psycopg.Connection[Any], name: str) -> tuple[Table, dict[str, Any]] | None:
    """The table and its facts as they are now, or None when there is none of that name."""
    import psycopg
    from psycopg.rows import dict_row

    row = None
    with connection.cursor(row_factory=dict_row) as cursor, suppress(psycopg.errors.InvalidName):
        measure = composed(_STATEMENTS["measure"], vacuum_plan.parts_of(connection))
        row = cursor.execute(measure, {"name": name}).fetchone()
    return (Table(row.pop("oid"), row.pop("schema"), row.pop("relation"), name), row) if row else None


def _measured(facts: dict[str, Any]) -> dict[str, Any]:
    """The measurements among the facts, for the record."""
    return {key: value for key, value in facts.items() if key not in _NO_MEASUREMENTS}


def _seconds_left(item: dict[str, Any]) -> float | None:
    """Seconds until the window ends; None without one, and for a table whose danger weighs more than the window."""
    if item["danger"] or not item.get("ends_at"):
        return None
    return (datetime.fromisoformat(item["ends_at"]) - datetime.now(UTC)).total_seconds()


def _shown_already(action: actions.Action, item: dict[str, Any], now: dict[str, Any]) -> dict[str, Any] | None:
    """The proof of an earlier attempt of this act that was cut off after its work, or None."""
    first = action.plan.get("before") or now
    counters = ["vacuum_count"] * (item["vacuum"] or item["freeze"]) + ["analyze_count"] * item["analyze"]
    if not counters or any(now[counter] <= first[counter] for counter in counters):
        return None
    if _without_effect(item, first, now):
        return None
    return _proof(item, first, now)


def _proof(item: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What was measured; a later plan compares with ``table_changes``."""
    told = _measured(after) | {"table_changes": after["table_changes"]}
    return {"before": before, "after": told, "analyzed": item["analyze"]}


# ------------------------------------------------------------------------------------------------------------ apply
def _run(
    connection: psycopg.Connection[Any],
    action: actions.Action,
    item: dict[str, Any],
    table: Table,
    statement: sql.Composed,
    left: float | None,
) -> tuple[bool, list[str], int]:
    """Run the one statement; tell whether it ended before the window did, its warnings and how much else was told."""
    import psycopg

    warnings: list[str] = []
    told = 0

    def keep(notice: psycopg.errors.Diagnostic) -> None:
        nonlocal told
        told += notice.severity_nonlocalized == "INFO"
        if notice.severity_nonlocalized == "WARNING":
            warnings.append(notice.message_primary or "")

    connection.add_notice_handler(keep)
    ends = time.monotonic() + left if left is not None else None
    try:
        with statements_bounded(connection, left) if left is not None else nullcontext():
            if delay := settings().maintenance.vacuum.cost_delay_milliseconds:
                # A table in danger of wraparound gets no rest.
                connection.execute(_STATEMENTS["cost_delay"], {"milliseconds": 0 if item["danger"] else delay})
            connection.execute(statement)
    except psycopg.errors.QueryCanceled:
        if ends is None or time.monotonic() < ends - 0.1:
            raise
        return False, warnings, told
    except psycopg.errors.LockNotAvailable:
        row = connection.execute(_STATEMENTS["lock_holder"], {"oid": table.oid}).fetchone()
        who = row[0] if row else "a session that has ended by now"
        raise MaintenanceFailed(
            f"{action.kind} of {action.resource}: another session holds a lock on it for longer than maintenance waits "
            f"({who}); nothing was changed, try again when that session has ended"
        ) from None
    finally:
        connection.remove_notice_handler(keep)
    return True, warnings, told


# -------------------------------------------------------------------------------------------------------- proof
def _after(
    connection: psycopg.Connection[Any],
    action: actions.Action,
    item: dict[str, Any],
    before: dict[str, Any],
    warnings: list[str],
    told: int,
) -> dict[str, Any]:
    """Wait until the server's statistics show the work and return the measurements. Raises MaintenanceFailed."""
    counters = ["vacuum_count"] * (item["vacuum"] or item["freeze"]) + ["analyze_count"] * item["analyze"]
    if before["partitioned"] and database.server_version(connection) < 140000:
        counters = [] if told else counters
    patience = _STATISTICS_PATIENCE_SECONDS if not warnings else 0.5
    deadline, pause = time.monotonic() + patience, 0.01
    while True:
        found = _measure(connection, item["table"])
        if found and all(found[1][counter] > before[counter] for counter in counters):
            return found[1]
        if time.monotonic() > deadline:
            break
        time.sleep(pause)
        pause = min(0.2, pause * 2)
    said = f" (the server said: {'; '.join(warnings)})" if warnings else ""
    raise MaintenanceFailed(f"the {action.kind} of {action.resource} left no trace in the server's statistics{said}")


def _holder(connection: psycopg.Connection[Any], before: dict[str, Any]) -> Horizon | None:
    """Who needs rows that were dead before, or None: a snapshot whose oldest transaction began since needs none."""
    found = database.horizon(connection, before["rows_of"])
    return found if found is not None and found.transaction < before["next_transaction"] else None


def _dead(facts: dict[str, Any]) -> int:
    return int(facts["dead_rows"] + facts["toast_dead_rows"])


def _dead_before_and_after(before: dict[str, Any], after: dict[str, Any]) -> int:
    """How many of the rows that were dead before may still be there: those that have died since are not of them."""
    died = max(0, after["died_rows"] - before.get("died_rows", after["died_rows"]))
    return int(min(_dead(before), max(0, _dead(after) - died)))


def _without_effect(item: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> str:
    """What a vacuum was to lower and did not; empty when it had its effect.

    Dead rows are the server's estimates, to which other sessions add late. There must be as many as before, and most
    of them from before.
    """
    wanted = settings().maintenance.vacuum
    remain = _dead_before_and_after(before, after)
    if item["vacuum"] and 0 < _dead(before) <= _dead(after) and remain > _dead(before) / 2:
        return f"{_dead(after)} dead rows"
    shares = item["facts"]
    for name in ("transaction", "multixact"):
        due = (shares.get(f"{name}_share") or 0.0) >= wanted.freeze_share
        if item["freeze"] and due and after[f"{name}_age"] >= before[f"{name}_age"]:
            return f"the {name} age of {after[f'{name}_age']}"
    return ""


def _judged(action: actions.Action, item: dict[str, Any], proof: dict[str, Any], holder: Horizon | None) -> str:
    """Complete the proof; say what remains and who holds it. Raises MaintenanceFailed for a vacuum without effect."""
    before, after = proof["before"], proof["after"]
    reason = missed = ""
    if item["vacuum"] or item["freeze"]:
        dead_after, remain = _dead(after), _dead_before_and_after(before, after)
        proof["dead_rows_removed"] = _dead(before) - remain
        proof["bytes_returned"] = before["size_bytes"] - after["size_bytes"]
        missed = _without_effect(item, before, after)
        if dead_after or missed:
            proof["dead_rows_remaining"] = dead_after
            proof["horizon_holder"] = holder.holder if holder else None
            proof["horizon"] = holder.transaction if holder else None
            who = f"while {holder.holder} needs old rows" if holder else ""
            new = "that died while the vacuum ran"
            reason = f"{dead_after} dead rows remain {(who or 'that nobody needs any more') if remain else new}"
            if missed.endswith("dead rows") and not who:
                missed = ""  # whoever needed them has ended: the next vacuum removes them
            elif missed:
                remedy = f"{who}; end it and run it again" if who else "for a reason that cannot be seen; run it again"
                missed = f"the vacuum of {action.resource} had no effect: {missed} cannot be lowered {remedy}"
    elif item["held_by"]:
        reason = f"vacuum left out: {item['held_by']} needs the dead rows"
    if item["held_by"] and item["danger"] and not item["freeze"]:
        missed = _hopeless(action.resource, after, item["held_by"])
    if missed:
        actions.fail(action, missed, proof)
        raise MaintenanceFailed(missed)
    return reason


def _hopeless(name: str, facts: dict[str, Any], holder: str) -> str:
    return (
        f"{name} is in danger of transaction id wraparound (age {facts['transaction_age']}) and no vacuum can help "
        f"while {holder} needs its old rows; end it and run this again"
    )


# ------------------------------------------------------------------------------------------------------- the end
def finish(run_id: str, dry_run: bool = False) -> dict[str, Any]:
    """Bring the database's own age up to date once for all tables, and record what became of the whole plan.

    Returns the summary of the act on "all tables". Tables that failed make it a failed act; their own tasks have
    raised it, so nothing is raised for them. Raises ConfigurationError or SourceUnavailable.
    """
    with session.kept_open():
        acts = [action for action in actions.of_run(run_id, KINDS) if action.dry_run == dry_run]
        whole = next((action for action in acts if action.resource == ALL_TABLES), None)
        if whole is None:
            raise MaintenanceFailed(f"the run {run_id} has no plan of its tables; plan them first")
        if dry_run:
            return whole.summary()
        tables = [action for action in acts if action.resource != ALL_TABLES]
        too_long = vacuum_findings.report(whole, tables)
        if whole.state in ("proven", "nothing_to_do") or "due" not in whole.plan:
            return whole.summary()  # without a list of what is due the plan itself has failed
        states: dict[str, list[str]] = {}
        for action in tables:
            states.setdefault(action.state, []).append(action.resource)
        begun = {action.resource for action in tables}
        if never := [one["table"] for one in whole.plan["due"] if one["table"] not in begun]:
            states["never begun"] = never
        with actions.failures_recorded(whole):
            whole = actions.plan("vacuum", ALL_TABLES, run_id, dry_run=False, plan=whole.plan)
            whole = actions.applying(whole)
            with database.maintenance_session("the age of the database") as connection:
                before = _database(connection)
                if database.server_version(connection) >= 160000:
                    connection.execute("VACUUM (ONLY_DATABASE_STATS)")
                after = _database(connection)
        proofs = [action.proof or {} for action in tables if action.state == "proven"]
        proof = {
            "before": before,
            "after": after,
            "tables": states,
            "dead_rows_removed": sum(proof.get("dead_rows_removed", 0) for proof in proofs),
            "bytes_returned": sum(proof.get("bytes_returned", 0) for proof in proofs),
        }
        return _closed(whole, states, proof, too_long).summary()


def _closed(
    whole: actions.Action, states: dict[str, list[str]], proof: dict[str, Any], too_long: list[str]
) -> actions.Action:
    unfinished = [name for state in ("failed", "applying", "planned", "never begun") for name in states.get(state, [])]
    if unfinished:
        return actions.fail(whole, f"not maintained: {', '.join(unfinished)}; each has its own reason", proof)
    later = states.get("postponed", [])
    reason = f"postponed to the next run: {', '.join(later)}" if later else ""
    if too_long:
        reason += f"; too long for any run, see the finding {vacuum_findings.CHECK}: {', '.join(too_long)}"
    return actions.prove(whole, proof, {"tables": len(states.get("proven", []))}, reason)


def _database(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    from psycopg.rows import dict_row

    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_STATEMENTS["database"]).fetchone()
    if row is None:
        raise MaintenanceFailed("the catalog has no row of the database itself; its age could not be read")
    return row
