"""Finds what a server only counts: pages of a wrong checksum, WAL that is not archived, constraints left NOT VALID."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.outcome import Outcome
from include.platform import database
from include.warehouse import findings
from include.warehouse.findings import Finding
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg

CHECK = "server_health"
_STATEMENTS = statements(__file__)
_RESTORE = (
    "-- 1. the server's log names the file and block (page verification failed); take no new backup over an old one\n"
    "-- 2. fail over to a standby that is sound, or restore the newest backup that was verified (ops.drill)\n"
    "-- 3. have the disk and the memory of the machine tested\n"
    "-- 4. in the damaged database, once it is sound: SELECT pg_stat_reset(); ANALYZE; (all its counters begin anew)\n"
    "--    (that of the shared catalogs begins anew on a new cluster only)"
)


def check(run_id: str) -> dict[str, Any]:
    """Look at checksums, the archiver and constraints that are not validated; write the findings.

    Any failed checksum is critical, as is archiving that has no way, whose newest attempt failed (the count of failures
    alone says nothing of now), or for which a file has waited for an hour. Raises as ``maintenance_session`` does.
    """
    from psycopg.rows import dict_row

    with findings.unknown_recorded(run_id, CHECK, "the check"):
        with (
            database.maintenance_session("the check of the server's health") as connection,
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            checksums = cursor.execute(_STATEMENTS["checksums"]).fetchall()
            archiver = cursor.execute(_STATEMENTS["archiver"]).fetchall()
            waiting = _waiting(cursor)
            unvalidated = cursor.execute(_STATEMENTS["unvalidated"]).fetchall()
        return findings.replace(
            run_id, CHECK, [_checksums(checksums), _archiver(archiver[0], waiting), *_constraints(unvalidated)]
        )


def _checksums(rows: list[dict[str, Any]]) -> Finding:
    name = "data checksums"
    known = [row for row in rows if row["checksum_failures"] is not None]
    damaged = [row for row in known if row["checksum_failures"]]
    if not known:
        off = "checksums of pages are switched off: damage on the disk would go unseen"
        return Finding(name, Outcome.NOT_APPLICABLE, off, {}, "-- while the server is stopped: pg_checksums --enable")
    if not damaged:
        return Finding(
            name, Outcome.OK, f"no page of {len(known)} databases failed its checksum", {"looked_at": len(known)}
        )
    count, where = sum(row["checksum_failures"] for row in damaged), ", ".join(row["database"] for row in damaged)
    return Finding(
        name, Outcome.CRITICAL, f"{count} reads met a damaged page in {where}", {"failures": damaged}, _RESTORE
    )


def _waiting(cursor: psycopg.Cursor[dict[str, Any]]) -> dict[str, Any] | None:
    """What waits to be archived; None when the role may not see it."""
    from psycopg import errors

    try:
        return cursor.execute(_STATEMENTS["waiting"]).fetchone()
    except errors.InsufficientPrivilege:
        return None


def _archiver(row: dict[str, Any], waiting: dict[str, Any] | None) -> Finding:
    role = row.pop("role")
    name, evidence = (
        "WAL archiving",
        {key: value for key, value in (row | (waiting or {})).items() if value is not None},
    )
    if row["mode"] == "off" or (row["mode"] == "on" and row["is_standby"]):
        why = "it is a standby" if row["is_standby"] else "archive_mode is off"
        return Finding(name, Outcome.NOT_APPLICABLE, f"WAL is not archived here ({why})", evidence)
    if row["has_no_way"]:
        what = "archive_mode is on, but neither archive_command nor archive_library says how"
    elif row["fails"]:
        what = f"archiving of {row['last_failed_wal']} fails"
    elif waiting and waiting["too_long"]:
        what = f"WAL has waited to be archived since {waiting['waits_since']:%Y-%m-%d %H:%M} UTC, and no attempt ends"
    elif waiting is None:
        blind = "the newest attempt to archive WAL did not fail, but the role may not see whether files wait"
        return Finding(name, Outcome.UNKNOWN, blind, evidence, f"GRANT pg_monitor TO {role};")
    else:
        ever = f"{row['failed_count']} attempts failed since the counters began"
        return Finding(name, Outcome.OK, f"WAL is archived without delay; {ever}", evidence)
    since = f" since {row['last_archived_time']:%Y-%m-%d %H:%M} UTC" if row["last_archived_time"] else " at all"
    summary = (
        f"{what}; nothing was archived{since}: no backup can be recovered to a later time, and pg_wal grows until the "
        "disk is full"
    )
    remedy = (
        "-- the server's log has what the command said; SHOW archive_command; SHOW archive_library;\n"
        "-- usual causes: the archive is full or away, its credentials have expired, or the file is there already\n"
        "-- never remove files from pg_wal; archiving goes on by itself once the command succeeds"
    )
    return Finding(name, Outcome.CRITICAL, summary, evidence, remedy)


def _constraints(rows: list[dict[str, Any]]) -> list[Finding]:
    if not rows:
        return [Finding("constraints", Outcome.OK, "every constraint is validated", {"not_validated": 0})]
    return [_constraint(row["table_name"], row["constraint_name"], row["definition"]) for row in rows]


def _constraint(table: str, name: str, definition: str) -> Finding:
    summary = f"{table}: the constraint {name} is NOT VALID: rows that were there before it were never checked"
    remedy = f"ALTER TABLE {table} VALIDATE CONSTRAINT {name};  -- reads the whole table, and lets writers go on"
    return Finding(f"constraint {name} of {table}", Outcome.WARNING, summary, {"definition": definition}, remedy)
