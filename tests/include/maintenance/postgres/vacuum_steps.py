"""Steps that the tests of vacuum and of its plan share."""

import time
from typing import Any

import psycopg

from include.maintenance.postgres import vacuum, vacuum_plan
from tests.old_postgres import flush_statistics

ROWS = "INSERT INTO public.audit_logs (created_at, action) SELECT now(), 'seen' FROM generate_series(1, 1000)"
RECORDED = "SELECT kind, resource, state, reason FROM ops.maintenance_action ORDER BY maintenance_action_id"


def make_dirty(platform: psycopg.Connection) -> None:
    """1,000 rows of which 400 are dead."""
    platform.execute(ROWS)
    platform.execute("DELETE FROM public.audit_logs WHERE audit_log_id <= 400")
    flush_statistics(platform)


def planned(run_id: str = "r1", **more: Any) -> dict[str, dict[str, Any]]:
    """What is due, by the tables' names and in the plan's order."""
    return {item["table"]: item for item in vacuum_plan.plan_tables(run_id, **more)}


def recorded(warehouse: psycopg.Connection) -> list[tuple]:
    """Kind, resource, state and reason of every act on a single table."""
    return [row for row in warehouse.execute(RECORDED).fetchall() if row[1] != vacuum_plan.ALL_TABLES]


def whole(warehouse: psycopg.Connection, run_id: str = "r1") -> tuple:
    """State, reason, plan and proof of a run's plan as a whole."""
    row = warehouse.execute(
        "SELECT state, reason, plan, proof FROM ops.maintenance_action WHERE resource = %s AND run_id = %s",
        (vacuum_plan.ALL_TABLES, run_id),
    ).fetchone()
    assert row is not None
    return row


def proof_of(warehouse: psycopg.Connection, resource: str = "public.audit_logs") -> dict[str, Any]:
    """The proof of the newest act on a table."""
    row = warehouse.execute(
        "SELECT proof FROM ops.maintenance_action WHERE resource = %s ORDER BY maintenance_action_id DESC LIMIT 1",
        (resource,),
    ).fetchone()
    assert row is not None
    found: dict[str, Any] = row[0]
    return found


def maintain_all(run_id: str) -> list[str]:
    """Do all that is due; return the states."""
    return [vacuum.maintain(item, run_id, dry_run=False)["state"] for item in vacuum_plan.plan_tables(run_id)]


def burn_transactions(platform: psycopg.Connection, count: int) -> None:
    """Use up transaction ids."""
    platform.execute(f"DO $$ BEGIN FOR n IN 1..{count} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")


def wait_for(check: Any, seconds: float = 20.0) -> None:
    """Wait until a check gives something true."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
