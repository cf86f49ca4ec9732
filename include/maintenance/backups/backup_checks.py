"""What is checked of a backup and of the database that was restored from it. Each check returns a ``Result``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from include import connections
from include.outcome import ConfigurationError, SourceUnavailable
from include.platform import backup_facts, contract, source
from include.platform.backup_facts import Facts, TableFacts
from include.platform.backup_restore import Restored, first_problem
from include.platform.backups import Backup
from include.platform.scratch_server import ScratchServer
from include.sections import BackupSource
from include.settings import settings
from include.warehouse.drills import StageOutcome
from include.warehouse.session import CLOCKS_APART
from include.warehouse.statements import statements

_STATEMENTS = statements(__file__)
_LISTED = 5  # differences that are named; the rest is counted
_LOOKED_BACK = timedelta(days=7)  # to the verification of the week before

NEED_FACTS = ("checksums", "catalog", "row_counts", "newest_rows")
"""Stages that need facts recorded with the backup; where the source does not require facts they may be unknown.

The negative control is none of them: without facts pg_restore, pg_verifybackup or the page checksums refuse a copy.
"""


@dataclass(frozen=True)
class Result:
    """What a check found; ``reason`` is one sentence and is needed unless it passed."""

    outcome: StageOutcome
    reason: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    """How long it took, where that differs from how long it was waited for."""


def passed(**detail: Any) -> Result:
    """The check passed."""
    return Result(StageOutcome.PASSED, detail=detail)


def failed(reason: str, **detail: Any) -> Result:
    """The check found a fault."""
    return Result(StageOutcome.FAILED, reason, detail)


def unknown(reason: str, **detail: Any) -> Result:
    """The check could not be made."""
    return Result(StageOutcome.UNKNOWN, reason, detail)


def not_applicable(reason: str) -> Result:
    """There is nothing of this kind to check."""
    return Result(StageOutcome.NOT_APPLICABLE, reason)


def within(
    seconds: float | None, target: float | None, unit: int, told: str, *, unmeasured: str = "", **detail: Any
) -> Result:
    """Hold a time against its target, both in seconds; without a target any time passes.

    ``told`` is the reason where it is missed, with places for the time and the target, in units of ``unit`` seconds. A
    time that is None is unknown for the reason ``unmeasured``.
    """
    if seconds is None:
        return unknown(unmeasured)
    if target is not None and seconds > target:
        return failed(told.format(seconds / unit, target / unit), seconds=seconds, **detail)
    return passed(seconds=seconds, target_seconds=target, **detail)


def some(items: Sequence[str]) -> str:
    """Name the first few of many."""
    rest = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


ANEW = ", take a new one and put this one elsewhere"
"""What else to do where the time is that of the newest file: it would stay the newest."""


def ahead(what: str, at: datetime, now: datetime) -> str | None:
    """Say that a time lies ahead of this machine's clock, so that no age can be told; None when it does not."""
    if at - now <= CLOCKS_APART:
        return None
    return (
        f"{what} bears the time {at:%Y-%m-%d %H:%M} UTC, {(at - now) / timedelta(minutes=1):.0f} minutes ahead of this "
        "machine's clock; set the clocks of both machines right"
    )


# --------------------------------------------------------------------------------------------- before a restore
def age(rule: BackupSource, backup: Backup, earlier: Sequence[datetime], now: datetime) -> Result:
    """Compare with the schedule how old the newest backup is, and how far those of the last week lie apart.

    ``earlier`` are the times of all backups, the newest first.
    """
    hours, allowed = (now - backup.taken_at) / timedelta(hours=1), rule.every_hours + rule.late_hours
    gap, ended = _longest_gap(earlier, now - max(_LOOKED_BACK, timedelta(hours=2 * allowed)))
    detail = {
        "backup": backup.name,
        "bytes": backup.bytes,
        "taken_at": backup.taken_at,
        "taken_at_from": backup.taken_at_from,
        "age_hours": round(hours, 2),
        "allowed_hours": allowed,
        "backups": len(earlier),
        "longest_recent_gap_hours": gap and round(gap, 2),
    }
    if told := ahead(f"the newest backup of {rule.name}, {backup.name},", backup.taken_at, now):
        return unknown(told + ANEW, **detail)
    if hours > allowed:
        return failed(
            f"the newest backup of {rule.name}, {backup.name}, is {hours:.1f} hours old; one is due every "
            f"{rule.every_hours:g} hours",
            **detail,
        )
    if gap is not None and ended is not None and gap > allowed:
        return failed(
            f"for {gap:.1f} hours until {ended:%Y-%m-%d %H:%M} UTC no backup of {rule.name} was taken; one is due "
            f"every {rule.every_hours:g} hours",
            **detail,
        )
    return passed(**detail)


