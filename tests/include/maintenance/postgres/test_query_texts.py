"""Texts of queries keep no value and no comment, and become what the planner can parse."""

import pytest

from include.maintenance.postgres import query_texts


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("SELECT a FROM t WHERE b = $1", "SELECT a FROM t WHERE b = $1"),
        ("select  a\n  from t1 where b2 = $12", "select a from t1 where b2 = $12"),
        ("SELECT 'it''s' , e'a\\'b', U&'x', X'ff'", "SELECT ? , ?, ?, ?"),
        ("SELECT $$secret$$, $tag$a $$ b$tag$, 1", "SELECT ?, ?, ?"),
        ("SELECT 1, -2.5e10, .5, 1_000, t.col3", "SELECT ?, -?, ?, ?, t.col3"),
        ('SELECT "O\'Brien" FROM "T 1"', 'SELECT "O\'Brien" FROM "T 1"'),
        ("/* user=ann */ SELECT a -- token 5\nFROM t", "SELECT a FROM t"),
        ("SELECT 'unfinished", "SELECT ?"),
        ("(SELECT a FROM t) UNION (SELECT 2)", "(SELECT a FROM t) UNION (SELECT ?)"),
        ("CREATE ROLE x PASSWORD 'secret'", "CREATE ROLE"),
        ("SET application_name = 'x'", "SET"),
        ("COPY t FROM STDIN", "COPY T"),
        ("$$;", "(utility statement)"),
        ("", "(utility statement)"),
    ],
)
def test_masked(text: str, kept: str) -> None:
    assert query_texts.masked(text) == kept


def test_a_comment_sign_within_a_text_hides_nothing() -> None:
    assert query_texts.masked("SELECT '/*', secret_column, '*/' FROM t") == "SELECT ?, secret_column, ? FROM t"


def test_a_quote_within_a_comment_hides_no_end() -> None:
    assert query_texts.masked("/* it's */ SELECT 'secret' FROM t") == "SELECT ? FROM t"
    assert query_texts.masked("SELECT 1 -- don't\n, 'secret'") == "SELECT ? , ?"


def test_long_texts_are_cut_off_and_quick() -> None:
    assert len(query_texts.masked("SELECT " + "a, " * 10_000)) == query_texts.LONGEST_TEXT
    assert query_texts.masked("SELECT " + "'" * 99_999).startswith("SELECT ?")
    assert query_texts.masked("$" * 50_000) == "(utility statement)"
    assert query_texts.masked("/*" * 50_000) == "(utility statement)"
    assert query_texts.masked("SELECT $a$" + "$b$" * 30_000) == "SELECT ?"


def test_what_the_planner_is_asked() -> None:
    for text in ("SELECT 1", " with x AS (SELECT 1) SELECT 2", "-- c\ninsert into t values ($1)", "((VALUES (1)))"):
        assert query_texts.can_be_planned(text)
    for text in ("CREATE TABLE t ()", "EXPLAIN SELECT 1", "selection", "SET x = 1; SELECT 1", ""):
        assert not query_texts.can_be_planned(text)
    asked = "SELECT interval $1, date $2, interval '1 day', updated $3 FROM t"
    assert query_texts.for_the_planner(asked) == "SELECT $1::interval, $2::date, interval '1 day', updated $3 FROM t"


FIRST = (
    "-- Log in as a role that runs it (userid of the queryid 5 in pg_stat_statements): never as a superuser, nor with "
    "SET ROLE.\n-- What it calls runs with all that the session may, some of it even when the query is only planned.\n"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT a FROM t WHERE b = $1",
         "-- Then with values in place of $1, $2 and so on:\n--   BEGIN TRANSACTION READ ONLY;\n"
         "--   EXPLAIN (ANALYZE, BUFFERS) SELECT a FROM t WHERE b = $1;\n--   ROLLBACK;"),
        ("SELECT updated_at FROM t;",
         "-- Then:\n--   BEGIN TRANSACTION READ ONLY;\n"
         "--   EXPLAIN (ANALYZE, BUFFERS) SELECT updated_at FROM t;\n--   ROLLBACK;"),
        ("UPDATE t SET a = now() - interval $1",
         "-- Then the plan alone, for ANALYZE would execute it and change or lock rows:\n"
         "--   EXPLAIN (GENERIC_PLAN, VERBOSE) UPDATE t SET a = now() - $1::interval;"),
    ],
)  # fmt: skip
def test_what_shows_where_the_time_goes(text: str, expected: str) -> None:
    assert query_texts.to_see_why(text, 5, generic_plans=True) == FIRST + expected


def test_no_name_leaves_the_comment() -> None:
    text = 'SELECT 1 AS "a\x0bb\u2028c"'.replace("1", "$1")
    remedy = query_texts.to_see_why(text, 5, generic_plans=True)
    assert '--   EXPLAIN (ANALYZE, BUFFERS) SELECT $1 AS "a?b?c";' in remedy.splitlines()


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM t", "insert into t values ($1)", "MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE",
        "WITH x AS (DELETE FROM t RETURNING a) SELECT * FROM x", "SELECT a INTO u FROM t", "SELECT a FROM t FOR UPDATE",
        "TABLE t FOR SHARE",
    ],
)  # fmt: skip
@pytest.mark.parametrize("generic_plans", [True, False])
def test_what_writes_or_locks_is_never_executed(text: str, generic_plans: bool) -> None:
    remedy = query_texts.to_see_why(text, 5, generic_plans=generic_plans)
    assert remedy.splitlines()[3:] == [f"--   EXPLAIN ({'GENERIC_PLAN, ' if generic_plans else ''}VERBOSE) {text};"]


@pytest.mark.parametrize("text", ["SELECT " + "a, " * 10_000 + "b", "SELECT a FROM t WHERE b = 'secret'"])
def test_a_text_that_is_not_whole_gives_no_sql(text: str) -> None:
    remedy = query_texts.to_see_why(query_texts.masked(text), 5, generic_plans=True)
    assert all(line.startswith("-- ") for line in remedy.splitlines())
    assert remedy.startswith(FIRST)
    assert len(remedy.splitlines()) == 3
