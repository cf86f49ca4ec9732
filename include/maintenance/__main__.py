"""Maintenance without Airflow: ``python -m include.maintenance daily [--dry-run] [--run-id NAME]``, and other commands.

``daily`` prunes, vacuums, rotates logs and measures the cache, ``weekly`` reviews indexes and queries, ``airflow``
looks after Airflow itself. ``backup SOURCE CONNECTION [NAME]`` takes a backup with the facts that ``verify-backup
SOURCE`` needs; ``backup-facts`` records them around another tool's backup. ``restore ARCHIVE CONNECTION
SCHEMA.TABLE`` brings an archive's rows back, ``verify-archives TABLE`` checks all of a table's, ``hold`` places,
releases and lists legal holds. One line per act; the exit status is 1 if an act failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
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


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m include.maintenance", description="Maintenance without Airflow.")
    commands = parser.add_subparsers(dest="command", required=True)
    daily = commands.add_parser("daily", help="prune, vacuum, rotate, measure the cache")
    daily.add_argument("--dry-run", action="store_true", help="plan every act but change nothing")
    daily.add_argument("--run-id", help="continue the acts of this run instead of beginning a new one")
    itself = commands.add_parser("airflow", help="remove old rows and logs of Airflow itself, look at its DAGs")
    itself.add_argument("--dry-run", action="store_true", help="plan every act but change nothing")
    itself.add_argument("--run-id", help="continue the acts of this run instead of beginning a new one")
    itself.add_argument("--log-folder", type=Path, default=_log_folder(), help="Airflow's base_log_folder")
    archive_commands.add(commands)
    backup_commands.add(commands)
    weekly_commands.add(commands)
    given = parser.parse_args(arguments)
    if given.command in backup_commands.COMMANDS:
        return _attempt(lambda: backup_commands.run(given))
    if given.command in weekly_commands.COMMANDS:
        return _attempt(lambda: weekly_commands.run(given))
    if given.command in archive_commands.COMMANDS:
        return _attempt(lambda: archive_commands.run(given))
    run_id = given.run_id or f"command__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    if given.command == "airflow":
        acts = [
            lambda part=part: airflow_upkeep.look_after(part, run_id, given.dry_run, given.log_folder)
            for part in airflow_upkeep.PARTS
        ]
        return max(_attempt(act) for act in acts)
    try:
        steps = _daily(run_id, given.dry_run)
    except ConfigurationError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return max(_attempt(step) for step in steps)


def _log_folder() -> Path:
    home = os.environ.get("AIRFLOW_HOME", "~/airflow")
    return Path(os.environ.get("AIRFLOW__LOGGING__BASE_LOG_FOLDER", f"{home}/logs")).expanduser()


def _daily(run_id: str, dry_run: bool) -> list[Callable[[], Any]]:
    """The steps of a day, pruning before the vacuum that takes up what it leaves."""
    steps: list[Callable[[], Any]] = [
        lambda rule=rule: prune.prune(rule, run_id, dry_run)  # type: ignore[misc]
        for rule in settings().maintenance.prune
    ]
    steps.append(lambda: _tables(run_id, dry_run))
    steps.append(lambda: log_rotation.rotate(run_id, dry_run))
    steps.append(lambda: cache.statistics(run_id, dry_run))
    return steps


def _tables(run_id: str, dry_run: bool) -> list[dict[str, Any]]:
    """Vacuum and analyze the tables that need it, one after the other; one that fails does not keep the others."""
    done, failed = [], []
    ends_at = vacuum_plan.window_end(settings().maintenance.vacuum.window_minutes)
    for table in vacuum_plan.plan_tables(run_id, dry_run, ends_at):
        try:
            done.append(vacuum.maintain(table, run_id, dry_run))
        except (ConfigurationError, MaintenanceFailed, SourceUnavailable) as error:
            failed.append(str(error))
    done.append(vacuum.finish(run_id, dry_run))
    if failed:
        raise MaintenanceFailed("; ".join(failed))
    return done


def _attempt(step: Callable[[], Any]) -> int:
    """Run one step and print what it did; one that fails does not keep the others from their turn."""
    try:
        done = step()
    except (ConfigurationError, MaintenanceFailed, SourceUnavailable) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    for fact in done if isinstance(done, list) else [done]:
        print(json.dumps(fact, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