def _longest_gap(times: Sequence[datetime], since: datetime) -> tuple[float | None, datetime | None]:
    """Return the longest time, in hours, between two backups after a moment, and when it ended; None without two.

    Of what lies before the moment nothing is counted: older backups may have been thinned out.
    """
    pairs = pairwise(sorted(times, reverse=True))
    gaps = [((later - max(before, since)) / timedelta(hours=1), later) for later, before in pairs if later > since]
    if not gaps:
        return None, None
    return max(gaps)


def checksums(path: Path, facts: Facts | None) -> Result:
    """Compare a backup's files with the SHA-256 that was recorded when it was taken."""
    if facts is None or not facts.files:
        return unknown("no checksums were recorded when the backup was taken")
    found = backup_facts.file_differences(path, facts.files)
    if found:
        return failed(f"the backup's files are not what was written: {some(found)}", differences=found[:50])
    return passed(files=len(facts.files), bytes=sum(one.bytes for one in facts.files.values()))


def verify_base(server: ScratchServer, data: Path, *, wal: Path | None = None, manifest: Path | None = None) -> Result:
    """Run pg_verifybackup on a copied base backup that has not been started."""
    if not (manifest or data / "backup_manifest").exists():
        return unknown("the base backup has no manifest; take it without --no-manifest")
    done = server.run(
        "pg_verifybackup", "--quiet", *(["--format=plain"] if server.major >= 18 else []),
        *([f"--wal-directory={wal}"] if wal else []), *([f"--manifest-path={manifest}"] if manifest else []), data,
    )  # fmt: skip
    if done.returncode != 0:
        return failed(f"pg_verifybackup: {first_problem(done.stderr).removeprefix('pg_verifybackup: ')}")
    return passed()


# ---------------------------------------------------------------------------------------------- after a restore
def reach(restored: Restored, backup: Backup) -> datetime:
    """Return the moment up to which a restored database can hold rows; later times in it are those of plans."""
    at = backup.facts.snapshot_at if backup.facts else backup.taken_at
    return max(at, restored.replayed_to or at)


def count_tables(restored: Restored, at: datetime, jobs: int, *, logged_only: bool = False) -> dict[str, TableFacts]:
    """Count the restored tables and find the newest row until ``at``, ``jobs`` tables at a time. Raises psycopg.Error.

    A server that recovers can read ``logged_only`` tables.
    """
    with restored.server.connect(restored.database) as connection:
        tables = [one for one in backup_facts.tables_of(connection) if not (logged_only and one.unlogged)]

    def part(number: int) -> dict[str, TableFacts]:
        with restored.server.connect(restored.database) as connection:
            return backup_facts.count(connection, tables[number::jobs], at)

    counts: dict[str, TableFacts] = {}
    with ThreadPoolExecutor(jobs) as pool:
        for found in pool.map(part, range(jobs)):
            counts |= found
    return counts


def row_counts(facts: Facts | None, counts: Mapping[str, TableFacts]) -> Result:
    """Compare the restored rows with those of the backup's snapshot, or else with the live server's estimates."""
    total = sum(one.rows for one in counts.values())
    if facts is None:
        return _against_live(counts)
    wrong, doubtful = count_differences(facts, counts)
    if wrong:
        return failed(f"the restored rows are not those of the backup: {some(wrong)}", differences=wrong[:50])
    if doubtful:
        return unknown(
            "tables were changed while the backup was taken, and the server's statistics do not tell how much: "
            f"{some(doubtful)}; take another backup",
            differences=doubtful[:50],
        )
    return passed(tables=len(counts), rows=total, exact=facts.exact)


