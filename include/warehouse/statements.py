"""Named SQL statements that stand in a file beside a module, and what their rows are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg


def columns(record: type, table: str = "") -> str:
    """Return the fields of a dataclass as the columns of a query, of the table or alias ``table`` where one is given.

    A row of these columns unpacks into the record.
    """
    return ", ".join(f"{table}.{field.name}" if table else field.name for field in fields(record))


def statements(module_file: str, columns: str = "") -> dict[str, str]:
    """Return the statements of the .sql file beside a module (``__file__``), by the names of their header lines.

    A header line reads ``-- statement: name``; ``{columns}`` in a statement stands for ``columns``.
    """
    text = Path(module_file).with_suffix(".sql").read_text().replace("{columns}", columns)
    return dict(re.findall(r"^-- statement: (\w+)\n(.*?)(?=^-- statement: |\Z)", text, re.S | re.M))


def one_row(
    connection: psycopg.Connection[Any], statement: str, values: Mapping[str, Any] | None = None
) -> tuple[Any, ...]:
    """Return the row of a statement that always gives one. Raises psycopg's errors."""
    row: tuple[Any, ...] | None = connection.execute(statement, values).fetchone()
    assert row is not None, "the statement always gives a row"
    return row
