"""Runs the whole collection on a small real platform: ``python -m demo [--oneshot]`` (make demo).

Sets up the embedded servers, the platform and its history, starts Airflow, backfills 35 finished days through the
DAGs, shows the newest reports and the address to open; then stays until Ctrl-C. With --oneshot it prints a table of the
runs and both reports, writes .local/demo/summary.json, stops everything and exits non-zero if anything failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from demo.airflow import USER, Airflow, dag_names
from demo.install import LOCAL, ROOT
from demo.platform_run import Servers
from demo.processes import StartError, claim

FOLDER = LOCAL / "demo"
SUMMARY = FOLDER / "summary.json"
ENVIRONMENT = FOLDER / "environment.sh"
FINISHED = {"success", "failed"}
UNFINISHED = {"queued", "running"}
_OF_COMMANDS = ("AIRFLOW", "OPERATIONS__", "NO_PROXY", "no_proxy")


@contextmanager
def step(text: str) -> Iterator[list[str]]:
    """Show a step while it runs and how long it took; what is put into the list is shown behind it."""
    started = time.monotonic()
    notes: list[str] = []
    print(f"  {text} …", end="", flush=True)
    try:
        yield notes
    except BaseException:
        print(" failed", flush=True)
        raise
    print(f" {', '.join(notes) + ', ' if notes else ''}{time.monotonic() - started:.1f} s", flush=True)


def say(text: str, *, end: str = "\n") -> None:
    """Print what closes a start; where nobody can read it any more (a closed pipe or terminal), it is dropped."""
    try:
        print(text, end=end, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # what could not be written is not tried again at the exit either
        os.close(nowhere)


class Demo:
    """One start of the demo."""

    def __init__(self) -> None:
        """Keep everything under .local/demo."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        for left in (SUMMARY, ENVIRONMENT):
            left.unlink(missing_ok=True)  # what an earlier start left says nothing about this one
        self.servers = Servers(FOLDER)
        self.airflow: Airflow | None = None
        self.started, self.started_at = time.monotonic(), datetime.now(UTC)
        self.days: tuple[date, date] | None = None

    def start(self) -> None:
        """Bring everything up."""
        self.keep_time()
        with step("embedded servers") as notes:
            notes.append(", ".join(self.servers.start()))
        database = os.environ.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN") or self._databases.url("airflow", "airflow")
        self.airflow = Airflow(self.servers.processes, FOLDER / "airflow", database_url=database, connections={})
        with step("warehouse, escrow platform with its history, Airflow") as notes, ThreadPoolExecutor(1) as side:
            prepared = side.submit(self._prepare_airflow)
            self._warehouse_and_history(notes)
            if not self.servers.own_platform:
                notes.append(self.servers.start_platform())
            notes += self.servers.remarks
            prepared.result()
        with step("scheduler and DAGs") as notes:
            self.airflow.wait_for_dags(dag_names())
            # Not earlier: the watch must not find a platform that is still being set up.
            self.airflow.environment |= self.servers.connections
            self.airflow.start("scheduler")
            notes.append(f"{len(dag_names())} DAGs")
        self.write_environment()

    def keep_time(self) -> None:
        """Keep the demo's platform in UTC, as it dates its days and logs. Raises ConfigurationError."""
        from include.settings import load

        zone = load().platform.timezone  # a malformed configuration ends the start with its sentence
        if zone != "UTC" and not self.servers.own_platform:
            os.environ["OPERATIONS__PLATFORM__TIMEZONE"] = "UTC"
            print(f"  The platform of the demo lives in UTC; {zone} counts for a platform of your own.")

    def write_environment(self) -> None:
        """Let a shell run the collection's and Airflow's commands on this demo, once it has read environment.sh."""
        assert self.airflow is not None
        kept = {name: value for name, value in self.airflow.environment.items() if name.startswith(_OF_COMMANDS)}
        lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(kept.items())]
        lines += [
            f"export PYTHONPATH={shlex.quote(str(ROOT))}",
            f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
        ]
        ENVIRONMENT.unlink(missing_ok=True)
        ENVIRONMENT.touch(mode=0o600)  # the passwords of the connections stand in it
        ENVIRONMENT.write_text("\n".join(lines) + "\n")

    def _prepare_airflow(self) -> None:
        assert self.airflow is not None
        self.airflow.environment |= self.servers.connections
        self.airflow.prepare()
        self.airflow.start("api-server", "dag-processor")

    @property
    def _databases(self) -> Any:
        assert self.servers.databases is not None
        return self.servers.databases

    def _warehouse_and_history(self, notes: list[str]) -> None:
        from include.warehouse import migrate

        migrate.upgrade()
        if not self.servers.own_platform:
            first, last, new = self.servers.make_history()
            self.days = (first, last)
            notes.append(f"{(last - first).days + 1} days to {last}" + ("" if new else " (kept)"))

    # ------------------------------------------------------------------------------------ the operating day
    def operate(self, *, oneshot: bool) -> None:
        """Backfill the finished days through the DAGs, then run the night's maintenance.

        Of a platform that is not the demo's only yesterday is computed, and reported, when ``oneshot`` is set.
        """
        assert self.airflow is not None
        if self.days is None:
            self.airflow.start("triggerer")
            if oneshot:
                self._compute_yesterday()
            else:
                print(
                    "  Your own platform is connected: its days are computed by the schedule or a backfill in the UI."
                )
            return
        first, last = self.days
        days = (last - first).days + 1
        # The schedule starts the last day by itself, a few seconds after the scheduler has begun.
        self.airflow.backfill("daily_metrics", first, last - timedelta(days=1))
        self._wait("days through the DAGs", {"daily_metrics": days - 1})
        if not self.airflow.count("daily_metrics", FINISHED, partition_key=str(last)):
            self.airflow.backfill("daily_metrics", last, last)
            self._wait("the last day", {"daily_metrics": days})
        self.airflow.start("triggerer")  # nothing needed it so far, and the days need every processor
        self.airflow.trigger("daily_maintenance")  # not earlier: logs go only once their days are in the warehouse
        rest = {"daily_reports": days, "weekly_metrics": 1, "monthly_metrics": 1, "daily_maintenance": 1}
        self._wait("reports, rollups and maintenance", rest | {"platform_watch": 1, "incident_watch": 1})

    def _compute_yesterday(self) -> None:
        from include.settings import settings
        from include.window import last_finished_day

        assert self.airflow is not None
        day = last_finished_day(datetime.now(UTC), settings().platform.timezone)
        self.airflow.backfill("daily_metrics", day, day)
        self._wait(f"yesterday, {day}", {"daily_metrics": 1})
        if not self.airflow.count("daily_metrics", {"success"}, partition_key=str(day)):
            raise StartError(f"daily_metrics of {day} did not succeed; see the logs in {FOLDER}")
        self._wait("its reports", {"daily_reports": 1})

    def _wait(self, text: str, at_least: dict[str, int], *, seconds: float = 900) -> None:
        """Wait until each DAG has so many runs and none that is unfinished. Raises StartError after ``seconds``."""
        assert self.airflow is not None
        started, shown = time.monotonic(), -10.0
        on_terminal = sys.stdout.isatty()
        while True:
            done = {name: self.airflow.count(name, FINISHED) for name in at_least}
            line = ", ".join(f"{name} {done[name]}" for name in at_least)
            enough = all(done[name] >= number for name, number in at_least.items())
            if enough and not any(self.airflow.count(name, UNFINISHED) for name in at_least if not _is_watch(name)):
                again = "\r\033[K" if on_terminal else ""
                print(f"{again}  {text}: {line}, {time.monotonic() - started:.1f} s", flush=True)
                return
            passed = time.monotonic() - started
            if on_terminal:
                print(f"\r  {text}: {line}\033[K", end="", flush=True)
            elif passed - shown >= 10:
                shown = passed
                print(f"  {text}: {line}", flush=True)
            if passed > seconds:
                raise StartError(f"{text}: not finished after {seconds:.0f} s ({line}); see the logs in {FOLDER}")
            time.sleep(1)

    # --------------------------------------------------------------------------------------------- results
    def summarise(self) -> dict[str, Any]:
        """Write what happened to summary.json and return it."""
        from include import connections

        assert self.airflow is not None
        runs = [
            {
                "dag_id": run["dag_id"],
                "run_id": run["dag_run_id"],
                "partition_key": run.get("partition_key"),
                "state": run["state"],
                "queued_at": run["queued_at"],
                "duration_seconds": run.get("duration"),
            }
            for run in self.airflow.runs()
        ]
        with connections.postgres("warehouse_reader") as warehouse:
            tables = [
                name
                for (name,) in warehouse.execute(
                    "SELECT tablename FROM pg_tables WHERE schemaname = 'ops' ORDER BY tablename"
                )
            ]
            rows = {name: warehouse.execute(f"SELECT count(*) FROM ops.{name}").fetchone() for name in tables}  # noqa: S608
            incidents = warehouse.execute(
                "SELECT incident_id, class, state, title, detected_at FROM ops.incident ORDER BY incident_id"
            ).fetchall()
        # A failure of an earlier start is told in the table, and is not this start's failure.
        failed = any(self._is_of_this_start(run) and _is_no_success(run) for run in runs)
        failed |= any(detected_at >= self.started_at for *_, detected_at in incidents)
        summary = {
            "outcome": "failed" if failed else "success",
            "seconds": round(time.monotonic() - self.started, 1),
            "url": self.airflow.url,
            "dag_runs": runs,
            "rows": {name: row[0] for name, row in rows.items() if row},
            "incidents": [
                dict(zip(("incident_id", "class", "state", "title"), row, strict=False)) for row in incidents
            ],
        }
        SUMMARY.write_text(json.dumps(summary, indent=2, default=str) + "\n")
        return summary

    def _is_of_this_start(self, run: dict[str, Any]) -> bool:
        return run["queued_at"] is None or datetime.fromisoformat(run["queued_at"]) >= self.started_at

    def show(self, summary: dict[str, Any]) -> None:
        """Print the table of runs, the newest reports and where to look."""
        print(f"\n  {'DAG':<26} {'runs':>5} {'state':<22} {'seconds':>8}")
        for name in sorted(dag_names()):
            runs = [run for run in summary["dag_runs"] if run["dag_id"] == name]
            states = {state: sum(run["state"] == state for run in runs) for state in {run["state"] for run in runs}}
            text = ", ".join(f"{state} {number}" for state, number in sorted(states.items())) or "not run"
            print(f"  {name:<26} {len(runs):>5} {text:<22} {sum(run['duration_seconds'] or 0 for run in runs):>8.1f}")
        print()
        self._print_reports()
        for incident in summary["incidents"]:
            print(f"  {incident['incident_id']} {incident['class']} {incident['state']}: {incident['title']}")

    def _print_reports(self) -> None:
        from include.reporting.__main__ import main

        main(["show", "--latest"])

    def _let_runs_end(self, *, seconds: float = 4.0) -> None:
        """Wait for the short runs of the minute: a scheduler that ends in the middle of a task may take long."""
        deadline = time.monotonic() + seconds
        with suppress(httpx.HTTPError):  # where the API has not started, nothing runs
            while self.airflow and self.airflow.count("~", UNFINISHED) and time.monotonic() < deadline:
                time.sleep(0.2)

    def stop(self) -> None:
        """Stop everything that was started, also where what is said about it cannot be read."""
        began = time.monotonic()
        say("  stopping …", end="")
        ENVIRONMENT.unlink(missing_ok=True)
        try:
            if self.airflow is not None:
                self._let_runs_end()
                self.airflow.stop()
        finally:
            self.servers.processes.stop_all()
        say(f" {time.monotonic() - began:.1f} s")


