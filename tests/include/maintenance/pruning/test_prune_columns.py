"""Columns that are added while a table is pruned, and partitions that somebody else drops: no value gets lost."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.pruning import holds, manifests, partitions, prune, rows
from include.maintenance.pruning.pace import PausedTooLong, Throttle
from include.outcome import MaintenanceFailed, SourceUnavailable
from include.platform import folders
from tests.include.maintenance.pruning.audit_log_rows import NOW, archived, in_table, rule, states
from tests.include.maintenance.pruning.test_partitions import (  # noqa: F401 - fixture
    ACROSS,
    _fail_at,
    _row,
    _tables,
    partitioned,
)

ADDED_AND_WRITTEN = (
    "ALTER TABLE public.audit_logs ADD COLUMN region text; UPDATE public.audit_logs SET region = 'eu ' || audit_log_id"
)
ADDED = "ALTER TABLE public.audit_logs ADD COLUMN region text DEFAULT 'eu'"  # older rows are not written for it


def _regions(platform: psycopg.Connection, warehouse: psycopg.Connection) -> int:
    """How many archived rows have a region; ``archived`` has restored them."""
    number = len([state for state in states(warehouse) if state == "deleted"])
    found = 0
    for n in range(number):
        has = "SELECT 1 FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'region'"
        if platform.execute(has, (f"public.restored_{n}",)).fetchone():
            row = platform.execute(f"SELECT count(region) FROM public.restored_{n}").fetchone()
            assert row is not None
            found += row[0]
    return found


@pytest.mark.parametrize(
    ("statement", "migration", "after_deletions", "left"),
    [("equal", ADDED_AND_WRITTEN, 0, 30), ("range", ADDED, 0, 30), ("times", ADDED, 1, 25)],
)
def test_rows_are_not_deleted_once_a_column_is_added(
    filled: psycopg.Connection,
    warehouse: psycopg.Connection,
    any_databases: Databases,
    environment: pytest.MonkeyPatch,
    statement: str,
    migration: str,
    after_deletions: int,
    left: int,
) -> None:
    """By each of the three statements: of rows that an open transaction makes compare, of a chunk's end, within one."""
    older = psycopg.connect(any_databases.postgres.url(filled.info.dbname))
    if statement == "equal":
        older.execute("SELECT pg_current_xact_id()")
        filled.execute("UPDATE public.audit_logs SET action = action")
    before, put, delete = in_table(filled), folders.Folder.put, rows.delete_stretches
    migrations = iter([migration])

    def put_and_migrate(store: folders.Folder, path: Path, location: str) -> None:
        put(store, path, location)
        for one in migrations if not after_deletions else ():
            filled.execute(one.encode())

    def delete_and_migrate(*arguments: object, **named: object) -> int:
        deleted: int = delete(*arguments, **named)  # type: ignore[arg-type]
        for one in migrations if after_deletions else ():
            filled.execute(one.encode())
        return deleted

    with environment.context() as patch:
        patch.setattr(folders.Folder, "put", put_and_migrate)
        patch.setattr(rows, "delete_stretches", delete_and_migrate)
        with pytest.raises(MaintenanceFailed, match=r"column region of public\.audit_logs was added .* run it again"):
            prune.prune(rule(archive_rows=100), "r1", dry_run=False, now=NOW)
    older.close()
    assert filled.execute("SELECT count(region) FROM public.audit_logs").fetchone() == (left,)
    assert prune.prune(rule(), "r2", dry_run=False, now=NOW)["state"] == "proven"
    assert in_table(filled) + archived(filled, warehouse) == before
    assert _regions(filled, warehouse) == left - 7, "7 rows are not past their retention"


