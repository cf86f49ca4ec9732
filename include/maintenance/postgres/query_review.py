"""Reviews the queries of a week: slow ones, ones that became slower, and what would help them.

Guide, "Query Optimization". The week is the difference of two readings of pg_stat_statements, which is never reset.
The statements stand in query_review.sql; plans and index advice are in query_plans.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.maintenance.postgres import query_plans, query_texts
from include.outcome import Outcome
from include.platform import database
from include.settings import settings
from include.warehouse import findings, query_statistics
from include.warehouse.findings import Finding
from include.warehouse.query_statistics import Entry, Period, Reading, Work
from include.warehouse.statements import statements

if TYPE_CHECKING:
    from typing import LiteralString

    import psycopg
    from psycopg import sql

STATISTICS = "query_statistics"
SLOW = "slow_queries"
REGRESSIONS = "query_regressions"
ADVICE = "index_advice"
ALL_QUERIES = "all queries"
LIBRARY = "pg_stat_statements"
_LIBRARY = re.compile(r'"(?:[^"]|"")*"|[^\s,"]+')  # a name of the list of libraries
_STATEMENTS = statements(__file__)


@dataclass(frozen=True)
class _Source:
    """pg_stat_statements as it was read; ``texts`` are the server's own, for its planner only."""

    reading: Reading
    texts: dict[int, str]
    most_entries: int
    server_version: int


def review(run_id: str) -> list[dict[str, Any]]:
    """Read the statistics, compare them with the readings before, and record the findings; return the checks' facts.

    Statistics that are not there or may not be read make every check unknown, with the remedy. Raises
    ConfigurationError, MaintenanceFailed or SourceUnavailable after recording that.
    """
    with _unknown_recorded(run_id, STATISTICS, SLOW, REGRESSIONS, ADVICE), _session() as connection:
        source = _read(connection)
        if isinstance(source, Finding):
            return _nothing_known(run_id, source)
        wanted = settings().maintenance.query_review
        query_statistics.record(run_id, source.reading, keep_days=wanted.keep_days)
        week, before = query_statistics.periods(run_id, baseline_days=wanted.baseline_days)
        statistics = findings.replace(run_id, STATISTICS, [_completeness(week, source)])
        regressions = findings.replace(run_id, REGRESSIONS, _regressions(week, before, source))
    slow = _slow(week)
    with _unknown_recorded(run_id, SLOW, ADVICE), _session() as connection:
        plans = {work.query_id: query_plans.plan(connection, source.texts.get(work.query_id)) for work in slow}
        slowness = findings.replace(run_id, SLOW, _slow_findings(slow, week, plans, source))
    with _unknown_recorded(run_id, ADVICE), _session() as connection:
        days = (week.ended_at - week.began_at).total_seconds() / 86_400 if week.began_at else None
        advice = findings.replace(run_id, ADVICE, query_plans.advice(connection, slow, plans, days))
    return [statistics, slowness, regressions, advice]


@contextmanager
def _unknown_recorded(run_id: str, *checks: str) -> Iterator[None]:
    """As ``findings.unknown_recorded``, for all checks that rest on what is done within."""
    with ExitStack() as stack:
        for check in checks:
            stack.enter_context(findings.unknown_recorded(run_id, check, ALL_QUERIES))
        yield


@contextmanager
def _session() -> Iterator[psycopg.Connection[Any]]:
    with database.maintenance_session("the review of queries") as connection:
        yield connection


def _nothing_known(run_id: str, finding: Finding) -> list[dict[str, Any]]:
    return [findings.replace(run_id, check, [finding]) for check in (STATISTICS, SLOW, REGRESSIONS, ADVICE)]


