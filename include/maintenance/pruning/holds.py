"""Legal holds: rows and logs that nothing deletes. Placing and releasing them, the condition that spares rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.maintenance.pruning.sources import without_precision
from include.maintenance_sections import Prune
from include.outcome import ConfigurationError, SourceUnavailable
from include.platform import database
from include.platform.log_lines import Kind
from include.settings import settings
from include.warehouse import legal_holds
from include.warehouse.legal_holds import LegalHold

if TYPE_CHECKING:
    from psycopg import sql

AIRFLOW_LOGS = "airflow_logs"
HELD_AS = ("platform_logs", *(f"{kind.value}_logs" for kind in Kind), AIRFLOW_LOGS)
"""What a hold names instead of a table: all logs of the platform, those of a kind, Airflow's."""


def condition(
    held: tuple[LegalHold, ...], time_column: str, time_type: str, key_column: str, key_type: str
) -> sql.Composed:
    """Return the condition, never null, that a row of the alias ``source`` is held."""
    from psycopg import sql

    each = [_one(hold, time_column, time_type, key_column, key_type) for hold in held]
    if not each:
        return sql.SQL("{}").format(sql.SQL("false"))
    return sql.SQL("coalesce({}, false)").format(sql.SQL(" OR ").join(each))


def _one(hold: LegalHold, time_column: str, time_type: str, key_column: str, key_type: str) -> sql.Composed:
    from psycopg import sql

    time, key = sql.Identifier("source", time_column), sql.Identifier("source", key_column)
    conditions: list[sql.Composable] = []
    for column, operator, value, kind in (
        (time, ">=", _utc(hold.time_from), time_type),
        (time, "<", _utc(hold.time_until), time_type),
        (key, ">=", hold.key_from, key_type),
        (key, "<=", hold.key_to, key_type),
        (sql.Identifier("source", hold.column_name or ""), "=", hold.column_value, "text"),
    ):
        if value is not None:
            left = sql.SQL("{}::text").format(column) if kind == "text" else column
            literal = sql.Literal(value).as_string().replace("%", "%%")  # the statement has parameters too
            right = sql.SQL("{}::{}").format(sql.SQL(literal), sql.SQL(kind))
            conditions.append(sql.SQL("{} {} {}").format(left, sql.SQL(operator), right))
    return sql.SQL("({})").format(sql.SQL(" AND ").join(conditions or [sql.SQL("true")]))


def _utc(value: datetime | None) -> str | None:
    return value.astimezone(UTC).isoformat() if value else None


def place(
    table: str,
    reason: str,
    placed_by: str,
    *,
    time_from: datetime | None = None,
    time_until: datetime | None = None,
    key_from: str | None = None,
    key_to: str | None = None,
    column: str | None = None,
    value: str | None = None,
) -> dict[str, Any]:
    """Place a hold on the rows of a pruned table that meet all given conditions; without any, on the whole table.

    ``table`` may also be one of HELD_AS: logs, of which a hold names days by their times only. It is in force for all
    that is deleted from then on. Returns the hold with ``rows_matching`` now, None for logs and when the platform's
    database cannot be asked. Raises ConfigurationError.
    """
    rule = None if table in HELD_AS else _rule(table)
    if not reason.strip() or not placed_by.strip():
        raise ConfigurationError("a legal hold needs a reason and who places it; give both")
    if (column is None) != (value is None):
        raise ConfigurationError("a condition on a column needs both the column and its value; give both or none")
    if rule is None and (key_from, key_to, column) != (None, None, None):
        raise ConfigurationError(f"a hold on {table} keeps whole files by their days; give its times only")
    if rule and column is not None and column not in rule.hold_columns:
        allowed = ", ".join(rule.hold_columns) or "none"
        raise ConfigurationError(
            f"{column} is no column that holds on {table} may name ({allowed}); add it to its hold_columns in "
            "maintenance.prune"
        )
    if time_from and time_until and time_from >= time_until:
        raise ConfigurationError("the hold's time range is empty; its end must be later than its beginning")
    conditions = {
        "source_table": table,
        "time_from": time_from,
        "time_until": time_until,
        "key_from": key_from,
        "key_to": key_to,
        "column_name": column,
        "column_value": value,
    }
    rows = _matching(rule, conditions) if rule else None
    hold = legal_holds.place(conditions, reason, placed_by)
    return {"legal_hold": hold.legal_hold_id, "table": table, "reason": reason, "rows_matching": rows}


def release(legal_hold_id: int, released_by: str) -> dict[str, Any]:
    """End a hold. Raises ConfigurationError when none with this number is in force."""
    if not released_by.strip():
        raise ConfigurationError("say who releases the hold")
    hold = legal_holds.release(legal_hold_id, released_by)
    return {"legal_hold": hold.legal_hold_id, "table": hold.source_table, "released_by": released_by}


def listed() -> list[dict[str, Any]]:
    """Return the holds in force, with those of their conditions that there are."""
    facts = [
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in vars(hold).items()}
        for hold in legal_holds.all_active()
    ]
    return [{name: value for name, value in fact.items() if value is not None} for fact in facts]


def _rule(table: str) -> Prune:
    for rule in settings().maintenance.prune:
        if rule.table == table:
            return rule
    known = ", ".join(rule.table for rule in settings().maintenance.prune) or "none"
    raise ConfigurationError(
        f"{table} is not pruned, so it needs no legal hold; tables that are: {known}; logs are {', '.join(HELD_AS)}"
    )


def _matching(rule: Prune, conditions: dict[str, Any]) -> int | None:
    """Count the rows that the hold matches, which also checks that its keys have the key's type."""
    import psycopg
    from psycopg import sql

    try:
        with database.maintenance_session(f"legal hold on {rule.table}") as connection:
            table = database.table_of(connection, rule.table)
            types = {column.name: column.type_name for column in database.columns_of(connection, table)}
            for name in (rule.time_column, rule.key_column, conditions["column_name"]):
                if name is not None and name not in types:
                    raise ConfigurationError(f"{rule.table} has no column {name}; correct maintenance.prune")
            hold = LegalHold(**conditions, legal_hold_id=0, reason="", placed_by="", created_at=None, released_at=None)  # type: ignore[arg-type]
            time_type = without_precision(types[rule.time_column])
            matches = condition((hold,), rule.time_column, time_type, rule.key_column, types[rule.key_column])
            statement = sql.SQL("SELECT count(*) FROM {} AS source WHERE {}").format(table.identifier, matches)
            row = connection.execute(statement, {}).fetchone()
            return int(row[0]) if row else None
    except psycopg.DataError:
        raise ConfigurationError(
            f"the hold's keys are not of the type of {rule.table}.{rule.key_column}; correct them"
        ) from None
    except SourceUnavailable:
        return None  # a hold must be possible while the platform's database is down
