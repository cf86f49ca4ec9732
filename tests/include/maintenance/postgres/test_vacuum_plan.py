"""Tables are rated as autovacuum would rate them, and ordered, postponed or left alone with a reason."""

import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from demo.databases import Databases
from demo.processes import free_port
from include.maintenance.postgres import vacuum, vacuum_plan
from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable
from include.settings import settings
from include.warehouse import actions
from tests.include.maintenance.postgres.vacuum_steps import (
    burn_transactions,
    maintain_all,
    make_dirty,
    planned,
    recorded,
    wait_for,
    whole,
)
from tests.old_postgres import flush_statistics


@pytest.fixture
def quiet(any_platform: psycopg.Connection, environment: pytest.MonkeyPatch) -> psycopg.Connection:
    """A platform without tables."""
    any_platform.execute("DROP TABLE public.audit_logs")
    return any_platform


def _table(platform: psycopg.Connection, name: str, rows: int, *, options: str = "", analyzed: bool = True) -> None:
    given = f"autovacuum_enabled = off{', ' if options else ''}{options}"
    platform.execute(f"CREATE TABLE public.{name} (x integer, t text) WITH ({given})")
    platform.execute(f"INSERT INTO public.{name} SELECT n, 'x' FROM generate_series(1, {rows}) n")
    flush_statistics(platform)  # or the rows are counted after the vacuum, as if they were new
    if analyzed:
        platform.execute(f"VACUUM ANALYZE public.{name}")


def _set(environment: pytest.MonkeyPatch, key: str, value: object) -> None:
    from include.settings import settings

    environment.setenv(f"OPERATIONS__MAINTENANCE__VACUUM__{key.upper()}", str(value))
    settings.cache_clear()


