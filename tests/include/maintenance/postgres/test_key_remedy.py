"""What is said to let keys go on: executed on real servers, after which the numbers go on."""

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.postgres import key_exhaustion, key_remedy
from include.outcome import Outcome
from include.platform import database
from include.warehouse.findings import Finding
from tests.include.maintenance.postgres.partition_remedies import confirmed, paste, paste_unread
from tests.recorded_findings import latest_findings


def found(owner: psycopg.Connection, name: str, run_id: str = "run") -> Finding | None:
    owner.execute("SELECT set_config('search_path', 'pg_catalog', false)")  # remedies name all with their schema
    for (schema,) in owner.execute("SELECT nspname FROM pg_namespace WHERE nspname IN ('public', 'Gold \"Escrow\"')"):
        quoted = '"' + schema.replace('"', '""') + '"'
        owner.execute(f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA {quoted} TO operations_maintainer")
    key_exhaustion.check(run_id)
    return {one.finding.resource: one.finding for one in latest_findings("key_exhaustion")}.get(name)


def applied(owner: psycopg.Connection, name: str) -> Finding:
    """What was found about a sequence, whose remedy has been executed."""
    finding = found(owner, name)
    assert finding is not None
    owner.execute(finding.remedy)
    return finding


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
    finding = applied(any_platform, name)
    assert finding.outcome is Outcome.CRITICAL
    assert finding.evidence["numbers_left"] == 0
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
        ("MAXVALUE 7", "text", "NO MAXVALUE;"),
    ],
)
def test_the_end_of_the_sequence_itself(
    any_platform: psycopg.Connection, sequence: str, column: str, remedy: str
) -> None:
    any_platform.execute(
        f"CREATE SEQUENCE public.s {sequence}; CREATE TABLE public.t (id {column} DEFAULT nextval('public.s'));"
        "SELECT setval('public.s', CASE WHEN seqincrement > 0 THEN seqmax ELSE seqmin END)"
        " FROM pg_sequence WHERE seqrelid = 'public.s'::regclass"
    )
    finding = found(any_platform, "public.s")
    assert finding is not None
    assert f"--   ALTER SEQUENCE public.s {remedy}" in finding.remedy.splitlines()
    assert paste_unread(any_platform, finding.remedy) == []
    with pytest.raises(psycopg.errors.SequenceGeneratorLimitExceeded):  # its end may be meant
        any_platform.execute("SELECT nextval('public.s')")
    any_platform.execute(confirmed(finding.remedy))
    any_platform.execute("INSERT INTO public.t DEFAULT VALUES")


def test_a_sequence_goes_on_with_the_column_that_ended_before_it(any_platform: psycopg.Connection) -> None:
    any_platform.execute(
        "CREATE SEQUENCE public.s INCREMENT -1 MINVALUE -40000; SELECT setval('public.s', -32768);"
        "CREATE TABLE public.t (id smallint DEFAULT nextval('public.s'))"
    )
    assert "ALTER SEQUENCE public.s AS bigint NO MINVALUE;" in applied(any_platform, "public.s").remedy.splitlines()
    any_platform.execute("INSERT INTO public.t DEFAULT VALUES")


def test_nothing_is_wider_than_bigint(any_platform: psycopg.Connection) -> None:
    any_platform.execute(
        "CREATE TABLE public.t (id bigserial); SELECT setval('public.t_id_seq', 9223372036854775807);"
        "CREATE SEQUENCE public.s; SELECT setval('public.s', 9223372036854775807)"
    )
    for name in ("public.t_id_seq", "public.s"):
        finding = found(any_platform, name, name)
        assert finding is not None
        assert finding.remedy.startswith(f"-- no wider integer exists: find out what brought {name} so far (a setval?")


def test_large_tables_get_a_wider_copy_that_is_kept_up_to_date(
    any_platform: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_remedy, "_ALTERED_AT_ONCE_BYTES", 0)
    any_platform.execute(
        'CREATE TABLE public."User" ("Id" serial PRIMARY KEY);'
        'CREATE TABLE public.orders (user_id integer CONSTRAINT "of user" REFERENCES public."User");'
        'INSERT INTO public."User" DEFAULT VALUES; SELECT setval(\'public."User_Id_seq"\', 2147483640)'
    )
    finding = applied(any_platform, 'public."User_Id_seq"')
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


