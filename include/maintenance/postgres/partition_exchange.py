"""Writes the exchange of a table for a partitioned one: what the new table takes over, and its partitions.

Everything is one transaction, at whose end the new table protects its rows as the old one did: rights, row security,
checks and foreign keys. It is written for whoever owns the table, and for a superuser, to whom nothing may belong
afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from include.maintenance.postgres.partition_names import Names, derived
from include.platform.database import literal
from include.warehouse.statements import statements

Rows = Callable[[str], list[tuple[Any, ...]]]
"""Runs one statement about the table."""

_STATEMENTS = statements(__file__)
_COMPRESSION_SINCE = 140000


def exchange(names: Names, keys: list[tuple[Any, ...]], rows: Rows, version: int) -> list[str]:
    """Return the statements between BEGIN and COMMIT; ``keys`` are the rows of the statement of that name."""
    old_keys, new_keys = _keys(names, keys)
    return [
        f"ALTER TABLE {names.table} RENAME TO {names.ended(names.relation)};",
        *old_keys,
        *_new_table(names, rows, version),
        *_identities(names, rows),
        *new_keys,
        *(text.replace(f"INDEX {index} ON ", "INDEX ON ", 1) + ";" for index, text in rows(_STATEMENTS["indexes"])),
        *(f"ALTER TABLE {names.table} ADD CONSTRAINT {key} {text};" for key, text in rows(_STATEMENTS["foreign_keys"])),
        *_row_security(names, rows),
        *_partitions(names, rows),
        *_views(rows),
    ]


def to_confirm(rows: Rows) -> list[str]:
    """Return what a person must know of the exchange before it is run: whose views it makes again, what it leaves."""
    found = [
        f"the view {view} belongs to {owner}, and only it or a superuser may make it again"
        for view, _, _, owner in rows(_STATEMENTS["views"])
        if owner
    ]
    lost = ", ".join(what for (what,) in rows(_STATEMENTS["not_carried"]))
    return [*found, f"the new table and partitions are without {lost}"] if lost else found


def next_partitions(names: Names, rows: Rows) -> str:
    """Return the comment that says how to go on after the last partition."""
    ways = ["the same owner"]
    ways += ["the same storage parameters"] if rows(_STATEMENTS["storage"])[0][0] else []
    ways += ["the same row security (partitions have no policies)"] if _secured(rows) else []
    return (
        f"-- Rows of {names.boundaries[-1]:%Y-%m-%d} or later are refused until there are further partitions. Make\n"
        f"-- them in time (pg_partman, or a job), each with {', '.join(ways)}.\n"
        "-- No DEFAULT partition: with one, old partitions cannot be detached concurrently."
    )


def _keys(names: Names, keys: list[tuple[Any, ...]]) -> tuple[list[str], list[str]]:
    """Return what makes the old table's keys fit, and the keys of the new table, whose names they take."""
    exchange, new_keys = [], []
    for key, kind, columns, has_time, _, definition in keys:
        if kind == "i":
            new_keys.append(definition.replace(f"INDEX {key} ON ", "INDEX ON ", 1) + ";")
        elif has_time:
            exchange.append(f"ALTER INDEX {names.schema}.{key} RENAME TO {names.ended(key)};")
            new_keys.append(f"ALTER TABLE {names.table} ADD CONSTRAINT {key} {definition};")
        else:
            index = derived(names.relation, "_time_key")
            exchange += [
                f"ALTER TABLE {names.old} DROP CONSTRAINT {key};",
                f"ALTER TABLE {names.old} ADD CONSTRAINT {index} PRIMARY KEY USING INDEX {index};",
            ]
            new_keys.append(f"ALTER TABLE {names.table} ADD CONSTRAINT {key} PRIMARY KEY ({columns}, {names.time});")
    return exchange, new_keys


def _new_table(names: Names, rows: Rows, version: int) -> list[str]:
    _, tablespace, comment, _ = rows(_STATEMENTS["table"])[0]
    like = ["DEFAULTS", "GENERATED", "STORAGE", "COMMENTS", *(["COMPRESSION"] if version >= _COMPRESSION_SINCE else [])]
    return [
        f"CREATE TABLE {names.table} (LIKE {names.old} {' '.join(f'INCLUDING {what}' for what in like)})"
        f" PARTITION BY RANGE ({names.time})" + (f" TABLESPACE {tablespace};" if tablespace else ";"),
        *_owned(names.table, rows),
        *_grants(names.table, rows),
        *([f"COMMENT ON TABLE {names.table} IS {comment};"] if comment else []),
        *(f"ALTER SEQUENCE {name} OWNED BY {names.table}.{column};" for name, column in rows(_STATEMENTS["serials"])),
        *(f"ALTER TABLE {names.table} ADD CONSTRAINT {check} {text};" for check, text in rows(_STATEMENTS["checks"])),
    ]


