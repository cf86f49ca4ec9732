"""The remedy that partitions a table: what is in its way, and that no step of it does harm when it is pasted."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.postgres import partition_remedy
from include.platform import database
from tests.include.maintenance.postgres.partition_remedies import apply, one, paste, paste_unread, planned

INSERT = "INSERT INTO public.audit_logs (created_at, actor, action) VALUES (now() + interval '{} days', 'a', 'b')"
KIND = "SELECT relkind::text FROM pg_class WHERE oid = 'public.audit_logs'::regclass"
LIMITS = "SELECT count(*) FROM pg_constraint WHERE conname = 'audit_logs_limit'"


def test_boundaries_lie_at_least_two_weeks_ahead() -> None:
    late = datetime(2026, 11, 17, 1, tzinfo=UTC)
    assert [f"{at:%m-%d}" for at in partition_remedy.boundaries("month", late)] == ["01-01", "02-01", "03-01", "04-01"]
    assert [f"{at:%m-%d}" for at in partition_remedy.boundaries("week", late, 2)] == ["12-07", "12-14"]
    assert [f"{at:%m-%d}" for at in partition_remedy.boundaries("day", late, 2)] == ["12-02", "12-03"]


# ------------------------------------------------------------------------------------------------------ obstacles
OBSTACLES = [
    (0, "CREATE TRIGGER guards BEFORE UPDATE ON public.audit_logs FOR EACH ROW"
     " EXECUTE FUNCTION suppress_redundant_updates_trigger()", "the trigger guards: it would act on the old rows"),
    (0, "CREATE RULE keeps AS ON DELETE TO public.audit_logs DO INSTEAD NOTHING", "the rule keeps: it would act on"),
    (0, "ALTER TABLE public.audit_logs ADD CONSTRAINT apart EXCLUDE USING btree (audit_log_id WITH =)",
     "the exclusion constraint apart: a partitioned table cannot hold it"),
    (0, "ALTER TABLE public.audit_logs ADD CONSTRAINT \"Own\" CHECK (action <> '') NO INHERIT",
     'the constraint "Own": a partitioned table cannot hold one that is NO INHERIT'),
    (0, "ALTER TABLE public.audit_logs ADD CONSTRAINT new_ones CHECK (action <> '') NOT VALID",
     "the constraint new_ones: it is NOT VALID; validate it before"),
    (0, "CREATE TABLE public.actors (name text PRIMARY KEY); ALTER TABLE public.audit_logs ADD CONSTRAINT later"
     " FOREIGN KEY (actor) REFERENCES public.actors NOT VALID", "the foreign key later: it is NOT VALID"),
    (0, "CREATE TABLE public.notes (id bigint REFERENCES public.audit_logs)",
     "the foreign key public.notes.notes_id_fkey points to it: "),
    (0, "CREATE UNIQUE INDEX found ON public.audit_logs (actor) INCLUDE (created_at)",
     "the unique key found (actor) cannot be kept: it does not hold created_at"),
    (0, "ALTER TABLE public.audit_logs DROP CONSTRAINT audit_logs_pkey, ADD PRIMARY KEY (audit_log_id) DEFERRABLE",
     "the primary key audit_logs_pkey (audit_log_id) cannot be kept: it does not hold created_at, and is DEFERRABLE"),
    (0, "CREATE MATERIALIZED VIEW public.counted AS SELECT count(*) FROM public.audit_logs",
     "materialized view public.counted: it would follow the old rows"),
    (0, "CREATE TABLE public.t2 (id int);"
     " CREATE RULE copies AS ON INSERT TO public.t2 DO ALSO INSERT INTO public.audit_logs (created_at, action)"
     " VALUES (now(), 'x')", "rule copies on table public.t2: it would follow the old rows"),
    (0, "CREATE TABLE public.t2 (id int);"
     " CREATE POLICY known ON public.t2 USING (id IN (SELECT audit_log_id FROM public.audit_logs))",
     "policy known on table public.t2: it would follow the old rows"),
    (0, "CREATE FUNCTION public.newest() RETURNS SETOF public.audit_logs LANGUAGE sql"
     " AS 'SELECT * FROM public.audit_logs'", "function public.newest(): it would follow the old rows"),
    (140000, "CREATE FUNCTION public.counted() RETURNS bigint LANGUAGE sql"
     " BEGIN ATOMIC SELECT count(*) FROM public.audit_logs; END", "function public.counted(): it would follow the old"),
    (0, "CREATE VIEW public.rows AS SELECT a FROM public.audit_logs AS a",
     "column a of view public.rows: it would follow the old rows"),
    (0, "CREATE VIEW public.grouped AS SELECT audit_log_id, actor FROM public.audit_logs GROUP BY audit_log_id",
     "view public.grouped: it would follow the old rows"),
    (0, "ALTER TABLE public.audit_logs REPLICA IDENTITY USING INDEX audit_logs_pkey",
     "the replica identity: it is an index"),
    (0, "CREATE PUBLICATION copied FOR TABLE public.audit_logs", "the publication copied: it would not publish new"),
    (0, "CREATE PUBLICATION copied FOR ALL TABLES", "the publication copied: it would not publish new"),
    (150000, "CREATE PUBLICATION copied FOR TABLES IN SCHEMA public", "the publication copied: it would not publish"),
    (0, "ALTER TABLE public.audit_logs ADD CONSTRAINT audit_logs_limit CHECK (created_at < 'infinity')",
     "the constraint audit_logs_limit is there from an earlier attempt; undo it before: "
     "ALTER TABLE public.audit_logs DROP CONSTRAINT audit_logs_limit;"),
    (0, "CREATE UNIQUE INDEX audit_logs_time_key ON public.audit_logs (audit_log_id, created_at)",
     "the index audit_logs_time_key is there from an earlier attempt; undo it before: "
     "DROP INDEX CONCURRENTLY public.audit_logs_time_key;"),
]  # fmt: skip


def test_what_cannot_be_carried_over_is_an_obstacle(any_databases: Databases, any_platform: psycopg.Connection) -> None:
    with psycopg.connect(any_databases.postgres.url(any_platform.info.dbname), autocommit=True) as superuser:
        for since, statement, obstacle in OBSTACLES:
            if superuser.info.server_version < since:
                continue
            with superuser.transaction(force_rollback=True):
                superuser.execute(statement.encode())
                oid = one(superuser, "SELECT 'public.audit_logs'::regclass::oid")
                plan = partition_remedy.plan(
                    superuser, "public.audit_logs", oid, "created_at", "month", datetime.now(UTC)
                )
            assert (plan.sql, len(plan.obstacles)) == ("", 1), (statement, plan)
            assert plan.obstacles[0].startswith(obstacle)
    assert planned().obstacles == []


def test_what_a_subscription_writes_into_stays_as_it_is(
    any_databases: Databases, any_platform: psycopg.Connection
) -> None:
    with psycopg.connect(any_databases.postgres.url(any_platform.info.dbname), autocommit=True) as superuser:
        superuser.execute("CREATE SUBSCRIPTION fed CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false)")
        try:  # what a refresh would do, for which there is no publisher here
            superuser.execute(
                "INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate)"
                " SELECT oid, 'public.audit_logs'::regclass, 'r' FROM pg_subscription WHERE subname = 'fed'"
            )
            assert planned().obstacles == [
                "a subscription: its changes would no longer be written into the table; drop it before"
            ]
        finally:
            superuser.execute("ALTER SUBSCRIPTION fed SET (slot_name = NONE)")
            superuser.execute("DROP SUBSCRIPTION fed")


def test_rows_beyond_the_first_boundary_are_an_obstacle(any_platform: psycopg.Connection) -> None:
    any_platform.execute(INSERT.format(90).encode())
    [obstacle] = planned().obstacles
    assert obstacle.startswith("rows of '2")
    assert "are there already: correct or delete them" in obstacle


# --------------------------------------------------------------------------------------------------------- step 1
def test_step_1_says_what_it_does_and_how_it_is_undone(any_platform: psycopg.Connection) -> None:
    sql = planned().sql
    first, drop_limit, drop_index, *_ = sql.splitlines()
    assert first.startswith("-- From step 1 until step 2 has been done the table refuses rows of 2")
    apply(any_platform, sql[: sql.index("-- 2.")].strip().removesuffix(";"))
    with pytest.raises(psycopg.errors.CheckViolation):
        any_platform.execute(INSERT.format(90).encode())
    for undo in (drop_limit, drop_index):
        any_platform.execute(undo.removeprefix("-- ").encode())
    any_platform.execute(INSERT.format(90).encode())
    assert one(any_platform, "SELECT to_regclass('public.audit_logs_time_key') IS NULL")


def test_what_is_to_be_confirmed_stops_who_does_not_read_it(any_platform: psycopg.Connection) -> None:
    """With the primary key that the exchange makes INSERT ... ON CONFLICT (audit_log_id) would fail."""
    indexes = "SELECT count(*) FROM pg_index WHERE indrelid = 'public.audit_logs'::regclass"
    before = one(any_platform, indexes)
    errors = paste_unread(any_platform, planned().sql)
    assert errors[0] == "first confirm what stands at the top, and run the SET that stands there"
    assert (one(any_platform, KIND), one(any_platform, LIMITS), one(any_platform, indexes)) == ("r", 0, before)
    any_platform.execute("SET operations.confirmed = '1'")  # what was confirmed of another table
    assert paste_unread(any_platform, planned().sql)[0] == errors[0]
    any_platform.execute(
        "ALTER TABLE public.audit_logs DROP CONSTRAINT audit_logs_pkey, ADD PRIMARY KEY (audit_log_id, created_at)"
    )
    assert planned().confirm == []
    assert paste_unread(any_platform, planned().sql) == [], "nothing is to be confirmed"


def test_without_its_index_step_1_binds_nothing(any_platform: psycopg.Connection) -> None:
    """As when it could not be built: no exchange would follow, and inserts would fail in time."""
    sql = planned().sql
    waits = [line for line in sql.splitlines() if not line.startswith("--   CREATE UNIQUE INDEX ")]
    errors = paste(any_platform, "\n".join(waits))
    assert errors[0] == "first run the CREATE UNIQUE INDEX that stands at the top, to its end"
    assert (one(any_platform, KIND), one(any_platform, LIMITS)) == ("r", 0)
    assert paste(any_platform, sql) == []
    assert one(any_platform, KIND) == "p"


def test_an_index_whose_build_failed_is_to_be_dropped(
    any_databases: Databases, any_platform: psycopg.Connection
) -> None:
    """It stays, invalid, and IF NOT EXISTS would skip building it again."""
    sql = planned().sql
    any_platform.execute("SET lock_timeout = '200ms'")
    with psycopg.connect(any_databases.url(any_platform.info.dbname, "escrow_owner")) as writer:
        writer.execute("LOCK TABLE public.audit_logs IN ROW EXCLUSIVE MODE")
        assert paste(any_platform, sql)[0] == "canceling statement due to lock timeout"
    assert not one(any_platform, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'audit_logs_time_key'::regclass")
    any_platform.execute("RESET lock_timeout")
    assert paste(any_platform, sql)[0] == (
        "the index that stands at the top is being built, or its build failed; if it failed, run the DROP INDEX "
        "CONCURRENTLY that stands there, and then the CREATE UNIQUE INDEX again"
    )
    assert (one(any_platform, KIND), one(any_platform, LIMITS)) == ("r", 0)
    any_platform.execute(sql.splitlines()[2].removeprefix("-- ").encode())
    assert paste(any_platform, sql) == []
    assert one(any_platform, KIND) == "p"


def test_what_is_pasted_twice_does_not_bind_the_new_table(any_platform: psycopg.Connection) -> None:
    sql = planned().sql
    assert paste(any_platform, sql) == []
    assert "the table is partitioned already" in paste(any_platform, sql)
    assert (one(any_platform, KIND), one(any_platform, LIMITS)) == ("p", 0)
    any_platform.execute(INSERT.format(60).encode())


def test_what_is_pasted_too_late_changes_nothing(any_platform: psycopg.Connection) -> None:
    old = planned(now=datetime.now(UTC) - timedelta(days=60)).sql
    errors = paste(any_platform, old)
    assert errors[0] == "this SQL is too old, inserts would soon fail; let the check look again"
    assert (one(any_platform, KIND), one(any_platform, LIMITS)) == ("r", 0)
    any_platform.execute(INSERT.format(0).encode())


def test_rows_that_only_the_owner_can_see_end_it_before_anything_is_bound(any_platform: psycopg.Connection) -> None:
    any_platform.execute("DROP INDEX public.audit_logs_created_at_idx")  # the newest cannot be found at once
    any_platform.execute(INSERT.format(90).encode())
    errors = paste(any_platform, planned().sql)
    assert errors[0] == "there are rows beyond the first boundary; correct or delete them"
    assert (one(any_platform, KIND), one(any_platform, LIMITS)) == ("r", 0)
    any_platform.execute(INSERT.format(90).encode())


def test_no_exchange_reads_the_rows_under_its_lock(any_platform: psycopg.Connection) -> None:
    lines = planned().sql.splitlines()
    errors = paste(any_platform, "\n".join(line for line in lines if " VALIDATE CONSTRAINT " not in line))
    assert errors[0] == "step 1 has not been done to its end; see its error, and run it again or undo it"
    assert one(any_platform, KIND) == "r"


def test_behind_a_long_transaction_it_gives_up_and_can_be_pasted_again(
    any_databases: Databases, any_platform: psycopg.Connection
) -> None:
    sql, url = planned().sql, any_databases.url(any_platform.info.dbname, "escrow_owner")
    any_platform.execute("SET statement_timeout = '60s'")  # where nothing bounds the wait for the lock
    with psycopg.connect(url) as reader:
        reader.execute("SELECT 1 FROM public.audit_logs")
        errors = paste(any_platform, sql)
        assert errors[0] == "canceling statement due to lock timeout"
        assert (one(any_platform, KIND), one(any_platform, LIMITS)) == ("r", 0)
    with psycopg.connect(url) as reader:
        long_steps = sql[: sql.index("-- 2.")]
        assert paste(any_platform, long_steps.strip().removesuffix(";")) == []
        reader.execute("SELECT 1 FROM public.audit_logs")
        assert paste(any_platform, sql[sql.index("-- 2.") :])[0] == "canceling statement due to lock timeout"
        assert one(any_platform, KIND) == "r"
    assert paste(any_platform, sql)[0] == 'constraint "audit_logs_limit" for relation "audit_logs" already exists'
    assert (one(any_platform, KIND), one(any_platform, LIMITS)) == ("p", 0)


def test_a_version_that_corrupts_indexes_is_updated_first(
    any_platform: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "server_version", lambda _: 140003)
    lines = planned().sql.splitlines()
    [number] = [number for number, line in enumerate(lines) if line.startswith("--   CREATE UNIQUE INDEX CONCURRENTLY")]
    assert [line.endswith("update to 14.4 first.") for line in lines[number - 3 : number]] == [True, False, False]


def test_what_is_not_enforced_is_carried_over(any_databases: Databases, any_platform: psycopg.Connection) -> None:
    if any_platform.info.server_version < 180000:
        pytest.skip("before PostgreSQL 18 every constraint is enforced")
    any_platform.execute(
        "ALTER TABLE public.audit_logs ADD CONSTRAINT wished CHECK (action <> 'b') NOT ENFORCED;"
        "CREATE TABLE public.actors (name text PRIMARY KEY); ALTER TABLE public.audit_logs ADD CONSTRAINT known"
        " FOREIGN KEY (actor) REFERENCES public.actors NOT ENFORCED"
    )
    assert planned().obstacles == []
    assert paste(any_platform, planned().sql) == []
    assert one(any_platform, KIND) == "p"
    any_platform.execute(INSERT.format(0).encode())
    assert any_platform.execute(
        "SELECT conname, conenforced FROM pg_constraint WHERE conrelid = 'public.audit_logs'::regclass"
        " AND contype IN ('c', 'f') ORDER BY 1"
    ).fetchall() == [("known", False), ("wished", False)]
