"""Maintenance without Airflow: ``python -m include.maintenance daily [--dry-run] [--run-id NAME]``, and other commands.

``daily`` prunes, vacuums, rotates logs and measures the cache, ``weekly`` reviews indexes and queries, ``airflow``
looks after Airflow itself. ``backup SOURCE CONNECTION [NAME]`` takes a backup with the facts that ``verify-backup
SOURCE`` needs; ``backup-facts`` records them around another tool's backup. ``restore ARCHIVE CONNECTION
SCHEMA.TABLE`` brings an archive's rows back, ``verify-archives TABLE`` checks all of a table's, ``hold`` places,
releases and lists legal holds. One line per act, on stderr if it failed; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from include.maintenance import archive_commands, backup_commands, weekly_commands
from include.maintenance.airflow import airflow_upkeep
from include.maintenance.cache import cache
from include.maintenance.logs import log_rotation
from include.maintenance.postgres import vacuum, vacuum_plan
from include.maintenance.pruning import prune
from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable
from include.settings import settings

Attempt = Callable[[Callable[[], Any]], None]
"""Does one act, prints what it did, and goes on where it failed."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit status."""
    given = _parser().parse_args(arguments)
    failures = 0

    def attempt(act: Callable[[], Any]) -> None:
        nonlocal failures
        try:
            done = act()
        except (ConfigurationError, MaintenanceFailed, SourceUnavailable) as error:
            failures += 1
            print(f"failed: {error}", file=sys.stderr)
            return
        for fact in done if isinstance(done, list) else [done]:
            print(json.dumps(fact, ensure_ascii=False))

    attempt(lambda: given.work(given, attempt))
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    """Every command sets ``work``: what it does, given the arguments and ``Attempt``, and the facts that are left."""
    parser = argparse.ArgumentParser(prog="python -m include.maintenance", description="Maintenance without Airflow.")
    commands = parser.add_subparsers(required=True)
    run = argparse.ArgumentParser(add_help=False)
    # argparse gives the default to ``_run_id`` too: a run of its own unless one is named.
    run.add_argument("--run-id", default="", type=_run_id, help="continue this run instead of beginning a new one")
    acts = argparse.ArgumentParser(add_help=False, parents=[run])
    acts.add_argument("--dry-run", action="store_true", help="plan every act but change nothing")
    daily = commands.add_parser("daily", parents=[acts], help="prune, vacuum, rotate, measure the cache")
    daily.set_defaults(work=_daily)
    itself = commands.add_parser(
        "airflow", parents=[acts], help="remove old rows and logs of Airflow itself, look at its DAGs"
    )
    itself.add_argument("--log-folder", type=Path, default=_log_folder(), help="Airflow's base_log_folder")
    itself.set_defaults(work=_airflow)
    archive_commands.add(commands)
    backup_commands.add(commands, run)
    weekly_commands.add(commands, acts)
    return parser


def _run_id(text: str) -> str:
    return text or f"command__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def _log_folder() -> Path:
    home = os.environ.get("AIRFLOW_HOME", "~/airflow")
    return Path(os.environ.get("AIRFLOW__LOGGING__BASE_LOG_FOLDER", f"{home}/logs")).expanduser()


def _daily(given: argparse.Namespace, attempt: Attempt) -> list[dict[str, Any]]:
    """Do the acts of a day, pruning before the vacuum that takes up what it leaves."""
    run_id, dry_run = given.run_id, given.dry_run
    for rule in settings().maintenance.prune:
        attempt(partial(prune.prune, rule, run_id, dry_run))
    attempt(lambda: _tables(run_id, dry_run, attempt))
    attempt(lambda: log_rotation.rotate(run_id, dry_run))
    attempt(lambda: cache.statistics(run_id, dry_run))
    return []


def _tables(run_id: str, dry_run: bool, attempt: Attempt) -> dict[str, Any]:
    """Vacuum and analyze the tables that need it, one after the other."""
    ends_at = vacuum_plan.window_end(settings().maintenance.vacuum.window_minutes)
    for table in vacuum_plan.plan_tables(run_id, dry_run, ends_at):
        attempt(partial(vacuum.maintain, table, run_id, dry_run))
    return vacuum.finish(run_id, dry_run)


def _airflow(given: argparse.Namespace, attempt: Attempt) -> list[dict[str, Any]]:
    for part in airflow_upkeep.PARTS:
        attempt(partial(airflow_upkeep.look_after, part, given.run_id, given.dry_run, given.log_folder))
    return []


if __name__ == "__main__":
    sys.exit(main())
