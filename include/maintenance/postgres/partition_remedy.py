"""Writes the SQL that turns an ordinary table into one partitioned by time, with locks of moments only.

The old table becomes the first partition as it is: its rows are neither copied nor read under a lock. Long steps
(an index, a check of the rows) come first and let others write; the exchange is one short transaction, at whose end
the new table protects its rows as the old one did: rights, row security, checks and foreign keys. What cannot be
carried over so, and what a person must decide, comes back as reasons why there is no such SQL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg

Interval = Literal["day", "week", "month"]
Rows = Callable[[str], list[tuple[Any, ...]]]
_PARTITIONS_AHEAD = 3
_STATEMENTS = statements(__file__)
_EARLIEST = timedelta(days=2)  # the first boundary lies in the future: time for the long steps before the exchange


@dataclass(frozen=True)
class Plan:
    """The SQL, or (``sql`` empty) the reasons why a person must decide something first."""

    sql: str
    obstacles: list[str]


def boundaries(interval: Interval, now: datetime, number: int = _PARTITIONS_AHEAD + 1) -> list[datetime]:
    """Return the first instants of coming periods in UTC, beginning at least two days after ``now`` (aware)."""
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
    values = {"oid": oid, "time_column": time_column}

    def rows(statement: str) -> list[tuple[Any, ...]]:
        return connection.execute(_STATEMENTS[statement], values).fetchall()

    references, keys = [row[0] for row in rows("references")], rows("keys")
    obstacles = [
        f"the foreign key {reference} points to it: a partitioned table has no unique key without its time column"
        for reference in references
    ] + [
        f"the unique key {key} ({columns}) cannot be kept: it does not hold {time_column}"
        for key, kind, columns, has_time, special in keys
        if (kind != "p" and not has_time) or special
    ]
    views = rows("views")
    obstacles += [
        f"the materialized view {view} reads it: drop it before and make it again" for view, _, _, m in views if m
    ]
    obstacles += [f"{what}: {why}" for what, why in rows("left_behind")]
    if obstacles:
        return Plan("", obstacles)
    return Plan("\n".join(_lines(_names(name, time_column, interval, now), keys, rows)), [])


@dataclass(frozen=True)
class _Names:
    """The names of an exchange, quoted where they must be: the table, the old one as a partition, its columns."""

    table: str
    schema: str
    relation: str
    old_relation: str
    time: str
    boundaries: list[datetime]
    style: str

    @property
    def old(self) -> str:
        return f"{self.schema}.{self.old_relation}"

    @property
    def first(self) -> str:
        return f"'{self.boundaries[0]:%Y-%m-%d} 00:00+00'"

    def derived(self, ending: str) -> str:
        """A name for an object of the table."""
        return _identifier(_bare(self.relation)[: 63 - len(ending)] + ending)


def _names(table: str, time_column: str, interval: Interval, now: datetime) -> _Names:
    schema, relation = _split(table)
    at, style = boundaries(interval, now), "%Y_%m" if interval == "month" else "%Y_%m_%d"
    old = _suffixed(relation, f"_until_{at[0]:{style}}")
    return _Names(table, schema, relation, old, _identifier(time_column), at, style)


def _lines(names: _Names, keys: list[tuple[Any, ...]], rows: Rows) -> list[str]:
    long_steps, exchange, new_keys = _keys(names, keys)
    limit = names.derived("_limit")
    return [
        "-- 1. Long steps, while others read and write; each on its own, not in a transaction:",
        *long_steps,
        f"ALTER TABLE {names.table} ADD CONSTRAINT {limit} CHECK ({names.time} < {names.first}) NOT VALID;",
        f"ALTER TABLE {names.table} VALIDATE CONSTRAINT {limit};",
        f"-- 2. The exchange, before {names.boundaries[0]:%Y-%m-%d}; try again when the lock is not free:",
        "BEGIN;",
        "SET LOCAL lock_timeout = '800ms';",
        f"ALTER TABLE {names.table} RENAME TO {names.old_relation};",
        *exchange,
        *_new_table(names, rows),
        *new_keys,
        *(text.replace(f"INDEX {index} ON ", "INDEX ON ", 1) + ";" for index, text in rows("indexes")),
        *(f"ALTER TABLE {names.table} ADD CONSTRAINT {key} {text};" for key, text in rows("foreign_keys")),
        *_rights(names, rows),
        *_row_security(names, rows),
        *_partitions(names, rows),
        *_views(rows),
        "COMMIT;",
        f"ALTER TABLE {names.old} DROP CONSTRAINT {limit};",
        "-- Make the next partitions ahead of time (pg_partman, or a job); no DEFAULT partition: with one, old",
        "-- partitions cannot be detached concurrently."
        + (" Enable row security on each: they have no policies." if _secured(rows) else ""),
    ]


def _keys(names: _Names, keys: list[tuple[Any, ...]]) -> tuple[list[str], list[str], list[str]]:
    """Return what makes the keys fit: the long steps before, the steps of the exchange, the keys of the new table."""
    long_steps, exchange, new_keys = [], [], []
    for key, kind, columns, has_time, _ in keys:
        wanted = columns if has_time else f"{columns}, {names.time}"
        if not has_time:
            index = names.derived("_time_key")
            long_steps.append(f"CREATE UNIQUE INDEX CONCURRENTLY {index} ON {names.table} ({wanted});")
            exchange += [
                f"ALTER TABLE {names.old} DROP CONSTRAINT {key};",
                f"ALTER TABLE {names.old} ADD CONSTRAINT {index} PRIMARY KEY USING INDEX {index};",
            ]
        word = {"p": "PRIMARY KEY", "u": "UNIQUE"}.get(kind)
        new_keys.append(
            f"ALTER TABLE {names.table} ADD {word} ({wanted});"
            if word
            else f"CREATE UNIQUE INDEX ON {names.table} ({wanted});"
        )
    return long_steps, exchange, new_keys


def _new_table(names: _Names, rows: Rows) -> list[str]:
    identities = rows("identities")
    # A partition may not have an identity of its own (PostgreSQL 17): it moves to the new table, and goes on counting.
    lines = [f"ALTER TABLE {names.old} ALTER COLUMN {column} DROP IDENTITY;" for column, _ in identities]
    lines.append(
        f"CREATE TABLE {names.table} (LIKE {names.old} INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING STORAGE"
        f" INCLUDING COMMENTS) PARTITION BY RANGE ({names.time});"
    )
    # The newest key must be seen whatever the policies let the owner see.
    forced = bool(identities) and "FORCE ROW LEVEL SECURITY" in _secured(rows)
    if forced:
        lines.append(f"ALTER TABLE {names.old} NO FORCE ROW LEVEL SECURITY;")
    for column, kind in identities:
        sequence = f"pg_get_serial_sequence({_literal(names.table)}, {_literal(_bare(column))})"
        newest = f"(SELECT max({column}) FROM {names.old})"  # noqa: S608 - the server's own quoted names
        lines += [
            f"ALTER TABLE {names.table} ALTER COLUMN {column} ADD GENERATED {kind} AS IDENTITY;",
            f"SELECT setval({sequence}, greatest(1, {newest}));",
        ]
    if forced:
        lines.append(f"ALTER TABLE {names.old} FORCE ROW LEVEL SECURITY;")
    lines += [f"ALTER SEQUENCE {sequence} OWNED BY {names.table}.{column};" for sequence, column in rows("serials")]
    return lines + [f"ALTER TABLE {names.table} ADD CONSTRAINT {check} {text};" for check, text in rows("checks")]


def _rights(names: _Names, rows: Rows) -> list[str]:
    lines = [f"ALTER TABLE {names.table} OWNER TO {rows('owner')[0][0]};"]
    for privilege, grantee, grantable, column in rows("grants"):
        of_column = f" ({column})" if column else ""
        option = " WITH GRANT OPTION" if grantable else ""
        lines.append(f"GRANT {privilege}{of_column} ON {names.table} TO {grantee}{option};")
    return lines


def _secured(rows: Rows) -> list[str]:
    """What switches a table's row security on as it is on the old one; nothing when it is off there."""
    enabled, forced = rows("row_security")[0]
    return [f"{word} ROW LEVEL SECURITY" for word, is_on in (("ENABLE", enabled), ("FORCE", forced)) if is_on]