def _is_watch(dag_id: str) -> bool:
    """Whether a DAG runs every minute, so that one of its runs is nearly always on its way."""
    return dag_id.endswith("_watch")


def _is_no_success(run: dict[str, Any]) -> bool:
    """Whether a run failed, or was started for this operating day and has not ended; its schedule's turn may come."""
    scheduled = _is_watch(run["dag_id"]) or run["run_id"].startswith("scheduled__")
    return run["state"] == "failed" or (run["state"] in UNFINISHED and not scheduled)


def main() -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--oneshot", action="store_true", help="run one operating day, report and stop")
    oneshot = parser.parse_args().oneshot
    _on_interrupt(signal.default_int_handler)  # also where a shell started us with SIGINT ignored
    try:
        held = claim(FOLDER / "lock")  # before anything of a demo that runs here is touched
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    with held:
        return _run(oneshot)


def _run(oneshot: bool) -> int:
    demo = Demo()
    try:
        print("Gold Escrow operations: starting", flush=True)
        demo.start()
        demo.operate(oneshot=oneshot)
        summary = demo.summarise()
        demo.show(summary)
        failed = summary["outcome"] != "success"
        if not oneshot:
            _stay(demo)
        return int(failed)
    except KeyboardInterrupt:
        _on_interrupt(signal.SIG_IGN)  # a second Ctrl-C must not leave anything running
        say("\n  interrupted")
        return 130 if oneshot else 0
    except BrokenPipeError:
        return 1  # nobody reads any further, as behind "| head"
    except Exception as error:
        from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable

        if not isinstance(error, StartError | ConfigurationError | MaintenanceFailed | SourceUnavailable):
            raise
        print(f"\n{error}", file=sys.stderr)
        return 1
    finally:
        _on_interrupt(signal.SIG_IGN)
        demo.stop()
        if oneshot and SUMMARY.exists():
            say(f"  Everything is stopped after {time.monotonic() - demo.started:.0f} s.")
            folder = os.path.relpath(FOLDER, ROOT)
            say(f"  What happened: {folder}/{SUMMARY.name}; reports: {folder}/reports/; logs: {folder}/")


