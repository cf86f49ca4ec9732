"""The forecast of transaction ids: worked out by hand, then on real servers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.maintenance.postgres import drift, wraparound
from include.maintenance.postgres.wraparound import Forecast, Limits, Rate
from include.outcome import ConfigurationError, Outcome
from include.warehouse import findings
from include.warehouse.snapshots import Snapshot

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


# ------------------------------------------------------------------------------------------------- real servers
def test_the_first_run_knows_the_ages_but_no_forecast(any_platform: psycopg.Connection) -> None:
    drift.take("run 1", NOON)
    assert wraparound.check("run 1")["outcome"] == "unknown"
    found = {one.finding.resource: one.finding for one in findings.latest("wraparound")}
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
        one.finding for one in findings.latest("wraparound") if one.finding.resource.endswith(any_platform.info.dbname)
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
        one.finding for one in findings.latest("wraparound") if one.finding.resource == "table public.audit_logs"
    ]
    assert table.outcome is Outcome.WARNING
    assert "VACUUM (FREEZE) public.audit_logs;" in table.remedy
    any_platform.execute("VACUUM (FREEZE) public.audit_logs")


def test_a_tables_own_lower_limit_counts(any_platform: psycopg.Connection) -> None:
    any_platform.execute("ALTER TABLE public.audit_logs SET (autovacuum_freeze_max_age = 150000)")
    drift.take("run 1", NOON)
    wraparound.check("run 1")
    [table] = [
        one.finding for one in findings.latest("wraparound") if one.finding.resource == "table public.audit_logs"
    ]
    assert table.evidence["transaction"]["freeze_age"] == 150_000


def test_without_a_snapshot_the_task_says_so(platform: psycopg.Connection) -> None:
    with pytest.raises(ConfigurationError, match="the run nothing has no row in ops.platform_snapshot"):
        wraparound.check("nothing")
    [found] = findings.latest("wraparound")
    assert (found.run_id, found.finding.outcome) == ("nothing", Outcome.UNKNOWN)
