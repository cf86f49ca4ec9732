"""The week's maintenance as a command: ``weekly [--dry-run] [--approve INDEX] [--run-id NAME]``."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from include.maintenance.postgres import bloat, index_review, query_review, reindex

if TYPE_CHECKING:
    from include.maintenance.__main__ import Attempt
    from include.maintenance.backup_commands import Commands


def add(commands: Commands, acts: argparse.ArgumentParser) -> None:
    """Declare the command, with the arguments of commands that act."""
    weekly = commands.add_parser(
        "weekly", parents=[acts], help="review indexes, bloat and queries; rebuild bloated indexes"
    )
    weekly.add_argument(
        "--approve", action="append", default=[], metavar="INDEX", help="also rebuild this large index (schema.name)"
    )
    weekly.set_defaults(work=_weekly)


def _weekly(given: argparse.Namespace, attempt: Attempt) -> list[dict[str, Any]]:
    """Make every review, then rebuild what may be rebuilt."""
    run_id, dry_run = given.run_id, given.dry_run
    for review in (index_review.review, query_review.review, bloat.review):
        attempt(partial(review, run_id))
    if not dry_run:
        attempt(lambda: [{"removed": name} for name in reindex.clean_up(run_id)])
    for candidate in reindex.candidates(run_id, dry_run):
        attempt(partial(_rebuild, candidate, run_id, dry_run, given.approve))
    return []


def _rebuild(candidate: dict[str, Any], run_id: str, dry_run: bool, approved: list[str]) -> dict[str, Any]:
    if not candidate["needs_approval"]:
        return reindex.rebuild(candidate, run_id, dry_run)
    if candidate["index"] in approved:
        return reindex.rebuild(candidate, run_id, dry_run, answer="approved on the command line")
    answer = f"not approved; repeat the command with --approve {candidate['index']}"
    return reindex.rebuild(candidate, run_id, dry_run, approved=False, answer=answer)
