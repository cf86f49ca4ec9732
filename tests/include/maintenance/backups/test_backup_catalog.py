"""Schemas are compared by what they mean, with everything that belongs to a database; its settings are restored."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.backups import backup_verification
from include.maintenance.backups.backup_catalog import _comparable, catalog_differences, meaning
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import backup_facts, backups
from include.platform.backup_facts import Facts
from include.warehouse import drills
from include.warehouse.drills import Drill, DrillOutcome
from tests.include.maintenance.backups.backup_platform import configure, stages

DUMP: dict[str, Any] = {"name": "nightly", "format": "custom", "files": "*.dump"}
BELONGINGS = """
CREATE SCHEMA app;
CREATE TABLE app.people (person_id integer PRIMARY KEY, name text);
INSERT INTO app.people VALUES (1, 'one');
CREATE PUBLICATION few FOR TABLE app.people WITH (publish = 'insert');
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO operations_reader;
CREATE COLLATION app.plain (locale = 'C');
CREATE TYPE app.pair AS (a integer, b integer);
CREATE FUNCTION app.total(p app.pair) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT p.a + p.b';
CREATE FUNCTION app.larger(p app.pair, q app.pair) RETURNS boolean LANGUAGE sql IMMUTABLE
    AS 'SELECT app.total(p) > app.total(q)';
CREATE CAST (app.pair AS integer) WITH FUNCTION app.total(app.pair);
CREATE OPERATOR app.>>> (LEFTARG = app.pair, RIGHTARG = app.pair, FUNCTION = app.larger);
SELECT lo_from_bytea(0, 'of the first'), lo_from_bytea(0, 'of the second');
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET search_path = app, "$user"', current_database());
    EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
