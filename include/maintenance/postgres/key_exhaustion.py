"""Forecasts which keys run out: sequences at their own end, or a narrower column that their numbers get into.

A column of type integer behind a bigint sequence, or one that refers to a bigint key, is full long before the sequence
is; then every insert fails, and to widen a large table takes weeks. What the sequence has passed is compared with all
that it can hand out until the first of these is full, as check_postgres does (its "sequence" warns at 85 % and is
critical at 95 %, but looks at the sequence alone; PgHero looks at the column too and warns at 90 %). The configured
shares are lower, and days count as well, because the remedy takes so long. Columns that are no integers, and numbers
that a program takes from a sequence by itself (``nextval`` of a name that is no regclass), are not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from include.maintenance.postgres import key_remedy
from include.outcome import Outcome
from include.platform import database
from include.settings import settings
from include.warehouse import findings, snapshots
from include.warehouse.findings import Finding
from include.warehouse.statements import statements

CHECK = "key_exhaustion"
_NOTABLE_SHARE = 0.01  # sequences that have used less, in all their time, are only counted
_UNKNOWN_SHARE = 0.1  # before the next month's look one below would have to hand out nine times all that it ever has
_STATEMENTS = statements(__file__)


@dataclass(frozen=True)
class Supply:
    """The numbers of a sequence: ``used`` are behind it, ``left`` are to come until ``limit`` (a value) is reached.

    ``column`` is the column that is full then; None when it is the sequence's own end.
    """

    used: int
    left: int
    limit: int
    column: dict[str, Any] | None

    @property
    def share(self) -> float:
        """The used share of all numbers, 0 to 1; 1 also when there never were any."""
        return self.used / (self.used + self.left) if self.left else 1.0


@dataclass(frozen=True)
class Rate:
    """Numbers handed out a day since an earlier reading."""

    per_day: float
    since: datetime


def supply(sequence: dict[str, Any]) -> Supply | None:
    """Return what a sequence (a row of the statement) can hand out; None for one that starts over before any end.

    A descending one runs towards its MINVALUE and the smallest value of each column.
    """
    way = 1 if sequence["increment"] > 0 else -1
    end, column_end, begin = ("maximum", "highest", "minimum") if way > 0 else ("minimum", "lowest", "maximum")
    own = way * sequence[end]
    columns = sequence["columns"]
    column = min(columns, key=lambda one: (way * one[column_end], not one["fed"]), default=None)
    limit = way * column[column_end] if column else own
    if own < limit or (sequence["cycle"] and own <= limit):
        column, limit = None, own
    if column is None and sequence["cycle"]:
        return None
    step, last, first = abs(sequence["increment"]), sequence["last_value"], way * sequence[begin]
    if last is None:
        return Supply(0, max(0, (limit - way * sequence["start"]) // step + 1), way * limit, column)
    return Supply((way * last - first) // step + 1, max(0, (limit - way * last) // step), way * limit, column)


def earlier_reading(before: dict[str, Any], now: datetime) -> tuple[int, datetime] | None:
    """Return the newest reading (value, time) of 20 hours ago or more: a finding's own, or the one that it had."""
    own = {"last_value": before.get("last_value"), "read_at": before.get("read_at")}
    for reading in (own, before.get("earlier") or {}):
        value, at = reading.get("last_value"), reading.get("read_at")
        if value is not None and at is not None and now - datetime.fromisoformat(at) >= snapshots.SHORTEST_INTERVAL:
            return int(value), datetime.fromisoformat(at)
    return None


def rate(sequence: dict[str, Any], earlier: tuple[int, datetime] | None) -> Rate | None:
    """Return how fast a sequence hands out numbers since a reading; None without one, or if it was set back since."""
    if earlier is None or sequence["last_value"] is None:
        return None
    steps = (sequence["last_value"] - earlier[0]) / sequence["increment"]
    if steps < 0:
        return None
    return Rate(steps / ((sequence["read_at"] - earlier[1]) / timedelta(days=1)), earlier[1])


def judge(of: Supply, days_left: float | None, *, forecast: bool) -> Outcome:
    """Say how bad it is: by the share, which is known, and by the days, which need a second reading (``forecast``)."""
    bounds = settings().maintenance.monthly
    days = float("inf") if days_left is None else days_left
    if of.share >= bounds.key_critical_share or days < bounds.key_critical_days:
        return Outcome.CRITICAL
    if of.share >= bounds.key_warning_share or days < bounds.key_warning_days:
        return Outcome.WARNING
    return Outcome.OK if forecast or of.share < _UNKNOWN_SHARE else Outcome.UNKNOWN


