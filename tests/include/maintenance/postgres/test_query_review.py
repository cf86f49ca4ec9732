"""Slow and slower queries are found with their plans on PostgreSQL 18 and 15, and index advice with hypopg."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from demo.databases import Databases
from include.maintenance.postgres import query_plans, query_review
from include.outcome import ConfigurationError, Outcome, SourceUnavailable
from include.platform import database
from include.settings import settings
from include.warehouse import findings, query_statistics
from include.warehouse.findings import Finding
from tests.include.maintenance.postgres.partition_remedies import confirmed, paste_unread
from tests.old_postgres import flush_statistics

CHECKS = ("query_statistics", "slow_queries", "query_regressions", "index_advice")


def _findings(check: str, run_id: str = "r1") -> list[Finding]:
    return findings.of_run(run_id, check)


def _of_text(check: str, text: str, run_id: str = "r1") -> Finding | None:
    return next((one for one in _findings(check, run_id) if text in str(one.evidence.get("text"))), None)


@pytest.fixture
def queried(
    any_platform: psycopg.Connection, any_databases: Databases, environment: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection]:
    """20,000 orders without an index on their customer."""
    limits = {"MEAN_MILLISECONDS": "4", "CALLS": "5", "SHARE_OF_TOTAL": "1", "LARGE_TABLE_ROWS": "10000"}
    for name, value in limits.items():
        environment.setenv(f"OPERATIONS__MAINTENANCE__QUERY_REVIEW__{name}", value)
    settings.cache_clear()
    _make_room(any_databases, any_platform)
    any_platform.execute("CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, note text, at timestamptz)")
    any_platform.execute("INSERT INTO orders SELECT n, n % 2000, 'x', now() FROM generate_series(1, 20000) AS n")
    any_platform.execute("CREATE TABLE small (id int)")
    flush_statistics(any_platform)  # told after the VACUUM, the rows would count twice
    any_platform.execute("VACUUM ANALYZE orders")
    any_platform.execute("GRANT SELECT ON orders, small TO operations_maintainer")
    yield any_platform
    settings.cache_clear()


def _make_room(databases: Databases, connection: psycopg.Connection) -> None:
    """Forget the queries of dropped databases: those of a whole run fill the statistics, and then ours are evicted."""
    gone = "SELECT DISTINCT dbid FROM extensions.pg_stat_statements WHERE dbid NOT IN (SELECT oid FROM pg_database)"
    _superuser(
        databases, connection, f"SELECT extensions.pg_stat_statements_reset(0, dbid, 0) FROM ({gone}) AS databases"
    )


def _milliseconds_in_all(connection: psycopg.Connection) -> float:
    """What all queries of the database took so far; on a slow machine the fixture alone takes seconds."""
    schema = connection.execute(
        "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'pg_stat_statements'"
    ).fetchone()
    assert schema
    found = connection.execute(
        f"SELECT sum(total_exec_time) FROM {schema[0]}.pg_stat_statements JOIN pg_database d ON d.oid = dbid"
        " WHERE d.datname = current_database()".encode()
    ).fetchone()
    assert found
    return float(found[0])


def _has_hypopg(connection: psycopg.Connection) -> bool:
    """Whether the server brings hypopg; the embedded one does not."""
    found = connection.execute("SELECT count(*) FROM pg_available_extensions WHERE name = 'hypopg'").fetchone()
    return found == (1,)


def _superuser(databases: Databases, connection: psycopg.Connection, statement: str) -> None:
    with psycopg.connect(databases.postgres.url(connection.info.dbname), autocommit=True) as superuser:
        superuser.execute(statement.encode())


@pytest.fixture
def quick_weeks(environment: pytest.MonkeyPatch) -> None:
    """A week begins with the reading before, however young: the tests' server was not there a week ago."""
    periods = query_statistics.periods
    environment.setattr(query_statistics, "periods", lambda run_id, baseline_days: periods(run_id, baseline_days=0))


