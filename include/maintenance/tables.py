"""Vacuums and analyzes the platform's tables that need it, and proves by the server's statistics that it happened.

Guide, "Database Maintenance". The statements stand in tables.sql.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import database
from include.settings import settings
from include.warehouse import actions
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

    from include.platform.database import Table

ALL_TABLES = "all tables"
_STATEMENTS = statements(__file__)
_STATISTICS_PATIENCE_SECONDS = 5.0  # before PostgreSQL 15 statistics travel through a collector


def plan_tables(run_id: str, dry_run: bool = False) -> list[dict[str, Any]]:
    """Return the tables that need work: ``{"table": quoted name, "vacuum": bool, "analyze": bool}``, the worst first.

    A table needs a vacuum (or an analyze) when its dead (or changed) rows reach both the minimum and the share of the
    configuration. One that an autovacuum works on now is left to it. What is left alone is recorded with its reason.
    Raises ConfigurationError or SourceUnavailable.
    """
    wanted = settings().maintenance
    limits = {
        "dead_minimum": max(1, wanted.vacuum_dead_minimum),
        "dead_share": wanted.vacuum_dead_share,
        "changed_minimum": max(1, wanted.analyze_changed_minimum),
        "changed_share": wanted.analyze_changed_share,
    }
    with database.maintenance_session() as connection, database.errors_named("the list of tables"):
        found = connection.execute(_STATEMENTS["due"], limits).fetchall()
    due = []
    for name, vacuum, analyze, busy, dead_rows, changed_rows, live_rows in found:
        if not (vacuum or analyze):
            continue
        if busy:
            facts = {"dead_rows": dead_rows, "changed_rows": changed_rows, "live_rows": live_rows}
            action = actions.plan("vacuum" if vacuum else "analyze", name, run_id, dry_run=dry_run, plan=facts)
            if not action.done:
                actions.nothing_to_do(action, "a vacuum of this table is running already")
            continue
        due.append({"table": name, "vacuum": vacuum, "analyze": analyze})
    if not due:
        action = actions.plan("vacuum", ALL_TABLES, run_id, dry_run=dry_run, plan=limits)
        if not action.done:
            actions.nothing_to_do(action, "no table that is free has enough dead or changed rows")
    return due


def maintain(table: dict[str, Any], run_id: str, dry_run: bool) -> dict[str, Any]:
    """Vacuum and analyze one table as ``plan_tables`` says, and prove it.

    Returns the action's summary. A vacuum that the server only warned about and skipped is a failure, and so is one
    that removed nothing because somebody holds back the horizon. Raises ConfigurationError (a missing privilege),
    MaintenanceFailed (a lock held by another, no effect) or SourceUnavailable.
    """
    kind = "vacuum" if table["vacuum"] else "analyze"
    what = f"{kind} of {table['table']}"
    with database.maintenance_session() as connection, database.errors_named(what):
        target = database.table_of(connection, table["table"])
        before = _measure(connection, target)
        plan = {"before": before, "analyze": bool(table["analyze"])}
        action = actions.plan(kind, target.name, run_id, dry_run=dry_run, plan=plan)
        if action.done or dry_run:
            return action.summary()
        with actions.failures_recorded(action), database.errors_named(what):
            action = actions.applying(action)
            statement, warnings = _run(connection, target, kind, bool(table["analyze"]))
            after = _proved(connection, target, kind, before, warnings)
            proof = {"before": before, "after": after}
            reason = _remaining(connection, action, proof) if kind == "vacuum" else ""
            return actions.prove(action, proof, {"statement": statement}, reason).summary()


def _measure(connection: psycopg.Connection[Any], table: Table) -> dict[str, Any]:
    from psycopg.rows import dict_row

    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_STATEMENTS["measure"], {"oid": table.oid}).fetchone()
    if row is None:
        raise ConfigurationError(f"the table {table.name} does not exist any more; its maintenance is not needed")
    return row


def _run(connection: psycopg.Connection[Any], table: Table, kind: str, analyze: bool) -> tuple[str, list[str]]:
    """Run the one statement; return it and the server's warnings."""
    warnings: list[str] = []

    def keep(notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            warnings.append(notice.message_primary or "")

    statement = _statement(table, kind, analyze)
    connection.add_notice_handler(keep)
    try:
        connection.execute(statement)
    finally:
        connection.remove_notice_handler(keep)
    return statement.as_string(connection), warnings


def _statement(table: Table, kind: str, analyze: bool) -> sql.Composed:
    from psycopg import sql

    verb = "ANALYZE" if kind == "analyze" else "VACUUM (ANALYZE)" if analyze else "VACUUM"
    return sql.SQL("{} {}").format(sql.SQL(verb), table.identifier)


def _proved(
    connection: psycopg.Connection[Any], table: Table, kind: str, before: dict[str, Any], warnings: list[str]
) -> dict[str, Any]:
    """Wait until the server's statistics show the work and return them."""
    counter = f"{kind}_count"
    deadline = time.monotonic() + (_STATISTICS_PATIENCE_SECONDS if not warnings else 0.5)
    while True:
        after = _measure(connection, table)
        if after[counter] > before[counter]:
            return after
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    if any("permission denied" in warning or "only" in warning for warning in warnings):
        raise ConfigurationError(
            f"the server skipped the {kind} of {table.name}: the role of {database.MAINTENANCE} may not do it; "
            + _remedy(database.server_version(connection), table)
        )
    told = f" (the server said: {'; '.join(warnings)})" if warnings else ""
    raise MaintenanceFailed(f"the {kind} of {table.name} left no trace in the server's statistics{told}")


def _remedy(version: int, table: Table) -> str:
    if version >= 170000:
        return f"GRANT MAINTAIN ON {table.name} (or pg_maintain) to it"
    return "make it a member of the role that owns the table (before PostgreSQL 17 only the owner may)"


def _remaining(connection: psycopg.Connection[Any], action: actions.Action, proof: dict[str, Any]) -> str:
    """Say which dead rows remain and who holds them; raise MaintenanceFailed when nothing could be removed."""
    before, after = proof["before"], proof["after"]
    proof["dead_rows_removed"] = max(0, before["dead_rows"] - after["dead_rows"])
    proof["bytes_returned"] = before["size_bytes"] - after["size_bytes"]
    if after["dead_rows"] == 0:
        return ""
    holder = database.horizon_holder(connection)
    proof["dead_rows_remaining"], proof["horizon_holder"] = after["dead_rows"], holder
    if holder is None:
        return f"{after['dead_rows']} rows died while the vacuum ran"
    reason = f"{after['dead_rows']} dead rows of {action.resource} cannot be removed while {holder} needs them"
    if after["dead_rows"] >= before["dead_rows"] > 0:
        reason += "; end it and run the vacuum again"
        actions.fail(action, reason, proof)
        raise MaintenanceFailed(reason)
    return reason