# -------------------------------------------------------------------------------------------------- the source
def _read(connection: psycopg.Connection[Any]) -> _Source | Finding:
    """Read all entries of this database, or say why they cannot be read and what to do about it."""
    import psycopg

    def unknown(why: str, remedy: str) -> Finding:
        return Finding(ALL_QUERIES, Outcome.UNKNOWN, why, {}, remedy)

    row = connection.execute(_STATEMENTS["libraries"]).fetchone()
    preload = _to_preload(row[0] if row else None)
    extension = connection.execute(_STATEMENTS["extension"]).fetchone()
    if extension is None:
        return unknown(
            "The extension pg_stat_statements is not installed in the platform's database.",
            f"{preload}CREATE EXTENSION pg_stat_statements;",
        )
    schema, version, columns = extension
    _, server = database.server(connection)
    row = connection.execute(_STATEMENTS["settings"]).fetchone()
    assert row is not None, "the statement always gives a row"
    now, may_read, io_measured, track, identified, most = row
    if server is None:
        return unknown(
            f"{database.MAINTENANCE} leads to a standby, which counts its own queries only.",
            "-- Let the connection lead to the primary.",
        )
    if not may_read:
        return unknown(
            f"The role of {database.MAINTENANCE} may not see other roles' queries.",
            "GRANT pg_read_all_stats TO …;  -- the role of " + database.MAINTENANCE,
        )
    if track == "none" or identified == "off":
        setting = "pg_stat_statements.track = 'top'" if track == "none" else "compute_query_id = 'auto'"
        return unknown(
            "The server collects no statistics of queries.", f"ALTER SYSTEM SET {setting};\nSELECT pg_reload_conf();"
        )
    try:
        rows = connection.execute(_entries(schema, set(columns), io_measured)).fetchall()
        since, evictions = _information(connection, schema, version)
    except psycopg.errors.ObjectNotInPrerequisiteState:
        return unknown("The library pg_stat_statements is not loaded by the server.", preload.strip())
    if not rows:
        return unknown("pg_stat_statements holds no query of the platform's database.", "")
    entries = [Entry._make((*row[:3], _masked(row[3]), *row[4:])) for row in rows]
    texts = {row[0]: row[3] for row in rows if row[3] is not None}
    reading = Reading(server, now, since, evictions, entries)
    return _Source(reading, texts, most, database.server_version(connection))


def _to_preload(loaded: str | None) -> str:
    """How the server is made to load the library beside those it ``loaded``; nothing when it has it already.

    A comment: the setting is one list, and an old one would unload what was added since, such as what audits or
    replicates.
    """
    if loaded is None:
        return (
            f"-- The role of {database.MAINTENANCE} may not read shared_preload_libraries: as a superuser add\n"
            "-- pg_stat_statements to what SHOW gives, then restart; to set it alone unloads all others\n"
        )
    names = [name.strip('"').replace('""', '"') for name in _LIBRARY.findall(loaded)]
    if LIBRARY in names:
        return ""
    listed = ", ".join(map(database.literal, [*names, LIBRARY]))
    return (
        "-- first see that SHOW shared_preload_libraries still gives all but the last of these, or the others are "
        "unloaded, and\n-- that pg_available_extensions has that one, or the server does not start again; then, with a "
        f"restart:\n-- {database.in_comment(f'ALTER SYSTEM SET shared_preload_libraries = {listed};')}\n"
    )


def _masked(text: str | None) -> str:
    # The server has no text any more when it lost its file of them, for example for want of disk space.
    return query_statistics.LOST if text is None else query_texts.masked(text)


def _entries(schema: str, columns: set[str], io_measured: bool) -> sql.Composed:
    """The query of all entries, by the columns that this version of the extension has.

    total_time is total_exec_time since 1.8, top-level and nested executions are apart since 1.9, the times of reads
    are named after the kind of blocks since 1.11, when each entry tells since when it counts.
    """
    from psycopg import sql

    read: LiteralString = "NULL::float8"
    if io_measured:
        read = "shared_blk_read_time / 1000" if "shared_blk_read_time" in columns else "blk_read_time / 1000"
    query = (
        "SELECT queryid, userid::bigint, {top_level}, query, calls, {seconds} / 1000, rows, shared_blks_hit,"
        " shared_blks_read, {read}, temp_blks_written, {since} FROM {statistics}"
        " WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND queryid IS NOT NULL AND calls > 0"
    )
    return sql.SQL(query).format(
        top_level=sql.SQL("toplevel" if "toplevel" in columns else "true"),
        seconds=sql.SQL("total_exec_time" if "total_exec_time" in columns else "total_time"),
        read=sql.SQL(read),
        since=sql.SQL("stats_since" if "stats_since" in columns else "NULL::timestamptz"),
        statistics=sql.Identifier(schema, "pg_stat_statements"),
    )


