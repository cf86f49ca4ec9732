"""DAGs that are missing, paused or broken and runs that are stuck become findings; what cannot be seen is unknown."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.maintenance.airflow import airflow_dags
from include.outcome import ConfigurationError, Outcome, SourceUnavailable
from include.settings import ROOT, settings
from tests.include.maintenance.airflow.airflow_server import Served, airflow_server
from tests.include.maintenance.logs.log_files_made import NOW
from tests.recorded_findings import latest_findings

NAMES = sorted(path.stem for path in (ROOT / "dags").glob("*/*.py"))


@pytest.fixture
def airflow(warehouse: psycopg.Connection, environment: pytest.MonkeyPatch) -> Iterator[Served]:
    with airflow_server() as served:
        environment.setenv("AIRFLOW_CONN_AIRFLOW_API", served.connection)
        served.dags = [dag(f"other_{number}") for number in range(150)] + [dag(name) for name in NAMES]
        yield served


def dag(name: str, *, paused: bool = False, tier: str = "important") -> dict[str, Any]:
    return {"dag_id": name, "is_paused": paused, "tags": [{"name": f"tier:{tier}", "dag_id": name}]}


def run(dag_id: str, state: str, hours: float, key: str) -> dict[str, Any]:
    return {
        "dag_id": dag_id,
        "dag_run_id": f"manual__{hours}",
        "state": state,
        "start_date": None,
        "queued_at": None,
        key: (NOW - timedelta(hours=hours)).isoformat(),
    }


def found() -> dict[str, tuple[Outcome, str, str]]:
    return {
        one.finding.resource: (one.finding.outcome, one.finding.summary, one.finding.remedy)
        for one in latest_findings("airflow_dags")
    }


def test_all_is_well_over_several_pages(airflow: Served) -> None:
    airflow.dag_runs = [run("daily_metrics", "running", 5, "start_date"), run("x", "success", 99, "start_date")]
    assert airflow_dags.check("r1", NOW)["outcome"] == "ok"
    dags = f"all {len(NAMES)} DAGs are there, none is paused, held up or broken"
    assert found() == {
        "airflow": (Outcome.OK, f"{dags}, no run is stuck and every failure of the last three days was reported", "")
    }


def test_missing_paused_broken_stuck(airflow: Served, environment: pytest.MonkeyPatch) -> None:
    airflow.dags = [dag(name) for name in NAMES if name not in ("daily_metrics", "platform_watch", "weekly_metrics")]
    airflow.dags += [dag("platform_watch", paused=True, tier="critical"), dag("weekly_metrics", paused=True)]
    trace = "Traceback\n  File x\nValueError: postgresql://user:secret@host"
    airflow.import_errors = [{"filename": "dags/a.py", "timestamp": "2026-10-04T00:00:00Z", "stack_trace": trace}]
    airflow.dag_runs = [
        run("daily_reports", "running", 7, "start_date"),
        run("daily_reports", "queued", 2, "queued_at"),
        run("weekly_metrics", "queued", 200, "queued_at"),
        run("daily_reports", "queued", 0.5, "queued_at"),
    ]
    assert airflow_dags.check("r1", NOW)["outcome"] == "critical"
    outcomes = {resource: outcome for resource, (outcome, _, _) in found().items()}
    assert outcomes == {
        "dags/a.py": Outcome.CRITICAL,
        "daily_metrics": Outcome.CRITICAL,
        "platform_watch": Outcome.CRITICAL,
        "weekly_metrics": Outcome.WARNING,
        "daily_reports manual__7": Outcome.WARNING,
        "daily_reports manual__2": Outcome.WARNING,
    }
    assert found()["dags/a.py"][1].startswith("dags/a.py cannot be imported (ValueError): ")
    assert "secret" not in str(found())
    assert found()["weekly_metrics"][2] == "airflow dags unpause weekly_metrics"
    assert found()["daily_reports manual__7"][1] == "a run of daily_reports has been running for 7.0 hours"
    environment.setenv("OPERATIONS__MAINTENANCE__AIRFLOW__PAUSED_ON_PURPOSE", '["weekly_metrics"]')
    settings.cache_clear()
    airflow_dags.check("r2", NOW)
    assert found()["weekly_metrics"][0] is Outcome.NOT_APPLICABLE
    settings.cache_clear()


@pytest.mark.parametrize(
    ("zone", "now", "next_run", "is_held_up"),
    [
        ("UTC", "2026-10-04T03:00+00:00", "2026-10-05T00:00:00Z", False),
        ("UTC", "2026-10-04T03:00+00:00", "2026-10-06T00:00:00Z", True),
        ("UTC", "2026-10-04T23:59:59+00:00", "2026-10-06T00:00:00Z", False),  # the tick may have come meanwhile
        ("UTC", "2026-10-04T03:00+00:00", None, False),
        ("Africa/Cairo", "2026-04-23T01:00+00:00", "2026-04-23T22:00:00Z", False),
        ("Africa/Cairo", "2026-04-23T01:00+00:00", "2026-04-24T21:00:00Z", True),
        ("America/Havana", "2026-10-31T07:00+00:00", "2026-11-01T05:00:00Z", False),  # the second midnight of the night
    ],
)
def test_a_schedule_that_waits_for_a_day_to_come_is_critical(
    airflow: Served, environment: pytest.MonkeyPatch, zone: str, now: str, next_run: str | None, is_held_up: bool
) -> None:
    environment.setenv("OPERATIONS__PLATFORM__TIMEZONE", zone)
    settings.cache_clear()
    [metrics] = [one for one in airflow.dags if one["dag_id"] == "daily_metrics"]
    metrics["next_dagrun_run_after"] = next_run
    outcome = airflow_dags.check("r1", datetime.fromisoformat(now))["outcome"]
    assert outcome == ("critical" if is_held_up else "ok")
    if is_held_up and zone == "UTC":
        assert found() == {"daily_metrics": (
            Outcome.CRITICAL,
            "the schedule of daily_metrics starts nothing before 2026-10-06 00:00 UTC, though a run is due at "
            "2026-10-05 00:00: a backfill has left runs of days still to come",
            "open the runs of daily_metrics in Airflow and delete those of days that are still to come",
        )}  # fmt: skip
    settings.cache_clear()


def test_without_the_connection_it_is_a_failure_unless_on_purpose(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="the connection airflow_api is not defined") as raised:
        airflow_dags.check("r1", NOW)
    assert found()["airflow_api"] == (Outcome.UNKNOWN, f"It could not be checked: {raised.value}", "")
    environment.setenv("OPERATIONS__MAINTENANCE__AIRFLOW__WITHOUT_CONNECTIONS", '["airflow_api"]')
    settings.cache_clear()
    assert airflow_dags.check("r2", NOW)["outcome"] == "not_applicable"
    assert found()["airflow_api"][1].startswith("DAGs and their runs are not looked at here on purpose")
    settings.cache_clear()


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (403, ConfigurationError, "refuses the user.*/api/v2/dags answered 403"),
        (404, ConfigurationError, "does not lead to Airflow"),
        (503, SourceUnavailable, "answered 503"),
    ],
)
def test_an_airflow_that_does_not_answer_is_unknown_and_a_failure(
    airflow: Served, status: int, error: type[Exception], message: str
) -> None:
    airflow.status = status
    with pytest.raises(error, match=message) as raised:
        airflow_dags.check("r1", NOW)
    assert "a detail" not in str(raised.value)
    assert found()["airflow_api"] == (Outcome.UNKNOWN, f"It could not be checked: {raised.value}", "")


def test_the_error_is_told_also_without_the_warehouse(airflow: Served, environment: pytest.MonkeyPatch) -> None:
    airflow.status = 403
    environment.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://a:b@127.0.0.1:1/none")
    with pytest.raises(ConfigurationError, match="answered 403"):
        airflow_dags.check("r1", NOW)


def test_wrong_logins_and_addresses(
    airflow: Served, environment: pytest.MonkeyPatch, warehouse: psycopg.Connection
) -> None:
    for value, error, message in (
        (airflow.connection.replace("right", "wrong"), ConfigurationError, "correct its login"),
        (airflow.connection.replace("maintenance:right@", ""), ConfigurationError, "no login and password"),
        ("http://a:b@127.0.0.1:1", SourceUnavailable, "cannot be reached: ConnectError"),
    ):
        environment.setenv("AIRFLOW_CONN_AIRFLOW_API", value)
        with pytest.raises(error, match=message):
            airflow_dags.check("r1", NOW)
