"""Finds wasted space in B-tree indexes and tables: estimated by statistics, measured by pgstattuple where allowed.

The estimate follows the idea of ioguix' pgsql-bloat-estimation: it knows fill factors, and it says so when statistics
are missing. Nothing is changed. The statements stand in bloat.sql.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from include.outcome import MaintenanceFailed, Outcome
from include.platform import database
from include.settings import settings
from include.warehouse import findings
from include.warehouse.findings import Finding
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg

Kind = Literal["index", "table"]
INDEX_BLOAT = "index_bloat"
TABLE_BLOAT = "table_bloat"
_STATEMENTS = statements(__file__)


def review(run_id: str) -> list[dict[str, Any]]:
    """Record the bloat of indexes and of tables as findings; return each check's facts.

    A check that fails is recorded as unknown, the other is made, and then the first error is raised: a
    ConfigurationError, MaintenanceFailed or SourceUnavailable.
    """
    kinds: dict[str, Kind] = {INDEX_BLOAT: "index", TABLE_BLOAT: "table"}
    return findings.each_in_turn({check: partial(_recorded, run_id, check, kind) for check, kind in kinds.items()})


def _recorded(run_id: str, check: str, kind: Kind) -> dict[str, Any]:
    with (
        findings.unknown_recorded(run_id, check, _whole(kind)),
        database.maintenance_session() as connection,
        database.errors_named(f"the check {check}"),
    ):
        found = _find(connection, kind)
    return findings.replace(run_id, check, found)


def _whole(kind: Kind) -> str:
    return "all indexes" if kind == "index" else "all tables"


def _find(connection: psycopg.Connection[Any], kind: Kind) -> list[Finding]:
    from psycopg.rows import dict_row

    wanted = settings().maintenance.index_review
    schema = measuring_schema(connection)
    with connection.cursor(row_factory=dict_row) as cursor:
        statement = _STATEMENTS["indexes" if kind == "index" else "tables"]
        relations = cursor.execute(statement, {"minimum_bytes": wanted.bloat_minimum_bytes}).fetchall()
    found = [finding for one in relations if (finding := _judge(connection, kind, one, schema))]
    if not found:
        summary = (
            f"None of {len(relations)} {'indexes' if kind == 'index' else 'tables'} of at least "
            f"{wanted.bloat_minimum_bytes} bytes wastes so many and {wanted.bloat_minimum_share:.0%} of its size."
        )
        found = [Finding(_whole(kind), Outcome.OK, summary, {"reviewed": len(relations)})]
    return found


def measuring_schema(connection: psycopg.Connection[Any]) -> str | None:
    """Return the schema of pgstattuple, or None when it is not installed or the role may not use it."""
    row = connection.execute(_STATEMENTS["measuring"]).fetchone()
    return str(row[0]) if row and row[1] else None


def _judge(connection: psycopg.Connection[Any], kind: Kind, one: dict[str, Any], schema: str | None) -> Finding | None:
    """Return the finding about one index or table, or None when it wastes little."""
    wanted = settings().maintenance.index_review
    estimated = None if one["needed_bytes"] is None else one["size_bytes"] - one["needed_bytes"]
    if estimated is not None and not _much(estimated, one["size_bytes"]):
        return None
    evidence = {name: one[name] for name in ("size_bytes", "fill_factor", "rows", "analyzed_at")}
    evidence |= {"table": one["table_name"], "estimated_wasted_bytes": estimated, "measured_wasted_bytes": None}
    wasted, how = estimated, "as estimated"
    if schema is not None and one["size_bytes"] <= wanted.measure_at_most_bytes:
        try:
            measured = (
                measure_index(connection, schema, one) if kind == "index" else _measure_table(connection, schema, one)
            )
        except MaintenanceFailed as error:  # locked for long, or vanished: the estimate stays
            evidence["not_measured"] = str(error)
        else:
            evidence |= measured | {"size_bytes": measured["size_bytes"]}
            wasted, how = measured["measured_wasted_bytes"], "as measured"
    if wasted is None:
        summary = (
            f"The planner has no statistics of all its columns that {database.MAINTENANCE} may see, "
            "and its bloat could not be measured."
        )
        remedy = f"ANALYZE {one['table_name']};  -- and GRANT SELECT on it, or CREATE EXTENSION pgstattuple"
        return Finding(one["name"], Outcome.UNKNOWN, summary, evidence, remedy)
    if not _much(wasted, evidence["size_bytes"]):
        return None
    evidence["wasted_share"] = round(wasted / evidence["size_bytes"], 4)
    summary = f"{wasted / evidence['size_bytes']:.0%} of its {evidence['size_bytes']} bytes are wasted, {how}."
    return Finding(one["name"], Outcome.WARNING, summary, evidence, _remedy(kind, one["name"]), {"bytes": wasted})


def _much(wasted: int, size: int) -> bool:
    wanted = settings().maintenance.index_review
    return wasted >= wanted.bloat_minimum_bytes and wasted >= wanted.bloat_minimum_share * size


def _remedy(kind: Kind, name: str) -> str:
    if kind == "index":
        return f"REINDEX INDEX CONCURRENTLY {name};"
    return f"VACUUM (FULL, ANALYZE) {name};  -- locks it for as long as it takes; pg_repack does the same without"


def measure_index(connection: psycopg.Connection[Any], schema: str, one: dict[str, Any]) -> dict[str, Any]:
    """Measure a B-tree index by pgstatindex, which reads all of it; ``one`` has its oid and fill_factor.

    Needed are its leaf pages' contents at the fill factor, its inner pages and the meta page. Raises
    MaintenanceFailed when it cannot be read just now.
    """
    import psycopg
    from psycopg import sql

    query = sql.SQL(
        "SELECT index_size, leaf_pages, coalesce(nullif(avg_leaf_density, 'NaN'), 0), internal_pages,"
        " current_setting('block_size')::integer FROM {}(%s::oid::regclass)"
    ).format(sql.Identifier(schema, "pgstatindex"))
    try:
        row = connection.execute(query, (one["oid"],)).fetchone()
    except (
        psycopg.errors.LockNotAvailable,
        psycopg.errors.UndefinedTable,
        psycopg.errors.InternalError_,  # by its oid, a relation that vanished is no undefined table
        psycopg.errors.ObjectNotInPrerequisiteState,
    ) as error:
        raise MaintenanceFailed(f"it cannot be measured just now: {error.diag.message_primary}") from None
    assert row is not None, "pgstatindex gives one row"
    size, leaves, density, inner, page = row
    filled = leaves * page * density / one["fill_factor"]
    needed = int(filled + (inner + 1) * page)
    return {"size_bytes": size, "leaf_density_percent": density, "measured_wasted_bytes": max(0, size - needed)}


def _measure_table(connection: psycopg.Connection[Any], schema: str, one: dict[str, Any]) -> dict[str, Any]:
    """Measure a table by pgstattuple_approx, which skips the pages that are known to hold visible rows only."""
    import psycopg
    from psycopg import sql

    query = sql.SQL("SELECT table_len, approx_free_space, dead_tuple_len FROM {}(%s::oid::regclass)").format(
        sql.Identifier(schema, "pgstattuple_approx")
    )
    try:
        row = connection.execute(query, (one["oid"],)).fetchone()
    except (
        psycopg.errors.LockNotAvailable,
        psycopg.errors.UndefinedTable,
        psycopg.errors.InternalError_,  # as above
    ) as error:
        raise MaintenanceFailed(f"it cannot be measured just now: {error.diag.message_primary}") from None
    assert row is not None, "pgstattuple_approx gives one row"
    size, free, dead = row
    reserved = size * (100 - one["fill_factor"]) / 100
    return {"size_bytes": size, "dead_bytes": dead, "measured_wasted_bytes": max(0, int(free + dead - reserved))}