def _on_interrupt(handler: Any) -> None:
    """Let Ctrl-C, SIGTERM and a closed terminal do the same; where nohup ignores the last it stays so."""
    hung_up = () if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,)
    for number in (signal.SIGINT, signal.SIGTERM, *hung_up):
        signal.signal(number, handler)


def _stay(demo: Demo) -> None:
    assert demo.airflow is not None
    print(f"\n  Airflow: {demo.airflow.url}   user {USER}, password {demo.airflow.password}")
    print(f"  Operations board: {demo.airflow.url}/ and there the entry Operations board")
    if not demo.servers.own_platform:
        print("  Light live traffic goes on.")
    print(f"  Commands of docs/operate.md: . {shlex.quote(os.path.relpath(ENVIRONMENT))} and then python -m include.…")
    print("  Ctrl-C stops everything; the next start resumes.", flush=True)
    backup_at = 0.0
    while True:
        for name, child in demo.airflow.children.items():
            if not child.running:
                raise StartError(f"Airflow's {name} ended by itself; see its log {child.log}")
        if not demo.servers.own_platform and time.monotonic() >= backup_at:
            backup_at = time.monotonic() + (0 if _back_up(demo) else _SECONDS_UNTIL_NEXT_BACKUP)
        time.sleep(2)


_SECONDS_UNTIL_NEXT_BACKUP = 600.0  # after one that failed


def _back_up(demo: Demo) -> bool:
    """Take the night's backup, soon after midnight; one that fails is told, and does not end the demo."""
    from include.outcome import MaintenanceFailed, SourceUnavailable

    try:
        demo.servers.take_backup(datetime.now(UTC).date())
    except (MaintenanceFailed, SourceUnavailable) as error:
        print(f"  The night's backup failed, and is tried again: {error}", file=sys.stderr, flush=True)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
