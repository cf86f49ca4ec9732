"""A table that the nightly vacuum never gets done is left alone with its reason, and somebody is told."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.postgres import vacuum, vacuum_findings, vacuum_plan
from include.outcome import ConfigurationError, Outcome
from include.settings import load, settings
from include.warehouse.findings import Finding
from tests.include.maintenance.postgres.vacuum_steps import (
    burn_transactions,
    maintain_all,
    make_dirty,
    planned,
    recorded,
    whole,
)
from tests.old_postgres import flush_statistics
from tests.recorded_findings import latest_findings

FOREIGN = "public.spatial_ref_sys"


def _found() -> dict[str, Finding]:
    return {one.finding.resource: one.finding for one in latest_findings("tables_not_maintained")}


def _set(environment: pytest.MonkeyPatch, key: str, value: object) -> None:
    environment.setenv(f"OPERATIONS__MAINTENANCE__VACUUM__{key}", str(value))
    settings.cache_clear()


@pytest.fixture
def superuser(
    any_platform: psycopg.Connection, any_databases: Databases, environment: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection]:
    """A dirty table of the maintenance role's own beside one of a superuser that was never analyzed."""
    name = any_platform.info.dbname
    make_dirty(any_platform)
    with psycopg.connect(any_databases.postgres.url(name), autocommit=True) as connection:
        connection.execute("GRANT USAGE ON SCHEMA public TO escrow_app")
        connection.execute("ALTER TABLE public.audit_logs OWNER TO escrow_app")
        connection.execute(f"CREATE TABLE {FOREIGN} AS SELECT generate_series(1, 60) AS srid")
        flush_statistics(connection)
        # Neither a maintainer of all tables nor the owner of the database.
        environment.setenv("AIRFLOW_CONN_PLATFORM_DB_MAINTENANCE", any_databases.url(name, "escrow_app"))
        yield connection


