"""Reviews the indexes of the platform's database: unused, redundant and invalid ones, and foreign keys without one.

Guide, "Index Review". Nothing is changed: each finding carries the SQL to apply. The statements stand in
index_review.sql; bloat is reviewed in bloat.py.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from include import connections
from include.outcome import ConfigurationError, MaintenanceFailed, Outcome, SourceUnavailable
from include.platform import database
from include.settings import settings
from include.warehouse import findings, index_usage
from include.warehouse.findings import Finding
from include.warehouse.index_usage import PRIMARY, Idle, Usage
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg

    _Look = Callable[[psycopg.Connection[Any]], list[Finding]]

ALL_INDEXES = "all indexes"
ALL_FOREIGN_KEYS = "all foreign keys"
_STATEMENTS = statements(__file__)
_KEEP_DAYS = 400  # of the readings of index usage: "since when is it unused" for more than a year


def review(run_id: str) -> list[dict[str, Any]]:
    """Make every check of the review and record its findings; return each check's facts.

    A check that fails is recorded as unknown, the others are made, and then the first error is raised: a
    ConfigurationError, MaintenanceFailed or SourceUnavailable.
    """
    checks: tuple[tuple[str, str, _Look], ...] = (
        ("unused_indexes", ALL_INDEXES, lambda connection: _unused(connection, run_id)),
        ("redundant_indexes", ALL_INDEXES, _redundant),
        ("invalid_indexes", ALL_INDEXES, _invalid),
        ("foreign_keys_without_index", ALL_FOREIGN_KEYS, _foreign_keys),
    )
    return findings.each_in_turn(
        run_id, {check: partial(_recorded, run_id, check, whole, look) for check, whole, look in checks}
    )


def _recorded(run_id: str, check: str, whole: str, look: _Look) -> dict[str, Any]:
    with findings.unknown_recorded(run_id, check, whole), _session(check) as connection:
        found = look(connection)
        indexes, keys = _row(connection, "counted")
    if not found:
        number, what = (keys, "foreign keys have one") if whole == ALL_FOREIGN_KEYS else (indexes, "indexes are fine")
        found = [Finding(whole, Outcome.OK, f"{number} of {number} {what}.", {"reviewed": number})]
    return findings.replace(run_id, check, found)


@contextmanager
def _session(check: str) -> Iterator[psycopg.Connection[Any]]:
    with database.maintenance_session(f"the check {check}") as connection:
        yield connection


def _row(connection: psycopg.Connection[Any], statement: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(_STATEMENTS[statement]).fetchone()
    assert row is not None, "the statement always gives a row"
    return row


# ------------------------------------------------------------------------------------------------------ unused
def _unused(connection: psycopg.Connection[Any], run_id: str) -> list[Finding]:
    """Judge by every server that scans indexes: one that was not looked at makes "unused" unknown."""
    wanted = settings().maintenance.index_review
    cluster, server = database.server(connection)
    [now] = _row(connection, "now")
    if server is None:
        raise ConfigurationError(f"{database.MAINTENANCE} leads to a standby; let it lead to the primary")
    usages, gaps = _usage(connection, PRIMARY), []
    standbys, unread = _standbys(connection, PRIMARY)
    seen: dict[str, str | None] = {}
    for replica in wanted.replicas:
        try:
            with connections.postgres(replica, autocommit=True) as other, database.errors_named("its indexes", replica):
                usages += _usage_of_replica(other, replica, cluster, seen)
                cascaded, unread_there = _standbys(other, replica)
                standbys, unread = standbys + cascaded, unread + unread_there
        except (ConfigurationError, MaintenanceFailed, SourceUnavailable) as error:
            gaps.append(f"the replica {replica} could not be looked at ({error})")
    gaps += [
        f"{number} standby named '{name}' is not among the replicas of maintenance.index_review.replicas"
        for name, number in (standbys - Counter(name for name in seen.values() if name)).items()
    ]
    gaps += unread
    idle: dict[int, list[Idle]] = defaultdict(list)
    for one in index_usage.record(run_id, server, now, usages, keep_days=_KEEP_DAYS):
        idle[one.index_oid].append(one)
    nodes = {PRIMARY, *wanted.replicas}
    found = []
    droppable = connection.execute(_STATEMENTS["droppable"], {"minimum_bytes": wanted.unused_minimum_bytes})
    for oid, size, partitioned, table, expressions in droppable.fetchall():
        advice = partial(_drop_unused, partitioned, _statistics_first(connection, table, expressions))
        if finding := _judge(idle.get(oid, []), nodes, gaps, now, size, table, advice):
            found.append(finding)
    return _not_both(connection, found)


def _not_both(connection: psycopg.Connection[Any], unused: list[Finding]) -> list[Finding]:
    """Take the SQL from an index that has no scans because a redundant one beside it has them all.

    ``redundant_indexes`` drops that one, for this one does its work, or one that does this one's work in turn; who
    followed both would be left with none of them.
    """
    names = {one.resource for one in unused if one.outcome is Outcome.WARNING}
    keeps = {spare: whole for spare, *_, whole in connection.execute(_STATEMENTS["redundant"])}
    spares: dict[str, list[str]] = defaultdict(list)
    for spare in sorted(keeps.keys() - names):
        kept = keeps.get(spare)
        while kept is not None and spare not in spares[kept]:
            spares[kept].append(spare)
            kept = keeps.get(kept)
    return [
        replace(
            one,
            remedy=f"-- Drop this one or {database.in_comment(' and '.join(spares[one.resource]))}, never both: "
            "redundant_indexes keeps this one to do the other's work.",
            evidence=one.evidence | {"does_the_work_of": spares[one.resource]},
        )
        if one.outcome is Outcome.WARNING and one.resource in spares
        else one
        for one in unused
    ]


def _standbys(connection: psycopg.Connection[Any], node: str) -> tuple[Counter[str], list[str]]:
    """The names of the standbys that stream from a server now, and a doubt for each that may be down at the moment."""
    streaming = Counter(name for name, _ in connection.execute(_STATEMENTS["standbys"]))
    unread = [
        f"nobody reads the replication slot '{slot}' of {node} just now: its standby may be down"
        for (slot,) in connection.execute(_STATEMENTS["unread_slots"])
    ]
    return streaming, unread


def _usage(connection: psycopg.Connection[Any], node: str) -> list[Usage]:
    (since,) = _row(connection, "statistics_since")
    return [
        Usage(node, oid, name, scans, last_scan, since)
        for oid, name, scans, last_scan in connection.execute(_STATEMENTS["usage"])
    ]


def _usage_of_replica(
    connection: psycopg.Connection[Any], replica: str, cluster: str, seen: dict[str, str | None]
) -> list[Usage]:
    standby, place, name = _row(connection, "replica")
    if not standby or database.server(connection)[0] != cluster:
        raise ConfigurationError(f"the connection {replica} does not lead to a replica of the platform's database")
    if place in seen:
        raise ConfigurationError(f"the connection {replica} leads to the same server as another replica's")
    seen[place] = name
    return _usage(connection, replica)


def _judge(
    idle: list[Idle],
    nodes: set[str],
    gaps: list[str],
    now: datetime,
    size: int,
    table: str,
    advice: Callable[[str, str], str],
) -> Finding | None:
    """Return the finding about one index, or None when it is in use; ``advice`` gives the SQL for name and scans."""
    days = settings().maintenance.index_review.unused_days
    limit = now - timedelta(days=days)
    if not idle or any(one.scans > 0 and not (one.idle_since <= limit) for one in idle):
        return None
    doubts = list(gaps)
    doubts += [f"{node} does not have it yet" for node in sorted(nodes - {one.node for one in idle}) if not gaps]
    doubts += [
        f"the statistics of {one.node} go back only to {one.idle_since:%Y-%m-%d}"
        for one in idle
        if one.idle_since > limit
    ]
    if (known := min(one.known_since for one in idle)) > limit:
        doubts.append(f"this primary is known to have it only since {known:%Y-%m-%d}")
    name, since = idle[0].index_name, max(one.idle_since for one in idle)
    evidence = {
        "size_bytes": size,
        "table": table,
        "unused_since": since,
        "known_since": known,
        "needed_days": days,
        "scans": {one.node: one.scans for one in idle},
        "statistics_since": {one.node: one.statistics_since for one in idle},
    }
    if doubts:
        summary = f"It seems unused, but {'; '.join(doubts)}: that is no proof of {days} days on every server."
        return Finding(name, Outcome.UNKNOWN, summary, evidence | {"doubts": doubts})
    summary = f"No server has scanned it since {since:%Y-%m-%d}, for {(now - since).days} days; it only slows writes."
    scans = ", ".join(f"{one.scans} on {one.node}" for one in idle)
    return Finding(name, Outcome.WARNING, summary, evidence, advice(name, scans), {"bytes": size})


def _statistics_first(connection: psycopg.Connection[Any], table: str, expressions: list[str]) -> str:
    """What to do before an index on expressions goes, and with it all that the planner knows of them."""
    if not expressions:
        return ""
    listed = database.in_comment(", ".join(expressions))
    if database.server_version(connection) < 140000:
        return f"-- The planner's statistics of {listed} go with it; PostgreSQL 14 could keep them without an index.\n"
    return (
        "-- The planner's statistics of its expressions go with it. To keep them, first CREATE STATISTICS … ON "
        f"{listed} FROM {database.in_comment(table)} and ANALYZE the table.\n"
    )


def _drop_unused(partitioned: bool, first: str, name: str, scans: str) -> str:
    parts = " of its parts together" if partitioned else ""
    return first + _drop(name, partitioned, f"idx_scan in pg_stat_user_indexes{parts} is still {scans}")


def _drop(name: str, partitioned: bool, see: str) -> str:
    """SQL that waits in comments for who has seen that it is still so: weeks later a release may have changed it."""
    lines = [f"-- First see that {see}; then:", f"--   DROP INDEX CONCURRENTLY {name};"]
    if partitioned:
        # The server drops one in no other way: it must not queue for the lock, with everybody behind it.
        locks = "-- Locks the table and all its partitions for a moment, reads as well; try again when it is not free."
        lines = [locks, lines[0], *(f"--   {line}" for line in database.together([f"DROP INDEX {name};"]))]
    return "\n".join(database.in_comment(line) for line in lines)


# ------------------------------------------------------------------------- redundant, invalid and missing ones
def _redundant(connection: psycopg.Connection[Any]) -> list[Finding]:
    found = []
    for name, other, table, size, partitioned, identical, definition, others, _ in connection.execute(
        _STATEMENTS["redundant"]
    ):
        why = "is the same index" if identical else "begins with the same columns"
        summary = f"{other} {why} and does its work; it only slows writes."
        evidence = {
            "table": table,
            "size_bytes": size,
            "kept_index": other,
            "identical": identical,
            "definition": definition.strip(),
            "kept_definition": others.strip(),
        }
        remedy = _drop(name, partitioned, f"{other} is there and valid, for it does this one's work")
        found.append(Finding(name, Outcome.WARNING, summary, evidence, remedy, {"bytes": size}))
    return found


def _invalid(connection: psycopg.Connection[Any]) -> list[Finding]:
    found = []
    for name, table, size, partitioned, left_over, whole, pid in connection.execute(_STATEMENTS["invalid"]):
        evidence = {"table": table, "size_bytes": size, "left_by_reindex": left_over}
        if pid and not partitioned:
            summary = f"It is invalid; {database.MAINTENANCE} may not see whether process {pid} builds it just now."
            remedy = f"GRANT pg_read_all_stats TO …;  -- the role of {database.MAINTENANCE}"
            found.append(Finding(name, Outcome.UNKNOWN, summary, evidence, remedy))
            continue
        if partitioned:
            summary = f"Not every partition of {table} has its part of this index yet, so no query may rely on it."
            remedy = f"ALTER INDEX {name} ATTACH PARTITION …;  -- for every partition's own index"
            found.append(Finding(name, Outcome.WARNING, summary, evidence, remedy))
            continue
        what = "an interrupted REINDEX CONCURRENTLY" if left_over else "a failed build"
        summary = f"It is invalid, left by {what}: no query uses it, but every write to {table} maintains it."
        # Where it was mended meanwhile, to drop it and make it again would leave queries without it for a while.
        again = f"{database.update_first(connection)}REINDEX INDEX CONCURRENTLY {name};"
        remedy = f"DROP INDEX CONCURRENTLY {name};" if left_over else again
        if whole:  # the server drops no part of another index
            attach = f"ALTER INDEX {whole} ATTACH PARTITION {name};  -- valid now"
            remedy = "\n".join([again, *database.briefly([attach])])
        found.append(Finding(name, Outcome.WARNING, summary, evidence, remedy, {"bytes": size} if left_over else None))
    return found


def _foreign_keys(connection: psycopg.Connection[Any]) -> list[Finding]:
    found = []
    for oid, key, table, parent, columns, method, size, rows, partitions in connection.execute(
        _STATEMENTS["foreign_keys"]
    ).fetchall():
        listed = ", ".join(columns)
        where = table if partitions is None else f"{partitions} of the partitions of {table}"
        summary = f"No index begins with {listed}: each deletion or change of a key in {parent} reads all of {where}."
        definition = f"USING {method} ({listed})"
        remedy = f"CREATE INDEX CONCURRENTLY ON {table} {definition.removeprefix('USING btree ')};"
        if partitions is not None:
            remedy = _index_of_partitions(connection, oid, columns, definition)
        remedy = database.update_first(connection) + remedy
        evidence = {"table": table, "columns": columns, "refers_to": parent, "size_bytes": size, "rows": rows}
        gain = {"bytes_not_read_per_deletion": size}
        found.append(Finding(f"{table} {key}", Outcome.WARNING, summary, evidence, remedy, gain))
    return found


def _index_of_partitions(connection: psycopg.Connection[Any], oid: int, columns: list[str], definition: str) -> str:
    """The SQL that indexes a partitioned table while others write; partitions keep the indexes that fit.

    CREATE INDEX on the whole locks writers out of every partition for as long as it builds, and has no CONCURRENTLY.
    """
    taken = {(schema, name) for schema, name in connection.execute(_STATEMENTS["taken_names"], {"oid": oid})}
    what = definition.removeprefix("USING btree ")
    wholes: list[str] = []
    parts: list[str] = []
    attached: list[str] = []
    indexes: dict[int, str] = {}
    complete: set[int] = set()  # partitioned tables whose own index covers all below it
    given = {"oid": oid, "definition": definition}
    for table_oid, parent, leaf, schema, relation, table, existing in connection.execute(
        _STATEMENTS["partitions"], given
    ):
        if parent in complete or (existing and not leaf):
            complete.add(table_oid)
        if parent in complete:
            continue
        if existing is None:
            name = _free_name(schema, relation, "_".join(column.strip('"') for column in columns), taken)
            kind = f"CONCURRENTLY {name} ON" if leaf else f"{name} ON ONLY"
            (parts if leaf else wholes).append(f"CREATE INDEX {kind} {table} {what};")
            existing = f"{schema}.{name}"
        indexes[table_oid] = existing
        if parent in indexes:
            attached.append(f"ALTER INDEX {indexes[parent]} ATTACH PARTITION {indexes[table_oid]};")
    comment = (
        "-- Each on its own, not in a transaction; try one again when its lock is not free. The last ATTACH makes the "
        "index valid."
    )
    return "\n".join([comment, *database.briefly(wholes), *parts, *database.briefly(attached)])


def _free_name(schema: str, relation: str, what: str, taken: set[tuple[str, str]]) -> str:
    """A name for an index as the server would choose it, quoted where it must be; it joins those that are ``taken``."""
    number = 0
    while True:
        ending = f"_{_cut(what, 30)}_idx{number or ''}"
        name = _cut(relation, 63 - len(ending.encode())) + ending
        if (schema, name) not in taken:
            taken.add((schema, name))
            return database.identifier(name)
        number += 1


def _cut(text: str, size: int) -> str:
    """The beginning of a text, of so many bytes at most."""
    return text.encode()[:size].decode(errors="ignore")