def count_differences(facts: Facts, counts: Mapping[str, TableFacts]) -> tuple[list[str], list[str]]:
    """Say for each recorded table how its restored rows differ: what is wrong for certain, and what may be right.

    Rows of a base backup may be those of any moment between its two records.
    """
    wrong: list[str] = []
    doubtful: list[str] = []
    for table in facts.tables:
        there = counts.get(table)
        if there is None and table == backup_facts.LARGE_OBJECTS:
            there = TableFacts(0)  # it is named only where there are some
        if there is None and facts.made_meanwhile(table):
            continue
        if there is None:
            wrong.append(f"{table} is missing")
            continue
        low, high, certain = facts.bounds(table)
        if not low <= there.rows <= high:
            wanted = str(low) if low == high else f"{low} to {high}"
            (wrong if certain else doubtful).append(f"{table} has {there.rows} rows instead of {wanted}")
    return wrong, doubtful


def acceptable(rule: BackupSource, facts: Facts | None) -> tuple[str, ...]:
    """Return which of the stages that need facts may be unknown: none unless the source does without facts.

    Rows that are not the recorded ones are never accepted, nor are checksums that do not come from the facts: those of
    a base backup stand in its manifest, and another tool has its own.
    """
    if rule.facts_required:
        return ()
    needed = {"checksums"} if rule.format in ("base", "command") else set()
    if facts is not None:
        needed.add("row_counts")
    return tuple(stage for stage in NEED_FACTS if stage not in needed)


def _against_live(counts: Mapping[str, TableFacts]) -> Result:
    try:
        with connections.postgres(source.SOURCE) as live:
            estimates = dict(live.execute(_STATEMENTS["estimates"]).fetchall())
    except (ConfigurationError, SourceUnavailable) as error:
        return unknown(f"no row counts were recorded with the backup, and the live ones cannot be read: {error}")
    tolerance = settings().backups.row_count_tolerance
    far = [
        f"{table} has {counts[table].rows if table in counts else 'no'} rows, live about {rows}"
        for table, rows in sorted(estimates.items())
        if abs(rows - (counts[table].rows if table in counts else 0)) > tolerance * rows + 1
    ]
    if lost := [table for table, rows in estimates.items() if rows and not (table in counts and counts[table].rows)]:
        return failed(f"tables that have rows live came back without any: {some(sorted(lost))}", differences=far[:50])
    return unknown(
        "no row counts were recorded with the backup; the live server's estimates "
        + (f"differ by more than {tolerance:.0%}: {some(far)}" if far else f"are within {tolerance:.0%}"),
        differences=far[:50],
        tables=len(counts),
    )


def newest_rows(facts: Facts | None, counts: Mapping[str, TableFacts]) -> Result:
    """Compare the newest row of every table with the recorded one."""
    newest = {table: one.newest for table, one in sorted(counts.items()) if one.newest}
    if not newest and not (facts and any(one.newest for one in facts.tables.values())):
        return not_applicable("no table has a row that bears a time")
    latest = max(newest.values(), default=None)
    if facts is None:
        return unknown("no newest rows were recorded with the backup", newest=newest, latest=latest)
    if facts.exact:
        wrong = [
            f"{table} ends at {newest.get(table)} instead of {recorded.newest}"
            for table, recorded in facts.tables.items()
            if table in counts and recorded.newest != newest.get(table)
        ]
        if wrong:
            return failed(f"the newest rows are not those of the backup: {some(wrong)}", newest=newest)
    else:
        earlier = facts.tables_before or {}
        wrong = [
            f"{table} ends at {newest.get(table)}, before {recorded.newest}"
            for table, recorded in earlier.items()
            if recorded.newest
            and (newest.get(table) or "") < recorded.newest
            and facts.tables.get(table) == recorded
            and len({*facts.bounds(table)[:2]}) == 1  # rows that others replaced meanwhile tell nothing
        ]
        if wrong:
            return failed(f"rows from before the backup did not come back: {some(wrong)}", newest=newest)
    return passed(newest=newest, latest=latest)


