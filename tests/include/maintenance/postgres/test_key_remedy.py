"""What is said to let keys go on: executed on real servers, after which the numbers go on."""

import psycopg
import pytest

from include.maintenance.postgres import key_exhaustion, key_remedy
from include.outcome import Outcome
from include.warehouse import findings
from include.warehouse.findings import Finding


def found(owner: psycopg.Connection, name: str, run_id: str = "run") -> Finding | None:
    owner.execute("SELECT set_config('search_path', 'pg_catalog', false)")  # remedies name all with their schema
    for (schema,) in owner.execute("SELECT nspname FROM pg_namespace WHERE nspname IN ('public', 'Gold \"Escrow\"')"):
        quoted = '"' + schema.replace('"', '""') + '"'
        owner.execute(f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA {quoted} TO operations_maintainer")
    key_exhaustion.check(run_id)
    return {one.finding.resource: one.finding for one in findings.latest("key_exhaustion")}.get(name)


@pytest.mark.parametrize("definition", ["serial", "integer GENERATED ALWAYS AS IDENTITY", "smallserial"])
def test_small_tables_are_altered(any_platform: psycopg.Connection, definition: str) -> None:
    name, table = '"Gold ""Escrow"""."Order Lines_Line Id_seq"', '"Gold ""Escrow"""."Order Lines"'
    end = 32767 if definition == "smallserial" else 2147483647
    type_name = "smallint" if definition == "smallserial" else "integer"
    any_platform.execute(
        f'CREATE SCHEMA "Gold ""Escrow"""; CREATE TABLE {table} ("Line Id" {definition} PRIMARY KEY, note text);'
        f'CREATE TABLE public.notes ("Line" {type_name} REFERENCES {table});'
        f"SELECT setval('{name}', {end})"
    )
    finding = found(any_platform, name)
    assert finding is not None
    assert finding.outcome is Outcome.CRITICAL
    assert finding.evidence["numbers_left"] == 0
    any_platform.execute(finding.remedy)
    any_platform.execute(f"INSERT INTO {table} (note) VALUES ('x')")
    any_platform.execute(f'INSERT INTO public.notes SELECT "Line Id" FROM {table}')
    assert any_platform.execute('SELECT "Line" FROM public.notes').fetchall() == [(end + 1,)]
    assert found(any_platform, name, "after") is None


@pytest.mark.parametrize(
    ("sequence", "column", "remedy"),
    [
        ("AS smallint", "bigint", "AS bigint NO MAXVALUE;"),
        ("AS smallint", "integer", "AS bigint MAXVALUE 2147483647;"),
        ("MAXVALUE 100", "integer", "MAXVALUE 2147483647;"),
        ("AS smallint INCREMENT -1", "bigint", "AS bigint NO MINVALUE;"),
        ("INCREMENT -1 MINVALUE -9", "smallint", "MINVALUE -32768;"),
        ("INCREMENT -1 MINVALUE -40000", "smallint", "AS bigint NO MINVALUE;"),
        ("MAXVALUE 7", "text", "NO MAXVALUE;"),
    ],
)
def test_the_end_of_the_sequence_itself(
    any_platform: psycopg.Connection, sequence: str, column: str, remedy: str
) -> None:
    any_platform.execute(
        f"CREATE SEQUENCE public.s {sequence}; CREATE TABLE public.t (id {column} DEFAULT nextval('public.s'));"
        "SELECT setval('public.s', CASE WHEN seqincrement > 0 THEN seqmax"
        " ELSE greatest(seqmin, -32768) END) FROM pg_sequence WHERE seqrelid = 'public.s'::regclass"
    )
    finding = found(any_platform, "public.s")
    assert finding is not None
    assert any(line.startswith(f"ALTER SEQUENCE public.s {remedy}") for line in finding.remedy.splitlines()), (
        finding.remedy
    )
    any_platform.execute(finding.remedy)
    any_platform.execute("INSERT INTO public.t DEFAULT VALUES")


def test_nothing_is_wider_than_bigint(any_platform: psycopg.Connection) -> None:
    any_platform.execute(
        "CREATE TABLE public.t (id bigserial); SELECT setval('public.t_id_seq', 9223372036854775807);"
        "CREATE SEQUENCE public.s; SELECT setval('public.s', 9223372036854775807)"
    )
    for name in ("public.t_id_seq", "public.s"):
        finding = found(any_platform, name, name)
        assert finding is not None
        assert finding.remedy.startswith("-- no wider integer exists")


def test_large_tables_get_a_wider_copy_that_is_kept_up_to_date(
    any_platform: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_remedy, "_ALTERED_AT_ONCE_BYTES", 0)
    any_platform.execute(
        'CREATE TABLE public."User" ("Id" serial PRIMARY KEY);'
        'CREATE TABLE public.orders (user_id integer CONSTRAINT "of user" REFERENCES public."User");'
        'INSERT INTO public."User" DEFAULT VALUES; SELECT setval(\'public."User_Id_seq"\', 2147483640)'
    )
    finding = found(any_platform, 'public."User_Id_seq"')
    assert finding is not None
    any_platform.execute(finding.remedy)
    any_platform.execute('INSERT INTO public."User" DEFAULT VALUES')
    any_platform.execute('INSERT INTO public.orders SELECT max("Id") FROM public."User"')
    assert any_platform.execute('SELECT "Id_bigint" FROM public."User" ORDER BY "Id"').fetchall() == [
        (None,), (2147483641,)
    ]  # fmt: skip
    assert any_platform.execute("SELECT user_id_bigint FROM public.orders").fetchall() == [(2147483641,)]
    [step] = [line for line in finding.remedy.splitlines() if 'UPDATE public."User"' in line]
    any_platform.execute(step.partition(": ")[2])
    assert any_platform.execute('SELECT count(*) FROM public."User" WHERE "Id_bigint" IS NULL').fetchone() == (0,)
    assert '"of user" of public.orders' in finding.remedy, "the foreign keys to be made again are named"
    assert '-- ALTER TABLE public."User" ALTER COLUMN "Id" TYPE bigint;' in finding.remedy