def _information(connection: psycopg.Connection[Any], schema: str, version: str) -> tuple[datetime | None, int | None]:
    """Since when the statistics count and how often entries were evicted; both are told since 1.9 (PostgreSQL 14)."""
    from psycopg import sql

    if tuple(int(part) for part in version.split(".")[:2]) < (1, 9):
        return None, None
    query = sql.SQL("SELECT stats_reset, dealloc FROM {}").format(sql.Identifier(schema, "pg_stat_statements_info"))
    row = connection.execute(query).fetchone()
    return (row[0], row[1]) if row else (None, None)


def _completeness(week: Period, source: _Source) -> Finding:
    """Judge what the statistics can tell about the week: evicted queries are missing in every other finding."""
    evidence = {
        "entries": week.entries,
        "most_entries": source.most_entries,
        "evictions": week.evictions,
        "vanished": week.vanished,
        "began_at": week.began_at,
        "ended_at": week.ended_at,
        "statistics_since": week.statistics_since,
        "was_reset": week.was_reset,
    }
    since = f"since {week.began_at:%Y-%m-%d}" if week.began_at else "since they began"
    if week.was_reset:
        summary = f"The statistics were reset on {week.statistics_since:%Y-%m-%d %H:%M}: what came before is missing."
        return Finding(
            ALL_QUERIES, Outcome.WARNING, summary, evidence, "Find out who calls pg_stat_statements_reset()."
        )
    if week.evictions or week.vanished:
        known = "an unknown number of" if week.evictions is None else week.evictions
        summary = (
            f"Entries were evicted {known} times {since} for want of room: {week.vanished} of the last reading "
            "are gone, and rare queries were perhaps never seen."
        )
        remedy = f"ALTER SYSTEM SET pg_stat_statements.max = {source.most_entries * 2};  -- takes a restart"
        return Finding(ALL_QUERIES, Outcome.WARNING, summary, evidence, remedy)
    if week.evictions is None:
        summary = (
            "All entries of the last reading are there; this version of pg_stat_statements does not tell whether "
            f"others were evicted {since}."
        )
        remedy = "ALTER EXTENSION pg_stat_statements UPDATE;  -- it tells since PostgreSQL 14"
        return Finding(ALL_QUERIES, Outcome.UNKNOWN, summary, evidence, remedy)
    summary = f"The statistics are complete {since}: {week.entries} entries, none evicted."
    return Finding(ALL_QUERIES, Outcome.OK, summary, evidence)


# ---------------------------------------------------------------------------------------------------- judgement
def _slow(week: Period) -> list[Work]:
    """Queries that are slow and frequent, or that take a large share of all time; the most time first."""
    wanted = settings().maintenance.query_review
    total = sum(work.seconds for work in week.work)
    slow = [
        work
        for work in week.work
        if _is_query(work)
        and (
            (work.mean_milliseconds >= wanted.mean_milliseconds and work.calls >= wanted.calls)
            or (
                work.seconds >= wanted.share_of_total * total
                and (work.mean_milliseconds >= wanted.mean_milliseconds or work.calls >= wanted.calls)
            )
        )
    ]
    return slow[: wanted.most_queries]


def _is_query(work: Work) -> bool:
    return work.text == query_statistics.LOST or query_texts.can_be_planned(work.text)


def _slow_findings(
    slow: list[Work], week: Period, plans: dict[int, query_plans.Plan], source: _Source
) -> list[Finding]:
    total = sum(work.seconds for work in week.work)
    found = []
    for work in slow:
        plan = plans[work.query_id]
        share = work.seconds / total if total else 0.0
        scans = plan.large_scans
        named = f" It reads all of {', '.join(sorted({scan.table for scan in scans}))}." if scans else ""
        summary = (
            f"{work.calls} executions took {work.mean_milliseconds:.1f} ms on average, {share:.0%} of all time.{named}"
        )
        evidence = _figures(work) | {"share_of_total": round(share, 4), "plan": plan.facts()}
        gain = {"seconds_per_period_at_most": round(work.seconds, 3)}
        found.append(Finding(_name(work), Outcome.WARNING, summary, evidence, _to_see_why(work, source), gain))
    if not found:
        summary = f"None of {len(week.work)} queries is slow."
        found = [Finding(ALL_QUERIES, Outcome.OK, summary, {"queries": len(week.work), "seconds": round(total, 3)})]
    return found


