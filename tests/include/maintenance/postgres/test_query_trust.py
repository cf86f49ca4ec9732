"""The planner is not asked about what would run a stranger's function as the maintenance role (PostgreSQL 18, 15)."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.postgres import query_plans, query_trust
from include.platform import database

STRANGER = "operations_reader"
FUNCTION = """
    CREATE FUNCTION others.evil(n integer DEFAULT 1) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
        $$BEGIN RAISE EXCEPTION 'ran as %', current_user; END$$
"""


@pytest.fixture
def stranger(any_platform: psycopg.Connection, any_databases: Databases) -> Iterator[psycopg.Connection]:
    """A session of a role that may create functions in a schema, and owns nothing else."""
    any_platform.execute(
        "CREATE SCHEMA others; GRANT USAGE ON SCHEMA others TO PUBLIC; CREATE TABLE public.orders (id integer);"
        f"GRANT CREATE ON SCHEMA others TO {STRANGER}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC"
    )
    url = any_databases.url(any_platform.info.dbname, STRANGER)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FUNCTION)
        yield connection


def planned(text: str) -> query_plans.Plan:
    with database.maintenance_session() as session:
        return query_plans.plan(session, text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT others.evil()", 'SELECT others . "evil" ($1)', "SELECT id FROM orders WHERE OTHERS.EVIL() = id",
        'SELECT others.U&"\\0065vil"()', "SELECT '\"', others.evil(), '\"'", "SELECT $1others.evil()",
    ],
)  # fmt: skip
def test_a_function_is_not_run(stranger: psycopg.Connection, text: str) -> None:
    found = planned(text)
    assert found.cost is None
    assert found.why_not == (
        "planning it could run what the function evil leads to as the role of platform_db_maintenance, and "
        "operations_reader is neither a superuser nor the owner of the database or of a pruned table; give what "
        "operations_reader has made to one of those"
    )
    assert planned("SELECT id FROM orders WHERE id = $1").cost is not None


@pytest.mark.parametrize("name", ['The evil ""one', "e\u00a0vil", "x" * 63])
def test_whatever_its_name(stranger: psycopg.Connection, name: str) -> None:
    stranger.execute(f'ALTER FUNCTION others.evil RENAME TO "{name}"'.encode())
    text = f'SELECT others."{name}{"y" if len(name) == 63 else ""}"()'
    assert planned(text).why_not.startswith("planning it could run what the function ")


@pytest.mark.parametrize(
    ("statement", "text", "leads"),
    [
        ("CREATE VIEW public.v AS SELECT others.evil()", "SELECT FROM v", "view v"),
        ("CREATE VIEW public.v AS SELECT others.evil(); CREATE VIEW public.w AS SELECT * FROM v", "TABLE w", "view w"),
        ("ALTER TABLE orders ALTER id SET DEFAULT others.evil()", "INSERT INTO orders DEFAULT VALUES", "table orders"),
        ("ALTER TABLE orders ADD CHECK (id < others.evil(id))", "SELECT FROM orders", "table orders"),
        ("CREATE POLICY p ON orders USING (id > others.evil(id))", "SELECT FROM orders", "table orders"),
        ("CREATE INDEX ON orders ((id + others.evil(id)))", "SELECT FROM orders", "table orders"),
    ],
)  # fmt: skip
def test_nor_where_it_rests_in_what_others_own(
    stranger: psycopg.Connection, any_platform: psycopg.Connection, statement: str, text: str, leads: str
) -> None:
    any_platform.execute(f"{statement}; GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO PUBLIC".encode())
    assert planned(text).why_not.startswith(f"planning it could run what the {leads} leads to")


@pytest.mark.parametrize(
    ("statement", "leads"),
    [
        ("CREATE FUNCTION others.same(integer, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';"
         "CREATE OPERATOR others.= (leftarg = integer, rightarg = text, function = others.same)", "operator ="),
        ("CREATE TYPE others.pair AS (a integer);"
         "CREATE FUNCTION others.first(others.pair) RETURNS integer LANGUAGE sql AS 'SELECT 1';"
         "CREATE CAST (others.pair AS integer) WITH FUNCTION others.first AS IMPLICIT",
         "cast others.pair AS integer"),
    ],
)  # fmt: skip
def test_an_operator_or_a_cast_needs_no_name(stranger: psycopg.Connection, statement: str, leads: str) -> None:
    stranger.execute(statement.encode())
    assert planned("SELECT id FROM orders").why_not.startswith(f"planning it could run what the {leads} leads to")


def test_what_the_owner_of_the_database_has_made_is_planned(
    any_platform: psycopg.Connection, stranger: psycopg.Connection
) -> None:
    any_platform.execute("CREATE FUNCTION others.good() RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 5'")
    any_platform.execute("CREATE VIEW public.v AS SELECT others.good() AS n; GRANT SELECT ON v TO PUBLIC")
    assert planned("SELECT others.good() FROM v").cost is not None


def test_what_was_planned_is_judged_again_for_advice(stranger: psycopg.Connection) -> None:
    """What the text names may be another thing by then."""
    with (
        database.maintenance_session() as session,
        pytest.raises(query_trust.NotTrustedError),
        query_plans._planning(session, "SELECT others.evil()"),
    ):
        pass
