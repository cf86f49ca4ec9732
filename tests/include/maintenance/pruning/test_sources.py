"""A table is refused where statements on it would see fewer rows than it has, or rows of other tables."""

from datetime import timedelta

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.pruning import holds, prune, restore, sources
from include.outcome import ConfigurationError
from include.platform import database
from include.platform.database import Column
from tests.include.maintenance.pruning.audit_log_rows import CUT_OFF, NOW, archived, in_table, rule, states


@pytest.fixture
def filled(any_platform: psycopg.Connection) -> psycopg.Connection:
    """Twelve rows past their retention, of which a policy would show four."""
    any_platform.execute(
        "INSERT INTO public.audit_logs (created_at, actor, action) SELECT %s::timestamptz - n * interval '1 hour',"
        " CASE WHEN n <= 4 THEN 'ann' ELSE 'bob' END, 'x' FROM generate_series(1, 12) AS n",
        (CUT_OFF,),
    )
    return any_platform


def _hide(platform: psycopg.Connection, condition: str) -> None:
    platform.execute(f"CREATE POLICY visible ON public.audit_logs USING ({condition})".encode())
    platform.execute("ALTER TABLE public.audit_logs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")


def _count(platform: psycopg.Connection, databases: Databases) -> int:
    with psycopg.connect(databases.postgres.url(platform.info.dbname)) as superuser:
        row = superuser.execute("SELECT count(*) FROM ONLY public.audit_logs").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("condition", ["actor = 'ann'", "false"])
def test_rows_that_policies_hide_are_never_counted_as_not_there(
    filled: psycopg.Connection, warehouse: psycopg.Connection, any_databases: Databases, condition: str
) -> None:
    _hide(filled, condition)
    with pytest.raises(ConfigurationError, match=r"row-level security hides rows of public.audit_logs .* BYPASSRLS"):
        prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert _count(filled, any_databases) == 12
    assert states(warehouse) == []


def test_policies_that_come_while_rows_are_pruned_are_an_error_of_the_server(
    filled: psycopg.Connection,
    warehouse: psycopg.Connection,
    any_databases: Databases,
    environment: pytest.MonkeyPatch,
) -> None:
    def late(*_: object) -> None:
        _hide(filled, "actor = 'ann'")

    environment.setattr(sources, "_check_rows", late)
    with pytest.raises(ConfigurationError, match=r"lacks a privilege \(query would be affected by row-level security"):
        prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert _count(filled, any_databases) == 12
    assert states(warehouse) == []


def test_a_table_that_others_inherit_from_is_refused(
    filled: psycopg.Connection, warehouse: psycopg.Connection, any_databases: Databases
) -> None:
    filled.execute("CREATE TABLE public.audit_notes (note text) INHERITS (public.audit_logs)")
    filled.execute("CREATE TABLE public.audit_drafts (draft text) INHERITS (public.audit_notes)")
    filled.execute(
        "INSERT INTO public.audit_notes (audit_log_id, created_at, action, note) VALUES (1, '2020-01-01', 'x', 'kept')"
    )
    with pytest.raises(
        ConfigurationError, match=r"inherit from it \(public.audit_drafts, public.audit_notes\).*a rule of its own"
    ):
        prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert filled.execute("SELECT note FROM public.audit_notes").fetchall() == [("kept",)]
    assert _count(filled, any_databases) == 12


def test_one_of_the_tables_that_inherit_is_pruned_by_its_name(
    filled: psycopg.Connection, warehouse: psycopg.Connection, any_databases: Databases
) -> None:
    filled.execute(
        "CREATE TABLE public.audit_notes (note text, PRIMARY KEY (audit_log_id)) INHERITS (public.audit_logs)"
    )
    filled.execute("GRANT SELECT, DELETE ON public.audit_notes TO operations_maintainer")
    filled.execute(
        "INSERT INTO public.audit_notes (audit_log_id, created_at, action, note) VALUES (1, '2020-01-01', 'x', 'kept')"
    )
    assert prune.prune(rule(table="public.audit_notes"), "r1", dry_run=False, now=NOW)["rows"] == 1
    assert filled.execute("SELECT count(*) FROM public.audit_notes").fetchone() == (0,)
    assert _count(filled, any_databases) == 12


@pytest.mark.parametrize("precision", [0, 1, 3, 5])
def test_a_time_column_may_have_any_precision_and_rounds_no_limit(
    filled: psycopg.Connection, warehouse: psycopg.Connection, precision: int
) -> None:
    filled.execute(f"ALTER TABLE public.audit_logs ALTER COLUMN created_at TYPE timestamp({precision})".encode())
    before = in_table(filled)
    held_until = CUT_OFF - timedelta(hours=3, milliseconds=-400)  # the row of three hours before is earlier than that
    placed = holds.place(
        "public.audit_logs", "case 7", "carol", time_from=CUT_OFF - timedelta(hours=3), time_until=held_until
    )
    assert placed["rows_matching"] == 1
    assert prune.prune(rule(), "r1", dry_run=False, now=NOW)["rows"] == 11
    assert filled.execute("SELECT created_at::text FROM public.audit_logs").fetchall() == [("2026-07-06 00:00:00",)]
    assert in_table(filled) + archived(filled, warehouse) == before


