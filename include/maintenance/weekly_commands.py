"""The week's maintenance as a command: ``weekly [--dry-run] [--approve INDEX] [--run-id NAME]``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from include.maintenance.postgres import bloat, index_review, query_review, reindex
from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

COMMANDS = frozenset({"weekly"})


def add(commands: Commands) -> None:
    """Declare the command."""
    weekly = commands.add_parser("weekly", help="review indexes, bloat and queries; rebuild bloated indexes")
    weekly.add_argument("--dry-run", action="store_true", help="review and plan, but rebuild no index")
    weekly.add_argument(
        "--approve", action="append", default=[], metavar="INDEX", help="also rebuild this large index (schema.name)"
    )
    weekly.add_argument("--run-id", help="repeat this run instead of beginning a new one")


def run(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Make every review, then rebuild what may be rebuilt; return the facts of each.

    A step that fails does not keep the others from their turn; the first failure is raised at the end.
    """
    run_id = given.run_id or f"command__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    done: list[dict[str, Any]] = []
    failures: list[Exception] = []

    def attempt(step: Callable[[], list[dict[str, Any]]]) -> None:
        try:
            done.extend(step())
        except (ConfigurationError, MaintenanceFailed, SourceUnavailable) as error:
            failures.append(error)

    attempt(lambda: index_review.review(run_id))
    attempt(lambda: query_review.review(run_id))
    attempt(lambda: bloat.review(run_id))
    if not given.dry_run:
        attempt(lambda: [{"removed": name} for name in reindex.clean_up(run_id)])

    def rebuild_each() -> list[dict[str, Any]]:
        for one in reindex.candidates(run_id, given.dry_run):
            attempt(lambda one=one: [_rebuild(one, run_id, given.dry_run, given.approve)])  # type: ignore[misc]
        return []

    attempt(rebuild_each)
    if failures:
        raise failures[0]
    return done


def _rebuild(candidate: dict[str, Any], run_id: str, dry_run: bool, approved: list[str]) -> dict[str, Any]:
    if not candidate["needs_approval"]:
        return reindex.rebuild(candidate, run_id, dry_run)
    if candidate["index"] in approved:
        return reindex.rebuild(candidate, run_id, dry_run, answer="approved on the command line")
    answer = f"not approved; repeat the command with --approve {candidate['index']}"
    return reindex.rebuild(candidate, run_id, dry_run, approved=False, answer=answer)
