"""The forecast of transaction ids: worked out by hand, then on real servers."""

import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.postgres import drift, wraparound
from include.maintenance.postgres.wraparound import Forecast, Limits, Rate
from include.outcome import ConfigurationError, Outcome
from include.platform import database
from include.warehouse.findings import Finding
from include.warehouse.snapshots import Snapshot
from tests.include.maintenance.conftest import AUDIT_LOGS
from tests.include.maintenance.postgres.vacuum_steps import burn_transactions
from tests.recorded_findings import latest_findings

NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)


def snapshot(days: float, xid: int, multixact: int = 1) -> Snapshot:
    at = NOON + timedelta(days=days)
    return Snapshot(1, f"run {days}", "2026-10", at, "escrow", 180000, 7, xid, multixact, None, {})


def test_a_rate_is_that_of_the_whole_time_and_the_fastest_that_of_any_interval() -> None:
    # 10 days with 1 M a day, 20 days with 4 M a day: 90 M in 30 days.
    found = wraparound.rate([snapshot(0, 5), snapshot(10, 10_000_005), snapshot(30, 90_000_005)], "next_transaction")
    assert found == Rate(typical=3_000_000, fastest=4_000_000, intervals=2, days=30)


def test_fewer_than_two_snapshots_a_day_apart_give_no_rate() -> None:
    assert wraparound.rate([snapshot(0, 5)], "next_transaction") is None
    assert wraparound.rate([snapshot(0, 5), snapshot(0.5, 9_000)], "next_transaction") is None, "12 hours are too short"


def test_a_rerun_on_the_same_day_counts_as_one() -> None:
    found = wraparound.rate([snapshot(0, 0), snapshot(10, 900), snapshot(10.1, 1010)], "next_transaction")
    assert found is not None
    assert found.intervals == 1
    assert found.typical == pytest.approx(100)


def test_what_lies_before_another_cluster_is_left_out() -> None:
    found = wraparound.rate([snapshot(0, 10**9), snapshot(10, 1000), snapshot(20, 3000)], "next_transaction")
    assert found == Rate(200, 200, 1, 10)


def test_multixacts_start_over() -> None:
    history = [snapshot(0, 1, 2**32 - 100), snapshot(10, 2, 900)]
    assert wraparound.rate(history, "next_multixact") == Rate(100, 100, 1, 10)


def test_limits_are_those_of_the_version() -> None:
    # 2^31 - 1 = 2,147,483,647
    assert wraparound.limits(180000, 200_000_000, 1_600_000_000, multixact=False) == Limits(
        200_000_000, 1_600_000_000, 2_107_483_647, 2_144_483_647
    )
    assert wraparound.limits(130000, 200_000_000, None, multixact=False) == Limits(
        200_000_000, 1_600_000_000, 2_136_483_647, 2_146_483_647
    )
    assert wraparound.limits(130000, 400_000_000, None, multixact=True).refuses == 2_147_483_547
    assert wraparound.limits(150000, 2_000_000_000, 1_600_000_000, multixact=False).failsafe == 2_100_000_000


def test_days_until_each_limit() -> None:
    of = wraparound.limits(180000, 200_000_000, 1_600_000_000, multixact=False)
    found = wraparound.forecast(144_483_647, of, Rate(20_000_000, 40_000_000, 3, 90))
    # (200,000,000 - 144,483,647) / 20 M = 2.8; (2,107,483,647 - 144,483,647) / 20 M = 98.15; 2,000 M / 20 M; / 40 M
    assert found == Forecast(2.8, 98.2, 100.0, 50.0)
    assert wraparound.forecast(250_000_000, of, None) == Forecast(0.0, None, None, None)
    assert wraparound.forecast(5, of, Rate(0, 0, 1, 30)) == Forecast(None, None, None, None)