def test_a_time_column_that_is_no_time_is_refused(filled: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    filled.execute("ALTER TABLE public.audit_logs ALTER COLUMN created_at TYPE date")
    with pytest.raises(ConfigurationError, match=r"audit_logs\.created_at is no time stamp"):
        prune.prune(rule(), "r1", dry_run=False, now=NOW)


def test_a_key_that_an_extension_sorts_is_refused(
    any_platform: psycopg.Connection, any_databases: Databases, warehouse: psycopg.Connection
) -> None:
    with psycopg.connect(any_databases.postgres.url(any_platform.info.dbname), autocommit=True) as superuser:
        superuser.execute("CREATE EXTENSION citext SCHEMA public")
    any_platform.execute("CREATE DOMAIN public.mixed AS public.citext")
    any_platform.execute("CREATE DOMAIN public.plain AS text")
    for column, sorted_by in (("code public.mixed", "public.citext"), ("code public.plain", None)):
        any_platform.execute(f"CREATE TABLE public.coded ({column} PRIMARY KEY, at timestamptz NOT NULL)".encode())
        any_platform.execute("GRANT SELECT, DELETE ON public.coded TO operations_maintainer")
        any_platform.execute("INSERT INTO public.coded VALUES ('a', '2020-01-01'), ('B', '2020-01-01')")
        by_code = rule(table="public.coded", time_column="at", key_column="code")
        if sorted_by:
            with pytest.raises(
                ConfigurationError, match=rf"coded\.code is of the type {sorted_by}, which an extension"
            ):
                prune.prune(by_code, "r1", dry_run=False, now=NOW)
        else:
            assert prune.prune(by_code, "r1", dry_run=False, now=NOW)["rows"] == 2
        any_platform.execute("DROP TABLE public.coded")


def test_rows_that_refer_to_a_partition_are_never_deleted_along(any_platform: psycopg.Connection) -> None:
    any_platform.execute("CREATE TABLE public.logs (id bigint, at timestamptz NOT NULL) PARTITION BY RANGE (at)")
    any_platform.execute(
        "CREATE TABLE public.logs_2020 PARTITION OF public.logs FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')"
    )
    any_platform.execute("ALTER TABLE public.logs_2020 ADD UNIQUE (id)")
    any_platform.execute("ALTER TABLE public.logs ADD PRIMARY KEY (id, at)")
    any_platform.execute("CREATE TABLE public.notes (id bigint REFERENCES public.logs_2020 (id) ON DELETE CASCADE)")
    any_platform.execute("CREATE TABLE public.tags (id bigint, at timestamptz, FOREIGN KEY (id, at) REFERENCES"
                         " public.logs ON DELETE SET NULL)")  # fmt: skip
    any_platform.execute("GRANT SELECT, DELETE ON public.logs, public.logs_2020 TO operations_maintainer")
    with pytest.raises(
        ConfigurationError, match=r"would also change public\.notes, public\.tags through a foreign key"
    ):
        prune.prune(rule(table="public.logs", time_column="at", key_column="id"), "r1", dry_run=False, now=NOW)


def test_a_type_of_the_platform_is_found_with_its_schema_and_without(any_platform: psycopg.Connection) -> None:
    any_platform.execute("CREATE TYPE public.mood AS ENUM ('good')")
    any_platform.execute("GRANT CREATE ON SCHEMA public TO operations_maintainer")
    with database.maintenance_session() as connection:
        for number, name in enumerate(("mood", "public.mood")):  # as older archives have it, and as newer ones do
            with connection.transaction():
                found = restore._target(connection, f"public.restored_{number}", [Column("a", name, False, False)])
                assert database.columns_of(connection, found) == [Column("a", "public.mood", False, False)]


def test_a_version_that_corrupts_indexes_is_updated_before_one_is_made(
    filled: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.setattr(sources, "_LARGE", 10)
    filled.execute("DROP INDEX public.audit_logs_created_at_idx; ANALYZE public.audit_logs")
    for version, told in ((140003, "; update PostgreSQL to 14.4 and create one"), (140004, "; create one")):
        environment.setattr(database, "server_version", lambda _, version=version: version)
        with pytest.raises(ConfigurationError, match=f"{told} first .CREATE INDEX CONCURRENTLY ON public.audit_logs"):
            prune.prune(rule(), "r1", dry_run=True, now=NOW)