def test_shares_are_those_of_the_tables_own_settings(quiet: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    # Dead rows: autovacuum's own limit is 50 + 0.2 x 1,000 = 250, and analyze's is 50 + 0.1 x 1,000 = 150.
    for name, options in (
        ("plain", ""),
        ("patient", "autovacuum_vacuum_threshold = 1000, autovacuum_analyze_threshold = 1000"),
        ("eager", "autovacuum_vacuum_scale_factor = 0, autovacuum_analyze_scale_factor = 0.85"),
        ("untouched", ""),
    ):
        _table(quiet, name, 1000, options=options)
        if name != "untouched":
            quiet.execute(f"DELETE FROM public.{name} WHERE x <= 200")
    flush_statistics(quiet)
    due = planned()
    assert list(due) == ["public.eager", "public.plain"], "the worst first"
    eager, plain = due["public.eager"], due["public.plain"]
    assert plain["facts"]["dead_share"] == pytest.approx(200 / 250)
    assert plain["facts"]["changed_share"] == pytest.approx(200 / 150, abs=1e-4)
    assert (plain["vacuum"], plain["analyze"], plain["freeze"], plain["danger"]) == (True, True, False, False)
    assert eager["facts"]["dead_share"] == pytest.approx(200 / 50)
    assert eager["facts"]["changed_share"] == pytest.approx(200 / 900, abs=1e-4)
    assert (eager["vacuum"], eager["analyze"]) == (True, False)
    state, _, plan, _ = whole(warehouse)
    assert (state, plan["looked_at"], plan["left_alone"]) == ("planned", 4, [])
    assert [one["table"] for one in plan["due"]] == ["public.eager", "public.plain"]


def test_the_largest_threshold_bounds_large_tables_since_18(quiet: psycopg.Connection) -> None:
    if quiet.info.server_version < 180000:
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            _table(quiet, "bounded", 1, options="autovacuum_vacuum_max_threshold = 100")
        return
    _table(quiet, "bounded", 5000, options="autovacuum_vacuum_max_threshold = 100")
    quiet.execute("DELETE FROM public.bounded WHERE x <= 60")
    flush_statistics(quiet)
    assert planned()["public.bounded"]["facts"]["dead_share"] == pytest.approx(0.6), "60 of 100, not of 1,050"


def test_an_insert_only_table(quiet: psycopg.Connection) -> None:
    for name, options in (("inserted", ""), ("exempt", "autovacuum_vacuum_insert_threshold = -1")):
        _table(quiet, name, 1000, options=options)
        quiet.execute(f"INSERT INTO public.{name} SELECT n, 'y' FROM generate_series(1, 1000) n")
        flush_statistics(quiet)
        quiet.execute(f"ANALYZE public.{name}")
    due = planned()
    assert list(due) == ["public.inserted"], "-1 means that inserts alone never call for a vacuum"
    # 1,000 + 0.2 x 2,000 rows; since 18 only the share that is not frozen counts. Nothing is frozen that young.
    assert due["public.inserted"]["facts"]["inserted_share"] == pytest.approx(1000 / 1400, abs=1e-4)
    assert (due["public.inserted"]["vacuum"], due["public.inserted"]["analyze"]) == (True, False)
    vacuum.maintain(due["public.inserted"], "r1", dry_run=False)
    assert planned("r2") == {}


def test_frozen_pages_do_not_count_since_18(quiet: psycopg.Connection) -> None:
    _table(quiet, "old", 20_000)
    quiet.execute("VACUUM FREEZE public.old")
    quiet.execute("INSERT INTO public.old SELECT n, 'y' FROM generate_series(1, 2000) n")
    flush_statistics(quiet)
    expected = 2000 / 1000 if quiet.info.server_version >= 180000 else 2000 / (1000 + 0.2 * 20_000)
    due = planned()
    found = due["public.old"]["facts"]["inserted_share"] if due else 0.4
    assert found == pytest.approx(expected, rel=0.02)


def test_toast_counts_with_its_own_settings(quiet: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    _table(
        quiet, "wide", 2000, options="toast.autovacuum_vacuum_threshold = 20, toast.autovacuum_vacuum_scale_factor = 0"
    )
    quiet.execute("ALTER TABLE public.wide ALTER t SET STORAGE EXTERNAL")
    quiet.execute("UPDATE public.wide SET t = repeat('z', 4000) WHERE x <= 20")
    quiet.execute("VACUUM ANALYZE public.wide")
    quiet.execute("UPDATE public.wide SET t = 'short' WHERE x <= 20")  # 20 values of 4,000 bytes are 3 chunks each
    flush_statistics(quiet)
    found = planned()["public.wide"]
    assert found["facts"]["toast_dead_rows"] == 60
    assert found["facts"]["dead_share"] == pytest.approx(60 / 20)
    assert found["vacuum"]
    vacuum.maintain(found, "r1", dry_run=False)
    assert planned("r2") == {}


def test_near_wraparound_comes_before_all_else(
    quiet: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    _table(quiet, "aged", 10, options="autovacuum_freeze_max_age = 100000")
    burn_transactions(quiet, 100_001)
    _table(quiet, "dirty", 1000)
    quiet.execute("DELETE FROM public.dirty")
    flush_statistics(quiet)
    due = planned()
    assert list(due) == ["public.aged", "public.dirty"]
    aged = due["public.aged"]
    assert (aged["danger"], aged["freeze"], aged["vacuum"]) == (True, True, False)
    assert 1 <= aged["facts"]["transaction_share"] < 1.1
    assert due["public.dirty"]["score"] > aged["score"], "danger goes before the score"
    past = due["public.aged"] | {"ends_at": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}
    assert vacuum.maintain(past, "r1", dry_run=False)["state"] == "proven", "even when the window is over"
    [(statement, before, after)] = warehouse.execute(
        "SELECT applied ->> 'statement', proof #> '{before,transaction_age}', proof #> '{after,transaction_age}'"
        " FROM ops.maintenance_action WHERE resource = 'public.aged'"
    ).fetchall()
    assert "FREEZE" in statement
    assert before > 100_000
    assert after < 50_000, "other tests use transactions too"
    assert list(planned("r2")) == ["public.dirty"]


def test_multixact_age_counts_too(
    quiet: psycopg.Connection, databases: Databases, environment: pytest.MonkeyPatch, any_databases: Databases
) -> None:
    _set(environment, "freeze_share", 0.005)
    _table(quiet, "shared", 10, options="autovacuum_multixact_freeze_max_age = 10000")
    url = any_databases.url(quiet.info.dbname, "escrow_owner")
    with psycopg.connect(url) as first, psycopg.connect(url, autocommit=True) as second:
        first.execute("SELECT FROM public.shared WHERE x = 1 FOR SHARE")
        for _ in range(60):  # each lock beside the first one makes a new multixact
            second.execute("SELECT FROM public.shared WHERE x = 1 FOR SHARE")
    item = planned()["public.shared"]
    assert item["freeze"]
    assert 0.005 <= item["facts"]["multixact_share"] < 0.05
    assert item["facts"]["transaction_share"] < 0.005
    assert vacuum.maintain(item, "r1", dry_run=False)["state"] == "proven"
    assert "public.shared" not in planned("r2")


def test_missing_statistics(quiet: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    _table(quiet, "fresh", 10, analyzed=False)
    _table(quiet, "widened", 10)
    quiet.execute("GRANT SELECT ON public.widened TO operations_maintainer")
    quiet.execute("ALTER TABLE public.widened ADD COLUMN added integer DEFAULT 1")
    quiet.execute("CREATE TABLE public.empty (x integer)")
    flush_statistics(quiet)
    due = planned()
    assert sorted(due) == ["public.fresh", "public.widened"], "an empty table has nothing to be known"
    assert due["public.widened"]["facts"]["unknown_columns"] == 1
    assert {(item["vacuum"], item["analyze"], item["score"]) for item in due.values()} == {(False, True, 1.0)}
    assert maintain_all("r1") == ["proven", "proven"]
    assert planned("r2") == {}
    # A column that an analyze leaves unknown does not call for another one every night.
    quiet.execute("DELETE FROM public.widened")
    flush_statistics(quiet)
    quiet.execute("VACUUM ANALYZE public.widened")
    quiet.execute("ALTER TABLE public.widened ADD COLUMN more integer")
    quiet.execute("INSERT INTO public.widened VALUES (1)")
    flush_statistics(quiet)
    item = planned("r3")["public.widened"]
    warehouse.execute(
        "UPDATE ops.maintenance_action SET proof = jsonb_set(proof, '{after,unknown_columns}', %s::jsonb)"
        " WHERE resource = 'public.widened'",
        (str(item["facts"]["unknown_columns"]),),
    )
    assert planned("r4") == {}


def test_a_partitioned_table_is_analyzed_as_a_whole(quiet: psycopg.Connection, warehouse: psycopg.Connection) -> None:
    quiet.execute("CREATE TABLE public.parted (x integer) PARTITION BY RANGE (x)")
    for name, first in (("one", 0), ("two", 1000)):
        bounds = f"FROM ({first}) TO ({first + 1000})"
        quiet.execute(
            f"CREATE TABLE public.{name} PARTITION OF public.parted FOR VALUES {bounds} WITH (autovacuum_enabled = off)"
        )
    quiet.execute("INSERT INTO public.parted SELECT generate_series(0, 1999)")
    flush_statistics(quiet)
    due = planned()
    assert set(due) == {"public.parted", "public.one", "public.two"}
    assert (due["public.parted"]["vacuum"], due["public.parted"]["analyze"]) == (False, True)
    assert set(maintain_all("r1")) == {"proven"}
    known = "SELECT count(*) FROM pg_stats WHERE tablename = 'parted' AND inherited"
    assert quiet.execute(known).fetchone() == (1,)
    assert planned("r2") == {}
    # 100 of 50 + 0.1 x 2,000 rows are less than half; their partition's own limit is 50 + 0.1 x 1,000.
    quiet.execute("UPDATE public.one SET x = x WHERE x < 100")
    flush_statistics(quiet)
    assert set(planned("r3")) == {"public.one"}
    quiet.execute("UPDATE public.two SET x = x WHERE x < 1030")
    flush_statistics(quiet)
    assert planned("r4")["public.parted"]["facts"]["changed_rows"] == 130
    maintain_all("r4")
    quiet.execute("DROP TABLE public.two")
    assert set(planned("r5")) == {"public.parted"}, "a partition is gone"


def test_a_vacuum_on_the_table_is_left_alone(
    any_platform: psycopg.Connection,
    warehouse: psycopg.Connection,
    any_databases: Databases,
    environment: pytest.MonkeyPatch,
) -> None:
    make_dirty(any_platform)
    item = planned()["public.audit_logs"]
    url = any_databases.url(any_platform.info.dbname, "escrow_owner")
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1")
        work = threading.Thread(target=lambda: _cancelled(other, "VACUUM public.audit_logs"))
        work.start()
        wait_for(
            lambda: any_platform.execute(
                "SELECT 1 FROM pg_stat_progress_vacuum WHERE datname = current_database()"
            ).fetchone()
        )
        assert planned() == {}
        assert vacuum.maintain(item, "r2", dry_run=False)["state"] == "nothing_to_do", "it has begun since the plan"
        # A role that may not see what others do sees their locks still.
        environment.setenv(
            "AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", any_databases.url(any_platform.info.dbname, "escrow_owner")
        )
        assert planned("r3") == {}
        other.cancel()
        work.join()
    reasons = [reason for _, _, state, reason in recorded(warehouse) if state == "nothing_to_do"]
    assert len(reasons) == 3
    assert all("vacuums this table already" in reason for reason in reasons)
    assert whole(warehouse)[2]["left_alone"] == ["public.audit_logs"]


def test_an_analyze_on_the_table_puts_its_vacuum_off(
    any_platform: psycopg.Connection, warehouse: psycopg.Connection, any_databases: Databases
) -> None:
    make_dirty(any_platform)
    item = planned()["public.audit_logs"]
    any_platform.execute(  # pages enough for an ANALYZE that rests after each of them to last
        "INSERT INTO public.audit_logs (created_at, action) SELECT now(), 'x' FROM generate_series(1, 50000)"
    )
    url = any_databases.url(any_platform.info.dbname, "escrow_owner")
    with psycopg.connect(url, autocommit=True) as other:
        reason = f"client backend {other.info.backend_pid} analyzes this table already"
        other.execute("SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1")
        work = threading.Thread(target=lambda: _cancelled(other, "ANALYZE public.audit_logs"))
        work.start()
        analyzing = "SELECT 1 FROM pg_stat_progress_analyze WHERE datname = current_database()"
        wait_for(lambda: any_platform.execute(analyzing).fetchone())
        assert planned("r2") == {}
        assert vacuum.maintain(item, "r1", dry_run=False)["state"] == "postponed", "it has begun since the plan"
        only_analyze = item | {"vacuum": False, "table": "public.audit_logs"}
        assert vacuum.maintain(only_analyze, "r3", dry_run=False)["state"] == "nothing_to_do"
        other.cancel()
        work.join()
        with other.transaction():
            other.execute("LOCK TABLE public.audit_logs IN SHARE UPDATE EXCLUSIVE MODE")  # as an analyze does, for sure
            with pytest.raises(MaintenanceFailed, match="another session holds a lock on it"):
                vacuum.maintain(item | {"danger": True}, "r4", dry_run=False)
    assert [row[2:] for row in recorded(warehouse)][:3] == [
        ("postponed", reason), ("postponed", reason), ("nothing_to_do", reason),
    ]  # fmt: skip


def _cancelled(connection: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute(statement)


def test_a_held_horizon_leaves_what_is_useful(
    any_platform: psycopg.Connection, warehouse: psycopg.Connection, any_databases: Databases
) -> None:
    url = any_databases.url(any_platform.info.dbname, "escrow_app")
    with psycopg.connect(url, application_name="long report") as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        make_dirty(any_platform)
        any_platform.execute("VACUUM ANALYZE public.audit_logs")  # it removes nothing, and the 400 dead rows stay
        flush_statistics(any_platform)
        assert planned() == {}, "nothing is left to analyze"
        any_platform.execute("UPDATE public.audit_logs SET action = 'changed'")
        flush_statistics(any_platform)
        item = planned("r2")["public.audit_logs"]
        assert (item["vacuum"], item["analyze"]) == (False, True)
        assert "long report as escrow_app" in item["held_by"]
        assert vacuum.maintain(item, "r2", dry_run=False)["state"] == "proven"
        first, second = recorded(warehouse)
        assert first[:3] == ("vacuum", "public.audit_logs", "nothing_to_do")
        assert "could remove nothing while process" in first[3]
        assert "long report as escrow_app" in first[3]
        assert second[:3] == ("analyze", "public.audit_logs", "proven")
        assert "vacuum left out" in second[3]
    assert planned("r3")["public.audit_logs"]["vacuum"], "the holder is gone"


def test_danger_that_no_vacuum_can_avert_is_a_failure(
    any_platform: psycopg.Connection,
    warehouse: psycopg.Connection,
    any_databases: Databases,
    environment: pytest.MonkeyPatch,
) -> None:
    make_dirty(any_platform)
    any_platform.execute("VACUUM ANALYZE public.audit_logs")
    any_platform.execute("ALTER TABLE public.audit_logs SET (autovacuum_freeze_max_age = 100000)")
    flush_statistics(any_platform)
    with psycopg.connect(
        any_databases.url(any_platform.info.dbname, "escrow_app"), application_name="forgotten"
    ) as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        burn_transactions(any_platform, 100_001)
        item = planned()["public.audit_logs"]
        assert (item["danger"], item["vacuum"], item["freeze"], item["analyze"]) == (True, False, False, False)
        with pytest.raises(MaintenanceFailed, match=r"danger of .* wraparound .* while process \d+ \(forgotten"):
            vacuum.maintain(item, "r1", dry_run=False)
        assert recorded(warehouse)[0][2] == "failed"
        assert vacuum.finish("r1")["state"] == "failed"
    assert maintain_all("r1") == ["proven"], "the same run, once the holder has gone"
    assert vacuum.finish("r1")["state"] == "proven"


def test_what_does_not_fit_is_postponed_and_first_next_time(
    quiet: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    _set(environment, "tables_at_once", 1)
    for name, dead in (("slow", 200), ("worse", 300)):
        _table(quiet, name, 1000)
        quiet.execute(f"DELETE FROM public.{name} WHERE x <= {dead}")
    flush_statistics(quiet)
    assert maintain_all("r0") == ["proven", "proven"]
    for name, seconds in (("slow", "100"), ("worse", "1")):
        warehouse.execute(
            "UPDATE ops.maintenance_action SET applied = jsonb_set(applied, '{seconds}', %s::jsonb)"
            " WHERE resource = %s",
            (seconds, f"public.{name}"),
        )
    for name, dead in (("slow", 400), ("worse", 600)):
        quiet.execute(f"DELETE FROM public.{name} WHERE x <= {dead}")
    flush_statistics(quiet)
    ends_at = datetime.now(UTC) + timedelta(seconds=30)
    due = planned("r1", ends_at=ends_at)
    assert list(due) == ["public.worse", "public.slow"]
    slow = due["public.slow"]
    assert slow["expected_seconds"] == pytest.approx(100, rel=0.2), "as long as last time, by its size"
    assert (due["public.worse"]["fits"], slow["fits"]) == (True, False)
    assert whole(warehouse)[2]["expected_not_to_fit"] == ["public.slow"]
    assert [vacuum.maintain(item, "r1", dry_run=False)["state"] for item in due.values()] == ["proven", "postponed"]
    assert recorded(warehouse)[-1][3].endswith(" s of the window are left")
    summary = vacuum.finish("r1")
    assert (summary["state"], summary["reason"]) == ("proven", "postponed to the next run: public.slow")
    quiet.execute("DELETE FROM public.worse")
    flush_statistics(quiet)
    resumed = planned("r2")
    assert list(resumed) == ["public.slow", "public.worse"], "the postponed one is first although the other is worse"
    assert resumed["public.slow"]["score"] < resumed["public.worse"]["score"]
    assert vacuum.maintain(resumed["public.slow"], "r2", dry_run=False)["state"] == "proven"


def _act(seconds: float, size_bytes: int, state: str = "proven") -> actions.Action:
    return actions.Action(
        1, "vacuum", "public.other", "r0", False, state, {"before": {"size_bytes": size_bytes}}, {"seconds": seconds},
        None, "", datetime.now(UTC),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("others", "size_bytes", "seconds"),
    [
        # 0.03 s of two pages were fixed costs: 20 GiB take 0.03 + 21,474,836,480 / 20,000,000 s and no eleven hours.
        ([_act(0.03, 16_384)], 20 * 2**30 + 16_384, 0.03 + 1073.741824),
        ([_act(0.03, 16_384, "postponed")], 20 * 2**30 + 16_384, 0.06 + 1073.741824),
        ([_act(0.5, 80_000_000)], 40_000_000, 0.25),  # by its size it is quicker still
        ([_act(0.5, 80_000_000)], 160_000_000, 1.0),  # not 0.5 + 80,000,000 / 20,000,000
        ([_act(2.0, 10_000_000)], 30_000_000, 6.0),  # a slow disk: it measured its speed
        ([_act(0.03, 16_384), _act(2.0, 10_000_000)], 30_000_000, 6.0),
    ],
)
def test_a_small_table_tells_little_of_a_large_one(
    others: list[actions.Action], size_bytes: int, seconds: float
) -> None:
    large = {"vacuum": True, "freeze": False, "facts": {"size_bytes": size_bytes}}
    for own, measured in ((False, False), (True, True)):
        expected = vacuum_plan._expected_seconds(large, others if own else [], [] if own else others)
        assert expected[0] == pytest.approx(seconds)
        assert expected[1] is measured


def test_an_act_that_rested_in_another_way_tells_nothing_of_the_next(environment: pytest.MonkeyPatch) -> None:
    large = {"vacuum": True, "freeze": False, "facts": {"size_bytes": 40_000_000}}
    acts = [_act(90.0, 40_000_000)]
    acts[0].applied["cost_delay_milliseconds"] = 5.0  # type: ignore[index]
    assert vacuum_plan._expected_seconds(large, acts, []) == (2.0, False), "20 MB/s are assumed"
    environment.setenv("OPERATIONS__MAINTENANCE__VACUUM__COST_DELAY_MILLISECONDS", "5")
    settings.cache_clear()
    assert vacuum_plan._expected_seconds(large, acts, []) == (90.0, True)
    settings.cache_clear()


def test_a_dry_run_records_the_plan_and_what_would_be_left(
    any_platform: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    make_dirty(any_platform)
    [item] = vacuum_plan.plan_tables("r1", dry_run=True, ends_at=datetime.now(UTC) + timedelta(milliseconds=1))
    assert vacuum.maintain(item, "r1", dry_run=True)["state"] == "planned"
    assert vacuum.finish("r1", dry_run=True)["state"] == "planned"
    [(plan, dry_run)] = warehouse.execute(
        "SELECT plan, dry_run FROM ops.maintenance_action WHERE resource = 'public.audit_logs'"
    ).fetchall()
    assert (plan["score"], plan["fits"], plan["facts"]["dead_rows"], dry_run) == (28.0, False, 400, True)
    assert whole(warehouse)[2]["expected_not_to_fit"] == ["public.audit_logs"]
    row = any_platform.execute("SELECT vacuum_count, analyze_count, n_dead_tup FROM pg_stat_user_tables").fetchone()
    assert row == (0, 0, 400)


def test_nothing_to_do_says_how_many_tables_were_looked_at(
    quiet: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    for name in ("one", "two"):
        _table(quiet, name, 10)
    flush_statistics(quiet)
    assert planned() == {}
    said = "2 tables were looked at and none needs work now"
    hidden = "; the role may not see whether {} of them lack statistics of a column"
    if quiet.info.server_version < 170000:
        hidden = ""  # who maintains tables there belongs to their owner
    assert whole(warehouse)[:2] == ("nothing_to_do", said + hidden.format(2))
    assert vacuum.finish("r1")["state"] == "nothing_to_do"
    assert recorded(warehouse) == []
    for name, left in (("one", hidden.format(1)), ("two", "")):
        quiet.execute(f"GRANT SELECT ON {name} TO operations_maintainer".encode())
        vacuum_plan.plan_tables(name)
        query = "SELECT reason FROM ops.maintenance_action WHERE run_id = %s"
        assert warehouse.execute(query, (name,)).fetchall() == [(said + left,)]


def test_a_list_that_cannot_be_read_is_a_failure(
    platform: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, databases: Databases
) -> None:
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", f"postgresql://x:y@127.0.0.1:{free_port()}/nowhere")
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        planned()
    assert whole(warehouse)[0] == "failed"
    assert vacuum.finish("r1")["state"] == "failed", "a plan that failed is not proven by an empty list"
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", databases.postgres.url(platform.info.dbname))
    with pytest.raises(ConfigurationError, match="logs in as a superuser"):
        planned()


@pytest.mark.parametrize("minutes", [0, 721])
def test_a_window_has_bounds(minutes: int) -> None:
    with pytest.raises(ConfigurationError, match=f"of {minutes} minutes is not between 1 and 720"):
        vacuum_plan.window_end(minutes)


def test_a_window_begins_with_its_plan_and_anew_with_a_run_that_is_begun_anew() -> None:
    now = datetime.now(UTC)
    ends_at = vacuum_plan.window_end(90)
    assert timedelta(minutes=90) <= ends_at - now < timedelta(minutes=91)
    item = {"table": "public.users", "ends_at": ends_at.isoformat()}
    assert vacuum_plan.in_window_of(item, now - timedelta(hours=2), 90) == item, (
        "pruning took two hours before the plan"
    )
    cleared = vacuum_plan.in_window_of(item, now + timedelta(hours=8), 90)
    assert cleared == item | {"ends_at": (now + timedelta(hours=8, minutes=90)).isoformat()}
    assert vacuum_plan.in_window_of({"table": "public.users", "ends_at": None}, now, 90)["ends_at"] is None