@pytest.mark.parametrize(
    ("age", "consumption", "outcome"),
    [
        (100_000_000, None, Outcome.UNKNOWN),
        (100_000_000, Rate(1_000_000, 1_000_000, 1, 30), Outcome.OK),
        (249_000_000, Rate(1_000_000, 1_000_000, 1, 30), Outcome.OK),
        (251_000_000, Rate(1_000_000, 1_000_000, 1, 30), Outcome.WARNING),
        (251_000_000, None, Outcome.WARNING),
        (1_600_000_000, None, Outcome.CRITICAL),
        (144_483_647, Rate(20_000_000, 40_000_000, 1, 30), Outcome.WARNING),  # 50 days at the fastest
        (144_483_647, Rate(20_000_000, 160_000_000, 1, 30), Outcome.CRITICAL),  # 12.5 days
    ],
)
def test_how_bad_it_is(environment: Any, age: int, consumption: Rate | None, outcome: Outcome) -> None:
    of = wraparound.limits(180000, 200_000_000, 1_600_000_000, multixact=False)
    assert wraparound.judge(age, of, consumption, wraparound.forecast(age, of, consumption)) is outcome


def test_names_in_remedies_stay_names() -> None:
    name = "it's host=elsewhere $(reboot)"
    [line] = wraparound._freeze_all(name, f'"{name}"', closed=False)
    *command, argument = shlex.split(line.removeprefix("-- "))
    assert command == ["vacuumdb", "--freeze"]
    assert psycopg.conninfo.conninfo_to_dict(argument.removeprefix("--dbname=")) == {"dbname": name}
    several = wraparound._freeze_all("a\n\\! reboot", '"a\n\\! reboot"', closed=True)
    several += wraparound._first_end(database.Horizon("the prepared transaction a\nDROP TABLE b; of c", 9, 1, None), 9)
    assert [line[:3] for text in several for line in text.splitlines()] == ["-- "] * 4
    named = {"name": '"a\nDROP TABLE b"', "temporary": True, "backend": 3, "session": 7, "session_began": NOON}
    assert len(wraparound._freeze(named).splitlines()) == 1
    left = wraparound._freeze(named | {"session": None})
    assert [line[:3] for line in left.splitlines()] == ["-- "] * 2


# ------------------------------------------------------------------------------------------------- real servers
def test_the_first_run_knows_the_ages_but_no_forecast(any_platform: psycopg.Connection) -> None:
    drift.take("run 1", NOON)
    assert wraparound.check("run 1")["outcome"] == "unknown"
    found = {one.finding.resource: one.finding for one in latest_findings("wraparound")}
    own = found[f"database {any_platform.info.dbname}"]
    assert own.outcome is Outcome.UNKNOWN
    assert "unknown until there are two snapshots" in own.summary
    [(age,)] = any_platform.execute("SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()")
    assert own.evidence["transaction"]["age"] <= age
    assert own.evidence["transaction"]["age"] > age - 1_000_000, "other tests use transactions too"
    assert "table public.audit_logs" in found
    assert "database template0" in found


