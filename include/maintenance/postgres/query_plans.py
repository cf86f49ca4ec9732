"""Asks the planner about queries without running them, and which index would help them (hypopg).

A normalised text has $1 in the place of values: PostgreSQL 16 explains it as it is (GENERIC_PLAN), older versions
as a prepared statement with a generic plan. Each text is planned in a read-only transaction that is rolled back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import permutations
from typing import TYPE_CHECKING, Any

from include.maintenance.postgres import query_trust
from include.maintenance.postgres.query_texts import can_be_planned, for_the_planner, without_values
from include.outcome import Outcome
from include.platform import database
from include.settings import settings
from include.warehouse.findings import Finding
from include.warehouse.query_statistics import Work
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg

ALL_QUERIES = "all queries"
_STATEMENTS = statements(__file__)
LONGEST_PLAN = 8000
"""Characters kept of one plan."""
_LONGEST_CONDITION = 400  # characters of one condition: a list of values can be as long as it likes
_CONDITIONS = (" Cond", "Filter", " Key")  # what a node is done by: Index Cond, Join Filter, Sort Key and so on
_MOST_COLUMNS = 4  # of one table whose indexes are tried: 4 single ones and 12 pairs
_EQUAL = re.compile(r"^\s*\)?(?:::[\w\s.\[\]\"]+\)?)?\s*=")


@dataclass(frozen=True)
class Scan:
    """A table that a plan reads from end to end, and the columns it is filtered or joined by, compared by = first."""

    table: str
    rows: int
    size_bytes: int
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What the planner said about a query, or why it said nothing: the cost, the large tables read from end to end.

    ``steps`` is the plan itself as people read it, a line for each node, without values and cut at ``LONGEST_PLAN``.
    """

    text: str
    cost: float | None = None
    large_scans: tuple[Scan, ...] = ()
    why_not: str = ""
    steps: str = ""

    def facts(self) -> dict[str, Any]:
        """The plan as small JSON-able facts."""
        if self.cost is None:
            return {"unknown": self.why_not}
        scans = [{"table": scan.table, "rows": scan.rows, "size_bytes": scan.size_bytes} for scan in self.large_scans]
        return {"cost": self.cost, "large_sequential_scans": scans, "steps": self.steps}


@dataclass
class _Relation:
    """A table of a plan under the alias by which its conditions name it."""

    schema: str
    name: str
    alias: str
    conditions: list[str] = field(default_factory=list)


def plan(connection: psycopg.Connection[Any], text: str | None) -> Plan:
    """Ask for the plan of a normalised text; the answer says why there is none. Never executes the query.

    Nor anything that a role which is not trusted has made: see query_trust.
    """
    if text is None or not can_be_planned(text):
        return Plan(text or "", why_not="it is a utility statement, or its text is gone")
    import psycopg

    try:
        with _planning(connection, text):
            root = _explain(connection, text)
    except query_trust.NotTrustedError as error:
        return Plan(text, why_not=str(error))
    except psycopg.errors.InsufficientPrivilege as error:
        why = f"{database.MAINTENANCE} may not read its tables ({error.diag.message_primary}): GRANT SELECT on them"
        return Plan(text, why_not=why)
    except psycopg.errors.QueryCanceled:
        return Plan(text, why_not="planning it takes too long, or another session holds a lock on its tables")
    except psycopg.OperationalError:
        if connection.closed:
            raise
        return Plan(text, why_not="another session holds a lock on its tables")
    except psycopg.Error as error:
        return Plan(text, why_not=f"the planner refused it: {error.diag.message_primary}")
    return Plan(text, root["Total Cost"], _large_scans(connection, root), steps=_steps(root))


@contextmanager
def _planning(connection: psycopg.Connection[Any], text: str) -> Iterator[None]:
    """A read-only transaction with a time limit, rolled back whatever happened. Raises query_trust.NotTrustedError."""
    milliseconds = int(settings().maintenance.query_review.plan_seconds * 1000)
    with connection.transaction(force_rollback=True):
        connection.execute("SET TRANSACTION READ ONLY")
        connection.execute("SET LOCAL row_security = on")  # a plan shows no rows
        connection.execute("SELECT set_config('statement_timeout', %s, true)", (str(milliseconds),))
        connection.execute("SET LOCAL jit = off")  # a second for what takes milliseconds: recursions look expensive
        query_trust.require(connection, text)
        # The texts rely on the search path that the database sets. From here on our own statements name every schema.
        connection.execute("SET LOCAL search_path TO DEFAULT")
        yield


