"""Finds wasted space in B-tree indexes and tables: estimated by statistics, measured by pgstattuple where allowed.

The estimate follows the idea of ioguix' pgsql-bloat-estimation: it knows fill factors, and it says so when statistics
are missing. Measuring reads all of an index, so a run has a budget for it: what is suspected to waste most comes
first, and what is left over is known by its estimate, or unknown. Nothing is changed. The statements are in bloat.sql.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from include.outcome import MaintenanceFailed, Outcome
from include.platform import database
from include.platform.statement_bound import statements_bounded
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
_NO_PGSTATTUPLE = f"pgstattuple is not installed, or {database.MAINTENANCE} may not use it"


class _Budget:
    """What one run may still read to measure, and for how long.

    ``kept_share`` (0 to 1) of the whole is out of reach for now: it is kept for the checks to come.
    """

    def __init__(self, most_bytes: int, seconds: float) -> None:
        self._bytes, self._seconds = most_bytes, seconds
        self._read, self._began = 0, time.monotonic()
        self.kept_share = 0.0

    def seconds_left(self) -> float:
        return self._began + self._seconds * (1 - self.kept_share) - time.monotonic()

    def take(self, size_bytes: int) -> bool:
        """Take so many bytes out of it; False when they, or the time, are not there any more."""
        if self._read + size_bytes > self._bytes * (1 - self.kept_share) or self.seconds_left() <= 0:
            return False
        self._read += size_bytes
        return True


def review(run_id: str) -> list[dict[str, Any]]:
    """Record the bloat of indexes and of tables as findings; return each check's facts.

    A check that fails is recorded as unknown, the other is made, and then the first error is raised: a
    ConfigurationError, MaintenanceFailed or SourceUnavailable.
    """
    wanted = settings().maintenance.index_review
    budget = _Budget(wanted.measure_bytes_per_run, wanted.measure_minutes_per_run * 60)
    # Indexes come first, and leave half of the budget to the tables; those have what the indexes did not need, too.
    kinds: dict[str, tuple[Kind, float]] = {INDEX_BLOAT: ("index", 0.5), TABLE_BLOAT: ("table", 0.0)}
    return findings.each_in_turn(
        run_id, {check: partial(_recorded, run_id, check, kind, budget, kept) for check, (kind, kept) in kinds.items()}
    )


def _recorded(run_id: str, check: str, kind: Kind, budget: _Budget, kept_share: float) -> dict[str, Any]:
    budget.kept_share = kept_share
    with (
        findings.unknown_recorded(run_id, check, _whole(kind)),
        database.maintenance_session(f"the check {check}") as connection,
    ):
        found = _find(connection, kind, budget)
    return findings.replace(run_id, check, found)


def _whole(kind: Kind) -> str:
    return "all indexes" if kind == "index" else "all tables"


def _find(connection: psycopg.Connection[Any], kind: Kind, budget: _Budget) -> list[Finding]:
    from psycopg.rows import dict_row

    wanted = settings().maintenance.index_review
    schema = measuring_schema(connection)
    minimum = {"minimum_bytes": wanted.bloat_minimum_bytes}
    with connection.cursor(row_factory=dict_row) as cursor:
        relations = cursor.execute(_STATEMENTS["indexes" if kind == "index" else "tables"], minimum).fetchall()
        toast = [] if kind == "index" else cursor.execute(_STATEMENTS["toast"], minimum).fetchall()
    relations += toast if schema else []
    suspected = sorted(filter(_is_suspected, relations), key=lambda one: (_estimate(one) is None, -_suspicion(one)))
    found = [finding for one in suspected if (finding := _judge(connection, kind, one, schema, budget))]
    if not found:
        what = "indexes" if kind == "index" else "tables and TOAST relations" if schema else "tables"
        summary = (
            f"None of {len(relations)} {what} of at least {wanted.bloat_minimum_bytes} bytes wastes so many and "
            f"{wanted.bloat_minimum_share:.0%} of its size."
        )
        found = [Finding(_whole(kind), Outcome.OK, summary, {"reviewed": len(relations)})]
    if toast and not schema:
        summary = f"TOAST was not looked at ({len(toast)} of such a size): {_NO_PGSTATTUPLE}."
        remedy = "CREATE EXTENSION pgstattuple;"
        found.append(Finding("all TOAST relations", Outcome.UNKNOWN, summary, {"not_reviewed": len(toast)}, remedy))
    return found


def measuring_schema(connection: psycopg.Connection[Any]) -> str | None:
    """Return the schema of pgstattuple, or None when it is not installed or the role may not use it."""
    row = connection.execute(_STATEMENTS["measuring"]).fetchone()
    return str(row[0]) if row and row[1] else None


def _estimate(one: dict[str, Any]) -> int | None:
    return None if one["needed_bytes"] is None else one["size_bytes"] - one["needed_bytes"]


def _suspicion(one: dict[str, Any]) -> int:
    """The most that it may waste, as far as its statistics tell."""
    at_least = one["least_bytes"] if one["needed_bytes"] is None else one["needed_bytes"]
    return int(one["size_bytes"] - (at_least or 0))


def _is_suspected(one: dict[str, Any]) -> bool:
    return _much(_suspicion(one), one["size_bytes"])


def _judge(
    connection: psycopg.Connection[Any], kind: Kind, one: dict[str, Any], schema: str | None, budget: _Budget
) -> Finding | None:
    """Return the finding about a suspected index or table, or None when it wastes little."""
    estimated = _estimate(one)
    evidence = {name: one[name] for name in ("size_bytes", "fill_factor", "rows", "analyzed_at")}
    evidence |= {"table": one["table_name"], "estimated_wasted_bytes": estimated, "measured_wasted_bytes": None}
    wasted, how = estimated, "as estimated"
    try:
        measured = _measure(connection, kind, one, schema, budget)
    except MaintenanceFailed as error:  # too much for this run, locked for long, or vanished: the estimate stays
        evidence["not_measured"] = str(error)
    else:
        evidence |= measured
        wasted, how = measured["measured_wasted_bytes"], "as measured"
    if wasted is None:
        return _unknown(kind, one, evidence)
    if not _much(wasted, evidence["size_bytes"]):
        return None
    evidence["wasted_share"] = round(wasted / evidence["size_bytes"], 4)
    summary = f"{wasted / evidence['size_bytes']:.0%} of its {evidence['size_bytes']} bytes are wasted, {how}."
    table = one["table_name"]  # of TOAST the one that it belongs to: both are written anew together
    if kind == "index":
        remedy = f"{database.update_first(connection)}REINDEX INDEX CONCURRENTLY {one['name']};"
    else:
        remedy = _written_anew(table)
    return Finding(one["name"], Outcome.WARNING, summary, evidence, remedy, {"bytes": wasted})


def _written_anew(table: str) -> str:
    """What gives a table's wasted room back: a comment, because it locks everybody out of the table meanwhile."""
    lines = [
        f"pg_repack writes {table} anew while others read and write it; without it, while the platform is down, as "
        "nobody can read or write it for as long as this takes, and with room on the disk for the table once more:",
        *database.briefly([f"VACUUM (FULL, ANALYZE) {table};"]),
    ]
    return "\n".join(f"-- {database.in_comment(line)}" for line in lines)