# ------------------------------------------------------------------------------------------------ slow and slower
def test_a_slow_query_with_its_plan(queried: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    for n in range(6):
        queried.execute("SELECT pg_sleep(0.005), count(note) FROM orders WHERE customer = %s", (n,))
        queried.execute("SELECT count(*) FROM small WHERE id = %s", (n,))
    facts = query_review.review("r1")
    assert [one["check"] for one in facts] == list(CHECKS)
    found = _of_text("slow_queries", "FROM orders WHERE customer")
    assert found is not None
    assert found.outcome is Outcome.WARNING
    assert found.evidence["calls"] == 6
    assert 5 <= found.evidence["mean_milliseconds"] < 100
    assert found.evidence["rows"] == 6
    assert "0.005" not in str(found), "values are masked"
    pages = queried.execute("SELECT pg_relation_size('orders')").fetchone()
    assert found.evidence["plan"]["large_sequential_scans"] == [
        {"table": "public.orders", "rows": 20000, "size_bytes": pages[0] if pages else 0}
    ]
    assert found.summary.endswith("It reads all of public.orders.")
    steps = found.evidence["plan"]["steps"].splitlines()
    assert steps[0].startswith("Aggregate (cost ")
    assert steps[1].startswith("  -> Seq Scan on public.orders (cost ")
    assert steps[1].endswith(" Filter: (orders.customer = $1)")
    assert _of_text("slow_queries", "FROM small") is None, "frequent but quick"
    [complete] = _findings("query_statistics")
    known = {Outcome.OK, Outcome.WARNING} if queried.info.server_version >= 140000 else {Outcome.UNKNOWN}
    assert complete.outcome in known
    [regression] = _findings("query_regressions")
    assert regression.outcome is Outcome.UNKNOWN, "there is nothing to compare with yet"
    assert query_review.review("r1")[1]["outcome"] == "warning", "a repeated run has the same rows"


def test_the_remedy_of_a_slow_change_changes_nothing(queried: psycopg.Connection) -> None:
    for _ in range(6):
        queried.execute("UPDATE orders SET note = note || 'y' WHERE id = 1 AND pg_sleep(0.005) IS NOT NULL")
    query_review.review("r1")
    found = _of_text("slow_queries", "UPDATE orders")
    assert found is not None
    assert paste_unread(queried, found.remedy) == [], "it waits for a session of the query's own role"
    remedy = confirmed(found.remedy).splitlines()[-1]
    if queried.info.server_version < 160000:  # there a person puts the values in
        for parameter, value in (("$1", "'y'"), ("$2", "1"), ("$3", "0.005")):
            remedy = remedy.replace(parameter, value, 1)
    assert "Update on public.orders" in str(queried.execute(remedy.encode()).fetchall())
    assert queried.execute("SELECT note FROM orders WHERE id = 1").fetchone() == ("xyyyyyy",)


def test_too_few_executions_are_not_slow(queried: psycopg.Connection) -> None:
    for _ in range(4):
        queried.execute("SELECT pg_sleep(0.005), 'four' FROM small RIGHT JOIN orders USING (id) WHERE customer = 5")
    query_review.review("r1")
    assert _of_text("slow_queries", "RIGHT JOIN orders") is None


def test_a_large_share_of_all_time_is_slow(queried: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__QUERY_REVIEW__SHARE_OF_TOTAL", "0.3")
    environment.setenv("OPERATIONS__MAINTENANCE__QUERY_REVIEW__CALLS", "1000")
    settings.cache_clear()
    slow = "SELECT pg_sleep(%s) FROM small RIGHT JOIN orders USING (id) WHERE orders.id = 5"
    queried.execute(slow.encode(), (0.1 + _milliseconds_in_all(queried) / 1000,))
    query_review.review("r1")
    found = _of_text("slow_queries", "RIGHT JOIN orders")
    assert found is not None
    assert found.evidence["share_of_total"] > 0.3
    assert found.evidence["calls"] == 1


@pytest.mark.usefixtures("quick_weeks")
def test_a_week_is_compared_with_the_week_before(queried: psycopg.Connection) -> None:
    slower = "SELECT pg_sleep(%s) FROM orders WHERE id = 7"
    steady = "SELECT pg_sleep(%s), 'steady' FROM orders WHERE id = 7"
    rare = "SELECT pg_sleep(%s), 'rare', 1 FROM orders WHERE id = 7"

    def execute(text: str, times: int, seconds: float) -> None:
        for _ in range(times):
            queried.execute(text.encode(), (seconds,))

    query_review.review("w2")
    for text, times, seconds in ((slower, 6, 0.002), (steady, 6, 0.05), (rare, 4, 0.002)):
        execute(text, times, seconds)
    query_review.review("w1")
    for text, times, seconds in ((slower, 6, 0.02), (steady, 6, 0.05), (rare, 4, 0.02)):
        execute(text, times, seconds)
    query_review.review("r1")
    slow = _of_text("slow_queries", "SELECT pg_sleep($1) FROM orders")
    assert slow is not None
    assert slow.evidence["calls"] == 6, "this week's only"
    assert slow.estimated_gain == {"seconds_per_period_at_most": slow.evidence["seconds"]}
    [found] = _findings("query_regressions")
    assert found.outcome is Outcome.WARNING
    assert found.evidence["text"].startswith("SELECT pg_sleep($1) FROM orders")
    assert found.remedy == slow.remedy
    assert f"--   EXPLAIN (ANALYZE, BUFFERS) {slow.evidence['text']};" in slow.remedy.splitlines()
    assert found.evidence["compared_with"] == "the week before"
    assert found.evidence["before"]["calls"] == 6
    assert found.evidence["mean_milliseconds"] >= 20
    assert found.evidence["before"]["mean_milliseconds"] < 15
    assert found.estimated_gain is not None
    assert found.estimated_gain["seconds_per_period"] == pytest.approx(
        (found.evidence["mean_milliseconds"] - found.evidence["before"]["mean_milliseconds"]) * 6 / 1000, abs=0.001
    )
    for text, times, seconds in ((slower, 6, 0.002), (steady, 6, 0.05)):
        execute(text, times, seconds)
    query_review.review("r2")
    [found] = _findings("query_regressions", "r2")
    assert found.outcome is Outcome.OK
    assert found.summary == "None of 2 queries with enough executions became slower than the week before."


@pytest.mark.usefixtures("quick_weeks")
def test_nothing_to_compare_is_no_pass(queried: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__QUERY_REVIEW__CALLS", "50")
    settings.cache_clear()
    for run_id in ("w2", "w1", "r1"):
        query_review.review(run_id)
    [found] = _findings("query_regressions", "r1")
    assert found.outcome is Outcome.NOT_APPLICABLE
    assert found.summary == "No query was executed 50 times: too few for a mean that tells anything."
    for _ in range(60):
        queried.execute("SELECT 'new' FROM orders WHERE id = 7")
    query_review.review("r2")
    [found] = _findings("query_regressions", "r2")
    assert found.outcome is Outcome.UNKNOWN
    assert (found.evidence["frequent"], found.evidence["compared"]) == (1, 0)
    assert found.summary.endswith("was executed 50 times the week before: nothing could be compared.")


@pytest.mark.usefixtures("quick_weeks")
def test_the_first_reading_is_no_week(queried: psycopg.Connection) -> None:
    for _ in range(6):
        queried.execute("SELECT pg_sleep(0.002) FROM orders WHERE id = 7")
    query_review.review("r1")
    for _ in range(6):
        queried.execute("SELECT pg_sleep(0.02) FROM orders WHERE id = 7")
    query_review.review("r2")
    found = _of_text("query_regressions", "SELECT pg_sleep($1) FROM orders", "r2")
    assert found is not None
    assert "the week before" not in found.summary
    assert " in all the time from " in found.summary
    assert found.evidence["before_began_at"] is None


@pytest.mark.usefixtures("quick_weeks")
def test_a_reset_by_somebody_else_is_told(queried: psycopg.Connection, any_databases: Databases) -> None:
    query_review.review("w1")
    _superuser(any_databases, queried, "SELECT extensions.pg_stat_statements_reset()")
    queried.execute("SELECT 1 FROM small")
    query_review.review("r1")
    [found] = _findings("query_statistics")
    assert found.outcome is Outcome.WARNING
    # Before 14 nothing tells of it but that entries are gone.
    assert ("were reset" if queried.info.server_version >= 140000 else "are gone") in found.summary


@pytest.mark.usefixtures("quick_weeks")
def test_evictions_are_told(queried: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    query_review.review("w1")
    warehouse.execute("UPDATE ops.statement_statistics SET query_id = query_id + 1 WHERE query_id IN"
                      " (SELECT query_id FROM ops.statement_statistics LIMIT 3)")  # fmt: skip
    query_review.review("r1")
    [found] = _findings("query_statistics")
    assert found.outcome is Outcome.WARNING
    [(known,)] = warehouse.execute("SELECT count(*) FROM ops.statement_statistics WHERE run_id = 'w1'")
    assert 3 <= found.evidence["vanished"] < known  # one more may have been evicted: other tests fill it as well
    assert found.remedy.startswith("ALTER SYSTEM SET pg_stat_statements.max = 10000;")


# ------------------------------------------------------------------------------------------------------- unknown
def test_statistics_that_cannot_be_read_are_unknown(
    queried: psycopg.Connection, any_databases: Databases, environment: pytest.MonkeyPatch
) -> None:
    name = queried.info.dbname
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", any_databases.url(name, "escrow_owner"))
    _expect_unknown("may not see other roles' queries", "GRANT pg_read_all_stats")
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", any_databases.url(name, "operations_maintainer"))
    _superuser(any_databases, queried, f"ALTER DATABASE {name} SET pg_stat_statements.track = 'none'")
    _expect_unknown("collects no statistics", "ALTER SYSTEM SET pg_stat_statements.track = 'top'")
    _superuser(any_databases, queried, f"ALTER DATABASE {name} RESET pg_stat_statements.track")
    _superuser(any_databases, queried, "DROP EXTENSION pg_stat_statements")
    _expect_unknown("is not installed", "CREATE EXTENSION pg_stat_statements;")
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", "postgresql://x:y@127.0.0.1:1/escrow")
    with pytest.raises(SourceUnavailable):
        query_review.review("r2")
    assert [_findings(check, "r2")[0].outcome for check in CHECKS] == [Outcome.UNKNOWN] * 4


def test_the_library_is_added_to_those_that_are_loaded(any_platform: psycopg.Connection) -> None:
    def to_preload(loaded: str | None) -> str:
        return query_review._to_preload(loaded)

    assert to_preload("pg_cron, pg_stat_statements") == ""
    assert to_preload("").endswith("\n-- ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements';\n")
    assert to_preload('auto_explain,"$libdir/my audit"').endswith(
        "\n-- ALTER SYSTEM SET shared_preload_libraries = 'auto_explain', '$libdir/my audit', 'pg_stat_statements';\n"
    )
    for loaded in (None, "", "auto_explain"):
        assert all(line.startswith("-- ") for line in to_preload(loaded).splitlines()), (
            "words: what is old unloads others"
        )
    with database.maintenance_session() as connection:
        row = connection.execute(query_review._STATEMENTS["libraries"]).fetchone()
        assert row is not None
        assert row[0].startswith("pg_stat_statements")
        connection.execute("SET ROLE pg_read_all_stats")  # a role that may not read the setting
        assert connection.execute(query_review._STATEMENTS["libraries"]).fetchone() is None


def _expect_unknown(summary: str, remedy: str) -> None:
    facts = query_review.review("r1")
    assert {one["outcome"] for one in facts} == {"unknown"}
    for check in CHECKS:
        [found] = _findings(check)
        assert found.outcome is Outcome.UNKNOWN
        assert summary in found.summary
        assert remedy in found.remedy


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"total_time", "blk_read_time"}, ["true", "total_time / 1000", "blk_read_time / 1000", "NULL::timestamptz"]),
        ({"total_exec_time", "blk_read_time", "toplevel"}, ["toplevel", "total_exec_time / 1000", "blk_read_time"]),
        ({"total_exec_time", "shared_blk_read_time", "stats_since"}, ["shared_blk_read_time / 1000", "stats_since"]),
    ],
)
def test_columns_by_version(columns: set[str], expected: list[str], platform: psycopg.Connection) -> None:
    text = query_review._entries("s", columns, True).as_string(platform)
    for part in expected:
        assert part in text
    assert "NULL::float8" in query_review._entries("s", columns, False).as_string(platform)