def loss(
    restored: Restored, facts: Facts | None, counts: Mapping[str, TableFacts], lost_at: datetime, *, proven: bool
) -> tuple[float | None, str]:
    """Return the seconds of work that would be lost had the platform been lost at ``lost_at``, and how it is known.

    The latest of these tells it: the snapshot and the last replayed transaction, if the rows of the backup are
    ``proven`` to have come back, and the newest of the ``counts`` that came back. None when there is none of them, or
    it lies ahead of this machine's clock.
    """
    newest = max((datetime.fromisoformat(one.newest) for one in counts.values() if one.newest), default=None)
    known: dict[str, datetime | None] = {"newest row that came back": newest}
    if facts is not None and proven:
        known = {
            "snapshot of the backup, all of whose rows came back": facts.snapshot_at,
            "last transaction of the archived WAL that was replayed": restored.replayed_to,
        } | known
    reached = {basis: at for basis, at in known.items() if at is not None}
    if not reached:
        return None, "no row that came back bears a time"
    basis = max(reached, key=reached.__getitem__)
    if told := ahead(f"the {basis}", reached[basis], datetime.now(UTC)):  # WAL comes while the drill runs
        return None, told
    return max((lost_at - reached[basis]) / timedelta(seconds=1), 0.0), basis


def sequences(restored: Restored) -> Result:
    """Check that every sequence that fills a column is beyond the column's values."""
    from psycopg import sql

    behind, number = [], 0
    with restored.server.connect(restored.database) as connection:
        for name, space, relation, table_space, table, column, ascending in connection.execute(
            _STATEMENTS["sequences"]
        ).fetchall():
            number += 1
            query = sql.SQL(
                "SELECT s.last_value, s.is_called, (SELECT {}({}) FROM {}) FROM {} AS s"
            ).format(
                sql.SQL("max" if ascending else "min"), sql.Identifier(column), sql.Identifier(table_space, table),
                sql.Identifier(space, relation),
            )  # fmt: skip
            row = connection.execute(query).fetchone()
            assert row is not None
            last, called, extreme = row
            if extreme is None:
                continue
            ahead = (last >= extreme if called else last > extreme) if ascending else (
                last <= extreme if called else last < extreme
            )  # fmt: skip
            if not ahead:
                behind.append(f"{name} is at {last} while {table_space}.{table}.{column} has {extreme}")
    if behind:
        return failed(f"sequences are behind the rows they number: {some(behind)}", behind=behind[:50])
    return passed(sequences=number)


def analyze(restored: Restored) -> Result:
    """Give the planner its statistics, without which a restored database cannot be used. Raises psycopg.Error."""
    with restored.server.connect(restored.database) as connection:
        connection.execute("ANALYZE")
    return passed()


def query(restored: Restored) -> Result:
    """Run one query of the application, or else read every view of the source contract."""
    import psycopg

    given = settings().backups.query
    with restored.server.connect(restored.database) as connection:
        if given:
            connection.execute("SET default_transaction_read_only = on")
            try:
                row = connection.execute(given.encode()).fetchone()
            except psycopg.Error as error:
                return failed(f"backups.query cannot be run on the restored database: {error.diag.message_primary}")
            if row is None or row[0] is not True:
                return failed("backups.query did not give a row that is true")
            return passed(query="backups.query")
        problems = contract.problems(connection)
        if problems:
            return failed(
                f"the restored database does not meet the source contract: {problems[0]}", problems=len(problems)
            )
        # Reading a row of each view runs it, with all that it stands on.
        for view in contract.contract():
            connection.execute(f"SELECT * FROM {contract.SCHEMA}.{view} LIMIT 1".encode())  # noqa: S608 - constants
    return passed(query="source contract", views=len(contract.contract()))