def check(run_id: str) -> dict[str, Any]:
    """Judge every sequence of the platform's database and the columns that it fills; write the findings.

    Those of which less than 1 % is used share one. Raises as ``maintenance_session`` does.
    """
    from psycopg.rows import dict_row

    with findings.unknown_recorded(run_id, CHECK, "the check"):
        with (
            database.maintenance_session("the forecast of keys") as connection,
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            sequences = cursor.execute(_STATEMENTS["sequences"]).fetchall()
            references = cursor.execute(_STATEMENTS["narrow_references"]).fetchall()
            readable = [one for one in sequences if one["readable"]]
            tables = sorted({column["table"] for one in readable if _is_notable(one) for column in one["columns"]})
            sizes = dict(connection.execute(_STATEMENTS["sizes"], {"tables": tables}).fetchall())
            first = database.update_first(connection)
        seen = findings.last_seen(CHECK)
        judged = [_sequence(one, seen.get(one["name"], {}), sizes, first) for one in readable]
        notable = [one for one in judged if one is not None]
        notable += _unreadable([one for one in sequences if not one["readable"]])
        filled = {_named(column) for one in sequences for column in one["columns"]}
        notable += [_reference(one) for one in references if filled.isdisjoint(one["origins"])]
        counts = {"looked_at": len(readable), "columns": len(filled), "reported": len(notable)}
        rest = (
            f"{len(readable)} sequences were looked at; all that are not named have used less than 1 % of their numbers"
        )
        return findings.replace(run_id, CHECK, [*notable, Finding("all other sequences", Outcome.OK, rest, counts)])


def _is_notable(sequence: dict[str, Any]) -> bool:
    of = supply(sequence)
    return of is not None and of.share >= _NOTABLE_SHARE


def _sequence(
    sequence: dict[str, Any], before: dict[str, Any], sizes: dict[str, int], update_first: str
) -> Finding | None:
    name, of = sequence["name"], supply(sequence)
    if of is None:
        begins = sequence["minimum"] if sequence["increment"] > 0 else sequence["maximum"]
        summary = (
            f"{name} never runs out but starts over at {begins:,} (CYCLE): in a key it then meets the numbers in use"
        )
        return Finding(name, Outcome.NOT_APPLICABLE, summary, {"cycle": True, "last_value": sequence["last_value"]})
    if of.share < _NOTABLE_SHARE:
        return None
    earlier = earlier_reading(before, sequence["read_at"])
    speed = rate(sequence, earlier)
    days_left = of.left / speed.per_day if speed and speed.per_day > 0 else None
    outcome = judge(of, days_left, forecast=speed is not None)
    evidence = {
        "last_value": sequence["last_value"],
        "read_at": sequence["read_at"],
        "earlier": {"last_value": earlier[0], "read_at": earlier[1]} if earlier else None,
        "limit": of.limit,
        "limited_by": _named(of.column) if of.column else "the sequence",
        "used_share": round(of.share, 6),
        "numbers_left": of.left,
        "numbers_per_day": round(speed.per_day, 1) if speed else None,
        "days_left": round(days_left, 1) if days_left is not None else None,
        "columns": [f"{_named(one)} {one['type']}" for one in sequence["columns"]],
    }
    remedy = ""
    if outcome in (Outcome.WARNING, Outcome.CRITICAL):
        remedy = key_remedy.widening(sequence, of.column, sizes, update_first)
    if outcome is Outcome.UNKNOWN:
        remedy = "-- nothing yet: the next run, at least 20 hours later, tells for how long the rest lasts"
    return Finding(name, outcome, _sentence(name, of, speed, days_left), evidence, remedy)


def _sentence(name: str, of: Supply, speed: Rate | None, days_left: float | None) -> str:
    end = f"{_named(of.column)} ({of.column['type']})" if of.column else "the sequence"
    told = (
        f"{name}: {100 * of.share:.1f} % of the numbers are used, {of.left:,} are left until {end} ends at {of.limit:,}"
    )
    if speed is None:
        return f"{told}; for how long they last is unknown until there are two readings 20 hours apart"
    if days_left is None:
        return f"{told}; none was taken since {speed.since:%Y-%m-%d}"
    return f"{told}; they last {days_left:,.0f} days at the rate since {speed.since:%Y-%m-%d}"


def _named(column: dict[str, Any]) -> str:
    return f"{column['table']}.{column['column']}"


def _unreadable(sequences: list[dict[str, Any]]) -> list[Finding]:
    """One finding for all sequences whose value the role may not see: they look as if they had never been called."""
    if not sequences:
        return []
    names, role = [one["name"] for one in sequences], sequences[0]["role"]
    summary = f"how far {len(names)} sequences are is unknown: the role {role} may not read them"
    remedy = f"GRANT SELECT ON SEQUENCE {', '.join(names)} TO {role};"
    return [Finding("sequences that may not be read", Outcome.UNKNOWN, summary, {"sequences": names}, remedy)]


def _reference(row: dict[str, Any]) -> Finding:
    table, column, key = row["table_name"], row["column_name"], row["key_column"]
    summary = (
        f"{table}.{column} ({row['type']}) is full before {row['key_table']}.{key} (bigint) that it refers to; "
        "no sequence fills that, so when is not known"
    )
    query = f"SELECT max({key}) FROM {row['key_table']};"  # noqa: S608 - text for people
    change = f"ALTER TABLE {table} ALTER COLUMN {column} TYPE bigint;"
    remedy = (
        f"-- how far it is: {database.in_comment(query)}\n"
        f"-- this rewrites the table while nobody can read or write it: {database.in_comment(change)}"
    )
    resource = f"foreign key {row['constraint_name']} of {table} ({column})"
    return Finding(resource, Outcome.WARNING, summary, {"type": row["type"]}, remedy)