def test_measured_consumption_becomes_a_forecast(
    any_platform: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    drift.take("run 1", NOON)
    warehouse.execute("UPDATE ops.platform_snapshot SET taken_at = taken_at - interval '10 days'")
    for _ in range(50):
        any_platform.execute("SELECT pg_current_xact_id()")
    drift.take("run 2", NOON)
    assert wraparound.check("run 2")["outcome"] == "ok"
    [own] = [
        one.finding for one in latest_findings("wraparound") if one.finding.resource.endswith(any_platform.info.dbname)
    ]
    [(used, days)] = warehouse.execute(
        "SELECT max(next_transaction) - min(next_transaction),"
        " extract(epoch FROM max(taken_at) - min(taken_at)) / 86400 FROM ops.platform_snapshot"
    )
    assert used >= 50
    evidence = own.evidence["transaction"]
    assert evidence["typical"] == pytest.approx(float(used / days))
    left = evidence["refuses_at_age"] - evidence["age"]
    assert evidence["days_until_refused"] == pytest.approx(left / float(used / days), rel=1e-3)


def test_a_table_that_vacuum_neglects_is_named_with_its_remedy(
    any_platform: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ages of hundreds of millions are made by lowering the limit: the server's smallest is 100,000.
    drift.take("run 1", NOON)
    monkeypatch.setattr(wraparound, "_BEHIND", 1e-9)
    wraparound.check("run 1")
    [table] = [
        one.finding for one in latest_findings("wraparound") if one.finding.resource == "table public.audit_logs"
    ]
    assert table.outcome is Outcome.WARNING
    assert "VACUUM (FREEZE) public.audit_logs;" in table.remedy
    any_platform.execute("VACUUM (FREEZE) public.audit_logs")


def test_a_tables_own_lower_limit_counts(any_platform: psycopg.Connection) -> None:
    any_platform.execute("ALTER TABLE public.audit_logs SET (autovacuum_freeze_max_age = 150000)")
    drift.take("run 1", NOON)
    wraparound.check("run 1")
    [table] = [
        one.finding for one in latest_findings("wraparound") if one.finding.resource == "table public.audit_logs"
    ]
    assert table.evidence["transaction"]["freeze_age"] == 150_000


def test_without_a_snapshot_the_task_says_so(platform: psycopg.Connection) -> None:
    with pytest.raises(ConfigurationError, match="the run nothing has no row in ops.platform_snapshot"):
        wraparound.check("nothing")
    [found] = latest_findings("wraparound")
    assert (found.run_id, found.finding.outcome) == ("nothing", Outcome.UNKNOWN)


# ------------------------------------------------------------------------------------------ who holds ages back
@pytest.fixture
def superuser(
    own_cluster: Databases, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection]:
    """A cluster of the module's own, in which every age is a reason to speak up."""
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", own_cluster.url("escrow", "operations_maintainer"))
    environment.setattr(wraparound, "_BEHIND", 1e-9)
    with psycopg.connect(own_cluster.postgres.url("postgres"), autocommit=True) as other:
        other.execute("VACUUM (FREEZE)")
    with psycopg.connect(own_cluster.postgres.url("escrow"), autocommit=True) as connection:
        connection.execute("VACUUM (FREEZE)")
        connection.execute("DROP TABLE IF EXISTS public.audit_logs")
        connection.execute(AUDIT_LOGS)
        yield connection
        connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def _checked(run_id: str) -> dict[str, Finding]:
    drift.take(run_id, NOON)
    wraparound.check(run_id)
    return {one.finding.resource: one.finding for one in latest_findings("wraparound")}


def _age(connection: psycopg.Connection, table: str) -> int:
    row = connection.execute("SELECT age(relfrozenxid) FROM pg_class WHERE oid = %s::regclass", (table,)).fetchone()
    assert row is not None
    return int(row[0])


def test_a_stale_logical_slot_keeps_the_catalogs_old_and_is_named(superuser: psycopg.Connection) -> None:
    superuser.execute("SELECT pg_create_logical_replication_slot('reports', 'pgoutput')")
    burn_transactions(superuser, 2000)
    superuser.execute("VACUUM (FREEZE)")
    assert _age(superuser, "public.audit_logs") < 1000, "a slot of that kind keeps no rows of ordinary tables"
    assert _age(superuser, "pg_catalog.pg_depend") >= 2000
    assert _age(superuser, "pg_catalog.pg_database") >= 2000
    burn_transactions(superuser, 5)
    found = _checked("run 1")
    first = "-- first end the replication slot reports: it keeps rows of the last 2,"
    for name in ("database escrow", "database postgres"):
        assert found[name].remedy.startswith(first), "its age is that of its oldest catalog"
    assert "VACUUM (FREEZE) pg_catalog." in found["database escrow"].remedy
    catalogs = [one for name, one in found.items() if name.startswith("table pg_catalog.")]
    assert [one.remedy.startswith(first) for one in catalogs] == [True] * 3
    assert found["table public.audit_logs"].remedy == "VACUUM (FREEZE) public.audit_logs;"


def test_a_prepared_transaction_elsewhere_keeps_the_shared_catalogs_old(
    superuser: psycopg.Connection, own_cluster: Databases
) -> None:
    with psycopg.connect(own_cluster.postgres.url("postgres"), autocommit=True) as elsewhere:
        elsewhere.execute("BEGIN; CREATE TABLE p (id integer); PREPARE TRANSACTION 'forgotten'")
        try:
            burn_transactions(superuser, 2000)
            superuser.execute("VACUUM (FREEZE)")
            assert _age(superuser, "pg_catalog.pg_depend") < 1000
            assert _age(superuser, "pg_catalog.pg_database") >= 2000
            with database.maintenance_session() as connection:
                assert database.horizon(connection) is None
                assert database.horizon(connection, "catalogs") is None
                holder = database.horizon(connection, "cluster")
            assert holder is not None
            assert holder.holder == "the prepared transaction forgotten of postgres in the database postgres"
            assert holder.age >= 2000
            newest = superuser.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
            assert newest == (holder.transaction + holder.age,)
            assert holder.holder in _checked("run 1")["database escrow"].remedy
        finally:
            elsewhere.execute("ROLLBACK PREPARED 'forgotten'")


def test_a_temporary_table_is_found_with_its_session(superuser: psycopg.Connection, own_cluster: Databases) -> None:
    with psycopg.connect(own_cluster.url("escrow", "escrow_owner"), autocommit=True) as forgotten:
        forgotten.execute("CREATE TEMPORARY TABLE basket (x integer)")
        burn_transactions(superuser, 2000)
        [(name, finding)] = [(key, one) for key, one in _checked("run 1").items() if key.startswith("table pg_temp_")]
        assert name.endswith(".basket")
        assert finding.evidence["transaction"]["age"] >= 2000
        if superuser.info.server_version >= 160000:
            statement, _, why = finding.remedy.partition("  -- ")
            assert why == f"only this session can vacuum its temporary table {name.removeprefix('table ')}"
            pid = str(forgotten.info.backend_pid)
            other = str(superuser.info.backend_pid)
            assert superuser.execute(statement.replace(pid, other)).fetchall() == [], "a later session of that number"
            assert superuser.execute(statement).fetchall() == [(True,)]
        else:
            assert finding.remedy.splitlines()[0] == (
                "-- first see that no session has this temporary table, or end that session"
            )


def test_a_temporary_table_is_not_taken_from_whoever_has_its_name_by_then() -> None:
    left = {"name": "pg_temp_3.basket", "temporary": True, "backend": 3, "session": None, "session_began": None}
    assert wraparound._freeze(left).splitlines() == [
        "-- first see that no session has this temporary table (SELECT pg_stat_get_backend_pid(3) finds none), or end "
        "that session",
        "-- what it left goes by this, as a superuser: DROP TABLE pg_temp_3.basket;",
    ]
    unseen = wraparound._freeze(left | {"session": 4711})
    assert unseen.startswith("-- let somebody who may see the session 4711 end it: ")


def test_who_holds_little_is_not_to_be_ended(superuser: psycopg.Connection, own_cluster: Databases) -> None:
    burn_transactions(superuser, 2000)
    with psycopg.connect(own_cluster.url("escrow", "escrow_app")) as young:
        young.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        young.execute("SELECT 1")
        burn_transactions(superuser, 2)
        found = _checked("run 1")
    assert found["table public.audit_logs"].remedy == "VACUUM (FREEZE) public.audit_logs;"
    assert "first end" not in found["database escrow"].remedy
    assert found["database postgres"].remedy == "-- vacuumdb --freeze --dbname=postgres"
    assert found["database template0"].remedy.splitlines() == [
        "-- as a superuser, while autovacuum does not get it done: ALTER DATABASE template0 ALLOW_CONNECTIONS true;",
        "-- vacuumdb --freeze --dbname=template0",
        "-- ALTER DATABASE template0 ALLOW_CONNECTIONS false;",
    ]