def test_a_table_that_may_not_be_maintained_is_left_with_its_reason(
    superuser: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    assert maintain_all("r1") == ["proven"]
    [left] = [row for row in recorded(warehouse) if row[1] == FOREIGN]
    new = superuser.info.server_version >= 170000
    remedy = f"GRANT MAINTAIN ON {FOREIGN}" if new else "is a superuser and has to do it"
    assert left[:3] == ("analyze", FOREIGN, "nothing_to_do")
    assert remedy in left[3]
    assert vacuum.finish("r1")["state"] == "proven", "no incident every night"
    finding = _found()[FOREIGN]
    assert finding.outcome is Outcome.WARNING
    assert remedy in finding.summary
    assert "maintenance.vacuum.exclude" in finding.remedy


def test_an_excluded_table_is_left_to_autovacuum(
    superuser: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    _set(environment, "EXCLUDE", f'["{FOREIGN}"]')
    assert list(planned()) == ["public.audit_logs"]
    assert recorded(warehouse) == []
    _, _, plan, _ = whole(warehouse)
    assert (plan["looked_at"], plan["exclude"]) == (1, [FOREIGN])
    vacuum.finish("r1")
    assert FOREIGN not in _found()


@pytest.mark.parametrize("excluded", [False, True])
def test_danger_of_wraparound_is_a_failure_whoever_owns_the_table(
    superuser: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, excluded: bool
) -> None:
    if excluded:
        _set(environment, "EXCLUDE", f'["{FOREIGN}"]')
    superuser.execute(f"ALTER TABLE {FOREIGN} SET (autovacuum_freeze_max_age = 100000)")
    burn_transactions(superuser, 100_001)
    due = planned()
    assert list(due) == [FOREIGN, "public.audit_logs"]
    with pytest.raises(ConfigurationError, match=f"vacuum of {FOREIGN} would be skipped: the role of"):
        vacuum.maintain(due[FOREIGN], "r1", dry_run=False)


@pytest.mark.parametrize("name", ["users", "public.users; DROP", 'public."Odd"x', "Public.users"])
def test_names_to_exclude_are_checked(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__VACUUM__EXCLUDE", f"[{name!r}]".replace('"', '\\"').replace("'", '"'))
    with pytest.raises(ConfigurationError, match=r"maintenance.vacuum.exclude.0"):
        load()


def test_odd_names_can_be_excluded(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OPERATIONS__MAINTENANCE__VACUUM__EXCLUDE", r'["cron.job_run_details", "public.\"Odd \"\"x\""]')
    assert load().maintenance.vacuum.exclude == ["cron.job_run_details", 'public."Odd ""x"']


# ------------------------------------------------------------------------------------------------- too long
def _postponed_by(platform: psycopg.Connection, warehouse: psycopg.Connection, seconds: int, runs: list[str]) -> None:
    """A table whose last vacuum took so long is due in each of these runs, whose windows end in 30 s."""
    make_dirty(platform)
    assert maintain_all("r0") == ["proven"]
    took = f"UPDATE ops.maintenance_action SET applied = jsonb_set(applied, '{{seconds}}', '{seconds}')"
    warehouse.execute(f"{took} WHERE resource = 'public.audit_logs'")
    platform.execute("DELETE FROM public.audit_logs WHERE audit_log_id <= 900")
    flush_statistics(platform)
    for run in runs:
        [item] = vacuum_plan.plan_tables(run, ends_at=datetime.now(UTC) + timedelta(seconds=30))
        assert vacuum.maintain(item, run, dry_run=False)["state"] == "postponed"
        vacuum.finish(run)


def test_a_table_that_takes_longer_than_a_window_is_told_at_once(
    any_platform: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    _set(environment, "WINDOW_MINUTES", 1)
    _postponed_by(any_platform, warehouse, 36_000, ["r1"])
    finding = _found()["public.audit_logs"]
    assert finding.outcome is Outcome.WARNING
    assert re.search(r"its vacuum is expected to take 6\d\d minutes, and the whole window is 1$", finding.summary)
    longer = r"or a window_minutes of at least 6\d\d"
    assert re.fullmatch(
        rf"VACUUM \(ANALYZE\) public.audit_logs;  -- by hand, at a quiet time; {longer}", finding.remedy
    )
    assert whole(warehouse)[1] == (
        "postponed to the next run: public.audit_logs; "
        "too long for any run, see the finding tables_not_maintained: public.audit_logs"
    )
    any_platform.execute("VACUUM ANALYZE public.audit_logs")
    flush_statistics(any_platform)
    planned("r2")
    assert vacuum.finish("r2")["state"] == "nothing_to_do"
    assert {name: one.outcome for name, one in _found().items()} == {"all tables": Outcome.OK}, "it was done by hand"


def test_a_table_that_is_postponed_run_after_run_is_told_after_three(
    any_platform: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    _postponed_by(any_platform, warehouse, 100, ["r1", "r2"])
    assert list(_found()) == ["all tables"], "the window of 180 minutes is long enough"
    _, _, plan, _ = whole(warehouse)
    assert plan["window_seconds"] == pytest.approx(30, abs=2)
    [item] = vacuum_plan.plan_tables("r3", ends_at=datetime.now(UTC) + timedelta(seconds=30))
    vacuum.maintain(item, "r3", dry_run=False)
    vacuum.finish("r3")
    assert "its vacuum was postponed by the last 3 runs" in _found()["public.audit_logs"].summary


def test_a_plan_that_failed_leaves_an_unknown(
    any_platform: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    environment.setattr(vacuum_plan, "_due", _broken)
    with pytest.raises(ConfigurationError):
        planned()
    assert vacuum.finish("r1")["state"] == "failed"
    assert _found()["all tables"].outcome is Outcome.UNKNOWN
    assert _found()["all tables"].summary == "the tables could not be listed: nothing can be read"


def _broken(*_: object) -> None:
    raise ConfigurationError("nothing can be read")


def test_a_name_cannot_leave_the_comment_of_a_remedy() -> None:
    remedy = vacuum_findings._forbidden('"a\nDROP TABLE b"', 'GRANT MAINTAIN ON "a\nDROP TABLE b"').remedy
    assert remedy is not None
    assert [line[:3] for line in remedy.splitlines()] == ["-- ", "-- "]
