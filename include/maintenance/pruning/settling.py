"""Finishes or takes back what an earlier attempt to prune a table left, wherever it ended."""

from __future__ import annotations

from include.maintenance.pruning import archive_files, moving, rows
from include.maintenance.pruning.archive_files import ArchiveDamaged, Content
from include.maintenance.pruning.manifests import Keys
from include.maintenance.pruning.sources import Source
from include.maintenance.pruning.work import Waits, Work
from include.outcome import MaintenanceFailed
from include.platform import database
from include.warehouse import archives
from include.warehouse.archives import Archive

BEGIN_ANEW = "set the state of its verified archives in ops.archive to 'withdrawing' and run again"
"""What a person does, in the end, about archives of a detached partition that cannot be used."""


def settle(work: Work, left: list[Archive]) -> None:
    """Settle unfinished archives. Raises as the steps of ``moving`` do; what was settled until then stays so."""
    for archive_id in [archive.archive_id for archive in left]:
        archive = archives.get(work.warehouse, archive_id)
        if archive is None or archive.state in ("deleted", "withdrawn"):  # with one of the others
            continue
        if archive.state == "withdrawing":
            moving.withdraw(work, archive)
        elif archive.replaces and not _replacement(work, archive):
            continue  # the one that it replaces still counts, and is settled next
        elif archive.state == "written":  # deletion begins only after "verified": all rows are in their table
            if forgotten := take_back(work, archive):
                _finish(work, forgotten)
        else:
            _finish(work, archive)


def _finish(work: Work, archive: Archive) -> None:
    """Delete what is left in the table of a verified archive."""
    try:
        content = moving.fetched(work, archive)
    except ArchiveDamaged as error:
        raise MaintenanceFailed(
            f"{error}; it was verified earlier and its rows may be gone from {archive.source_table}: restore the file, "
            f"or if the rows are in the table set the state of {archive.archive_id} in ops.archive to 'withdrawing'"
        ) from None
    if moving.is_gone(work, archive):  # by somebody else: those of its rows that are in the table yet go as any other
        work.gone.append(str(archive.relation))
    moving.settle_content(work, archive, content, already_deleted=None)


def archived_earlier(work: Work, source: Source) -> list[Archive]:
    """Return the archives of a detached partition by earlier attempts; withdraw those without a column it got since.

    Raises Waits where a file is damaged, or where rows of one that would be withdrawn are in the file only.
    """
    found = []
    for one in archives.of_relation(work.warehouse, source.table.name, "verified"):
        try:
            content = moving.fetched(work, one)
        except ArchiveDamaged as error:
            raise Waits(f"{error}; its rows are still in {source.table.name}: {BEGIN_ANEW}") from None
        new = {column.name for column in source.columns} - {column.name for column in content.columns}
        if not new:
            found.append(one)
        elif all_there(work, one, content):
            archives.record_withdrawing(work.warehouse, one.archive_id)
            moving.withdraw(work, one)
        else:
            raise Waits(
                f"the archive file {one.location} has no column {min(new)}, and rows of it are not in "
                f"{source.table.name} any more: compare them, and then {BEGIN_ANEW}"
            )
        content.path.unlink()
    return found


def take_back(work: Work, record: Archive) -> Archive | None:
    """Remove an archive that is not recorded as verified, once its rows are seen to be in their table.

    The warehouse may have forgotten that it was verified (set back in time, or failed over to a standby that was
    behind): then rows may be gone from the table already. An intact file of which rows are gone is verified again and
    returned, for the caller to finish. Raises MaintenanceFailed where neither is possible; nothing is removed then.
    """
    content = _intact(work, record)
    if content is None and work.store.read(record.manifest) is not None:  # the file was intact when that was written
        raise MaintenanceFailed(
            f"the archive file {record.location} is missing or damaged and its rows may be gone from "
            f"{record.source_table}: its manifest says that it was verified, but ops.archive does not; bring the file "
            f"back from a copy, or if the rows are in the table remove {record.manifest}, and run again"
        )
    if content is not None and not all_there(work, record, content):
        return _verified_again(work, record, content)
    _remove(work, record)
    return None


def _remove(work: Work, record: Archive) -> None:
    """Remove an archive that is not verified and of which nothing is needed."""
    # The files go first: a row without its file is settled again, a file without its row would stay for ever. Of them
    # the manifest does: without its file it would say that the file got lost.
    work.store.remove(record.manifest)
    work.store.remove(record.location)
    archives.forget(work.warehouse, record.archive_id)


def _replacement(work: Work, record: Archive) -> Archive | None:
    """Settle an archive that was to replace another, unless that one does not count any more: then it is returned.

    The one that still has all the rows stays: the replaced one if its file is intact, or else this one.
    """
    replaced = archives.get(work.warehouse, record.replaces or "")
    if replaced is None or replaced.state != "verified":
        return record
    if _intact(work, replaced) is None:  # removed already, and the warehouse has forgotten why
        content = _intact(work, record)
        if content is None:
            raise MaintenanceFailed(
                f"the archive files {replaced.location} and {record.location}, which was to replace it, are missing or "
                f"damaged, and their rows may be gone from {record.source_table}; bring one of them back from a copy"
            )
        if record.state == "written":
            _verified_again(work, record, content)
        archives.record_replaced(work.warehouse, record.archive_id, replaced.archive_id)
        moving.withdraw(work, replaced)
    elif record.state == "written":
        _remove(work, record)
    else:
        archives.record_withdrawing(work.warehouse, record.archive_id)
        moving.withdraw(work, record)
    return None


def _intact(work: Work, record: Archive) -> Content | None:
    try:
        return moving.fetched(work, record)
    except ArchiveDamaged:
        return None


def all_there(work: Work, record: Archive, content: Content) -> bool:
    """Whether every row of an archive is in its table, whatever became of its content."""
    archived = archive_files.keys(content, [work.source.key_column, work.source.time_column])
    if moving.is_gone(work, record):
        return False
    with database.errors_named(f"pruning of {record.source_table}"):
        source = moving.source_of(work, record)
        return all(
            len(rows.still_there(work.platform, source, batch)) == len(batch)
            for batch in (archived[n : n + work.rule.batch_rows] for n in range(0, len(archived), work.rule.batch_rows))
        )


def _verified_again(work: Work, record: Archive, content: Content) -> Archive:
    """Give a compared file its manifest again and record it as verified."""
    archived = archive_files.keys(content, [work.source.key_column, work.source.time_column])
    written = archive_files.compared(content)
    keys = Keys(work.source.key_column, archived[0][0], archived[-1][0])
    return moving.verified(work, record, written, keys, content.path)
