"""The day's maintenance without Airflow: ``python -m include.maintenance daily [--dry-run] [--run-id NAME]``.

``restore ARCHIVE CONNECTION SCHEMA.TABLE`` brings an archive's rows back. One line per act; the exit status is 1 when
an act failed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from include.maintenance import cache, log_rotation, prune, restore, tables
from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable
from include.settings import settings


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m include.maintenance", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    daily = commands.add_parser("daily", help="prune, vacuum, rotate, measure the cache")
    daily.add_argument("--dry-run", action="store_true", help="plan every act but change nothing")
    daily.add_argument("--run-id", help="continue the acts of this run instead of beginning a new one")
    back = commands.add_parser("restore", help="copy an archive's rows into a table")
    for name in ("archive", "connection", "target"):
        back.add_argument(name)
    given = parser.parse_args(arguments)
    if given.command == "restore":
        return _attempt(lambda: restore.restore(given.archive, given.connection, given.target))
    run_id = given.run_id or f"command__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    return max(_attempt(step) for step in _daily(run_id, given.dry_run))


def _daily(run_id: str, dry_run: bool) -> list[Callable[[], Any]]:
    """The steps of a day, pruning before the vacuum that takes up what it leaves."""
    steps: list[Callable[[], Any]] = [
        lambda rule=rule: prune.prune(rule, run_id, dry_run)  # type: ignore[misc]
        for rule in settings().maintenance.prune
    ]
    steps.append(lambda: [tables.maintain(table, run_id, dry_run) for table in tables.plan_tables(run_id, dry_run)])
    steps.append(lambda: log_rotation.rotate(run_id, dry_run))
    steps.append(lambda: cache.statistics(run_id, dry_run))
    return steps


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