def test_the_oldest_version_of_the_extension_is_read(queried: psycopg.Connection, any_databases: Databases) -> None:
    """A server that was upgraded keeps the extension's old columns until it is updated."""
    _superuser(any_databases, queried, "DROP EXTENSION pg_stat_statements")
    _superuser(any_databases, queried, "CREATE EXTENSION pg_stat_statements SCHEMA extensions VERSION '1.4'")
    for _ in range(6):
        queried.execute("SELECT pg_sleep(0.005), 'old' FROM orders WHERE id = 7")
    query_review.review("r1")
    found = _of_text("slow_queries", "FROM orders WHERE id")
    assert found is not None
    assert found.evidence["calls"] == 6
    [statistics] = _findings("query_statistics")
    assert (statistics.outcome, statistics.evidence["evictions"]) == (Outcome.UNKNOWN, None)
    assert "does not tell whether others were evicted since they began" in statistics.summary


def test_a_text_that_the_server_lost(queried: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    for _ in range(6):
        queried.execute("SELECT pg_sleep(0.005), 'lost' FROM orders WHERE id = 7")
    entries = query_review._entries

    def without_texts(schema: str, columns: set[str], io_measured: bool) -> sql.Composed:
        names = [f"c{n}" for n in range(1, 13)]
        wanted = ", ".join("NULL::text" if name == "c4" else name for name in names)
        given = sql.SQL("SELECT {} FROM ({}) AS found ({})")
        return given.format(sql.SQL(wanted), entries(schema, columns, io_measured), sql.SQL(", ".join(names)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query_review, "_entries", without_texts)
        query_review.review("r1")
    slow = [one for one in _findings("slow_queries") if one.evidence["calls"] == 6]
    assert [one.evidence["text"] for one in slow] == ["(text lost)"]
    assert slow[0].evidence["plan"] == {"unknown": "it is a utility statement, or its text is gone"}
    assert slow[0].remedy == "", "nothing to explain"
    query_review.review("r2")
    again = {one.resource: one.evidence["text"] for one in _findings("slow_queries", "r2")}
    assert again[slow[0].resource] == "SELECT pg_sleep($1), $2 FROM orders WHERE id = $3", "known again"


def test_a_review_that_breaks_off_leaves_no_check_as_it_was(
    queried: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(6):
        queried.execute("SELECT pg_sleep(0.005), count(note) FROM orders WHERE customer = %s", (n,))
    monkeypatch.setitem(query_plans._STATEMENTS, "tables", "SELECT FROM gone")
    with pytest.raises(ConfigurationError, match='the review of queries: relation "gone" does not exist'):
        query_review.review("r1")
    found = {check: _findings(check)[0].summary.split(":")[0] for check in CHECKS}
    assert found["slow_queries"] == found["index_advice"] == "It could not be checked"
    assert found["query_regressions"].startswith("There is no reading yet")
    assert "could not be checked" not in found["query_statistics"]


# -------------------------------------------------------------------------------------------------------- plans
def _plan(text: str) -> query_plans.Plan:
    with database.maintenance_session() as connection:
        return query_plans.plan(connection, text)


def test_plans_of_normalised_texts(queried: psycopg.Connection) -> None:
    found = _plan(
        "SELECT o.note FROM orders AS o WHERE o.customer = $1 AND o.at > now() - interval $2 ORDER BY $3::int"
    )
    assert found.why_not == ""
    [scan] = found.large_scans
    assert (scan.table, scan.rows, scan.columns) == ("public.orders", 20000, ("customer", "at"))
    assert _plan("SELECT * FROM orders WHERE id = $1").large_scans == (), "the primary key is used"
    assert _plan("SELECT * FROM small").large_scans == ()
    queried.execute("REVOKE SELECT ON small FROM operations_maintainer")
    refused = _plan("SELECT * FROM small WHERE id = $1")
    if queried.info.server_version >= 170000:  # there the maintainer is no member of the owner
        assert refused.why_not.startswith("platform_db_maintenance may not read its tables (permission denied")
    [scan] = _plan("SELECT 1 FROM orders a JOIN orders b ON a.customer = b.id WHERE b.note = $1").large_scans[:1]
    assert scan.table == "public.orders"


def test_queries_of_a_table_with_policies_are_planned(queried: psycopg.Connection) -> None:
    queried.execute("ALTER TABLE small ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    assert _plan("SELECT * FROM small WHERE id = $1").why_not == ""


def test_a_text_that_cannot_be_planned_spoils_no_other(queried: psycopg.Connection, any_databases: Databases) -> None:
    _superuser(any_databases, queried, "CREATE TABLE hidden (id int)")
    with database.maintenance_session() as connection:
        refused = query_plans.plan(connection, "SELECT * FROM hidden WHERE id = $1")
        assert "permission denied for table hidden" in refused.why_not
        found = query_plans.plan(connection, "SELECT * FROM orders WHERE id = $1")
        assert (found.why_not, found.cost is not None) == ("", True)
        assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def test_nothing_is_ever_executed(queried: psycopg.Connection, any_databases: Databases) -> None:
    queried.execute("CREATE TABLE traces (at timestamptz)")
    queried.execute("GRANT ALL ON traces TO operations_maintainer")
    queried.execute("""
        CREATE FUNCTION leaves_a_trace() RETURNS int LANGUAGE plpgsql STABLE AS
        $$ BEGIN EXECUTE 'INSERT INTO public.traces VALUES (now())'; RETURN 1; END $$
    """)
    queried.execute("CREATE SEQUENCE counter; GRANT ALL ON SEQUENCE counter TO operations_maintainer")
    queried.execute("""
        CREATE FUNCTION counts() RETURNS int LANGUAGE sql STABLE AS $$ SELECT nextval('public.counter')::int $$;
        CREATE FUNCTION is_asked_by_the_planner() RETURNS int LANGUAGE plpgsql STABLE AS
        $$ BEGIN RETURN public.counts(); END $$
    """)
    for text in (
        "SELECT note FROM orders WHERE customer = is_asked_by_the_planner()",
        "INSERT INTO traces VALUES (now())",
        "DELETE FROM traces",
        "WITH x AS (INSERT INTO traces VALUES (now()) RETURNING 1) SELECT * FROM x",
        "SELECT leaves_a_trace() FROM orders WHERE customer = leaves_a_trace()",
        "SELECT 1; INSERT INTO traces VALUES (now())",
        "SELECT 1); INSERT INTO traces VALUES (now()); --",
        "DROP TABLE traces",
        "CALL something()",
    ):
        _plan(text)
    assert queried.execute("SELECT count(*) FROM traces").fetchone() == (0,)
    assert queried.execute("SELECT is_called FROM counter").fetchone() == (False,), "no rollback would undo that"
    assert _plan("SELECT 1; SELECT 2").why_not.startswith("the planner refused it")
    assert _plan("SELECT FROM WHERE").why_not.startswith("the planner refused it: syntax error")
    assert _plan("SELECT * FROM gone WHERE id = $1").why_not == 'the planner refused it: relation "gone" does not exist'
    assert _plan("DROP TABLE traces").why_not == "it is a utility statement, or its text is gone"


def test_a_locked_table_is_not_waited_for(queried: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__QUERY_REVIEW__PLAN_SECONDS", "0.2")
    settings.cache_clear()
    with psycopg.connect(queried.info.dsn, password=queried.info.password) as other:
        other.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        with database.maintenance_session() as connection:
            assert "lock" in query_plans.plan(connection, "SELECT * FROM orders").why_not
            assert query_plans.plan(connection, "SELECT * FROM small WHERE id = $1").cost is not None


def test_index_advice(queried: psycopg.Connection, any_databases: Databases, environment: pytest.MonkeyPatch) -> None:
    for n in range(6):
        queried.execute("SELECT pg_sleep(0.005), count(note) FROM orders WHERE customer = %s", (n,))
        queried.execute("SELECT pg_sleep(0.005), max(note) FROM orders WHERE note <> %s", (str(n),))
    if not _has_hypopg(queried):
        query_review.review("r1")
        [found] = _findings("index_advice")
        assert found.outcome is Outcome.NOT_APPLICABLE
        assert found.remedy == "CREATE EXTENSION hypopg;"
        return
    _superuser(any_databases, queried, "CREATE EXTENSION hypopg SCHEMA extensions")
    query_review.review("r1")
    [found] = _findings("index_advice")
    assert found.outcome is Outcome.WARNING
    assert "customer =" in found.evidence["text"]
    assert found.remedy == 'CREATE INDEX CONCURRENTLY ON public.orders ("customer");'
    assert found.evidence["cost_after"] <= 0.5 * found.evidence["cost_before"]
    slow = _of_text("slow_queries", "customer =")
    assert slow is not None
    assert found.estimated_gain is not None
    saving = 1 - found.evidence["cost_after"] / found.evidence["cost_before"]
    assert found.estimated_gain["seconds_per_period"] == pytest.approx(slow.evidence["seconds"] * saving, abs=0.002)
    assert queried.execute("SELECT count(*) FROM pg_indexes WHERE tablename = 'orders'").fetchone() == (1,)
    environment.setenv("OPERATIONS__MAINTENANCE__QUERY_REVIEW__ADVICE_MINIMUM_SAVING", "0.999")
    settings.cache_clear()
    query_review.review("r2")
    [none] = _findings("index_advice", "r2")
    assert none.outcome is Outcome.OK, "an index that helps little is not advised"
    queried.execute(found.remedy.encode())
    queried.execute("ANALYZE orders")
    assert _plan("SELECT count(note) FROM orders WHERE customer = $1").large_scans == (), "the planner uses it"


def test_a_trial_that_fails_is_no_proof(queried: psycopg.Connection, any_databases: Databases) -> None:
    if not _has_hypopg(queried):
        pytest.skip("this server has no hypopg")
    for n in range(6):
        queried.execute("SELECT pg_sleep(0.005), count(note) FROM orders WHERE customer = %s", (n,))
    _superuser(any_databases, queried, "CREATE EXTENSION hypopg SCHEMA extensions")
    _superuser(any_databases, queried, "REVOKE ALL ON FUNCTION extensions.hypopg_create_index FROM PUBLIC")
    query_review.review("r1")
    [found] = _findings("index_advice")
    assert found.outcome is Outcome.UNKNOWN
    assert (found.evidence["tried"], found.evidence["not_planned"]) == (0, 1)
