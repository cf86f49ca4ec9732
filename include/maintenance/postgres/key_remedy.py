"""Writes the SQL that lets a sequence go on: a wider end, or wider columns. Text for people; nothing executes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from include.platform.database import briefly, dollar_quoted, in_comment, together

_BIGINT = {1: 2**63 - 1, -1: -(2**63)}
_ALTERED_AT_ONCE_BYTES = 100 * 2**20  # rewritten in seconds; larger ones are away for minutes


def widening(sequence: dict[str, Any], column: dict[str, Any] | None, sizes: dict[str, int], update_first: str) -> str:
    """Return SQL for a sequence (a row of key_exhaustion.sql) that ends at ``column``, or by itself when that is None.

    ``sizes`` are the bytes of the tables by name. Tables of up to 100 MiB are altered as they are, which locks them
    while they are rewritten. For larger ones the lines begin the way without downtime, and what is to follow by hand
    stands there as comments; ``update_first`` is what database.update_first says of the server. A column of a partition
    key is left to people: the server does not alter it.
    """
    way = 1 if sequence["increment"] > 0 else -1
    end = "highest" if way > 0 else "lowest"
    narrow = [one for one in sequence["columns"] if way * one[end] < way * _BIGINT[way]]
    if column is None:
        return _own_end(sequence, way, min((way * one[end] for one in narrow), default=None))
    if not narrow:
        return _widest(sequence)
    narrow.sort(key=lambda one: one["fed"])  # what refers to the key before the key: no number is in between
    keyed = [one for one in narrow if one["partition_key"]]
    lines = [
        f"-- {in_comment(one['table'] + '.' + one['column'])} is a partition key: make a new partitioned table with "
        "bigint and copy the rows"
        for one in keyed
    ]
    if changed := [one for one in narrow if not one["partition_key"]]:
        views = "-- first drop the views that show these columns; create them again afterwards"
        total = sum(sizes.get(table, 0) for table in {one["table"] for one in changed})
        altered = [views, *_altered(changed, total)]
        lines += altered if total <= _ALTERED_AT_ONCE_BYTES else _exchanged(changed, altered, update_first)
    widened = _sequence_widened(sequence, way)
    if keyed:
        return "\n".join([*lines, *(f"-- then {in_comment(line)}" for line in widened)])
    return "\n".join([*lines, *(briefly(widened) if widened else [])])


def _own_end(sequence: dict[str, Any], way: int, columns_end: int | None) -> str:
    """The sequence ends before every column does: it may go on to the first of theirs, unless its end is a rule."""
    name, word = sequence["name"], "MAXVALUE" if way > 0 else "MINVALUE"
    if columns_end is None and way * sequence["maximum" if way > 0 else "minimum"] == way * _BIGINT[way]:
        return _widest(sequence)
    type_end = way * sequence["highest" if way > 0 else "lowest"]
    wider = " AS bigint" if (columns_end or way * _BIGINT[way]) > type_end else ""
    to = f"NO {word}" if columns_end is None else f"{word} {way * columns_end}"
    comment = "-- unless its end was meant to be one, run this; try again when the lock is not free:"
    waiting = briefly([f"ALTER SEQUENCE {name}{wider} {to};"])
    return "\n".join([comment, *(in_comment(f"--   {line}") for line in waiting)])


def _sequence_widened(sequence: dict[str, Any], way: int) -> list[str]:
    if sequence["maximum" if way > 0 else "minimum"] == _BIGINT[way]:
        return []
    return [f"ALTER SEQUENCE {sequence['name']} AS bigint NO {'MAXVALUE' if way > 0 else 'MINVALUE'};"]


def _widest(sequence: dict[str, Any]) -> str:
    return (
        f"-- no wider integer exists: find out what brought {in_comment(sequence['name'])} so far (a setval? its "
        "INCREMENT?), or let it count from the other end of bigint"
    )


def _altered(columns: Sequence[dict[str, Any]], total: int) -> list[str]:
    return [
        f"-- each rewrites its table and its indexes ({total / 2**20:,.0f} MiB in all) while nobody can read or "
        "write it (ACCESS EXCLUSIVE); try again when the lock is not free",
        *briefly([_as_bigint(one) for one in columns]),
    ]


def _as_bigint(column: dict[str, Any]) -> str:
    """The statement; a comment where the column would lose what its domain rules."""
    change = f"ALTER TABLE {column['table']} ALTER COLUMN {column['column']} TYPE bigint;"
    if not column["domain"]:
        return change
    return in_comment(f"-- first give the table a CHECK of what {column['type']} rules; then {change}")


def _exchanged(columns: Sequence[dict[str, Any]], altered: Sequence[str], update_first: str) -> list[str]:
    """The way without downtime; its first statements change nothing that anybody reads.

    A trigger comes together with its column: without it every write would fail. A parent's trigger does not see what is
    written to its heirs.
    """
    lines = [
        "-- without downtime: a wider copy of each column, kept up to date, that takes its place in the end; try again "
        "when a lock is not free"
    ]
    for one in columns:
        table, copy, column = one["table"], one["copy"], one["column"]
        step = f"UPDATE {table} SET {copy} = {column} WHERE {copy} IS NULL AND {column} BETWEEN 1 AND 10000;"  # noqa: S608
        body = dollar_quoted(f"BEGIN NEW.{copy} := NEW.{column}; RETURN NEW; END", "widen")
        made = [
            f"ALTER TABLE {table} ADD COLUMN {copy} bigint;",
            f"CREATE FUNCTION {one['function']}() RETURNS trigger LANGUAGE plpgsql AS {body};",
            *(
                f"CREATE TRIGGER {one['trigger']} BEFORE INSERT OR UPDATE ON {each} "
                f"FOR EACH ROW EXECUTE FUNCTION {one['function']}();"
                for each in (table, *one["heirs"])
            ),
        ]
        lines += [*together(made), f"-- in small steps over all values, until none is left: {in_comment(step)}"]
    keys = sorted({in_comment(key) for one in columns for key in one["foreign_keys"]})
    return [
        *lines,
        f"{update_first}-- then CREATE [UNIQUE] INDEX CONCURRENTLY on each copy as on its column, and of a column that "
        "is NOT NULL: ADD CHECK (copy IS NOT NULL) NOT VALID, VALIDATE CONSTRAINT",
        *(
            f"-- and likewise ADD CHECK of what {in_comment(one['type'])} rules, on {in_comment(one['copy'])} of "
            f"{in_comment(one['table'])}: the copy has no domain"
            for one in columns
            if one["domain"]
        ),
        "-- then in one transaction with such a lock_timeout: LOCK TABLE, DROP TRIGGER, drop the keys, RENAME both "
        "columns, ADD PRIMARY KEY USING INDEX, SET DEFAULT or ADD GENERATED as before, ALTER SEQUENCE OWNED BY the new "
        "column",
        f"-- then the foreign keys again, NOT VALID and after that VALIDATE CONSTRAINT: {', '.join(keys) or 'none'}",
        "-- in the end DROP COLUMN and DROP FUNCTION of what is left",
        "-- or by one statement each, while the platform is down for as long as it takes:",
        *(f"-- {in_comment(line.removeprefix('-- '))}" for line in altered),
    ]
