"""Puts the statements of rows.sql together for a source table: names, conditions, columns, and a row's line.

psycopg quotes names; values stay parameters. A prune repeats few statements thousands of times, so they are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from include.maintenance.pruning import holds
from include.maintenance.pruning.archive_lines import ESCAPED
from include.maintenance.pruning.columns import number_type
from include.maintenance.pruning.sources import TIME_TYPES
from include.warehouse.statements import statements

if TYPE_CHECKING:
    from psycopg import sql

    from include.maintenance.pruning.sources import Source
    from include.platform.database import Column
    from include.warehouse.legal_holds import LegalHold

_STATEMENTS = statements(str(Path(__file__).with_name("rows.py")))
_PLAIN = {"smallint", "integer", "bigint", "uuid", "date", *TIME_TYPES}  # their texts need no escaping
_MOST_ARGUMENTS = 90  # a function takes 100


@lru_cache(maxsize=256)
def composed(
    statement: str,
    source: Source,
    *,
    held: tuple[LegalHold, ...] = (),
    settled: bool = False,
    escape: bool = False,
    numbers: bool = True,
) -> bytes:
    """Return a statement of rows.sql for a source.

    ``held`` are the legal holds that it asks about, ``settled`` leaves out rows that a transaction has just written,
    ``escape`` replaces characters that stand for something within texts, ``numbers`` asks for the numbers of columns
    that have them (columns.py) instead of their texts.
    """
    from psycopg import sql

    time, time_type = sql.Identifier(source.time_column), sql.SQL(source.time_type)  # as the server itself writes it
    limits = [
        sql.SQL(limit).format(time, time_type)
        for limit, given in (
            ("{} < %(cut_off)s::{}", source.cut_off),
            ("{} >= %(since)s::{}", source.since),
            ("{} < %(until)s::{}", source.until),
        )
        if given is not None
    ]
    not_newer = sql.SQL(" AND ").join(limits) if limits else sql.SQL("true")
    has_beginning = source.cut_off is None or source.since is not None
    older = not_newer if has_beginning else sql.SQL("{} AND {} > '-infinity'").format(not_newer, time)
    is_held = holds.condition(held, source.time_column, source.time_type, source.key_column, source.key_type)
    nullable = [sql.Identifier(column.name) for column in source.columns if not column.not_null]
    nulls = [sql.SQL("count(*) - count({})").format(name) for name in nullable]
    found = sql.SQL(_STATEMENTS[statement]).format(  # our own file's text
        table=source.table.identifier,
        time=time,
        time_type=time_type,
        key=sql.Identifier(source.key_column),
        key_type=sql.SQL(source.key_type),
        older=older,
        not_newer=not_newer,
        held=is_held,
        not_held=sql.SQL("NOT {}").format(is_held) if held else sql.SQL("true"),
        settled=sql.SQL("age(source.xmin) > (SELECT age(%(settled_before)s::xid))" if settled else "true"),
        same_time=sql.SQL("true")
        if source.key_is_unique
        else sql.SQL("source.{} = archived.time").format(sql.Identifier(source.time_column)),
        values=sql.SQL(", ").join(_values(column, escape=escape, numbers=numbers) for column in source.columns),
        nulls=sql.SQL(" + ").join(nulls) if nulls else sql.SQL("0"),
        sum=sum_of(source.columns),
        new_columns=sql.SQL(_STATEMENTS["new_columns"]),
    )
    return found.as_bytes()


def sum_of(columns: Sequence[Column]) -> sql.Composed:
    """Return the expression of the MD5 sum of a row's line; the row's alias is ``source``."""
    from psycopg import sql

    return sql.SQL("md5(convert_to({}, 'UTF8'))").format(_line(columns))


def _values(column: Column, *, escape: bool, numbers: bool) -> sql.Composed:
    """The values of a column of several rows as one value, as columns.py describes it."""
    from psycopg import sql

    if numbers and (kind := number_type(column)):
        name = sql.Identifier("source", column.name)
        return sql.SQL("string_agg({}({}), '')").format(sql.SQL(kind.sending), name)
    return sql.SQL("string_agg({}, E'\\x1e')").format(_field(column, escape=escape))


def _line(columns: Sequence[Column]) -> sql.Composed:
    """A row's line, as archive_lines.py describes it."""
    from psycopg import sql

    fields = [_field(column, escape=True) for column in columns]
    groups = [
        sql.SQL("concat_ws(E'\\x1f', {})").format(sql.SQL(", ").join(fields[n : n + _MOST_ARGUMENTS]))
        for n in range(0, len(fields), _MOST_ARGUMENTS)
    ]
    return sql.SQL(" || E'\\x1f' || ").join(groups)


def _field(column: Column, *, escape: bool) -> sql.Composable:
    from psycopg import sql

    text: sql.Composable = sql.SQL("{}::text").format(sql.Identifier("source", column.name))
    if escape and column.type_name not in _PLAIN:
        for plain, instead in ESCAPED:
            text = sql.SQL("replace({}, {}, {})").format(text, _characters(plain), _characters(instead))
    return text if column.not_null else sql.SQL("coalesce({}, E'\\x1d')").format(text)


def _characters(text: str) -> sql.SQL:
    from psycopg import sql

    return sql.SQL("E'" + "".join(f"\\x{ord(letter):02x}" for letter in text) + "'")
