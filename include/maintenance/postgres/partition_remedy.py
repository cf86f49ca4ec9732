"""Writes the SQL that turns an ordinary table into one partitioned by time, with locks of moments only.

The old table becomes the first partition as it is: its rows are neither copied nor read under a lock. Long steps
(an index, a check of the rows) come first and let others write; the exchange is one short transaction
(partition_exchange.py). Each step looks first whether it may be done, so that the whole can be pasted, also again and
also late; the index of a primary key that has to become longer is built by hand before, once that is confirmed. What
cannot be carried over by rote, and what a person must decide, comes back as reasons why there is no such SQL.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from include.maintenance.postgres import partition_exchange
from include.maintenance.postgres.partition_exchange import Rows
from include.maintenance.postgres.partition_names import Names, derived, names_of
from include.platform import database
from include.platform.database import bare, in_comment, literal
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg

Interval = Literal["day", "week", "month"]
_PARTITIONS_AHEAD = 3
_STATEMENTS = statements(__file__)
_EARLIEST = timedelta(days=14)  # the first boundary: a person reads this, and the long steps of a large table take days
_CONFIRMED = "operations.confirmed"  # a setting of the session of whoever runs it
_LATEST = timedelta(days=2)  # step 1 is not begun later than this before the boundary, when every insert would fail


@dataclass(frozen=True)
class Plan:
    """The SQL with what to confirm before it is run, or (``sql`` empty) why a person must decide something first."""

    sql: str
    obstacles: list[str]
    confirm: list[str]


def boundaries(interval: Interval, now: datetime, number: int = _PARTITIONS_AHEAD + 1) -> list[datetime]:
    """Return the first instants of coming periods in UTC, beginning at least two weeks after ``now`` (aware)."""
    at = (now.astimezone(UTC) + _EARLIEST).replace(hour=0, minute=0, second=0, microsecond=0)
    found: list[datetime] = []
    while len(found) < number:
        at += timedelta(days=1)
        if interval == "day" or (interval == "week" and at.weekday() == 0) or (interval == "month" and at.day == 1):
            found.append(at)
    return found


def plan(
    connection: psycopg.Connection[Any], name: str, oid: int, time_column: str, interval: Interval, now: datetime
) -> Plan:
    """Write the SQL for one table; ``name`` is its qualified name, quoted where it must be.

    Leaves the session's search path empty, so that every name in the SQL is qualified.
    """
    connection.execute("SELECT set_config('search_path', '', false)")
    values: dict[str, Any] = {"oid": oid, "time_column": time_column}

    def rows(statement: str) -> list[tuple[Any, ...]]:
        return connection.execute(statement, values).fetchall()

    style = "%Y_%m" if interval == "month" else "%Y_%m_%d"
    names = names_of(name, rows(_STATEMENTS["time"])[0][0], boundaries(interval, now), style)
    values |= {"limit": bare(derived(names.relation, "_limit")), "time_key": bare(derived(names.relation, "_time_key"))}
    left_over = rows(_STATEMENTS["left_over"])
    if left_over:  # it would be taken for a part of the table
        return Plan(
            "", [f"{what} is there from an earlier attempt; undo it before: {undo}" for what, undo in left_over], []
        )
    version, keys = database.server_version(connection), rows(_STATEMENTS["keys"])
    obstacles = _obstacles(names, keys, rows, version) + _rows_beyond(connection, names, rows)
    if obstacles:
        return Plan("", obstacles, [])
    confirm = _changed_keys(names, keys) + partition_exchange.to_confirm(rows)
    return Plan("\n".join(_lines(connection, names, keys, rows, confirm, oid)), [], confirm)


def _obstacles(names: Names, keys: list[tuple[Any, ...]], rows: Rows, version: int) -> list[str]:
    publications = rows(_STATEMENTS["publications" if version >= 150000 else "publications_before_15"])
    return [
        *(
            f"the foreign key {reference} points to it: a partitioned table has no unique key without its time column"
            for (reference,) in rows(_STATEMENTS["references"])
        ),
        *(
            f"the unique key {key} ({columns}) cannot be kept: it does not hold {names.time}"
            if kind != "p"
            else f"the primary key {key} ({columns}) cannot be kept: it does not hold {names.time}, and is DEFERRABLE "
            "or includes other columns"
            for key, kind, columns, has_time, plain, _ in keys
            if not has_time and not (kind == "p" and plain)
        ),
        *(f"{what}: {why}" for what, why in rows(_STATEMENTS["left_behind"])),
        *(
            f"{what}: it would follow the old rows; drop it before and make it again on the new table"
            for (what,) in rows(_STATEMENTS["bound"])
        ),
        *(
            f"the publication {publication}: it would not publish new rows, or publish them under the names of "
            "partitions; drop the table from it before, or let it have publish_via_partition_root"
            for (publication,) in publications
        ),
    ]


def _rows_beyond(connection: psycopg.Connection[Any], names: Names, rows: Rows) -> list[str]:
    """Tell of rows that the old table may not keep, where one can be found at once; step 1 looks in any case."""
    import psycopg

    if rows(_STATEMENTS["may_look"]) != [(True,)]:
        return []
    try:
        found = connection.execute(f"SELECT {_beyond(names)}".encode()).fetchone()
    except psycopg.errors.LockNotAvailable:
        return []
    if found == (False,):
        return []
    return [
        f"rows of {names.first} or later are there already: correct or delete them, no partition of old rows fits them"
    ]


def _beyond(names: Names) -> str:
    return f"EXISTS (SELECT FROM {names.table} WHERE {names.time} >= {names.first})"


def _changed_keys(names: Names, keys: list[tuple[Any, ...]]) -> list[str]:
    return [
        f"the primary key ({columns}) becomes ({columns}, {names.time}): INSERT ... ON CONFLICT ({columns}) fails "
        f"then, and rows of different times may share one value of {columns}; nothing may rely on either"
        for _, _, columns, has_time, *_ in keys
        if not has_time
    ]


def _lines(
    connection: psycopg.Connection[Any],
    names: Names,
    keys: list[tuple[Any, ...]],
    rows: Rows,
    confirm: list[str],
    oid: int,
) -> list[str]:
    limit, index = derived(names.relation, "_limit"), derived(names.relation, "_time_key")
    longer = [columns for _, _, columns, has_time, *_ in keys if not has_time]
    undo = [f"ALTER TABLE {names.table} DROP CONSTRAINT IF EXISTS {limit};"]
    undo += [f"DROP INDEX CONCURRENTLY IF EXISTS {names.schema}.{index};"] if longer else []
    return [
        f"-- From step 1 until step 2 has been done the table refuses rows of {names.boundaries[0]:%Y-%m-%d} or later. "
        "Do both in time, or undo step 1:",
        *(in_comment(f"-- {line}") for line in undo),
        *(in_comment(f"-- Confirm before you run it: {what}.") for what in confirm),
        *(_when_confirmed(connection, names, longer, oid) if confirm else []),
        "-- 1. Long steps, while others read and write; each on its own, not in a transaction but where it says so:",
        *database.together(
            [
                *([_is_confirmed(oid)] if confirm else []),
                *([_has_been_built(names, index)] if longer else []),
                _may_begin(names),
                f"ALTER TABLE {names.table} ADD CONSTRAINT {limit} CHECK ({names.time} < {names.first}) NOT VALID;",
            ]
        ),
        f"ALTER TABLE {names.table} VALIDATE CONSTRAINT {limit};",
        f"-- 2. The exchange, before {names.boundaries[0]:%Y-%m-%d}; try again when the lock is not free:",
        *database.together(
            [
                _has_been_validated(names, limit),
                *partition_exchange.exchange(names, keys, rows, database.server_version(connection)),
            ]
        ),
        partition_exchange.next_partitions(names, rows),
    ]


def _when_confirmed(connection: psycopg.Connection[Any], names: Names, longer: list[str], oid: int) -> list[str]:
    """What is run by hand once all is confirmed: pasted unread, an index would be built though its step 1 stops."""
    index = derived(names.relation, "_time_key")
    lines = [f"SET {_CONFIRMED} = '{oid}';"]
    lines += [
        f"CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS {index} ON {names.table} ({columns}, {names.time});"
        for columns in longer
    ]
    update_first = database.update_first(connection) if longer else ""
    return [
        f"{update_first}-- When all of it is confirmed, run in the same session, each on its own, or step 1 stops:",
        *(in_comment(f"--   {line}") for line in lines),
    ]


def _block(body: str) -> str:
    """Statements of PL/pgSQL as one of SQL, whatever names they hold."""
    return f"DO {database.dollar_quoted(f'BEGIN {body} END', 'do')};"


def _is_confirmed(oid: int) -> str:
    return _block(
        f"IF current_setting('{_CONFIRMED}', true) IS DISTINCT FROM '{oid}' THEN"
        " RAISE EXCEPTION 'first confirm what stands at the top, and run the SET that stands there'; END IF;"
    )


def _has_been_built(names: Names, index: str) -> str:
    """Without the index there would be no exchange, but soon no row could be inserted."""
    relation = f"to_regclass({literal(f'{names.schema}.{index}')})"
    return _block(
        f"IF {relation} IS NULL THEN"
        " RAISE EXCEPTION 'first run the CREATE UNIQUE INDEX that stands at the top, to its end'; END IF;"
        f" IF NOT EXISTS (SELECT FROM pg_index WHERE indexrelid = {relation} AND indisvalid) THEN"
        " RAISE EXCEPTION 'the index that stands at the top is being built, or its build failed; if it failed, run the"
        " DROP INDEX CONCURRENTLY that stands there, and then the CREATE UNIQUE INDEX again'; END IF;"
    )


def _may_begin(names: Names) -> str:
    latest = f"{names.boundaries[0] - _LATEST:%Y-%m-%d} 00:00+00"
    return _block(
        f"IF (SELECT relkind FROM pg_class WHERE oid = to_regclass({literal(names.table)})) <> 'r' THEN"  # noqa: S608 - quoted
        " RAISE EXCEPTION 'the table is partitioned already'; END IF;"
        f" IF now() >= {literal(latest)} THEN"
        " RAISE EXCEPTION 'this SQL is too old, inserts would soon fail; let the check look again'; END IF;"
        # Where policies hide rows from whoever runs it, this would tell nothing: validating tells.
        f" IF NOT row_security_active({literal(names.table)}) THEN IF {_beyond(names)} THEN"
        " RAISE EXCEPTION 'there are rows beyond the first boundary; correct or delete them'; END IF; END IF;"
    )


def _has_been_validated(names: Names, limit: str) -> str:
    """Without the validated constraint the server would read all rows while it holds the lock."""
    return _block(
        "IF NOT EXISTS (SELECT FROM pg_constraint WHERE convalidated"
        f" AND conrelid = to_regclass({literal(names.table)}) AND conname = {literal(bare(limit))}) THEN"
        " RAISE EXCEPTION 'step 1 has not been done to its end; see its error, and run it again or undo it'; END IF;"
    )