END $$;
"""
QUERY = "SELECT count(*) = 1 AND current_setting('app.secret') = E'it''s\\nlong' FROM people"


def test_schemas_are_compared_by_meaning() -> None:
    check = "CHECK (((name)::text <> ALL ((ARRAY['a'::character varying, 'b'::character varying])::text[])))"
    again = "CHECK (((name)::text <> ALL (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))"
    before = [("constraint", "a.name", check), ("table", "a", "owner x"), ("view", "v", "SELECT 1")]
    assert catalog_differences(before, [("constraint", "a.name", again), *before[1:]]) == []
    after = [("constraint", "a.name", check.replace("'b'", "'c'")), ("table", "a", "owner y"), ("index", "i", "x")]
    assert catalog_differences(before, after) == [
        "constraint a.name differs",
        "index i was not there before",
        "table a differs",
        "view v is missing",
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("(a = 'x'::text) AND (((b)::text[] IS NULL))", "(a = 'x') AND (b IS NULL)"),
        ("DEFAULT '-1'::integer", "DEFAULT ('-1'::integer)"),
        ("x = 'now'::timestamp(3) without time zone AND y", "x = 'now' AND y"),
        ("now() - '1 02:00'::interval day to second(3)", "now() - '1 02:00'"),
        ("(f((a)::text))::character varying(9) || b", "f(a) || b"),
        ("'x'::public.\"Mood\" = feels", "'x'::mood = feels"),
        ("a::numeric(10,2)[] = b", "a = b"),
    ],
)
def test_casts_and_parentheses_that_group_nothing_mean_nothing(one: str, other: str) -> None:
    assert meaning(one) == meaning(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a = 'x'::text AND b > 5", "a = 'x'::text OR b > 5"),
        ("x::double precision > 1", "x::double precision < 1"),
        ("'x'::bit varying(3) OR a", "'x'::bit varying(3) AND a"),
        ("a OR (b AND c)", "(a OR b) AND c"),
        ("NOT (a AND b) IS NULL", "(NOT (a AND b)) IS NULL"),
        ("(- a) ^ 2", "- (a ^ 2)"),
        ("a - (b - c)", "(a - b) - c"),
        ("f(a, b)", "f(a), b"),
        ("'a (b)::text'", "'ab'"),
        ("AS $$ SELECT a::text $$", "AS $$ SELECT a $$"),
        ("a ) b", "a b"),
    ],
)
def test_what_means_something_else_is_told_apart(one: str, other: str) -> None:
    assert meaning(one) != meaning(other)


def test_what_a_base_backup_must_have_of_a_schema_that_was_changed_meanwhile() -> None:
    at = datetime(2026, 10, 4, 1, 2, 3, tzinfo=UTC)
    catalog = [("view", "altered", "2"), ("view", "kept", "1"), ("view", "made", "1")]
    facts = Facts(
        "base-1", "base", 180000, at, at, {}, [], {}, catalog, tables_before={}, there_throughout=[("view", "altered")],
        changed_meanwhile=[("view", "altered"), ("view", "dropped"), ("view", "made")],
    )  # fmt: skip

    def judged(facts: Facts, **found: str) -> tuple[list[str], list[str]]:
        objects = [("extension", "amcheck", "in public"), *(("view", *one) for one in found.items())]
        expected, compared, passing = _comparable(facts, objects)
        return catalog_differences(expected, compared), passing

    for altered in ("1", "2", "of the time between"):
        assert judged(facts, kept="1", altered=altered) == ([], [])
    assert judged(facts, kept="1", altered="2", made="1", dropped="1") == ([], [])
    assert judged(facts, kept="2") == (["view altered is missing", "view kept differs"], [])
    assert judged(facts, kept="1", altered="2", fleeting="1") == ([], ["view fleeting"])
    dump = replace(facts, tables_before=None, changed_meanwhile=[], there_throughout=[])
    assert judged(dump, kept="1", altered="2", made="1", fleeting="1")[0] == ["view fleeting was not there before"]
    of_before = replace(facts, there_throughout=[])  # facts that do not tell it
    assert judged(of_before, kept="1") == ([], [])


def _verify(run_id: str) -> tuple[Drill, str]:
    said = ""
    try:
        backup_verification.verify("nightly", run_id)
    except (MaintenanceFailed, ConfigurationError) as error:
        said = str(error)
    drill = drills.find("backup_verification", "nightly", run_id)
    assert drill is not None
    assert (drill.outcome is DrillOutcome.PASSED) == (said == "")
    return drill, said


def test_what_belongs_to_a_database_beside_its_tables(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, any_databases: Databases, tmp_path: Path
) -> None:
    configure(environment, tmp_path, DUMP, query=QUERY)
    name = f"escrow_{uuid.uuid4().hex[:12]}"
    any_databases.create(name, "escrow_owner")
    url = any_databases.url(name, "escrow_owner")
    try:
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute(BELONGINGS.encode())
        with psycopg.connect(any_databases.postgres.url("postgres"), autocommit=True) as superuser:
            superuser.execute(f"ALTER DATABASE {name} SET \"app.secret\" = 'it''s\nlong'".encode())
        backups.take(url, tmp_path / "backups", "a.dump")
    finally:
        any_databases.drop(name)
    drill, said = _verify("r1")
    assert said == "", "the application query finds its table by the search_path of the database"
    assert stages(drill)["catalog"].detail.get("not_compared") is None
    record = tmp_path / "backups" / "a.dump.facts.json"
    facts = backup_facts.from_json(record.read_text(), record.name)
    assert "long" not in record.read_text(), "values of settings may be secret"
    assert facts.tables[backup_facts.LARGE_OBJECTS].rows == 2
    changed = [
        (kind, object, definition + " changed" if kind in backup_facts.ADDED_KINDS else definition)
        for kind, object, definition in facts.catalog
    ]
    three = {backup_facts.LARGE_OBJECTS: replace(facts.tables[backup_facts.LARGE_OBJECTS], rows=3)}
    record.write_text(backup_facts.to_json(replace(facts, catalog=changed, tables=facts.tables | three)))
    drill, said = _verify("r2")
    assert stages(drill)["catalog"].detail["differences"] == [
        "cast app.pair as integer differs",
        "collation app.plain differs",
        "database setting app.secret differs",
        "database setting default_transaction_read_only differs",
        "database setting search_path differs",
        "default privileges of escrow_owner in app for r differs",
        "operator app.>>> (app.pair, app.pair) differs",
        "publication few differs",
    ]
    assert "pg_catalog.pg_largeobject_metadata has 2 rows instead of 3" in said
    earlier = [one for one in facts.catalog if one[0] not in backup_facts.ADDED_KINDS]
    tables = {table: one for table, one in facts.tables.items() if table != backup_facts.LARGE_OBJECTS}
    record.write_text(backup_facts.to_json(replace(facts, catalog=earlier, tables=tables, kinds=[])))
    drill, said = _verify("r3")
    assert said == "", "facts of an earlier release"
    assert stages(drill)["catalog"].detail["not_compared"] == list(backup_facts.ADDED_KINDS)
