"""Finds failed runs without a signal: a restart of the DAG processor or a full disk loses the callback of a failure.

The failed runs that Airflow lists are compared with the signals that their callbacks leave (``ops.signal``), for a run
without a signal is in no incident.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from include.masking import bounded
from include.outcome import ConfigurationError, Outcome
from include.platform.airflow_api import AirflowApi
from include.warehouse.findings import Finding
from include.warehouse.session import transaction
from include.warehouse.statements import statements

_LOOK_BACK = timedelta(days=3)  # over a weekend, and over a night in which the check did not run
_CALLBACK_TAKES = timedelta(minutes=15)  # until then it may be queued, or wait in the spool
_CLOCKS_DIFFER = timedelta(minutes=1)  # not CLOCKS_APART: a run that was soon cleared has a signal of before
_RUNS_NAMED = 20
_BY_HAND = ["patch_dag_run", "bulk_dag_runs"]  # in Airflow's audit log; of all DAGs at once (~) 3.3.2 lists none
_STATEMENTS = statements(__file__)


def find(api: AirflowApi, expected: list[str], critical: set[str], now: datetime) -> list[Finding]:
    """Return a finding for each DAG of ``expected`` with lost failures of the three days before ``now`` (aware).

    It is critical for those in ``critical``, else a warning. Runs that a person marked failed are no failures; where
    the login may not read Airflow's audit log, they may be among them: the sentence says so, and all is a warning.
    Raises ConfigurationError or SourceUnavailable.
    """
    ended = {"end_date_gte": (now - _LOOK_BACK).isoformat(), "end_date_lte": (now - _CALLBACK_TAKES).isoformat()}
    runs = [
        run
        for run in api.pages("/dags/~/dagRuns", "dag_runs", state=["failed"], **ended)
        # What never started or ended was cancelled, with its backfill.
        if run["dag_id"] in expected and run.get("start_date") and run.get("end_date")
    ]
    lost = _without_signal(runs)
    if not lost:
        return []
    by_hand = _marked_by_hand(api, lost)
    lost = [run for run in lost if by_hand is None or not any(_marks(event, run) for event in by_hand)]
    return [
        _finding([run for run in lost if run["dag_id"] == name], name in critical, unsure=by_hand is None)
        for name in sorted({run["dag_id"] for run in lost})
    ]


def _without_signal(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs of which no signal came since they were queued last: an earlier one is of a run that was cleared."""
    if not runs:
        return []
    begun = [datetime.fromisoformat(run.get("queued_at") or run["start_date"]) - _CLOCKS_DIFFER for run in runs]
    fingerprints = sorted({f"airflow:{run['dag_id']}" for run in runs})
    with transaction() as connection:
        rows = connection.execute(_STATEMENTS["told"], {"fingerprints": fingerprints, "since": min(begun)}).fetchall()
    told = {(dag_id, run_id): latest for dag_id, run_id, latest in rows}

    def is_told(run: dict[str, Any], since: datetime) -> bool:
        latest = told.get((run["dag_id"], bounded(run["dag_run_id"])))  # as a signal keeps it
        return latest is not None and latest >= since

    return [run for run, since in zip(runs, begun, strict=True) if not is_told(run, since)]


def _marked_by_hand(api: AirflowApi, runs: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The changes of runs by people since the first of these ended; None where the login may not read them."""
    first = min(_ended(run) for run in runs) - _CLOCKS_DIFFER
    try:
        return api.pages("/eventLogs", "event_logs", included_events=_BY_HAND, after=first.isoformat())
    except ConfigurationError:
        return None


def _marks(event: dict[str, Any], run: dict[str, Any]) -> bool:
    said, run_id = str(event.get("extra") or ""), run["dag_run_id"]
    this = (event.get("dag_id"), event.get("run_id")) == (run["dag_id"], run_id) or run_id in said
    return this and '"failed"' in said and abs(datetime.fromisoformat(event["when"]) - _ended(run)) <= _CLOCKS_DIFFER


def _ended(run: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(run["end_date"])


def _finding(runs: list[dict[str, Any]], is_critical: bool, *, unsure: bool) -> Finding:
    runs = sorted(runs, key=_ended, reverse=True)
    dag_id, latest = runs[0]["dag_id"], f"{runs[0]['dag_run_id']} at {_ended(runs[0]):%Y-%m-%d %H:%M} UTC"
    what = f"the run {latest}" if len(runs) == 1 else f"{len(runs)} runs, the latest {latest}"
    hidden = "which this login may not see" if unsure else "together with others, which Airflow's API does not show"
    may_see = "; let this login read Airflow's Audit Logs" if unsure else ""
    return Finding(
        f"failed runs of {dag_id}",
        Outcome.CRITICAL if is_critical and not unsure else Outcome.WARNING,
        f"{dag_id} failed without a signal, so no incident was opened: {what}; the callback was lost, or its "
        f"signal waits in a spool (see incident_watch), or somebody marked it failed, {hidden}",
        {"runs": len(runs), "latest": [f"{run['dag_run_id']} at {run['end_date']}" for run in runs[:_RUNS_NAMED]]},
        "open the run in Airflow, see which task failed and why, and clear it, unless somebody marked it failed; "
        "incident_watch says what keeps signals in a spool; the log of the DAG processor tells of its restarts, and "
        f"has each lost signal after LOST SIGNAL{may_see}",
    )