def _explain(connection: psycopg.Connection[Any], text: str) -> dict[str, Any]:
    """Return the root of the plan."""
    query = for_the_planner(text)
    old = database.server_version(connection) < 160000
    if old:
        connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        _refuse_several_statements(connection, f"PREPARE asked AS {query}")
        connection.execute(f"PREPARE asked AS {query}".encode())
        numbers = connection.execute(
            "SELECT pg_catalog.cardinality(parameter_types) FROM pg_catalog.pg_prepared_statements WHERE name = 'asked'"
        ).fetchone()
        empty = ", ".join(["NULL"] * (numbers[0] if numbers else 0))
        command = f"EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE asked{f'({empty})' if empty else ''}"
    else:
        command = f"EXPLAIN (GENERIC_PLAN, VERBOSE, FORMAT JSON) {query}"
        _refuse_several_statements(connection, command)
    try:
        with connection.transaction():  # a savepoint: after an error the prepared statement can still be forgotten
            row = connection.execute(command.encode()).fetchone()
    finally:
        if old and not connection.closed:
            _forget(connection)
    assert row is not None, "EXPLAIN gives a row"
    root: dict[str, Any] = row[0][0]["Plan"]
    return root


def _refuse_several_statements(connection: psycopg.Connection[Any], command: str) -> None:
    """Let the server parse the text without running it: it takes a single statement only in this way."""
    from psycopg import errors
    from psycopg.pq import ExecStatus

    parsed = connection.pgconn.prepare(b"", command.encode())
    if parsed.status != ExecStatus.COMMAND_OK:
        raise errors.error_from_result(parsed)


def _forget(connection: psycopg.Connection[Any]) -> None:
    """A prepared statement outlives the rollback."""
    from psycopg.pq import TransactionStatus

    if connection.info.transaction_status == TransactionStatus.INTRANS:
        connection.execute("DEALLOCATE asked")


# ----------------------------------------------------------------------------------------- reading a plan
def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _steps(root: dict[str, Any]) -> str:
    """Write a plan as EXPLAIN does, in short: a line for each node, under the one that it serves."""
    lines = list(_written(root, 0))
    kept, size = 0, 0
    while kept < len(lines) and size + len(lines[kept]) < LONGEST_PLAN - 40:
        size += len(lines[kept]) + 1
        kept += 1
    left_out = len(lines) - kept
    return "\n".join(lines[:kept] + ([f"… and {left_out} more steps"] if left_out else []))


def _written(node: dict[str, Any], depth: int) -> Iterator[str]:
    name = str(node["Node Type"])
    if "Index Name" in node:
        name += f" using {node['Index Name']}"
    if "Relation Name" in node:
        name += f" on {'.'.join(part for part in (node.get('Schema'), node['Relation Name']) if part)}"
    name += f" (cost {node['Total Cost']}, rows {node['Plan Rows']})"
    for key, value in node.items():
        if key.endswith(_CONDITIONS):
            said = without_values(", ".join(value) if isinstance(value, list) else str(value))
            short = said if len(said) <= _LONGEST_CONDITION else said[: _LONGEST_CONDITION - 1] + "…"
            name += f" {key}: {short}"
    yield f"{'  ' * depth}{'-> ' if depth else ''}{name}"
    for child in node.get("Plans", ()):
        yield from _written(child, depth + 1)


def _large_scans(connection: psycopg.Connection[Any], root: dict[str, Any]) -> tuple[Scan, ...]:
    """The large tables that are read from end to end, with the columns of all conditions on them."""
    relations: dict[tuple[str, str, str], _Relation] = {}
    for node in _nodes(root):
        if node["Node Type"] == "Seq Scan":
            key = (node.get("Schema", ""), node["Relation Name"], node.get("Alias", node["Relation Name"]))
            relations.setdefault(key, _Relation(*key)).conditions.append(node.get("Filter", ""))
    if not relations:
        return ()
    joins = [
        text for node in _nodes(root) for name in ("Hash Cond", "Merge Cond", "Join Filter") if (text := node.get(name))
    ]
    large = settings().maintenance.query_review.large_table_rows
    names = {
        "schemas": [one.schema for one in relations.values()],
        "relations": [one.name for one in relations.values()],
    }
    tables = {row[:2]: row[2:] for row in connection.execute(_STATEMENTS["tables"], names)}
    found = []
    for one in relations.values():
        name, rows, size, indexable, columns = tables[one.schema, one.name]
        if rows >= large:
            wanted = _columns(one.alias, columns if indexable else [], one.conditions, joins)
            found.append(Scan(name, rows, size, wanted))
    return tuple(sorted(found, key=lambda scan: (-scan.rows, scan.table)))


def _columns(alias: str, columns: list[str], filters: list[str], joins: list[str]) -> tuple[str, ...]:
    """The columns of an alias that conditions name, those that are compared for equality first."""
    found: dict[str, bool] = {}
    for text in [*filters, *joins]:
        for column in columns:
            name = rf"(?:{_quoted(alias)}\.)?" if text in filters else rf"{_quoted(alias)}\."
            for match in re.finditer(rf'(?<![\w."]){name}{_quoted(column)}(?![\w"])', text):
                equal = text in joins or bool(_EQUAL.match(text[match.end() :]))
                found[column] = found.get(column, False) or equal
    return tuple(sorted(found, key=lambda column: (not found[column], columns.index(column))))[:_MOST_COLUMNS]


