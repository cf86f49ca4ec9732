"""A row as one line of text, for the server and for an archive's file alike; and the sum of rows by their lines.

A row's line stands for its content: each column as the text that PostgreSQL gives for it (``::text``), joined by the
control character 1F; null is 1D; a 10, 1D, 1E or 1F within a text becomes 10 and a digit. No two different rows give
the same line. What the server makes of a table's rows stands in row_statements.py; here is what DuckDB makes of a
file's, as SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from include.platform.database import quoted

ROW, FIELD, NULL, ESCAPE = "\x1e", "\x1f", "\x1d", "\x10"
ESCAPED = ((ESCAPE, ESCAPE + "0"), (NULL, ESCAPE + "1"), (ROW, ESCAPE + "2"), (FIELD, ESCAPE + "3"))
"""Characters that stand for something in a line, and what they become within a text, in the order of replacing."""

_HALF = 1 << 64
SUMS = f"coalesce(sum((m & {_HALF - 1}::UHUGEINT)::HUGEINT), 0), coalesce(sum((m >> 64)::HUGEINT), 0)"
"""The two numbers that ``sum_text`` takes, of the MD5 sums ``m`` of lines (``md5_number(line)::UHUGEINT``)."""

ROW_MARK = f"chr({ord(ROW)})"
"""The SQL of what the texts of a column are joined by."""


def line(described: Sequence[Mapping[str, Any]], escaped: bool) -> str:
    """Return the SQL of a row's line; ``described`` are a file's columns, ``escaped`` whether it may have to escape."""
    fields = f", {_characters(FIELD)}, ".join(field(column, escaped) for column in described)
    return f"concat({fields})"


def field(column: Mapping[str, Any], escaped: bool) -> str:
    """Return the SQL of a column's part of a line."""
    found = text(quoted(column["name"]), column["stored"])
    if escaped and column["stored"] == "VARCHAR":
        for plain, instead in ESCAPED:
            found = f"replace({found}, {_characters(plain)}, {_characters(instead)})"
    return found if column["not_null"] else f"coalesce({found}, {_characters(NULL)})"


def text(name: str, stored: str) -> str:
    """Return the SQL of a value of a file as PostgreSQL writes it; ``stored`` is its type in the file."""
    found = f"CAST({name} AS VARCHAR)"
    if stored != "TIMESTAMPTZ":
        return found
    # The session is in UTC, but DuckDB would ask a calendar for each time with a zone, and take three times as long.
    plain = f"CAST(make_timestamp(epoch_us({name})) AS VARCHAR) || '+00'"
    return f"CASE WHEN isfinite({name}) THEN {plain} ELSE {found} END"


def value(name: str, escaped: bool) -> str:
    """Return the SQL of a text as it stood in the table, or NULL, from its part of a line."""
    found = f"nullif({name}, {_characters(NULL)})"
    if escaped:
        for plain, instead in reversed(ESCAPED):
            found = f"replace({found}, {_characters(instead)}, {_characters(plain)})"
    return found


def sum_of(md5_sums: Iterable[str]) -> str:
    """Return the sum of rows from the MD5 sums of their lines in hexadecimal; it does not depend on their order."""
    import numpy

    halves = numpy.frombuffer(bytes.fromhex("".join(md5_sums)), dtype="<u8").reshape(-1, 2)
    low, high = halves.sum(axis=0, dtype=numpy.uint64).tolist() if len(halves) else (0, 0)
    return sum_text(low, high)


def sum_text(low: int, high: int) -> str:
    """Return a sum of rows: the MD5 sums added up as two little-endian numbers of 64 bits each, modulo 2^64."""
    return f"{low % _HALF:016x}{high % _HALF:016x}"


def _characters(text: str) -> str:
    return " || ".join(f"chr({ord(letter)})" for letter in text)
