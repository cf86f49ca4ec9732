"""Composes the VACUUM or ANALYZE of one table: its options by the server's version, the urgency and the hour."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from include.platform import database
from include.platform.database import Table
from include.settings import settings

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

_FAILSAFE_AGE = 1_600_000_000  # PostgreSQL's vacuum_failsafe_age
_SHORTEST_FORESEEN_SECONDS = 60.0


def options_of(version: int, item: dict[str, Any], before: dict[str, Any], local: datetime) -> list[str]:
    """Return the options of VACUUM that the server's version knows, for example ``["ANALYZE", "PARALLEL 0"]``.

    SKIP_LOCKED is not among them: it skips with a mere warning, all partitions with a locked parent, and may still
    wait for an index; the session's lock_timeout bounds every wait and is an error. ``local`` is now, in the platform's
    time zone: the file is not shortened, which locks readers out here and on standbys, where that may come in business
    hours.
    """
    wanted = settings().maintenance.vacuum
    urgent = (before["transaction_age"] or 0) >= _FAILSAFE_AGE or (before["multixact_age"] or 0) >= _FAILSAFE_AGE
    options = ["FREEZE"] * item["freeze"] + ["ANALYZE"] * item["analyze"]
    options.append(f"PARALLEL {wanted.parallel_workers}")
    if urgent or _may_end_in_business_hours(item, local):
        options.append("TRUNCATE FALSE")
    if urgent and version < 140000:
        options.append("INDEX_CLEANUP FALSE")  # since 14 the server's failsafe does this by itself
    toast_is_clean = before["toast_dead_rows"] == 0 and before["toast_inserted_rows"] == 0
    if version >= 140000 and toast_is_clean and not item["freeze"]:
        options.append("PROCESS_TOAST FALSE")
    if version >= 160000:
        # Once for all tables is enough, see finish(); each time, it would read the whole of pg_class.
        options += ["SKIP_DATABASE_STATS", f"BUFFER_USAGE_LIMIT '{wanted.buffer_megabytes} MB'"]
    return options


def _may_end_in_business_hours(item: dict[str, Any], local: datetime) -> bool:
    """Whether a vacuum that begins now may shorten the file, its last step, in business hours.

    Taken is twice the time that the table is expected to need, at least a minute, and where that was not measured of
    itself the end of its window, which ends it in any case.
    """
    hours = settings().maintenance.vacuum.business_hours
    if hours.from_hour >= hours.to_hour:
        return False
    ends = local + timedelta(seconds=max(_SHORTEST_FORESEEN_SECONDS, 2 * item["expected_seconds"]))
    if not item["danger"] and item.get("ends_at"):
        window_ends = datetime.fromisoformat(item["ends_at"]).astimezone(local.tzinfo)
        ends = max(local, min(ends, window_ends) if item.get("expectation_is_measured") else window_ends)
    opens = local.replace(hour=hours.from_hour, minute=0, second=0, microsecond=0)
    open_now = opens <= local and local.hour < hours.to_hour
    return open_now or (opens if opens > local else opens + timedelta(days=1)) <= ends


def statement(
    connection: psycopg.Connection[Any], item: dict[str, Any], table: Table, before: dict[str, Any]
) -> sql.Composed:
    """Return the one statement that does what ``item`` plans for a table, measured ``before``."""
    from psycopg import sql

    version, verb = database.server_version(connection), "ANALYZE"
    if item["vacuum"] or item["freeze"]:
        local = datetime.now(ZoneInfo(settings().platform.timezone))
        verb = f"VACUUM ({', '.join(options_of(version, item, before, local))})"
    elif before["partitioned"]:
        # The partitions are looked after one by one. Before PostgreSQL 18 they cannot be left out, and before 14 no
        # statistics tell that the whole was analyzed: then it is the server's messages that do.
        verb = "ANALYZE ONLY" if version >= 180000 else "ANALYZE" if version >= 140000 else "ANALYZE (VERBOSE)"
    return sql.SQL("{} {}").format(sql.SQL(verb), table.identifier)