def _quoted(name: str) -> str:
    """A pattern of a name as EXPLAIN writes it: quoted where it must be."""
    return rf"(?:{re.escape(name)}|{re.escape(database.quoted(name))})"


# ------------------------------------------------------------------------------------------------ index advice
def advice(
    connection: psycopg.Connection[Any], slow: list[Work], plans: dict[int, Plan], days: float | None
) -> list[Finding]:
    """Try hypothetical indexes for the slow queries that read large tables from end to end.

    An index is advised when the planner uses it and the plan, of at least 100 units of cost, then costs at most half
    (dexter's limits, configured). The gain is that share of the measured time; ``days`` is the period's length.
    """
    schema = connection.execute(_STATEMENTS["hypopg"]).fetchone()
    if schema is None:
        why = "The extension hypopg is not installed: no index can be tried without building it."
        return [Finding(ALL_QUERIES, Outcome.NOT_APPLICABLE, why, {}, "CREATE EXTENSION hypopg;")]
    import psycopg

    minimum = settings().maintenance.query_review.advice_minimum_cost
    tried, refused, found = 0, 0, []
    for work in slow:
        asked = plans[work.query_id]
        if asked.cost is None or asked.cost < minimum or not any(scan.columns for scan in asked.large_scans):
            continue
        try:
            finding = _try(connection, str(schema[0]), work, asked, days)
        except (psycopg.Error, query_trust.NotTrustedError):
            if connection.closed:
                raise
            refused += 1
            continue
        tried += 1
        if finding:
            found.append(finding)
    unasked = refused + sum(1 for work in slow if plans[work.query_id].cost is None)
    if not found:
        summary = (
            f"No index would help: {tried} of {len(slow)} slow queries were tried, {unasked} could not be planned."
        )
        outcome = Outcome.UNKNOWN if unasked else Outcome.OK
        found = [Finding(ALL_QUERIES, outcome, summary, {"slow": len(slow), "tried": tried, "not_planned": unasked})]
    return found


def _try(
    connection: psycopg.Connection[Any], schema: str, work: Work, asked: Plan, days: float | None
) -> Finding | None:
    """Let the planner choose among hypothetical indexes, then ask again with the chosen ones only."""
    wanted = settings().maintenance.query_review
    choices = [(scan.table, columns) for scan in asked.large_scans for columns in _combinations(scan.columns)]
    used, _ = _plan_with(connection, schema, asked.text, choices)
    if not used:
        return None
    used, cost = _plan_with(connection, schema, asked.text, used)
    if asked.cost is None or not used or cost > (1 - wanted.advice_minimum_saving) * asked.cost:
        return None
    saving = 1 - cost / asked.cost
    indexes = [f"{table} ({_listed(columns)})" for table, columns in used]
    summary = (
        f"With an index on {' and '.join(indexes)} the planner expects {saving:.0%} less cost "
        f"({asked.cost:.0f} before, {cost:.0f} after)."
    )
    evidence = {"text": work.text, "calls": work.calls, "period_days": days}
    evidence |= {"cost_before": asked.cost, "cost_after": cost}
    gain = {"seconds_per_period": round(work.seconds * saving, 3)}
    remedy = database.update_first(connection) + "\n".join(
        f"CREATE INDEX CONCURRENTLY ON {index};" for index in indexes
    )
    return Finding(f"query {work.query_id}", Outcome.WARNING, summary, evidence, remedy, gain)


def _combinations(columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [(column,) for column in columns] + list(permutations(columns, 2))


def _plan_with(
    connection: psycopg.Connection[Any], schema: str, text: str, choices: list[tuple[str, tuple[str, ...]]]
) -> tuple[list[tuple[str, tuple[str, ...]]], float]:
    """Return the choices that the planner uses when they all were there, and the plan's cost."""
    from psycopg import sql

    create = sql.SQL("SELECT indexname FROM {}(%s)").format(sql.Identifier(schema, "hypopg_create_index"))
    forget = sql.SQL("SELECT {}()").format(sql.Identifier(schema, "hypopg_reset"))
    made: dict[str, tuple[str, tuple[str, ...]]] = {}
    try:
        with _planning(connection, text):
            for table, columns in choices:
                statement = f"CREATE INDEX ON {table} ({_listed(columns)})"
                row = connection.execute(create, (statement,)).fetchone()
                if row:
                    made[str(row[0])] = (table, columns)
            root = _explain(connection, text)
    finally:
        if not connection.closed:
            connection.execute(forget)
    names = [str(node["Index Name"]) for node in _nodes(root) if "Index Name" in node]
    return [choice for name, choice in made.items() if name in names], root["Total Cost"]


def _listed(columns: tuple[str, ...]) -> str:
    return ", ".join(map(database.quoted, columns))
