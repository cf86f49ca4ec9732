"""What is read out of a plan; that plans are made at all is tested with the review of queries."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.postgres import query_plans
from include.platform import database
from include.settings import settings
from include.warehouse.query_statistics import Work


def test_the_columns_of_conditions() -> None:
    columns = ["id", "customer", "Key", "at"]

    def found(alias: str, filters: list[str], joins: list[str] | None = None) -> tuple[str, ...]:
        return query_plans._columns(alias, columns, filters, joins or [])

    assert found("o", ["((o.at > $1) AND (o.customer = $2))"]) == ("customer", "at")
    assert found("o", ['(o."Key" = ANY ($1))']) == ("Key",)
    assert found("o", ["((o.customer)::text = $1)"]) == ("customer",)
    assert found("o", ["(o.id_of_something = 1)"]) == ()
    assert found("o", [""], ["(o.customer = c.id)"]) == ("customer",), "of a join only the alias' own columns"
    assert found("c", [""], ["(o.customer = c.id)"]) == ("id",)
    assert found("Two Words", ['("Two Words".at < now())']) == ("at",)


def test_facts_of_a_plan() -> None:
    assert query_plans.Plan("x", why_not="no").facts() == {"unknown": "no"}
    scan = query_plans.Scan("public.t", 5, 8192, ("a",))
    facts: dict[str, Any] = {
        "cost": 7.5,
        "large_sequential_scans": [{"table": "public.t", "rows": 5, "size_bytes": 8192}],
    }
    assert query_plans.Plan("x", 7.5, (scan,), steps="Seq Scan").facts() == facts | {"steps": "Seq Scan"}


def test_the_steps_of_a_plan_are_bounded_and_hold_no_values() -> None:
    leaf = {"Node Type": "Index Scan", "Index Name": "i", "Schema": "public", "Relation Name": "t", "Total Cost": 1.5}
    leaf |= {"Plan Rows": 2, "Output": ["t.a"], "Index Cond": "(t.a = 'secret'::text)", "Sort Key": ["t.a", "t.b"]}
    root = {"Node Type": "Append", "Total Cost": 9, "Plan Rows": 4, "Plans": [leaf] * 3}
    line = "  -> Index Scan using i on public.t (cost 1.5, rows 2) Index Cond: (t.a = ?::text) Sort Key: t.a, t.b"
    assert query_plans._steps(root).splitlines() == ["Append (cost 9, rows 4)", line, line, line]
    many = query_plans._steps(root | {"Plans": [leaf | {"Filter": "x OR " * 10_000}] * 500})
    assert len(many) <= query_plans.LONGEST_PLAN
    assert many.splitlines()[-1] == f"… and {501 - len(many.splitlines()) + 1} more steps"


def test_a_version_that_corrupts_indexes_is_updated_first(
    any_databases: Databases, any_platform: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(any_databases.postgres.url(any_platform.info.dbname), autocommit=True) as superuser:
        if not superuser.execute("SELECT FROM pg_available_extensions WHERE name = 'hypopg'").rowcount:
            pytest.skip("this server has no hypopg")
        superuser.execute("CREATE EXTENSION hypopg SCHEMA extensions")
    environment.setenv("OPERATIONS__MAINTENANCE__QUERY_REVIEW__LARGE_TABLE_ROWS", "10000")
    settings.cache_clear()
    any_platform.execute("CREATE TABLE public.orders (customer int, note text)")
    any_platform.execute("INSERT INTO public.orders SELECT n % 2000, 'x' FROM generate_series(1, 20000) AS n")
    any_platform.execute("ANALYZE public.orders; GRANT SELECT ON public.orders TO operations_maintainer")
    environment.setattr(database, "server_version", lambda _: 140003)
    work = Work(1, "SELECT note FROM public.orders WHERE customer = $1", 1, 1, 1, 1, 1, None, 0)
    with database.maintenance_session() as session:
        plans = {1: query_plans.plan(session, work.text)}
        [found] = query_plans.advice(session, [work], plans, 7)
    assert found.remedy.splitlines() == [
        "-- PostgreSQL 14.0 to 14.3 may corrupt what it builds CONCURRENTLY: update to 14.4 first.",
        'CREATE INDEX CONCURRENTLY ON public.orders ("customer");',
    ]
