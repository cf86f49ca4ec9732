"""Writes the SQL that mends the columns of one relation of the source contract, all of them at once.

It is text for people: what stands in angle brackets only they know, and nothing here executes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.platform.database import identifier, quoted

if TYPE_CHECKING:
    from include.platform.contract import Column, Found


def columns(name: str, wanted: tuple[Column, ...], found: Found) -> str:
    """Return SQL that adds the columns which the relation ``name`` lacks, and casts those of a wrong type."""
    missing = [column for column in wanted if column.name not in found.types]
    wrong = {column.name: column for column in wanted if found.types.get(column.name) not in (None, *column.accepted)}
    if found.kind in ("view", "materialized view"):
        return _of_view(name, missing, wrong, found)
    foreign = found.kind == "foreign table"
    source = " OPTIONS (column_name '<column there>')" if foreign else ""
    changes = [f"ADD COLUMN {column.name} {column.type}{source}" for column in missing]
    for column in wrong.values():
        using = "" if foreign else f" USING {_cast(column, found)}"
        changes.append(f"ALTER COLUMN {column.name} TYPE {column.type}{using}")
    return f"ALTER {found.kind.upper()} {name} {', '.join(changes)};"


def _of_view(name: str, missing: list[Column], wrong: dict[str, Column], found: Found) -> str:
    parts = [f"{_cast(wrong[one], found)} AS {one}" if one in wrong else identifier(one) for one in found.types]
    parts = parts if wrong else ["given.*"]
    parts += [f"<expression>::{column.type} AS {column.name}" for column in missing]
    definition = " ".join(found.definition.rstrip("; \n").split())
    query = f"SELECT {', '.join(parts)} FROM ({definition}) AS given"  # noqa: S608 - text for people
    if found.kind == "view" and not wrong:
        return f"CREATE OR REPLACE VIEW {name} AS {query};"
    kind = found.kind.upper()  # it has to be dropped to change a type, and a materialized one always
    indexes = "".join(f" {statement};" for statement in found.indexes)
    return (
        f"BEGIN; DROP {kind} {name}; CREATE {kind} {name} AS {query};{indexes} "
        f"GRANT SELECT ON {name} TO {quoted(found.role)}; COMMIT;"
    )


def _cast(column: Column, found: Found) -> str:
    if found.types[column.name] == "timestamp without time zone" and column.type == "timestamptz":
        return f"{column.name} AT TIME ZONE 'UTC'"
    return f"{column.name}::text::{column.type}"