def _identities(names: Names, rows: Rows) -> list[str]:
    """A partition may not have an identity of its own (PostgreSQL 17): it moves to the new table and goes on counting.

    The old sequence knows where, also when the rows of the newest numbers are deleted.
    """
    lines = []
    for column, kind, sequence, options in rows(_STATEMENTS["identities"]):
        new, old = f"{names.schema}.{sequence}", names.ended(sequence)
        lines += [
            f"ALTER SEQUENCE {new} RENAME TO {old};",
            f"ALTER TABLE {names.table} ALTER COLUMN {column} ADD GENERATED {kind} AS IDENTITY"
            f" (SEQUENCE NAME {new} {options});",
            f"SELECT setval({literal(new)}, last_value, is_called) FROM {names.schema}.{old};",  # noqa: S608 - quoted
            f"ALTER TABLE {names.old} ALTER COLUMN {column} DROP IDENTITY;",
        ]
    for kind, sequence, privilege, grantee, grantable, _ in rows(_STATEMENTS["grants"]):
        if kind == "S":
            option = " WITH GRANT OPTION" if grantable else ""
            lines.append(f"GRANT {privilege} ON SEQUENCE {names.schema}.{sequence} TO {grantee}{option};")
    return lines


def _owned(table: str, rows: Rows) -> list[str]:
    """Give a table that was just made to the owner of the old one, with no rights that the old one does not give."""
    lines = [f"ALTER TABLE {table} OWNER TO {rows(_STATEMENTS['table'])[0][0]};"]
    by_default = [who for (who,) in rows(_STATEMENTS["granted_by_default"])]
    return lines + ([f"REVOKE ALL ON {table} FROM {', '.join(by_default)};"] if by_default else [])


def _grants(table: str, rows: Rows, only: str | None = None) -> list[str]:
    lines = []
    for kind, _, privilege, grantee, grantable, column in rows(_STATEMENTS["grants"]):
        if kind == "r" and only in (None, privilege):
            of_column = f" ({column})" if column else ""
            option = " WITH GRANT OPTION" if grantable else ""
            lines.append(f"GRANT {privilege}{of_column} ON {table} TO {grantee}{option};")
    return lines


def _secured(rows: Rows) -> list[str]:
    """What switches a table's row security on as it is on the old one; nothing when it is off there."""
    enabled, forced = rows(_STATEMENTS["row_security"])[0]
    return [f"{word} ROW LEVEL SECURITY" for word, is_on in (("ENABLE", enabled), ("FORCE", forced)) if is_on]


def _row_security(names: Names, rows: Rows) -> list[str]:
    """The policies of the new table. They rule whoever reads through it, rows of the old part included."""
    lines = []
    for policy, permissive, command, roles, using, check in rows(_STATEMENTS["policies"]):
        line = f"CREATE POLICY {policy} ON {names.table} AS {permissive} FOR {command} TO {roles}"
        line += f" USING ({using})" if using else ""
        lines.append(line + (f" WITH CHECK ({check})" if check else "") + ";")
    return lines + [f"ALTER TABLE {names.table} {how};" for how in _secured(rows)]


def _partitions(names: Names, rows: Rows) -> list[str]:
    """The old table as the first partition, which then needs its limit no longer, and the next ones."""
    limit = derived(names.relation, "_limit")
    [(storage,)], identity = rows(_STATEMENTS["storage"]), rows(_STATEMENTS["table"])[0][3]
    options = f" WITH ({storage})" if storage else ""
    replicated = {"f": ["REPLICA IDENTITY FULL"], "n": ["REPLICA IDENTITY NOTHING"]}.get(identity, [])
    lines = [
        *(f"ALTER TABLE {names.table} {how};" for how in replicated),
        f"ALTER TABLE {names.table} ATTACH PARTITION {names.old} FOR VALUES FROM (MINVALUE) TO ({names.first});",
        f"ALTER TABLE {names.old} DROP CONSTRAINT {limit};",
    ]
    for start, end in pairwise(names.boundaries):
        partition = names.partition(start)
        lines += [
            f"CREATE TABLE {partition} PARTITION OF {names.table}"
            f" FOR VALUES FROM ('{start:%Y-%m-%d} 00:00+00') TO ('{end:%Y-%m-%d} 00:00+00'){options};",
            *_owned(partition, rows),
            *_grants(partition, rows, only="MAINTAIN"),  # whoever vacuums reaches each partition by its own name
            # Read by its own name it gives no row without a policy.
            *(f"ALTER TABLE {partition} {how};" for how in [*replicated, *_secured(rows)]),
        ]
    targets = rows(_STATEMENTS["statistics_targets"])
    return lines + [f"ALTER TABLE {names.table} ALTER COLUMN {one} SET STATISTICS {target};" for one, target in targets]


def _views(rows: Rows) -> list[str]:
    lines = []
    for view, text, options, _ in rows(_STATEMENTS["views"]):
        given = f" WITH ({options})" if options else ""
        lines.append(f"CREATE OR REPLACE VIEW {view}{given} AS {text.strip().rstrip(';')};")
    return lines