def _row_security(names: _Names, rows: Rows) -> list[str]:
    """The policies of the new table. They rule whoever reads through it, rows of the old part included."""
    lines = []
    for policy, permissive, command, roles, using, check in rows("policies"):
        line = f"CREATE POLICY {policy} ON {names.table} AS {permissive} FOR {command} TO {roles}"
        line += f" USING ({using})" if using else ""
        lines.append(line + (f" WITH CHECK ({check})" if check else "") + ";")
    return lines + [f"ALTER TABLE {names.table} {how};" for how in _secured(rows)]


def _partitions(names: _Names, rows: Rows) -> list[str]:
    lines = [f"ALTER TABLE {names.table} ATTACH PARTITION {names.old} FOR VALUES FROM (MINVALUE) TO ({names.first});"]
    for start, end in pairwise(names.boundaries):
        partition = f"{names.schema}.{_suffixed(names.relation, f'_{start:{names.style}}')}"
        lines.append(
            f"CREATE TABLE {partition} PARTITION OF {names.table}"
            f" FOR VALUES FROM ('{start:%Y-%m-%d} 00:00+00') TO ('{end:%Y-%m-%d} 00:00+00');"
        )
        # Default privileges may open a new table to others; read by its own name it gives no row without a policy.
        lines += [f"ALTER TABLE {partition} {how};" for how in _secured(rows)]
    return lines


def _views(rows: Rows) -> list[str]:
    lines = []
    for view, text, options, _ in rows("views"):
        given = f" WITH ({options})" if options else ""
        lines.append(f"CREATE OR REPLACE VIEW {view}{given} AS {text.strip().rstrip(';')};")
    return lines


def _split(name: str) -> tuple[str, str]:
    """Take a qualified name apart where its dot is not within quotes."""
    quoted = False
    for place, sign in enumerate(name):
        quoted ^= sign == '"'
        if sign == "." and not quoted:
            return name[:place], name[place + 1 :]
    raise ValueError(f"{name} is not a qualified name")


def _bare(identifier: str) -> str:
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier


def _suffixed(relation: str, suffix: str) -> str:
    return _identifier(_bare(relation)[: 63 - len(suffix)] + suffix)


def _identifier(name: str) -> str:
    plain = name and name[0] not in "0123456789" and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")
    return name if plain else '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
