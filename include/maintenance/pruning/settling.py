"""Finishes or takes back what an earlier attempt to prune a table left, wherever it ended."""

from __future__ import annotations

from include.maintenance.pruning import moving
from include.maintenance.pruning.archive_files import ArchiveDamaged
from include.maintenance.pruning.moving import Work
from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable
from include.warehouse import actions, archives
from include.warehouse.archives import Archive


def settle(work: Work, left: list[Archive], run_id: str) -> None:
    """Settle unfinished archives. A failure is recorded in this run's row and raised."""
    replaced = {archive.replaces for archive in left if archive.replaces}
    try:
        for archive in left:
            if archive.state == "withdrawing":
                moving.withdraw(work, archive)
            elif archive.state == "written":  # deletion begins only after "verified": all rows are in their table
                moving.take_back(work, archive)
            elif archive.replaces:  # verified, and the one that it replaces still counts: that is settled again
                archives.record_withdrawing(work.warehouse, archive.archive_id)
                moving.withdraw(work, archive)
            else:
                _finish(work, archive)
    except (ConfigurationError, MaintenanceFailed, SourceUnavailable) as error:
        plan = {"unfinished_archives": len(left), "being_replaced": len(replaced)}
        action = actions.plan("prune", work.source.name, run_id, dry_run=False, plan=plan)
        actions.fail(action, str(error))
        raise


def _finish(work: Work, archive: Archive) -> None:
    """Delete what is left in the table of a verified archive."""
    try:
        content = moving.fetched(work, archive)
    except ArchiveDamaged as error:
        raise MaintenanceFailed(
            f"{error}; it was verified earlier and its rows may be gone from {archive.source_table}: restore the file, "
            f"or if the rows are in the table set the state of {archive.archive_id} in ops.archive to 'withdrawing'"
        ) from None
    moving.settle_content(work, archive, content, already_deleted=None)
