"""Failed runs whose callback was lost are found with their DAG; what was told, cleared or done by hand is none."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.incidents import signals
from include.incidents.signals import Signal
from include.maintenance.airflow import airflow_dags
from include.outcome import IncidentClass, Outcome
from include.settings import ROOT
from include.warehouse.findings import Finding
from tests.include.maintenance.airflow.airflow_server import Served, airflow_server
from tests.include.maintenance.logs.log_files_made import NOW
from tests.recorded_findings import latest_findings

NAMES = sorted(path.stem for path in (ROOT / "dags").glob("*/*.py"))
RUN = "scheduled__2026-10-03T01:00:00+00:00"


@pytest.fixture
def airflow(warehouse: psycopg.Connection, environment: pytest.MonkeyPatch) -> Iterator[Served]:
    with airflow_server() as served:
        environment.setenv("AIRFLOW_CONN_AIRFLOW_API", served.connection)
        served.dags = [
            {"dag_id": name, "is_paused": False, "tags": [{"name": "tier:critical", "dag_id": name}]}
            if name == "platform_watch"
            else {"dag_id": name, "is_paused": False, "tags": []}
            for name in NAMES
        ]
        yield served


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def failed(dag_id: str, ended: datetime, run_id: str = RUN, **changed: Any) -> dict[str, Any]:
    """A run that failed ten minutes after it was queued."""
    begun = (ended - timedelta(minutes=10)).isoformat()
    run = {"dag_id": dag_id, "dag_run_id": run_id, "state": "failed", "queued_at": begun, "start_date": begun}
    return run | {"end_date": ended.isoformat()} | changed


def tell(dag_id: str, at: datetime, kind: str = "dag_failed", run_id: str = RUN) -> None:
    detail = {"dag_id": dag_id, "run_id": run_id}
    key = f"airflow:{dag_id}:{run_id}::-1:0:{kind}"
    signal = Signal(key, kind, at, f"airflow:{dag_id}", IncidentClass.P2, f"{dag_id}: run failed", detail)
    assert signals.record(signal) == "recorded"


def found() -> dict[str, Finding]:
    airflow_dags.check("r1", NOW)
    return {one.finding.resource: one.finding for one in latest_findings("airflow_dags")}


def test_a_failure_that_told_nobody_is_found(airflow: Served) -> None:
    airflow.dag_runs = [
        failed("daily_metrics", ago(hours=30), "manual__1"),
        failed("daily_metrics", ago(hours=2)),
        failed("platform_watch", ago(minutes=16)),
        failed("daily_reports", ago(hours=5)),
        failed("weekly_metrics", ago(hours=5)),
        failed("daily_metrics", ago(minutes=14), "just now"),
        failed("daily_metrics", ago(hours=73), "long ago"),
        failed("somebody_elses", ago(hours=2)),
        failed("daily_metrics", ago(hours=2), "cancelled", end_date=None, start_date=None),
    ]
    tell("daily_reports", ago(hours=5))
    tell("weekly_metrics", ago(hours=5, minutes=3), "task_failed")
    tell("daily_metrics", ago(hours=2), run_id="another")
    tell("daily_metrics", ago(hours=2), "deadline_missed")
    lost = found()
    assert {name: one.outcome for name, one in lost.items()} == {
        "failed runs of daily_metrics": Outcome.WARNING,
        "failed runs of platform_watch": Outcome.CRITICAL,
    }
    assert lost["failed runs of platform_watch"].summary == (
        f"platform_watch failed without a signal, so no incident was opened: the run {RUN} at "
        f"{ago(minutes=16):%Y-%m-%d %H:%M} UTC; the callback was lost, or its signal waits in a spool (see "
        "incident_watch), or somebody marked it failed, together with others, which Airflow's API does not show"
    )
    assert f": 2 runs, the latest {RUN} at " in lost["failed runs of daily_metrics"].summary
    assert lost["failed runs of daily_metrics"].evidence == {
        "runs": 2,
        "latest": [f"{RUN} at {ago(hours=2).isoformat()}", f"manual__1 at {ago(hours=30).isoformat()}"],
    }
    assert lost["failed runs of daily_metrics"].remedy == (
        "open the run in Airflow, see which task failed and why, and clear it, unless somebody marked it failed; "
        "incident_watch says what keeps signals in a spool; the log of the DAG processor tells of its restarts, and "
        "has each lost signal after LOST SIGNAL"
    )


def test_what_was_told_before_the_run_was_cleared_tells_nothing_of_its_second_failure(airflow: Served) -> None:
    airflow.dag_runs = [failed("daily_metrics", ago(hours=2))]
    tell("daily_metrics", ago(hours=2, minutes=12))
    assert "failed runs of daily_metrics" in found()
    tell("daily_metrics", ago(hours=2), "task_failed")
    assert list(found()) == ["airflow"]


def test_a_secret_in_the_name_of_a_run_is_masked_in_its_signal_as_well(airflow: Served) -> None:
    airflow.dag_runs = [failed("daily_metrics", ago(hours=2), "token=abcdef")]
    tell("daily_metrics", ago(hours=2), run_id="token=abcdef")
    assert list(found()) == ["airflow"]


@pytest.mark.parametrize(
    ("event", "is_found"),
    [
        ({"event": "patch_dag_run", "run_id": RUN, "extra": {"state": "failed", "method": "PATCH"}}, False),
        ({"event": "patch_dag_run", "run_id": RUN, "extra": {"note": "a note", "method": "PATCH"}}, True),
        ({"event": "patch_dag_run", "run_id": "another", "extra": {"state": "failed"}}, True),
        ({"event": "patch_dag_run", "run_id": RUN, "extra": {"state": "failed"}, "when": ago(hours=1)}, True),
        ({"event": "trigger_dag_run", "run_id": RUN, "extra": {"state": "failed"}}, True),
        (
            {
                "event": "bulk_dag_runs",
                "run_id": None,
                "extra": {"actions": [{"entities": [{"dag_run_id": RUN, "state": "failed"}], "action": "update"}]},
            },
            False,
        ),
    ],
)
def test_a_run_that_somebody_marked_failed_is_no_failure(
    airflow: Served, event: dict[str, Any], is_found: bool
) -> None:
    airflow.dag_runs = [failed("daily_metrics", ago(hours=2))]
    when = event.get("when", ago(hours=2, seconds=1)).isoformat()
    airflow.event_logs = [{"dag_id": "daily_metrics"} | event | {"when": when, "extra": json.dumps(event["extra"])}]
    assert ("failed runs of daily_metrics" in found()) == is_found


def test_without_the_audit_log_it_may_have_been_marked_by_hand(airflow: Served) -> None:
    """So none of it is critical: a P1 DAG whose run somebody marked failed would alarm for three nights."""
    airflow.dag_runs = [failed("daily_metrics", ago(hours=2)), failed("platform_watch", ago(hours=2))]
    airflow.refused = {"event_logs"}
    unsure = found()
    assert [one.outcome for one in unsure.values()] == [Outcome.WARNING, Outcome.WARNING]
    for one in unsure.values():
        assert one.summary.endswith(", or somebody marked it failed, which this login may not see")
        assert one.remedy.endswith("after LOST SIGNAL; let this login read Airflow's Audit Logs")
