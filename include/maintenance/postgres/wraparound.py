"""Forecasts when the server runs out of transaction and multixact ids, from their measured consumption.

The server freezes old rows by itself from ``autovacuum_freeze_max_age`` on. When that does not keep up it warns, and in
the end refuses to write: 2^31 - 1 ids after the oldest one that is not frozen (SetTransactionIdLimit in varsup.c and
SetMultiXactIdLimit in multixact.c). Space for the members of multixacts is not forecast: no version tells it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any

from include.outcome import Outcome, worst
from include.platform import database
from include.platform.database import Horizon
from include.settings import settings
from include.warehouse import findings, snapshots
from include.warehouse.findings import Finding
from include.warehouse.snapshots import Snapshot
from include.warehouse.statements import statements

CHECK = "wraparound"
WRAPAROUND = 2**31 - 1
_MULTIXACTS = 2**32
_HISTORY_DAYS = 400
_WORST_TABLES = 10
_WORST_OTHERS = 3  # of the catalogs, and of temporary tables
_HOLDS = 0.5  # share of an age below which a vacuum cannot bring it, for who holds it there to be in the way
_BEHIND = 1.25  # share of the freeze age from which vacuum evidently does not keep up
_DEFAULT_FAILSAFE = 1_600_000_000  # before PostgreSQL 14 there is none; its default serves as the limit
_STATEMENTS = statements(__file__)


@dataclass(frozen=True)
class Rate:
    """Consumption of ids a day: ``typical`` over the whole time, ``fastest`` over any interval of it."""

    typical: float
    fastest: float
    intervals: int
    days: float


@dataclass(frozen=True)
class Limits:
    """Ages (in ids) at which things happen to a counter."""

    freeze: int
    failsafe: int
    warns: int
    refuses: int


@dataclass(frozen=True)
class Forecast:
    """Days until each limit at the typical rate, the last one at the fastest; None is never, or unknown."""

    days_until_freeze: float | None
    days_until_warning: float | None
    days_until_refused: float | None
    days_until_refused_at_fastest: float | None


def rate(history: Sequence[Snapshot], counter: str) -> Rate | None:
    """Return the consumption of ``next_transaction`` or ``next_multixact`` over snapshots in order of time.

    Snapshots less than 20 hours apart count as one, the newest. What lies before a counter that went back (another
    cluster) is left out. None when fewer than two remain: the rate is unknown.
    """
    kept: list[Snapshot] = []
    for snapshot in reversed(history):
        if kept and kept[-1].taken_at - snapshot.taken_at < snapshots.SHORTEST_INTERVAL:
            continue
        if kept and snapshot.next_transaction > kept[-1].next_transaction:
            break
        kept.append(snapshot)
    if len(kept) < 2:
        return None
    used, days = [], []
    for newer, older in pairwise(kept):
        step = getattr(newer, counter) - getattr(older, counter)
        used.append(step % _MULTIXACTS if counter == "next_multixact" else step)
        days.append((newer.taken_at - older.taken_at) / timedelta(days=1))
    fastest = max(ids / length for ids, length in zip(used, days, strict=True))
    return Rate(sum(used) / sum(days), fastest, len(used), sum(days))


def limits(version: int, freeze: int, failsafe: int | None, *, multixact: bool) -> Limits:
    """Return the ages at which a server of a version freezes by force, hurries, warns and refuses."""
    if version >= 140000:
        warning, stop = 40_000_000, 3_000_000
    elif multixact:
        warning, stop = 10_000_100, 100
    else:
        warning, stop = 11_000_000, 1_000_000
    hurry = max(failsafe if failsafe is not None else _DEFAULT_FAILSAFE, int(1.05 * freeze))
    return Limits(freeze, hurry, WRAPAROUND - warning, WRAPAROUND - stop)


def forecast(age: int, of: Limits, consumption: Rate | None) -> Forecast:
    """Return the days until each limit if nothing at all were frozen from now on (0 when it is passed)."""

    def days(limit: int, ids_per_day: float) -> float | None:
        if age >= limit:
            return 0.0
        return round((limit - age) / ids_per_day, 1) if ids_per_day > 0 else None

    if consumption is None:
        freeze, warning, refused = (0.0 if age >= limit else None for limit in (of.freeze, of.warns, of.refuses))
        return Forecast(freeze, warning, refused, refused)
    return Forecast(
        days(of.freeze, consumption.typical),
        days(of.warns, consumption.typical),
        days(of.refuses, consumption.typical),
        days(of.refuses, consumption.fastest),
    )


def judge(age: int, of: Limits, consumption: Rate | None, found: Forecast) -> Outcome:
    """Say how bad a counter is: by its age, which is known, and by its forecast, which may not be."""
    bounds, soonest = settings().maintenance.monthly, found.days_until_refused_at_fastest
    if age >= min(of.failsafe, of.warns) or (soonest is not None and soonest < bounds.wraparound_critical_days):
        return Outcome.CRITICAL
    if age > _BEHIND * of.freeze or (soonest is not None and soonest < bounds.wraparound_warning_days):
        return Outcome.WARNING
    return Outcome.UNKNOWN if consumption is None else Outcome.OK


def check(run_id: str) -> dict[str, Any]:
    """Forecast every database of the cluster and the oldest tables of the platform's; write the findings.

    Raises ConfigurationError when the run has no snapshot, or SourceUnavailable.
    """
    from psycopg.rows import dict_row

    with findings.unknown_recorded(run_id, CHECK, "the check"):
        snapshot = snapshots.required(run_id)
        history = snapshots.up_to(snapshot, _HISTORY_DAYS)
        rates = {name: rate(history, f"next_{name}") for name in ("transaction", "multixact")}
        with database.maintenance_session("the forecast of transaction ids") as connection:
            row = connection.execute(_STATEMENTS["limits"]).fetchone()
            assert row is not None
            version = database.server_version(connection)
            of = {
                "transaction": limits(version, row[0], row[2], multixact=False),
                "multixact": limits(version, row[1], row[3], multixact=True),
            }
            number = {"number": _WORST_TABLES, "others": _WORST_OTHERS, "transactions": row[0], "multixacts": row[1]}
            databases = connection.execute(_STATEMENTS["databases"]).fetchall()
            with connection.cursor(row_factory=dict_row) as cursor:
                tables = cursor.execute(_STATEMENTS["tables"], number).fetchall()
            holders = {rows: database.horizon(connection, rows) for rows in ("tables", "catalogs", "cluster")}
        found = [
            _database(name, (xids, multis), of, rates, holders["cluster"], [_freeze(table) for table in tables[:3]])
            if own
            else _database(name, (xids, multis), of, rates, holders["cluster"], _freeze_all(name, identifier, closed))
            for name, xids, multis, own, identifier, closed in databases
        ]
        found += [_table(table, of, rates, holders[table["rows_of"]]) for table in tables]
        return findings.replace(run_id, CHECK, found)


def _database(
    name: str,
    ages: tuple[int, int],
    of: dict[str, Limits],
    rates: dict[str, Rate | None],
    holder: Horizon | None,
    freeze: list[str],
) -> Finding:
    outcome, evidence, sentences = _counters(ages, of, rates)
    remedy = ""
    if outcome in (Outcome.WARNING, Outcome.CRITICAL):
        remedy = "\n".join(_first_end(holder, ages[0]) + freeze)
    return Finding(f"database {name}", outcome, f"database {name}: {'; '.join(sentences)}", evidence, remedy)


def _first_end(holder: Horizon | None, age: int) -> list[str]:
    """The line of a remedy that names who keeps an age from being lowered to half of what it is; none for nobody."""
    if holder is None or holder.age < _HOLDS * age:
        return []
    who = database.in_comment(holder.holder)
    return [f"-- first end {who}: it keeps rows of the last {holder.age:,} transactions from being frozen"]


def _freeze_all(name: str, identifier: str, closed: bool) -> list[str]:
    """The steps that lower the age of another database; only autovacuum works in one that allows no connections."""
    steps = [f"vacuumdb --freeze --dbname={shlex.quote(database.as_argument(name))}"]
    if closed:
        allow = f"ALTER DATABASE {identifier} ALLOW_CONNECTIONS"
        steps = [f"as a superuser, while autovacuum does not get it done: {allow} true;", *steps, f"{allow} false;"]
    return [f"-- {database.in_comment(step)}" for step in steps]


def _freeze(table: dict[str, Any]) -> str:
    """SQL that lowers a table's age. Only its own session can vacuum a temporary table.

    The numbers of sessions and of their schemas are given out again: an old line must not meet another session.
    """
    name, session, began = table["name"], table["session"], table["session_began"]
    if not table["temporary"]:
        return f"VACUUM (FREEZE) {name};"
    who = database.in_comment(name)
    if session is not None and began is None:
        return f"-- let somebody who may see the session {session} end it: only it can vacuum its temporary table {who}"
    if session is not None:
        which = f"pid = {session} AND backend_start = {database.literal(began.isoformat(' '))}"
        end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {which};"  # noqa: S608 - quoted
        return f"{end}  -- only this session can vacuum its temporary table {who}"
    look = f" (SELECT pg_stat_get_backend_pid({table['backend']}) finds none)" if table["backend"] is not None else ""
    return (
        f"-- first see that no session has this temporary table{look}, or end that session\n"
        f"-- what it left goes by this, as a superuser: DROP TABLE {who};"
    )


def _table(
    row: dict[str, Any], of: dict[str, Limits], rates: dict[str, Rate | None], holder: Horizon | None
) -> Finding:
    name, ages = row["name"], (row["transactions"], row["multixacts"])
    # A table's own limit counts only when it is the lower one (autovacuum.c, relation_needs_vacanalyze).
    freezes = {"transaction": row["own_transactions"], "multixact": row["own_multixacts"]}
    own = {
        counter: Limits(min(limit.freeze, freezes[counter] or limit.freeze), limit.failsafe, limit.warns, limit.refuses)
        for counter, limit in of.items()
    }
    outcome, evidence, sentences = _counters(ages, own, rates)
    remedy = ""
    if outcome in (Outcome.WARNING, Outcome.CRITICAL):
        remedy = "\n".join([*_first_end(holder, ages[0]), _freeze(row)])
    evidence["bytes"] = row["bytes"]
    return Finding(f"table {name}", outcome, f"{name}: {'; '.join(sentences)}", evidence, remedy)


def _counters(
    ages: tuple[int, int], of: dict[str, Limits], rates: dict[str, Rate | None]
) -> tuple[Outcome, dict[str, Any], list[str]]:
    outcomes, evidence, sentences = [], {}, []
    for (counter, limit), age in zip(of.items(), ages, strict=True):
        consumption = rates[counter]
        found = forecast(age, limit, consumption)
        outcomes.append(judge(age, limit, consumption, found))
        evidence[counter] = {
            "age": age,
            "freeze_age": limit.freeze,
            "failsafe_age": limit.failsafe,
            "refuses_at_age": limit.refuses,
            **(vars(consumption) if consumption else {}),
            **vars(found),
        }
        sentences.append(_sentence(counter, age, limit, consumption, found))
    return worst(outcomes), evidence, sentences


def _sentence(counter: str, age: int, of: Limits, consumption: Rate | None, found: Forecast) -> str:
    share = f"{counter} ids are {100 * age / of.refuses:.1f} % used"
    if consumption is None:
        return f"{share}, for how long they last is unknown until there are two snapshots 20 hours apart"
    if found.days_until_refused_at_fastest is None:
        return f"{share}, none is consumed"
    return f"{share} and last {found.days_until_refused_at_fastest:,.0f} days at the fastest rate seen without freezing"