def _unknown(kind: Kind, one: dict[str, Any], evidence: dict[str, Any]) -> Finding:
    """The finding about what could neither be estimated nor measured, with the reasons for both."""
    if one["least_bytes"] is not None:
        why = "Many of its entries are equal and share room, so its statistics do not tell the size that it needs"
        remedy = "-- Let it be measured: CREATE EXTENSION pgstattuple, or a larger limit as the evidence says"
    elif kind == "table" and one["name"] != one["table_name"]:
        why = "The server has no statistics of what is in TOAST"
        remedy = "-- Let it be measured: a larger limit as the evidence says"
    else:
        why = f"The planner has no statistics of all its columns that {database.MAINTENANCE} may see"
        remedy = f"ANALYZE {one['table_name']};  -- and GRANT SELECT on it, or CREATE EXTENSION pgstattuple"
        if one["to_be_analyzed"]:  # ANALYZE leaves them out
            remedy = f"{one['to_be_analyzed']}\n{remedy}"
    summary = f"{why}, and its bloat could not be measured: {evidence['not_measured']}."
    return Finding(one["name"], Outcome.UNKNOWN, summary, evidence, remedy)


def _much(wasted: int, size: int) -> bool:
    wanted = settings().maintenance.index_review
    return wasted >= wanted.bloat_minimum_bytes and wasted >= wanted.bloat_minimum_share * size


def _measure(
    connection: psycopg.Connection[Any], kind: Kind, one: dict[str, Any], schema: str | None, budget: _Budget
) -> dict[str, Any]:
    """Measure an index or a table within the budget; raises MaintenanceFailed with the reason why not."""
    import psycopg

    if schema is None:
        raise MaintenanceFailed(_NO_PGSTATTUPLE)
    if one["size_bytes"] > settings().maintenance.index_review.measure_at_most_bytes:
        raise MaintenanceFailed("it is larger than maintenance.index_review.measure_at_most_bytes")
    if not budget.take(one["read_bytes"]):
        raise MaintenanceFailed(
            "what a run may measure was used up (measure_bytes_per_run, measure_minutes_per_run of"
            " maintenance.index_review)"
        )
    try:
        with statements_bounded(connection, budget.seconds_left()):
            if kind == "index":
                return measure_index(connection, schema, one)
            return _measure_table(connection, schema, one)
    except psycopg.errors.QueryCanceled:
        raise MaintenanceFailed("the time that a run may measure ended meanwhile, or somebody cancelled it") from None


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