def _superuser(databases: Databases, platform: psycopg.Connection) -> Callable[..., None]:
    """What executes statements as the owner of everything."""

    def execute(*statements: str) -> None:
        with psycopg.connect(databases.postgres.url(platform.info.dbname), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    return execute


Waiting = tuple[Counter, Callable[..., None]]


@pytest.fixture
def waiting(
    partitioned: psycopg.Connection,  # noqa: F811
    warehouse: psycopg.Connection,
    any_databases: Databases,
    environment: pytest.MonkeyPatch,
) -> Waiting:
    """A partition waits detached since its run was lost; gives all rows of before, and what executes as the owner."""
    before = in_table(partitioned)
    _fail_at("_archive", SourceUnavailable("lost"), environment)
    return before, _superuser(any_databases, partitioned)


def test_a_partition_that_waited_detached_while_its_table_got_a_column_goes(
    partitioned: psycopg.Connection,  # noqa: F811
    warehouse: psycopg.Connection,
    waiting: Waiting,
) -> None:
    before, execute = waiting
    execute(ADDED_AND_WRITTEN)
    assert prune.prune(ACROSS, "r2", dry_run=False, now=NOW)["rows"] == 80
    assert _tables(partitioned) == ["audit_july"]
    assert in_table(partitioned) + archived(partitioned, warehouse) == before
    assert _regions(partitioned, warehouse) == 40, "those of June"


def test_a_held_partition_that_does_not_fit_any_more_keeps_no_other_from_its_turn(
    partitioned: psycopg.Connection,  # noqa: F811
    warehouse: psycopg.Connection,
    waiting: Waiting,
) -> None:
    before, execute = waiting
    execute("ALTER TABLE public.audit_logs ADD COLUMN region text")
    holds.place("public.audit_logs", "case 7", "ann", key_to="3")
    for run in ("r2", "r3"):
        with pytest.raises(MaintenanceFailed) as raised:
            prune.prune(rule(archive_rows=25, whole_partitions=False), run, dry_run=False, now=NOW)
        assert str(raised.value) == (
            "the partition public.audit_may has rows under a legal hold but cannot be attached to public.audit_logs "
            'again (child table is missing column "region"); all of it is kept, detached: make it fit, and run it again'
        )
        assert _row(warehouse)[0] == "failed"
        assert _tables(partitioned) == ["audit_july", "audit_may"]
        assert partitioned.execute("SELECT count(*) FROM public.audit_may").fetchone() == (40,)
        assert partitioned.execute("SELECT count(*) FROM public.audit_july").fetchone() == (32,), "8 are past"
    execute("ALTER TABLE public.audit_may ADD COLUMN region text")
    assert prune.prune(ACROSS, "r4", dry_run=False, now=NOW)["state"] == "proven"
    assert partitioned.execute("SELECT audit_log_id FROM public.audit_may ORDER BY 1").fetchall() == [(1,), (2,), (3,)]
    assert in_table(partitioned) + archived(partitioned, warehouse) == before


def test_a_held_partition_that_does_not_fit_any_more_is_told_when_pruning_pauses_too_long(
    partitioned: psycopg.Connection,  # noqa: F811
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
    waiting: Waiting,
) -> None:
    waiting[1]("ALTER TABLE public.audit_logs ADD COLUMN region text")
    holds.place("public.audit_logs", "case 7", "ann", key_to="3")

    def paused(_: Throttle) -> None:
        raise PausedTooLong("it has waited for autovacuum")

    environment.setattr(Throttle, "wait", paused)
    with pytest.raises(MaintenanceFailed, match=r"audit_may .* make it fit, and run it again; it has waited for auto"):
        prune.prune(rule(archive_rows=25, whole_partitions=False), "r2", dry_run=False, now=NOW)
    assert _row(warehouse)[0] == "failed"


def test_a_hold_on_a_new_column_that_a_detached_partition_lacks_keeps_that_one_only(
    partitioned: psycopg.Connection,  # noqa: F811
    warehouse: psycopg.Connection,
    waiting: Waiting,
) -> None:
    before, execute = waiting
    execute("ALTER TABLE public.audit_logs ADD COLUMN subject text")
    holds.place("public.audit_logs", "case 7", "ann", column="subject", value="u17")
    by_rows = rule(archive_rows=25, whole_partitions=False)
    with pytest.raises(MaintenanceFailed) as raised:
        prune.prune(by_rows, "r2", dry_run=False, now=NOW)
    assert str(raised.value) == (
        "the partition public.audit_may waits detached and cannot be asked about a legal hold on public.audit_logs "
        "(column source.subject does not exist); all of it is kept, detached: make it fit, and run it again"
    )
    assert _row(warehouse)[0] == "failed"
    assert _tables(partitioned) == ["audit_july", "audit_may"]
    assert partitioned.execute("SELECT count(*) FROM public.audit_july").fetchone() == (32,), "8 are past"
    execute("ALTER TABLE public.audit_may ADD COLUMN subject text DEFAULT 'u17'")
    prune.prune(by_rows, "r3", dry_run=False, now=NOW)
    assert partitioned.execute("SELECT count(*) FROM public.audit_logs WHERE subject = 'u17'").fetchone() == (40,)
    assert in_table(partitioned) + archived(partitioned, warehouse) == before


def test_a_partition_that_is_detached_after_a_column_was_added_is_archived_with_it(
    partitioned: psycopg.Connection,  # noqa: F811
    warehouse: psycopg.Connection,
    any_databases: Databases,
    environment: pytest.MonkeyPatch,
) -> None:
    before, detach, execute = in_table(partitioned), partitions._detach, _superuser(any_databases, partitioned)

    def late(work, table):  # type: ignore[no-untyped-def]
        if table.relation == "audit_june":
            execute(ADDED_AND_WRITTEN)
        detach(work, table)

    environment.setattr(partitions, "_detach", late)
    assert prune.prune(ACROSS, "r1", dry_run=False, now=NOW)["rows"] == 80
    assert in_table(partitioned) + archived(partitioned, warehouse) == before
    assert _regions(partitioned, warehouse) == 40


def _add_a_column_before_the_drop(environment: pytest.MonkeyPatch, execute: Callable[..., None]) -> None:
    """A first attempt that archives May without a column that it has when it is to be dropped."""
    drop = partitions._drop

    def late(work, table):  # type: ignore[no-untyped-def]
        execute("ALTER TABLE public.audit_may ADD COLUMN region text DEFAULT 'eu'")
        return drop(work, table)

    with environment.context() as patch:
        patch.setattr(partitions, "_drop", late)
        with pytest.raises(MaintenanceFailed, match=r"column region of public\.audit_may was added .* run it again"):
            prune.prune(ACROSS, "r1", dry_run=False, now=NOW)


def test_a_partition_that_gets_a_column_after_it_was_archived_is_archived_anew(
    partitioned: psycopg.Connection,  # noqa: F811
    warehouse: psycopg.Connection,
    any_databases: Databases,
    environment: pytest.MonkeyPatch,
) -> None:
    before = in_table(partitioned)
    _add_a_column_before_the_drop(environment, _superuser(any_databases, partitioned))
    assert prune.prune(ACROSS, "r2", dry_run=False, now=NOW)["rows"] == 80
    assert sorted(states(warehouse)) == ["deleted"] * 4 + ["withdrawn"] * 2
    assert in_table(partitioned) + archived(partitioned, warehouse) == before
    assert _regions(partitioned, warehouse) == 40
    assert manifests.verify_chain("public.audit_logs")["rows"] == 80


def test_an_archive_without_a_new_column_stays_when_rows_of_it_are_nowhere_else(
    partitioned: psycopg.Connection,  # noqa: F811
    warehouse: psycopg.Connection,
    any_databases: Databases,
    environment: pytest.MonkeyPatch,
) -> None:
    """Its partition waits for a person, and no other one."""
    before, execute = in_table(partitioned), _superuser(any_databases, partitioned)
    _add_a_column_before_the_drop(environment, execute)
    execute("DELETE FROM public.audit_may WHERE audit_log_id = 1")
    with pytest.raises(
        MaintenanceFailed,
        match=r"has no column region, and rows of it are not in public\.audit_may any more: compare them, and then set",
    ):
        prune.prune(ACROSS, "r2", dry_run=False, now=NOW)
    assert _row(warehouse)[0] == "failed"
    assert _tables(partitioned) == ["audit_july", "audit_may"]
    assert sorted(states(warehouse)) == ["deleted"] * 2 + ["verified"] * 2
    assert in_table(partitioned) + archived(partitioned, warehouse) == before


@pytest.mark.parametrize(
    ("statement", "left"),
    [("DROP TABLE public.audit_july", 0), ("ALTER TABLE public.audit_july RENAME TO audit_2026_07", 32)],
)
def test_an_archive_of_a_partition_that_is_gone_is_settled(
    partitioned: psycopg.Connection,  # noqa: F811
    warehouse: psycopg.Connection,
    any_databases: Databases,
    environment: pytest.MonkeyPatch,
    statement: str,
    left: int,
) -> None:
    """Rows of a renamed one, which are in the table yet, go as they would have: else they would be archived twice."""
    before, by_rows = in_table(partitioned), rule(archive_rows=50, whole_partitions=False)

    def lost(*_: object, **__: object) -> int:
        raise SourceUnavailable("lost")

    with environment.context() as patch:
        patch.setattr(rows, "delete_stretches", lost)
        with pytest.raises(SourceUnavailable):
            prune.prune(by_rows, "r1", dry_run=False, now=NOW)
    assert sorted(states(warehouse)) == ["deleted", "deleted", "verified"]
    _superuser(any_databases, partitioned)(statement)
    done = prune.prune(by_rows, "r2", dry_run=False, now=NOW)
    assert (done["state"], done["reason"]) == (
        "proven",
        "public.audit_july was gone: what had been archived of it is kept",
    )
    assert states(warehouse) == ["deleted"] * 3
    assert sum(in_table(partitioned).values()) == left
    kept = archived(partitioned, warehouse)
    assert sum(kept.values()) == 88
    assert not in_table(partitioned) + kept - before
    assert prune.prune(by_rows, "r3", dry_run=False, now=NOW)["state"] == "nothing_to_do"