def _regressions(week: Period, before: Period | None, source: _Source) -> list[Finding]:
    """Queries whose mean time rose against the period before, with enough executions in both."""
    wanted = settings().maintenance.query_review
    if before is None:
        summary = f"There is no reading yet that is at least {wanted.baseline_days} days old to compare with."
        return [Finding(ALL_QUERIES, Outcome.UNKNOWN, summary, {}, "Nothing: the next weeks' runs will have one.")]
    earlier = {work.query_id: work for work in before.work}
    then = _called(before)
    facts = {"compared_with": then, "before_began_at": before.began_at, "before_ended_at": before.ended_at}
    frequent = [work for work in week.work if work.calls >= wanted.calls and _is_query(work)]
    pairs = [(work, earlier[work.query_id]) for work in frequent if work.query_id in earlier]
    pairs = [(work, old) for work, old in pairs if old.calls >= wanted.calls]
    found = []
    for work, old in pairs:
        rise = work.mean_milliseconds - old.mean_milliseconds
        if (
            rise < wanted.regression_minimum_milliseconds
            or rise < (wanted.regression_ratio - 1) * old.mean_milliseconds
        ):
            continue
        summary = (
            f"It takes {work.mean_milliseconds:.1f} ms on average, {old.mean_milliseconds:.1f} ms {then} "
            f"({work.calls} and {old.calls} executions)."
        )
        evidence = _figures(work) | facts | {"before": _figures(old)}
        gain = {"seconds_per_period": round(rise * work.calls / 1000, 3)}
        found.append(Finding(_name(work), Outcome.WARNING, summary, evidence, _to_see_why(work, source), gain))
    return found or [_no_regression(len(frequent), len(pairs), then, facts)]


def _no_regression(frequent: int, compared: int, then: str, facts: dict[str, Any]) -> Finding:
    """Tell "none became slower" from "there was nothing to compare", which is no pass."""
    calls = settings().maintenance.query_review.calls
    facts = {"compared": compared, "frequent": frequent} | facts
    if compared:
        summary = f"None of {compared} queries with enough executions became slower than {then}."
        return Finding(ALL_QUERIES, Outcome.OK, summary, facts)
    if not frequent:
        summary = f"No query was executed {calls} times: too few for a mean that tells anything."
        return Finding(ALL_QUERIES, Outcome.NOT_APPLICABLE, summary, facts)
    summary = f"None of {frequent} frequent queries was executed {calls} times {then}: nothing could be compared."
    return Finding(ALL_QUERIES, Outcome.UNKNOWN, summary, facts, "Nothing: the next run compares them.")


def _called(before: Period) -> str:
    """The period that is compared with: the first reading counts from the beginning of the statistics."""
    if before.began_at is not None:
        return "the week before"
    since = f"{before.statistics_since:%Y-%m-%d}" if before.statistics_since else "the beginning of the statistics"
    return f"in all the time from {since} to {before.ended_at:%Y-%m-%d}"


def _to_see_why(work: Work, source: _Source) -> str:
    """The SQL that shows where a query's time goes; what would help it is the index advice, if anything."""
    if work.text == query_statistics.LOST:
        return ""
    return query_texts.to_see_why(work.text, work.query_id, generic_plans=source.server_version >= 160000)


def _name(work: Work) -> str:
    return f"query {work.query_id}"


def _figures(work: Work) -> dict[str, Any]:
    return {
        "text": work.text,
        "calls": work.calls,
        "mean_milliseconds": round(work.mean_milliseconds, 3),
        "seconds": round(work.seconds, 3),
        "rows": work.rows_returned,
        "blocks_hit": work.blocks_hit,
        "blocks_read": work.blocks_read,
        "read_seconds": work.read_seconds,
        "temporary_blocks": work.temporary_blocks,
    }
