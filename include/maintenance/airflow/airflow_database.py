"""Removes old rows from Airflow's metadata database with ``airflow db clean``, and proves by counting that it did.

Tasks cannot reach that database, so an explicit connection, ``airflow_db``, is needed; it reaches the command through
its environment, never through its arguments. What ``db clean`` of Airflow 3.3.2 does not see to itself:

- errors of single tables are swallowed without --error-on-cleanup-failure, and a green exit proves nothing;
- cleaning ``dag`` fails on a foreign key; ``trigger`` rows of asset watchers live on whatever their age, and Airflow
  removes unused triggers itself: both tables are left alone;
- it knows the table ``session`` of the UI's logins only where its auth manager keeps them there (FAB);
- with --dag-ids or --exclude-dag-ids it fails on ``deadline``, ``asset_event`` and ``task_reschedule``;
- it looks at the age alone, so a run, backfill or partition that is still going on would lose rows that it needs. The
  cut-off is therefore held back to the oldest row that is still needed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from include import connections
from include.maintenance import postponed
from include.maintenance.airflow import airflow_connections, airflow_removed_rows
from include.outcome import ConfigurationError, MaintenanceFailed, Outcome
from include.platform import programs
from include.settings import settings
from include.warehouse import actions, findings, session
from include.warehouse.findings import Finding
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg

CONNECTION = "airflow_db"
TABLES = (
    *("dag_run", "task_instance", "task_instance_history", "task_reschedule", "task_state_store", "xcom", "log", "job"),
    *("import_error", "callback", "deadline", "dag_version", "asset_event", "partitioned_asset_key_log"),
    *("revoked_token", "connection_test_request", "_xcom_archive", "celery_taskmeta", "celery_tasksetmeta"),
)
"""What is cleaned where it exists; found by running every table of ``db clean`` on a 3.3.2 database."""
SESSIONS = "session"
"""What is cleaned where it exists and the configuration of this Airflow makes ``db clean`` know it."""

_KIND, _RESOURCE, _CHECK = "clean_airflow_database", "Airflow's metadata database", "airflow_database"
_STATEMENTS = statements(__file__)
_FOUND = re.compile(r"^Checking table (\w+)\nFound (\d+) rows meeting deletion criteria", re.MULTILINE)
_GRACE_SECONDS = 20
_HELP_SECONDS = 120
_COUNT_SECONDS = 480  # of one count; with the longest clean-up two of them fit into the hour of the task


@dataclass(frozen=True)
class _Ended:
    """How the command ended: its exit status (None: its time was over) and what it printed."""

    status: int | None
    said: str


def clean(run_id: str, dry_run: bool, now: datetime | None = None) -> dict[str, Any]:
    """Remove rows that are older than ``maintenance.airflow.keep_days`` at ``now`` (aware); return the act's summary.

    Where workers are without the connection ``airflow_db`` on purpose there is nothing to do. Raises
    ConfigurationError (also when it is just missing, or a clock is wrong), SourceUnavailable or MaintenanceFailed.
    """
    action = actions.plan(_KIND, _RESOURCE, run_id, dry_run=dry_run, plan={})
    if action.done:
        return action.summary()
    with findings.unknown_recorded(run_id, _CHECK, CONNECTION), actions.failures_recorded(action):
        if not airflow_connections.is_given(CONNECTION):
            reason = airflow_connections.left_out(CONNECTION, "old rows are not removed here")
            findings.replace(run_id, _CHECK, [Finding(CONNECTION, Outcome.NOT_APPLICABLE, reason)])
            return actions.nothing_to_do(action, reason).summary()
        wanted = (now or session.present()) - timedelta(days=settings().maintenance.airflow.keep_days)
        with _database() as database:
            tables = _tables(database)
            plan = _plan(database, wanted, tables)
            action = actions.plan(_KIND, _RESOURCE, run_id, dry_run=dry_run, plan=plan)
            if not dry_run:
                action = _apply(database, action, tables)
    findings.replace(run_id, _CHECK, [_finding(plan, action)])
    return action.summary()


def _finding(plan: dict[str, Any], action: actions.Action) -> Finding:
    due = plan["rows_due"]
    numbers = {"rows_due": None if due is None else sum(due.values()), "rows": sum(plan["rows_before"].values())}
    if by := plan["held_back_by"]:
        return Finding(
            "airflow_db",
            Outcome.WARNING,
            f"rows since {plan['cut_off']:%Y-%m-%d} are kept although they are old: {by}",
            numbers,
            "in Airflow, let the run finish or mark it failed; where a DAG waits for assets, let these be updated or "
            "clear its queued events",
        )
    days = settings().maintenance.airflow.keep_days
    left = (action.applied or {}).get("rows_due_after", due)
    if (due is None or left is None) and not action.done:
        text = f"how many rows are older than {days} days is not known: {_not_counted()}"
        return Finding("airflow_db", Outcome.UNKNOWN, text, numbers)
    ended = postponed.ended(_KIND, [_RESOURCE])
    latest = action if not action.dry_run else next(iter(ended), None)  # a dry run removes nothing: what did the last?
    if latest is not None and latest.state == "failed":
        return Finding("airflow_db", Outcome.UNKNOWN, f"the latest clean-up failed: {latest.reason}", numbers)
    if latest is not None and latest.state == "postponed":
        return _behind(latest, ended, numbers | {"rows_left": sum((left or {}).values())})
    return Finding("airflow_db", Outcome.OK, f"rows older than {days} days are removed night by night", numbers)


def _behind(latest: actions.Action, ended: list[actions.Action], numbers: dict[str, Any]) -> Finding:
    """Say how many runs in a row left old rows: no single one of them is a failure."""
    in_a_row, runs = postponed.in_a_row(ended, ("postponed", "failed"))
    summary = f"old rows were left by {runs}, now because {latest.reason}"
    by_hand = "python -m include.maintenance airflow"
    remedy = f"raise most_minutes in maintenance.airflow (40 at most), or run it by day, too: {by_hand}"
    return Finding("airflow_db", Outcome.WARNING, summary, numbers | {"runs_in_a_row": in_a_row}, remedy)


@contextmanager
def _database() -> Iterator[psycopg.Connection[Any]]:
    """Connect to the metadata database, keeping other clean-ups off it."""
    connection = connections.postgres(CONNECTION, autocommit=True)
    try:
        if not connection.execute("SELECT to_regclass('public.dag_run')").fetchone() == ("dag_run",):
            raise ConfigurationError(
                f"the connection {CONNECTION} does not lead to Airflow's metadata database: it has no table dag_run; "
                "correct its database"
            )
        row = connection.execute(_STATEMENTS["lock"]).fetchone()
        if row != (True,):
            raise MaintenanceFailed("another clean-up of Airflow's metadata database is at work; try again later")
        yield connection
    finally:
        connection.close()


# ----------------------------------------------------------------------------------------------------- plan
def _plan(database: psycopg.Connection[Any], wanted: datetime, tables: list[str]) -> dict[str, Any]:
    """Count what is there and, as ``db clean --dry-run`` tells it, what is due."""
    cut_off, held_back_by = held_back(database, wanted)
    due = _due(cut_off, tables)
    return {
        "cut_off": cut_off,
        "held_back_by": held_back_by,
        "rows_due": due,
        "rows_due_note": _not_counted() if due is None else "",
        "rows_before": airflow_removed_rows.counts(database, tables),
        "removed_rows": airflow_removed_rows.counts(database, _archives(database)),
    }


def _tables(database: psycopg.Connection[Any]) -> list[str]:
    """The tables to clean: those that exist, sessions only where ``db clean`` takes them."""
    found = [name for (name,) in database.execute(_STATEMENTS["tables"], {"names": [*TABLES, SESSIONS]})]
    if SESSIONS not in found:
        return found
    # Its own help lists what it takes, by the configuration of this Airflow; others it would just leave out.
    ended = _run([sys.executable, "-m", "airflow", "db", "clean", "--help"], most_seconds=_HELP_SECONDS)
    if ended.status != 0:
        raise MaintenanceFailed(f"airflow db clean --help failed: {_why(ended)}")
    return [name for name in found if name != SESSIONS or f"'{SESSIONS}'" in ended.said]


def held_back(database: psycopg.Connection[Any], cut_off: datetime) -> tuple[datetime, str]:
    """Return the cut-off moved back to the oldest row that is still needed, and what needs it (empty: nothing)."""
    needed = database.execute(_STATEMENTS["needed"], {"cut_off": cut_off}).fetchone()
    return (needed[1], needed[0]) if needed else (cut_off, "")


def _due(cut_off: datetime, tables: list[str]) -> dict[str, int] | None:
    """The rows of each table that ``db clean`` would remove; tables that depend on them are among its keys.

    None when counting them did not end in time: a backlog as large as that must still get smaller.
    """
    ended = _run(_command(cut_off, tables, "--dry-run"), most_seconds=_COUNT_SECONDS)
    if ended.status is None:
        return None
    due = {name: int(rows) for name, rows in _FOUND.findall(ended.said)}
    if ended.status != 0 or not set(tables) <= set(due):
        raise MaintenanceFailed(f"airflow db clean --dry-run failed: {_why(ended)}")
    return due


def _not_counted() -> str:
    return f"counting them did not end within {_COUNT_SECONDS:.0f} seconds"


def _archives(database: psycopg.Connection[Any]) -> list[str]:
    return [name for (name,) in database.execute(_STATEMENTS["archives"])]


# ---------------------------------------------------------------------------------------------------- apply
def _apply(database: psycopg.Connection[Any], action: actions.Action, tables: list[str]) -> actions.Action:
    plan, upkeep = action.plan, settings().maintenance.airflow
    cut_off = datetime.fromisoformat(plan["cut_off"])
    held_back = f"rows since {cut_off:%Y-%m-%d %H:%M} UTC are kept: {plan['held_back_by']}" * bool(plan["held_back_by"])
    none_is_due = plan["rows_due"] is not None and not any(plan["rows_due"].values())
    if none_is_due and not _archives(database):
        return actions.nothing_to_do(action, held_back or f"no row is older than {upkeep.keep_days} days")
    action = actions.applying(action)
    ended = _run(
        _command(
            cut_off, tables, "--yes", "--error-on-cleanup-failure", "--batch-size", str(upkeep.batch_rows),
            *([] if upkeep.removed_rows == "export" else ["--skip-archive"]),
        ),
        most_seconds=upkeep.most_minutes * 60,
    )  # fmt: skip
    archived = airflow_removed_rows.take_away(database, _archives(database), export=upkeep.removed_rows == "export")
    left = _due(cut_off, tables)
    proof = {
        "rows_after": airflow_removed_rows.counts(database, tables),
        "rows_due_before": plan["rows_due"],
        "rows_due_after": left,
        "rows_due_note": _not_counted() if left is None else "",
        "removed_tables_after": len(_archives(database)),
    }
    applied = {"exit_status": ended.status, "removed_rows": archived}
    if failure := _failure(proof, ended):
        actions.fail(action, failure, proof | applied)  # what was exported and dropped is told also then
        raise MaintenanceFailed(failure)
    if left is None or (ended.status is None and any(left.values())):
        return actions.postpone(action, _postponed(left, ended, upkeep.most_minutes), applied | proof)
    return actions.prove(action, proof, applied, held_back)


def _failure(proof: dict[str, Any], ended: _Ended) -> str:
    """What went wrong; empty when nothing did. Rows that are left when the time is over are no failure."""
    if proof["removed_tables_after"]:
        return "tables named _airflow_deleted__… are still there after they were dropped"
    rest = {name: rows for name, rows in (proof["rows_due_after"] or {}).items() if rows}
    if rest and ended.status is not None:
        table, rows = next(iter(rest.items()))
        return f"{rows} rows of {table} should be removed and are still there: {_why(ended)}"
    return f"airflow db clean failed: {_why(ended)}" if ended.status else ""


def _postponed(left: dict[str, int] | None, ended: _Ended, most_minutes: float) -> str:
    """Why the act is not proven, with the rows that are left for the next run where they are known."""
    over = f"{most_minutes} minutes were over"
    if left is not None:
        return f"{sum(left.values())} old rows are left for the next run: {over}"
    more = f"; {over}, and the next run goes on" if ended.status is None else ""
    return f"how many old rows are left is not known: {_not_counted()}{more}"


def _command(cut_off: datetime, tables: list[str], *options: str) -> list[str]:
    return [
        *(sys.executable, "-m", "airflow", "db", "clean", "--clean-before-timestamp", cut_off.isoformat()),
        *("--tables", ",".join(tables), *options),
    ]


def _run(command: list[str], *, most_seconds: float) -> _Ended:
    """Run an airflow command on the metadata database, and stop it with all that it started when its time is over."""
    url = connections.postgres_url(CONNECTION).replace("postgresql://", "postgresql+psycopg2://", 1)
    environment = {**os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
    try:
        done = programs.run(command, environment, most_seconds, grace_seconds=_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        return _Ended(None, "")
    return _Ended(done.returncode, done.stdout + done.stderr)


def _why(ended: _Ended) -> str:
    """One line of what the command printed that tells why it failed, without addresses or values."""
    if ended.status is None:
        return "its time was over"
    if tables := sorted(set(re.findall(r"attempting to clean table '(\w+)'", ended.said))):
        return f"it could not clean {', '.join(tables)}; run it by hand with --verbose to see why"
    lines = [line.strip() for line in ended.said.splitlines() if re.match(r"[\w.]*(Error|Exception)\b", line.strip())]
    kind = lines[-1].split(":")[0] if lines else "no error is told"
    return f"it ended with {ended.status} ({kind}); run it by hand to see why"
