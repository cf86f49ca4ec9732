"""Tables whose rows lie in others are analyzed as a whole; what has no ids to freeze, and what an older holder left."""

import time

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.postgres import vacuum
from include.outcome import MaintenanceFailed
from tests.include.maintenance.postgres.vacuum_steps import maintain_all, make_dirty, planned
from tests.old_postgres import flush_statistics


@pytest.fixture
def quiet(any_platform: psycopg.Connection, warehouse: psycopg.Connection) -> psycopg.Connection:
    """A platform without tables."""
    any_platform.execute("DROP TABLE public.audit_logs")
    return any_platform


def _fill(platform: psycopg.Connection, statement: str) -> None:
    platform.execute(statement.encode())
    flush_statistics(platform)


def test_a_table_that_others_inherit_from_is_analyzed_when_they_have_changed(quiet: psycopg.Connection) -> None:
    quiet.execute("CREATE TABLE public.events (x integer) WITH (autovacuum_enabled = off)")
    quiet.execute("CREATE TABLE public.middle () INHERITS (public.events) WITH (autovacuum_enabled = off)")
    quiet.execute("CREATE TABLE public.leaf () INHERITS (public.middle) WITH (autovacuum_enabled = off)")
    _fill(quiet, "INSERT INTO public.leaf SELECT generate_series(1, 400)")
    due = planned()
    assert set(due) == {"public.events", "public.middle", "public.leaf"}
    assert [(item["vacuum"], item["analyze"]) for item in due.values()] == [(False, True)] * 3
    assert set(maintain_all("r1")) == {"proven"}
    known = "SELECT tablename FROM pg_stats WHERE inherited ORDER BY 1"
    assert quiet.execute(known).fetchall() == [("events",), ("middle",)]
    assert planned("r2") == {}
    _fill(quiet, "UPDATE public.leaf SET x = x")
    due = planned("r3")
    assert set(due) == {"public.events", "public.middle", "public.leaf"}
    assert due["public.events"]["facts"]["changed_rows"] == 400
    _fill(quiet, "INSERT INTO public.events SELECT generate_series(1, 1000)")
    item = planned("r4")["public.events"]  # due for its own new rows as well: one act
    assert (item["vacuum"], item["analyze"]) == (True, True)
    assert set(maintain_all("r4")) == {"proven"}
    assert planned("r5") == {}


def test_a_partition_that_went_is_not_made_up_for_by_new_rows(quiet: psycopg.Connection) -> None:
    quiet.execute("CREATE TABLE public.parted (x integer) PARTITION BY RANGE (x)")
    for name, first in (("one", 0), ("two", 1000)):
        bounds = f"FROM ({first}) TO ({first + 1000})"
        quiet.execute(
            f"CREATE TABLE public.{name} PARTITION OF public.parted FOR VALUES {bounds} WITH (autovacuum_enabled = off)"
        )
    _fill(quiet, "INSERT INTO public.parted SELECT generate_series(0, 1999)")
    maintain_all("r1")
    assert planned("r2") == {}
    quiet.execute("DROP TABLE public.two")
    _fill(quiet, "INSERT INTO public.one SELECT generate_series(0, 999)")
    assert planned("r3")["public.parted"]["facts"]["changed_rows"] == 2000


def test_a_table_without_ids_to_freeze_is_in_no_danger(quiet: psycopg.Connection, any_databases: Databases) -> None:
    quiet.execute("CREATE TABLE public.columnar (x integer) WITH (autovacuum_enabled = off)")
    _fill(quiet, "INSERT INTO public.columnar SELECT generate_series(1, 1000)")
    quiet.execute("VACUUM ANALYZE public.columnar")
    with psycopg.connect(any_databases.postgres.url(quiet.info.dbname), autocommit=True) as superuser:
        superuser.execute("SET allow_system_table_mods = on")
        superuser.execute("UPDATE pg_class SET relfrozenxid = '0', relminmxid = '0' WHERE relname = 'columnar'")
    assert planned() == {}
    _fill(quiet, "DELETE FROM public.columnar WHERE x <= 400")
    item = planned("r2")["public.columnar"]
    assert (item["vacuum"], item["freeze"], item["danger"]) == (True, False, False)


def test_what_an_older_holder_kept_is_worth_a_vacuum_when_it_has_gone(
    any_platform: psycopg.Connection, warehouse: psycopg.Connection, any_databases: Databases
) -> None:
    url = any_databases.url(any_platform.info.dbname, "escrow_app")
    with psycopg.connect(url) as younger:
        with psycopg.connect(url, application_name="older") as older:
            process = older.info.backend_pid
            for session in (older, younger):
                session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                session.execute("SELECT 1")
                if session is older:
                    make_dirty(any_platform)
            item = planned()["public.audit_logs"]
            with pytest.raises(MaintenanceFailed, match=r"400 dead rows cannot be lowered while process \d+ \(older"):
                vacuum.maintain(item, "r1", dry_run=False)
        while any_platform.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (process,)).fetchone() is not None:
            time.sleep(0.02)  # it ends some moments after it was told to
        item = planned("r2")["public.audit_logs"]
        assert (item["vacuum"], item["held_by"]) == (True, None)
        assert vacuum.maintain(item, "r2", dry_run=False)["state"] == "proven"
        any_platform.execute("UPDATE public.audit_logs SET action = 'changed'")
        flush_statistics(any_platform)
        assert planned("r3")["public.audit_logs"]["held_by"], "of the younger one, all that it kept is known"
