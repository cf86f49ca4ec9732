"""What pruning says of its work is proven: by this attempt or the next, of a counted table or one too large for it."""

import math
import time
from datetime import timedelta
from types import SimpleNamespace

import psycopg
import pytest

from demo.databases import Databases
from demo.processes import free_port
from include.maintenance.pruning import manifests, moving, prune, row_statements, rows, sources
from include.maintenance.pruning import work as pruning_work
from include.maintenance.pruning.restore import restore
from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable
from include.warehouse import actions, archives, legal_holds
from tests.include.maintenance.pruning.audit_log_rows import (
    CUT_OFF,
    NOW,
    archived,
    in_table,
    rule,
    states,
    wait_until_settled,
)

_CONDITIONS = ("time_from", "time_until", "key_from", "key_to", "column_name", "column_value")


def test_an_attempt_that_ended_before_its_proof_is_proven_by_the_next(
    filled: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise SourceUnavailable("lost")

    with environment.context() as patch:
        patch.setattr(actions, "prove", lost)
        with pytest.raises(SourceUnavailable):
            prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert filled.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (7,)
    done = prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert (done["state"], done["rows"], done["archives"]) == ("proven", 23, 3)


@pytest.mark.usefixtures("clock_ahead")
@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("any_databases", ["postgresql18"], indirect=True)
def test_a_clock_that_is_wrong_prunes_nothing(
    filled: psycopg.Connection, warehouse: psycopg.Connection, dry_run: bool
) -> None:
    with pytest.raises(ConfigurationError, match="set the clock that is wrong") as raised:
        prune.prune(rule(), "r1", dry_run=dry_run)
    query = "SELECT state, reason FROM ops.maintenance_action"
    assert warehouse.execute(query).fetchall() == [("failed", str(raised.value))]
    assert filled.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (30,)


def test_rows_just_written_anywhere_among_the_old_ones_are_moved_as_well(
    filled: psycopg.Connection, warehouse: psycopg.Connection, any_databases: Databases
) -> None:
    """A transaction that is open elsewhere keeps them unsettled: each is compared, in the stretch of time it is in."""
    with psycopg.connect(any_databases.url(filled.info.dbname, "escrow_owner")) as other:
        other.execute("SELECT pg_current_xact_id()")
        changed = "UPDATE public.audit_logs SET actor = 'bob' WHERE extract(hour FROM created_at)::int %% 4 = 0"
        filled.execute(changed + " AND created_at < %s", (CUT_OFF,))
        filled.execute(
            "INSERT INTO public.audit_logs (created_at, action) VALUES (%s, 'oldest'), (%s, 'newest')",
            (CUT_OFF - timedelta(days=900), CUT_OFF - timedelta(microseconds=1)),
        )
        before = in_table(filled)
        done = prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert (done["state"], done["rows"]) == ("proven", 25)
    assert sum(in_table(filled).values()) == 7
    assert in_table(filled) + archived(filled, warehouse) == before


def test_what_is_too_large_to_be_looked_at_is_not_taken_for_nothing(
    filled: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    read, has_rows, compared = rows.read, moving._has_rows, moving.move_compared
    looking, looks = False, []

    def looked(work, source):  # type: ignore[no-untyped-def]
        nonlocal looking
        looking = True
        try:
            return has_rows(work, source)
        finally:
            looking = False

    def too_large(connection, source, after, limit, held, settled_before):  # type: ignore[no-untyped-def]
        if looking and settled_before is None:  # the next archive is read meanwhile, of settled rows
            looks.append(source)
            raise psycopg.errors.ProgramLimitExceeded
        return read(connection, source, after, limit, held, settled_before)

    def noted(work, source):  # type: ignore[no-untyped-def]
        moved.append(source)
        compared(work, source)

    moved: list[sources.Source] = []
    environment.setattr(rows, "read", too_large)
    environment.setattr(moving, "_has_rows", looked)
    environment.setattr(moving, "move_compared", noted)
    assert prune.prune(rule(), "r1", dry_run=False, now=NOW)["rows"] == 23
    assert len(looks) == 3, "one for each archive"
    assert moved[:-1] == looks


def test_looking_for_what_is_left_walks_past_the_deleted_rows_of_one_archive_only(
    platform: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    platform.execute(
        "INSERT INTO public.audit_logs (created_at, action) SELECT %s::timestamptz - n * interval '1 second', 'x'"
        " FROM generate_series(1, 12000) AS n",
        (CUT_OFF,),
    )
    platform.execute("ANALYZE public.audit_logs")
    wait_until_settled(platform)
    with prune._attempt(rule(batch_rows=1000, archive_rows=2000), CUT_OFF) as work:
        moved = moving._moved(work, work.source, settled_only=True)
        times = [chunk.stretches[-1].last.time for chunk in moved]
        assert len(times) == 6
        assert work.counts.deleted == 12000
        work.reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")

        def pages(source: sources.Source) -> int:
            query = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) " + row_statements.composed("first_rows", source)
            values = rows._values(source) | {"rows": 1000}
            row = work.reader.execute(query, values, prepare=False).fetchone()
            assert row is not None
            return int(row[0][0]["Plan"]["Shared Hit Blocks"])

        # The fewest of three: a look may have to read the catalog again, when much changes on the server beside it.
        one = min(pages(work.source.between(times[2], times[3])) for _ in range(3))
        assert 0 < one < min(pages(work.source) for _ in range(3)) / 2
        work.reader.execute("ROLLBACK")


@pytest.mark.parametrize(("archive_rows", "expected"), [(20, [5, 18]), (22, [5, 18]), (23, [23])])
def test_the_first_of_several_files_is_small(
    filled: psycopg.Connection,
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
    archive_rows: int,
    expected: list[int],
) -> None:
    environment.setattr(moving, "_SMALL_CHUNK", 3)
    prune.prune(rule(archive_rows=archive_rows), "r1", dry_run=False, now=NOW)
    found = warehouse.execute("SELECT row_count FROM ops.archive ORDER BY first_created_at").fetchall()
    assert [row_count for (row_count,) in found] == expected


def test_what_was_not_moved_is_noticed_also_where_there_are_too_many_to_be_counted(
    filled: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.setattr(rows, "COUNT_LIMIT", 10)
    filled.execute("ANALYZE public.audit_logs")
    with environment.context() as patch:
        patch.setattr(moving, "move", lambda *_, **__: 0)
        with pytest.raises(MaintenanceFailed, match="from before this run are still there"):
            prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert prune.prune(rule(), "r2", dry_run=False, now=NOW)["state"] == "proven"
    assert filled.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (7,)


def test_rows_that_arrive_meanwhile_are_no_failure_where_there_are_too_many_to_be_counted(
    filled: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.setattr(rows, "COUNT_LIMIT", 10)
    older = prune._older

    def arriving(*arguments: object) -> dict:
        if filled.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (7,):
            filled.execute("INSERT INTO public.audit_logs (created_at, action) VALUES ('2020-01-01', 'late')")
        return older(*arguments)  # type: ignore[arg-type]

    environment.setattr(prune, "_older", arriving)
    done = prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert done["state"] == "proven"
    assert "1 rows past their retention arrived meanwhile" in done["reason"]


def test_a_table_whose_name_needs_quotes(
    filled: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    filled.execute('ALTER TABLE public.audit_logs RENAME TO "order"')
    legal_holds.place(dict.fromkeys(_CONDITIONS) | {"source_table": "public.order"}, "case 7", "carol")
    quoted = rule(table="public.order")
    assert prune.prune(quoted, "r1", dry_run=False, now=NOW)["state"] == "nothing_to_do"
    assert filled.execute('SELECT count(*) FROM public."order"').fetchone() == (30,)
    legal_holds.release(1, "dave")
    assert prune.prune(quoted, "r2", dry_run=False, now=NOW)["rows"] == 23
    assert manifests.verify_chain("public.order")["rows"] == 23
    [(archive,)] = warehouse.execute("SELECT archive_id FROM ops.archive ORDER BY 1 LIMIT 1").fetchall()
    assert restore(archive, "platform_owner", "public.order")["rows"] == 10


def test_archives_of_a_table_that_there_never_were(filled: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    assert manifests.verify_chain("public.audit_logs")["manifests"] == 0, "it is pruned, and nothing was archived yet"
    with pytest.raises(ConfigurationError, match=r"no archive of public\.audit_log and it is not pruned"):
        manifests.verify_chain("public.audit_log")


@pytest.mark.parametrize(("method", "enough"), [("brin", False), ("btree", True)])
def test_only_an_index_in_order_of_time_will_do_for_a_large_table(
    filled: psycopg.Connection, environment: pytest.MonkeyPatch, method: str, enough: bool
) -> None:
    environment.setattr(sources, "_LARGE", 10)
    query = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'public.audit_logs'::regclass"
    for (name,) in filled.execute(f"{query} AND NOT indisprimary".encode()).fetchall():
        filled.execute(f"DROP INDEX {name}".encode())
    filled.execute(f"CREATE INDEX ON public.audit_logs USING {method} (created_at)".encode())
    filled.execute("ANALYZE public.audit_logs")
    if enough:
        assert prune.prune(rule(), "r1", dry_run=True, now=NOW)["state"] == "planned"
    else:
        with pytest.raises(ConfigurationError, match="no btree index that begins with created_at"):
            prune.prune(rule(), "r1", dry_run=True, now=NOW)


def test_what_was_deleted_is_on_the_disk_also_when_the_last_batch_deleted_nothing(
    filled: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    with prune._attempt(rule(batch_rows=5, archive_rows=100), CUT_OFF) as work:
        chunk = moving.read_chunk(work, work.source, None, True, work.rule.archive_rows)
        assert chunk is not None
        moving.archive(work, chunk)
        work.deleting.size = 5
        filled.execute(
            "UPDATE public.audit_logs SET action = 'new' WHERE created_at < %s AND created_at >= %s::timestamptz - "
            "interval '6 hours'",
            (CUT_OFF, CUT_OFF),
        )
        [(before,)] = filled.execute("SELECT pg_current_wal_insert_lsn()").fetchall()
        assert moving._delete(work, chunk) == 23 - 6
        flushed = filled.execute("SELECT pg_current_wal_flush_lsn() > %s", (before,)).fetchone()
        assert flushed == (True,), "commits that wait for no disk do not move it by themselves"


def test_planning_a_batch_does_not_walk_past_all_rows_deleted_before_it(
    platform: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    platform.execute(
        "INSERT INTO public.audit_logs (created_at, action) SELECT %s::timestamptz - n * interval '1 second', 'x'"
        " FROM generate_series(1, 30000) AS n",
        (CUT_OFF,),
    )
    platform.execute("ANALYZE public.audit_logs")
    edge = CUT_OFF - timedelta(seconds=5000)
    platform.execute("DELETE FROM public.audit_logs WHERE created_at < %s", (edge,))
    with prune._attempt(rule(), CUT_OFF) as work:
        values = {"cut_off": CUT_OFF.isoformat(), "rows": 10, "time": edge.isoformat(), "key": "25000"}

        def index_pages(statement: str) -> int:
            query = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) " + row_statements.composed(statement, work.source)
            for _ in range(3):  # the first may fill the caches of the session
                row = work.platform.execute(query, values, prepare=False).fetchone()
            assert row is not None
            return int(row[0][0]["Planning"]["Shared Hit Blocks"])

        assert index_pages("next_rows") < 30
        until = time.monotonic() + 60
        while index_pages("first_rows") <= 60:  # 25,000 entries of 20 bytes are 68 pages: the control sees them
            assert time.monotonic() < until, "a snapshot of another test has needed the deleted rows for a minute"
            time.sleep(0.1)


# ------------------------------------------------------------------------------------- what could not even be begun
def _acts(warehouse: psycopg.Connection) -> list[tuple]:
    return warehouse.execute("SELECT run_id, state, reason FROM ops.maintenance_action ORDER BY 1").fetchall()


def test_a_database_that_is_away_is_a_failed_act_of_this_run(
    filled: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    prune.prune(rule(), "r1", dry_run=False, now=NOW)
    with environment.context() as patch:
        patch.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", f"postgresql://x:y@127.0.0.1:{free_port()}/z")
        with pytest.raises(SourceUnavailable, match="platform_db_maintenance"):
            prune.prune(rule(), "r2", dry_run=False, now=NOW)
    assert [one[:2] for one in _acts(warehouse)] == [("r1", "proven"), ("r2", "failed")]
    assert "platform_db_maintenance" in _acts(warehouse)[1][2]
    assert prune.prune(rule(), "r2", dry_run=False, now=NOW)["state"] == "nothing_to_do"


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("ALTER TABLE public.audit_logs RENAME COLUMN created_at TO noted_at", "has no column created_at"),
        ("ALTER TABLE public.audit_logs RENAME TO audit_log", "no table public.audit_logs"),
    ],
)
def test_a_table_that_changed_is_a_failed_act_of_this_run(
    filled: psycopg.Connection, warehouse: psycopg.Connection, statement: str, message: str
) -> None:
    filled.execute(statement.encode())
    with pytest.raises(ConfigurationError, match=message):
        prune.prune(rule(), "r1", dry_run=False, now=NOW)
    [(_, state, reason)] = _acts(warehouse)
    assert state == "failed"
    assert message in reason


def test_a_count_that_takes_too_long_is_a_failed_act_of_this_run(
    filled: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    count = rows.count

    def slow(connection: psycopg.Connection, *others: object) -> object:
        connection.execute("SET statement_timeout = 1")
        filled.execute("BEGIN; LOCK TABLE public.audit_logs")
        try:
            return count(connection, *others)  # type: ignore[arg-type]
        finally:
            filled.execute("ROLLBACK")

    environment.setattr(rows, "count", slow)
    with pytest.raises(MaintenanceFailed, match="ran into its time limit"):
        prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert [one[:2] for one in _acts(warehouse)] == [("r1", "failed")]


def test_a_table_that_another_run_prunes_is_a_failed_act_but_never_that_of_the_other_attempt(
    filled: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    action = actions.applying(actions.plan("prune", "public.audit_logs", "r1", dry_run=False, plan={}))
    with prune._alone("public.audit_logs"):
        for run in ("r1", "r2"):
            with pytest.raises(MaintenanceFailed, match="another run prunes"):
                prune.prune(rule(), run, dry_run=False, now=NOW)
    assert [one[:2] for one in _acts(warehouse)] == [("r1", "applying"), ("r2", "failed")]
    actions.prove(action, {}, {})


def test_a_warehouse_that_is_away_is_said(filled: psycopg.Connection, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIRFLOW_CONN_WAREHOUSE", f"postgresql://x:y@127.0.0.1:{free_port()}/z")
    with pytest.raises(SourceUnavailable, match="warehouse"):
        prune.prune(rule(), "r1", dry_run=False, now=NOW)


@pytest.mark.parametrize("after", [10, 23])
def test_what_a_run_settles_of_an_earlier_one_is_in_its_proof(
    filled: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, after: int
) -> None:
    before, record_deleted, deleted = in_table(filled), archives.record_deleted, []

    def lost(*arguments: object) -> None:
        deleted.append(arguments)
        if len(deleted) * 10 >= after:  # archives of 10, 10 and 3 rows
            raise SourceUnavailable("lost")
        record_deleted(*arguments)  # type: ignore[arg-type]

    with environment.context() as patch:
        patch.setattr(archives, "record_deleted", lost)
        with pytest.raises(SourceUnavailable):
            prune.prune(rule(), "r1", dry_run=False, now=NOW)
    done = prune.prune(rule(), "r2", dry_run=False, now=NOW)
    [(proof,)] = warehouse.execute("SELECT proof FROM ops.maintenance_action WHERE run_id = 'r2'").fetchall()
    assert done["state"] == "proven", "also when nothing else is left to do"
    assert proof["rows_archived"] + proof["rows_of_unproven_runs"] == 23
    assert proof["archives"] + proof["archives_of_unproven_runs"] == 3
    assert proof["rows_arrived_meanwhile"] == 0
    assert in_table(filled) + archived(filled, warehouse) == before
    assert prune.prune(rule(), "r3", dry_run=False, now=NOW)["state"] == "nothing_to_do"


# ------------------------------------------------------------------------------------------------------------ time
def test_what_does_not_fit_in_its_time_is_postponed_and_goes_on(
    filled: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    before, moments = in_table(filled), iter([0.0])
    with environment.context() as patch:  # the time is up after the first archive was begun
        patch.setattr(pruning_work, "time", SimpleNamespace(monotonic=lambda: next(moments, math.inf)))
        done = prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert (done["state"], done["rows"], done["archives"]) == ("postponed", 10, 1)
    assert done["reason"] == (
        "the 45 minutes of maintenance.prune.longest_minutes were over with 10 rows archived and deleted; "
        "the next run goes on from there"
    )
    assert states(warehouse) == ["deleted"]
    assert in_table(filled) + archived(filled, warehouse) == before
    assert prune.prune(rule(), "r2", dry_run=False, now=NOW)["rows"] == 13
    [(proof,)] = warehouse.execute("SELECT proof FROM ops.maintenance_action WHERE run_id = 'r2'").fetchall()
    assert proof["rows_of_unproven_runs"] == 10
    assert prune.prune(rule(), "r1", dry_run=False, now=NOW)["state"] == "proven", "the same run goes on too"


def test_the_time_is_that_of_the_rule(filled: psycopg.Connection) -> None:
    with prune._attempt(rule(longest_minutes=2), CUT_OFF) as work:
        assert 100 < work.ends_at - time.monotonic() <= 120
    assert prune.prune(rule(longest_minutes=1e-9), "r1", dry_run=False, now=NOW)["state"] == "postponed"
    assert filled.execute("SELECT count(*) FROM public.audit_logs").fetchone() == (30,)
