"""Looks whether Airflow runs what it should: DAGs that are missing, paused, broken, held up, or whose runs are stuck.

Failed runs without a signal are among it (airflow_lost_failures.py).

It changes nothing; what it finds are findings of the check ``airflow_dags``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from include.maintenance.airflow import airflow_connections, airflow_lost_failures
from include.outcome import Outcome
from include.platform import airflow_api
from include.platform.airflow_api import CONNECTION
from include.settings import ROOT, settings
from include.warehouse import findings
from include.warehouse.findings import Finding

_CHECK = "airflow_dags"
_TOLERANCE = timedelta(hours=1)  # clocks change, and a tick may come between the answer and its reading


def check(run_id: str, now: datetime | None = None) -> dict[str, Any]:
    """Look at every DAG of the collection, its unfinished and its failed runs at ``now`` (aware); return small facts.

    Where workers are without the connection ``airflow_api`` on purpose the outcome is ``not_applicable``. Raises
    ConfigurationError (also when it is just missing) or SourceUnavailable, and records ``unknown`` then.
    """
    now = now or datetime.now(UTC)
    expected = sorted(path.stem for path in (ROOT / "dags").glob("*/*.py") if path.stem != "__init__")
    with findings.unknown_recorded(run_id, _CHECK, CONNECTION):
        if not airflow_connections.is_given(CONNECTION):
            reason = airflow_connections.left_out(CONNECTION, "DAGs and their runs are not looked at here")
            return findings.replace(run_id, _CHECK, [Finding(CONNECTION, Outcome.NOT_APPLICABLE, reason)])
        with airflow_api.open_api() as api:
            dags = {dag["dag_id"]: dag for dag in api.pages("/dags", "dags")}
            errors = api.pages("/importErrors", "import_errors")
            runs = api.pages("/dags/~/dagRuns", "dag_runs", state=["running", "queued"])
            critical = {
                name for name, dag in dags.items() if "tier:critical" in [tag["name"] for tag in dag.get("tags") or []]
            }
            lost = airflow_lost_failures.find(api, expected, critical, now)
    found = [*_broken(errors), *_missing_or_paused(expected, dags, critical), *_held_up(dags, now), *lost]
    found += _stuck(runs, dags, now)
    if not found:
        summary = (
            f"all {len(expected)} DAGs are there, none is paused, held up or broken, no run is stuck and every failure "
            "of the last three days was reported"
        )
        numbers = {"dags": len(expected), "unfinished_runs": len(runs)}
        found = [Finding("airflow", Outcome.OK, summary, numbers)]
    return findings.replace(run_id, _CHECK, found)


def _broken(errors: list[dict[str, Any]]) -> list[Finding]:
    """One finding per file; the error's text may quote anything, so only its kind is told."""
    found = {}
    for error in errors:
        last = (str(error.get("stack_trace") or "").strip().splitlines() or [""])[-1]
        kind = last.split(":")[0].strip()
        kind = kind if kind.replace(".", "").isidentifier() else "an error"
        found[str(error["filename"])] = Finding(
            str(error["filename"]),
            Outcome.CRITICAL,
            f"{error['filename']} cannot be imported ({kind}): its DAGs do not run, and nothing else reports it",
            {"since": error.get("timestamp")},
            "airflow dags list-import-errors",
        )
    return list(found.values())


def _missing_or_paused(expected: list[str], dags: dict[str, dict[str, Any]], critical: set[str]) -> list[Finding]:
    found = []
    for name in expected:
        if name not in dags:
            summary = f"Airflow does not know the DAG {name}: its file is not read, or it is switched off"
            found.append(Finding(name, Outcome.CRITICAL, summary, {}, "airflow dags reserialize"))
        elif dags[name]["is_paused"] and name in settings().maintenance.airflow.paused_on_purpose:
            found.append(Finding(name, Outcome.NOT_APPLICABLE, f"{name} is paused on purpose (paused_on_purpose)"))
        elif dags[name]["is_paused"]:
            summary = f"{name} is paused: its schedule starts nothing, and what is triggered waits forever"
            outcome = Outcome.CRITICAL if name in critical else Outcome.WARNING
            found.append(Finding(name, outcome, summary, {}, f"airflow dags unpause {name}"))
    return found


def _held_up(dags: dict[str, dict[str, Any]], now: datetime) -> list[Finding]:
    """Find DAGs whose next run is later than their schedule says.

    Airflow reckons the next run from the latest day that has a run, whatever became of that.
    """
    from croniter import croniter

    begin, found = (now + _TOLERANCE).astimezone(ZoneInfo(settings().platform.timezone)), []
    for name, schedule in settings().schedules:
        if not (given := dags.get(name, {}).get("next_dagrun_run_after")):
            continue
        tick, next_run = croniter(schedule, begin).get_next(datetime), datetime.fromisoformat(given)
        if next_run > tick + _TOLERANCE:
            found.append(
                Finding(
                    name,
                    Outcome.CRITICAL,
                    f"the schedule of {name} starts nothing before {next_run:%Y-%m-%d %H:%M} UTC, though a run is due "
                    f"at {tick.astimezone(UTC):%Y-%m-%d %H:%M}: a backfill has left runs of days still to come",
                    {"next_run": next_run, "due": tick},
                    f"open the runs of {name} in Airflow and delete those of days that are still to come",
                )
            )
    return found


def _stuck(runs: list[dict[str, Any]], dags: dict[str, dict[str, Any]], now: datetime) -> list[Finding]:
    upkeep = settings().maintenance.airflow
    limits = {
        "running": ("start_date", timedelta(hours=upkeep.stuck_after_hours)),
        "queued": ("queued_at", timedelta(minutes=upkeep.queued_too_long_minutes)),
    }
    found = []
    for run in runs:
        key, limit = limits[run["state"]]
        since = datetime.fromisoformat(run[key]) if run.get(key) else None
        paused = dags.get(run["dag_id"], {}).get("is_paused")
        if since is None or now - since <= limit or (run["state"] == "queued" and paused):
            continue  # the paused DAG itself is a finding
        hours = (now - since).total_seconds() / 3600
        found.append(
            Finding(
                f"{run['dag_id']} {run['dag_run_id']}",
                Outcome.WARNING,
                f"a run of {run['dag_id']} has been {run['state']} for {hours:.1f} hours",
                {"state": run["state"], "since": since, "hours": round(hours, 1)},
                "open the run in Airflow, see which task waits and for what; clear that task or mark the run failed",
            )
        )
    return found