def test_no_name_ends_the_body_of_a_trigger(any_platform: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "$widen$;ROLLBACK;CREATE TABLE public.made();--"
    any_platform.execute(
        f'CREATE TABLE public.t ("{name}" serial PRIMARY KEY, note text);'
        f"SELECT setval(pg_get_serial_sequence('public.t', '{name}'), 2147483640)"
    )
    monkeypatch.setattr(key_remedy, "_ALTERED_AT_ONCE_BYTES", -1)
    finding = found(any_platform, f'public."t_{name}_seq"')
    assert finding is not None
    assert paste(any_platform, finding.remedy) == []
    assert any_platform.execute("SELECT to_regclass('public.made')").fetchone() == (None,)
    any_platform.execute("INSERT INTO public.t (note) VALUES ('x')")
    assert any_platform.execute(f'SELECT "{name}_bigint" FROM public.t').fetchall() == [(2147483641,)]


def large(owner: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """The lines for a sequence whose tables count as large."""
    monkeypatch.setattr(key_remedy, "_ALTERED_AT_ONCE_BYTES", -1)
    finding = found(owner, name)
    assert finding is not None
    return finding.remedy.splitlines()


def test_foreign_keys_of_wide_columns_are_made_again_too(
    any_platform: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_platform.execute(
        "CREATE TABLE public.parent (id serial PRIMARY KEY);"
        'CREATE TABLE public."Child" (id bigint PRIMARY KEY REFERENCES public.parent);'
        'CREATE TABLE public.away (id bigint REFERENCES public."Child");'
        "CREATE TABLE public.whole (id integer, kind text) PARTITION BY LIST (kind);"
        "CREATE TABLE public.part PARTITION OF public.whole FOR VALUES IN ('a');"
        "ALTER TABLE public.part ADD CONSTRAINT of_part FOREIGN KEY (id) REFERENCES public.parent;"
        "SELECT setval('public.parent_id_seq', 2147483640)"
    )
    [line] = [one for one in large(any_platform, monkeypatch, "public.parent_id_seq") if "foreign keys again" in one]
    assert line.endswith('VALIDATE CONSTRAINT: "Child_id_fkey" of public."Child", of_part of public.part'), (
        "and not that of away: nothing at its ends is exchanged"
    )


@pytest.mark.parametrize("key", ["RANGE (id)", "HASH ((id / 10))", "LIST (kind)"])
def test_the_server_alters_no_column_of_a_partition_key(
    any_platform: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    any_platform.execute(
        "CREATE SEQUENCE public.s AS integer;"
        f"CREATE TABLE public.logs (kind text, id integer DEFAULT nextval('public.s')) PARTITION BY {key};"
        "CREATE TABLE public.notes (log integer DEFAULT nextval('public.s')); SELECT setval('public.s', 2147483640)"
    )
    if key == "LIST (kind)":  # the tables below are partitioned by it; there its number is another one
        any_platform.execute(
            "CREATE TABLE public.below (id integer, kind text) PARTITION BY RANGE (id);"
            "ALTER TABLE public.logs ATTACH PARTITION public.below FOR VALUES IN ('a')"
        )
    with pytest.raises(psycopg.errors.InvalidTableDefinition):
        any_platform.execute("ALTER TABLE public.logs ALTER COLUMN id TYPE bigint")
    refused = "-- public.logs.id is a partition key: make a new partitioned table with bigint and copy the rows"
    finding = found(any_platform, "public.s")
    assert finding is not None
    lines = finding.remedy.splitlines()
    assert (lines[0], lines[-1]) == (refused, "-- then ALTER SEQUENCE public.s AS bigint NO MAXVALUE;")
    any_platform.execute(finding.remedy)
    any_platform.execute("INSERT INTO public.notes VALUES (2147483648)")
    any_platform.execute("ALTER TABLE public.notes ADD COLUMN again integer DEFAULT nextval('public.s')")
    lines = large(any_platform, monkeypatch, "public.s")
    assert [line for line in lines if "public.logs" in line] == [refused]
    assert "ALTER TABLE public.notes ADD COLUMN again_bigint bigint;" in lines


def test_other_columns_of_a_partitioned_table_are_altered(any_platform: psycopg.Connection) -> None:
    any_platform.execute(
        "CREATE TABLE public.logs (kind text, id serial) PARTITION BY LIST (kind);"
        "CREATE TABLE public.logs_a PARTITION OF public.logs FOR VALUES IN ('a');"
        "SELECT setval('public.logs_id_seq', 2147483647)"
    )
    applied(any_platform, "public.logs_id_seq")
    any_platform.execute("INSERT INTO public.logs (kind) VALUES ('a')")


@pytest.mark.parametrize("altered_at_once", [100 * 2**20, -1])
def test_no_statement_queues_for_its_lock(
    any_databases: Databases, any_platform: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, altered_at_once: int
) -> None:
    monkeypatch.setattr(key_remedy, "_ALTERED_AT_ONCE_BYTES", altered_at_once)
    any_platform.execute(
        "CREATE TABLE public.t (id serial PRIMARY KEY); SELECT setval('public.t_id_seq', 2147483640);"
        "SET statement_timeout = '60s'"  # where nothing bounds the wait for the lock
    )
    finding = found(any_platform, "public.t_id_seq")
    assert finding is not None
    with psycopg.connect(any_databases.url(any_platform.info.dbname, "escrow_owner")) as reader:
        reader.execute("SELECT FROM public.t")
        errors = paste(any_platform, finding.remedy)
    assert errors[0] == "canceling statement due to lock timeout"
    any_platform.execute("INSERT INTO public.t DEFAULT VALUES")  # no trigger is there without its column
    assert any_platform.execute("SHOW lock_timeout").fetchone() == ("0",)
    any_platform.execute(finding.remedy)
    any_platform.execute("INSERT INTO public.t DEFAULT VALUES")


def test_what_a_domain_rules_is_not_lost(any_platform: psycopg.Connection) -> None:
    any_platform.execute(
        "CREATE DOMAIN public.positive AS integer CHECK (value > 0); CREATE SEQUENCE public.s;"
        "CREATE TABLE public.t (id public.positive DEFAULT nextval('public.s')); SELECT setval('public.s', 2147483640)"
    )
    finding = applied(any_platform, "public.s")
    with pytest.raises(psycopg.errors.CheckViolation):
        any_platform.execute("INSERT INTO public.t VALUES (0)")
    [line] = [line for line in finding.remedy.splitlines() if "CHECK" in line]
    first, change = line.split("; then ")
    assert first == "-- first give the table a CHECK of what public.positive rules"
    any_platform.execute(change.encode())
    any_platform.execute("INSERT INTO public.t VALUES (2147483648)")


def test_nor_by_a_wider_copy(any_platform: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    any_platform.execute(
        'CREATE DOMAIN public."Positive\n" AS integer CHECK (value > 0); CREATE SEQUENCE public.s;'
        "CREATE TABLE public.t (id public.\"Positive\n\" DEFAULT nextval('public.s'), note integer);"
        "CREATE TABLE public.u (plain integer DEFAULT nextval('public.s')); SELECT setval('public.s', 2147483640)"
    )
    lines = large(any_platform, monkeypatch, "public.s")
    [number] = [number for number, line in enumerate(lines) if "has no domain" in line]
    assert lines[number] == (
        '-- and likewise ADD CHECK of what public."Positive?" rules, on id_bigint of public.t: the copy has no domain'
    )
    assert "VALIDATE CONSTRAINT" in lines[number - 1]
    assert "RENAME both columns" in lines[number + 1]


@pytest.mark.parametrize("sequence", ["MAXVALUE 100", "AS smallint"])
def test_a_sequence_is_not_queued_for_either(
    any_databases: Databases, any_platform: psycopg.Connection, sequence: str
) -> None:
    """A transaction holds a lock on a sequence from its first number to its end; all others would wait behind."""
    any_platform.execute(
        f"CREATE SEQUENCE public.s {sequence}; CREATE TABLE public.t (id bigint DEFAULT nextval('public.s'));"
        "SELECT setval('public.s', 99); SELECT setval('public.s', seqmax - 1) FROM pg_sequence"
        " WHERE seqrelid = 'public.s'::regclass; SET statement_timeout = '60s'"
    )
    finding = found(any_platform, "public.s")
    assert finding is not None
    with psycopg.connect(any_databases.url(any_platform.info.dbname, "escrow_owner")) as writer:
        writer.execute("INSERT INTO public.t DEFAULT VALUES")
        assert paste(any_platform, finding.remedy) == ["canceling statement due to lock timeout"]
    assert paste(any_platform, finding.remedy) == []
    any_platform.execute("INSERT INTO public.t DEFAULT VALUES; INSERT INTO public.t DEFAULT VALUES")


def test_rows_of_heirs_get_their_copy_too(any_platform: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    any_platform.execute(
        "CREATE TABLE public.parent (id serial); CREATE TABLE public.heir () INHERITS (public.parent);"
        "CREATE TABLE public.\"Heir 2\" () INHERITS (public.heir); SELECT setval('public.parent_id_seq', 2147483640)"
    )
    any_platform.execute("\n".join(large(any_platform, monkeypatch, "public.parent_id_seq")))
    for table in ("parent", "heir", '"Heir 2"'):
        any_platform.execute(f"INSERT INTO public.{table} DEFAULT VALUES".encode())
    assert any_platform.execute("SELECT id_bigint FROM public.parent ORDER BY 1").fetchall() == [
        (2147483641,), (2147483642,), (2147483643,)
    ]  # fmt: skip


def test_a_version_that_corrupts_indexes_is_updated_first(
    any_platform: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "server_version", lambda _: 140003)
    any_platform.execute("CREATE TABLE public.t (id serial); SELECT setval('public.t_id_seq', 2147483640)")
    lines = large(any_platform, monkeypatch, "public.t_id_seq")
    [number] = [number for number, line in enumerate(lines) if "INDEX CONCURRENTLY on each copy" in line]
    assert lines[number - 1].endswith("update to 14.4 first.")
