"""Moves rows out of a table in chunks: read, archived, deleted, three chunks at a time each in another of these steps.

For every chunk the steps follow each other, and each leaves enough behind for the next attempt (settling.py):

1. its rows are read in small batches and written to a local file, which is read again and compared with them;
2. its row in ``ops.archive`` is recorded (written), then the file takes its place in the archive folder;
3. it is fetched from there, its bytes compared, its manifest put beside it (verified);
4. its rows are deleted in small batches, each a transaction of its own, and only those that are unchanged since;
5. rows that changed or came under a legal hold meanwhile stay, and the archive is written anew without them;
6. the archive is recorded as deleted.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from include.maintenance.pruning import archive_files, manifests, rows, sources
from include.maintenance.pruning.archive_files import ArchiveDamaged, Content, Written
from include.maintenance.pruning.manifests import Keys
from include.maintenance.pruning.rows import Place, Stretch
from include.maintenance.pruning.sources import Source
from include.maintenance.pruning.work import Chunk, Work
from include.outcome import ConfigurationError
from include.platform import database
from include.warehouse import archives
from include.warehouse.archives import Archive

_LARGEST_CHUNK = 128 * 1024 * 1024  # bytes or characters
_STRETCHES_PER_BATCH = 10
_Item = TypeVar("_Item")
_NICENESS = 10
_FIRST_OF_SEVERAL = 4  # how many times smaller the first of several chunks is
_SMALL_CHUNK = 10_000  # rows that take as long as a file does whatever it holds
_FIRST_OF_SEVERAL = 4  # how many times smaller it is
_AHEAD = 2  # chunks that a step may be ahead of the next one, the one that it is at among them


# ----------------------------------------------------------------------------------------------------- the line
def move(work: Work, source: Source) -> None:
    """Archive and delete the rows of a source that are past their retention.

    First go those that no transaction has just written: they are deleted without comparing their content again. What is
    left arrived meanwhile with an old time stamp, or changed, or its age in transactions is unclear. It ends early when
    the time is up.
    """
    left: list[Source] = []
    since = None
    # Piece by piece: until the next vacuum, looking for a row walks past every deleted one before it.
    for chunk in _moved(work, source, settled_only=True):
        until = chunk.stretches[-1].last.time
        piece, since = source.between(since, until), until
        if _has_rows(work, piece):
            left.append(piece)
    for piece in (*left, source.between(since, None)):
        if work.ended_early:
            return
        move_compared(work, piece)


def move_compared(work: Work, source: Source) -> None:
    """Archive and delete the rows of a source past their retention, whoever wrote them, comparing each again."""
    for _ in _moved(work, source, settled_only=False):
        pass


def _moved(work: Work, source: Source, *, settled_only: bool) -> Iterator[Chunk]:
    """Archive and delete rows; give each chunk when it is settled: its rows are gone, but for those that must stay.

    Three chunks at a time are on their way, each in another step, and one more may wait before each step: how long a
    step takes differs from chunk to chunk.
    """
    with _thread("read") as reader, _thread("archive") as archiver:
        read = _ahead(reader, _chunks(work, source, settled_only, None))
        archiver.submit(archive_files.prepare)  # while the first rows are read
        for chunk, record in _ahead(archiver, _archived(work, read)):
            yield _finished(work, chunk, record)


def _archived(work: Work, chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, Archive]]:
    for chunk in chunks:
        if work.out_of_time():
            return
        yield chunk, archive(work, chunk)


def chunks(work: Work, source: Source, settled_only: bool, after: Place | None = None) -> Iterator[Chunk]:
    """Read chunk after chunk, some ahead."""
    with _thread("read") as reader:
        yield from _ahead(reader, _chunks(work, source, settled_only, after))


def _chunks(work: Work, source: Source, settled_only: bool, after: Place | None) -> Iterator[Chunk]:
    """Read chunk after chunk; the first is small where others follow, as nothing can be deleted before it is read."""
    most = work.rule.archive_rows
    if settled_only and work.rows_expected > most > _SMALL_CHUNK:
        most = max(most // _FIRST_OF_SEVERAL, _SMALL_CHUNK)
    while chunk := read_chunk(work, source, after, settled_only, most):
        yield chunk
        after, most = chunk.last, work.rule.archive_rows


@contextmanager
def _thread(name: str) -> Iterator[ThreadPoolExecutor]:
    """A thread to work in; at the end it finishes what it is at, and begins nothing more."""
    with ThreadPoolExecutor(1, name, _stand_back) as thread:
        try:
            yield thread
        finally:
            thread.shutdown(cancel_futures=True)


def _stand_back() -> None:
    """Let this thread wait where the database needs the processor: who writes to it is to feel little of a prune."""
    with suppress(OSError):  # not every system lets a thread do so for itself
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _ahead(thread: ThreadPoolExecutor, items: Iterator[_Item]) -> Iterator[_Item]:
    """Run an iterator in another thread, at once and up to two items ahead of who takes them."""
    coming = deque(thread.submit(next, items, None) for _ in range(_AHEAD))

    def taken() -> Iterator[_Item]:
        while (item := coming.popleft().result()) is not None:
            coming.append(thread.submit(next, items, None))
            yield item

    return taken()


def _has_rows(work: Work, source: Source) -> bool:
    """Tell whether rows past their retention are left that are not held, whoever wrote them.

    Raises ConfigurationError or SourceUnavailable. Rows that cannot be read are left, too.
    """
    import psycopg

    held = work.holds() if source.cut_off is not None else ()
    with database.errors_named(f"pruning of {source.name}"), work.looking.measured(lambda: 1):
        try:
            return rows.read(work.platform, source, None, 1, held, None) is not None
        except (psycopg.errors.ProgramLimitExceeded, psycopg.errors.OutOfMemory, psycopg.DataError):
            return True  # move_compared, which comes to them then, tells why


def read_chunk(work: Work, source: Source, after: Place | None, settled_only: bool, most_rows: int) -> Chunk | None:
    """Read the rows of the next archive in batches, each a short transaction; None when there are no more."""
    import psycopg

    # A partition on its way out is archived whole; its holds are asked about before it is dropped.
    held, size = work.holds() if source.cut_off is not None else (), 0
    with database.errors_named(f"pruning of {source.name}"):
        chunk = Chunk(source, rows.snapshot(work.reader) if settled_only else None)
        while chunk.rows < most_rows and size < _LARGEST_CHUNK:
            limit = min(work.reading.size, most_rows - chunk.rows)
            try:
                batch = None
                with work.reading.measured(lambda: batch.rows if batch else 0):  # noqa: B023 - called at once
                    batch = rows.read(work.reader, source, after, limit, held, chunk.settled_before)
            except (psycopg.errors.ProgramLimitExceeded, psycopg.errors.OutOfMemory):
                if work.reading.size == 1:
                    raise ConfigurationError(
                        f"a row of {source.name} is too large to be read as text; archive it by hand"
                    ) from None
                work.reading.size = max(1, work.reading.size // 4)
                continue
            except psycopg.DataError as error:
                raise ConfigurationError(
                    f"{source.name} cannot be read as text ({error.diag.message_primary}); correct the legal hold or "
                    "the row that it speaks of"
                ) from None
            if batch is None or not chunk.takes(batch):
                break
            chunk.add(batch)
            size += batch.size
            after = chunk.last
    return chunk if chunk.rows else None


# ------------------------------------------------------------------------------------------------ the archive
def archive(work: Work, chunk: Chunk) -> Archive:
    """Take a chunk through the steps up to "verified"."""
    source = chunk.source
    path = work.folder / f"{secrets.token_hex(4)}.parquet"
    chunk.cut(max(1, work.rule.batch_rows // _STRETCHES_PER_BATCH))
    first, last = chunk.stretches[0].first, chunk.stretches[-1].last
    keys = Keys(source.key_column, first.key, last.key)
    escaped = any(batch.escaped for batch in chunk.batches)
    written = archive_files.write(
        path,
        source.columns,
        [batch.values for batch in chunk.batches],
        escaped=escaped,
        about=_about(source, chunk.rows),
    )
    chunk.batches.clear()  # its rows are in the file, and need no memory while they wait for their deletion
    if written.row_count != chunk.rows:
        raise ArchiveDamaged(f"{path.name} has {written.row_count} rows instead of {chunk.rows}")
    times = _times(work, first.time, last.time)
    record = _record(source, written, *times)
    archives.record_written(work.warehouse, record)
    return verified(work, record, written, keys, path)


def verified(work: Work, record: Archive, written: Written, keys: Keys, path: Path) -> Archive:
    """Put a compared file in its place, fetch it from there again, and give it its manifest."""
    work.store.put(path, record.location)
    again = path.with_suffix(".again")
    archive_files.fetch(work.store, record.location, again, record.file_sha256)
    again.unlink()
    with work.chain:  # one manifest at a time
        end = archives.chain_end(work.warehouse, record.source_table)
        number, sha256 = manifests.put(work.store, record, written, keys, end, path)
        archives.record_verified(work.warehouse, record.archive_id, number, sha256)
    path.unlink()
    return replace(record, state="verified", chain_number=number, manifest_sha256=sha256)


def _about(source: Source, row_count: int) -> dict[str, Any]:
    return {
        "source_table": source.name,
        "relation": source.table.name,
        "time_column": source.time_column,
        "key_column": source.key_column,
        "key_is_unique": source.key_is_unique,
        "row_count": row_count,
    }


def _record(source: Source, written: Written, first: datetime, last: datetime) -> Archive:
    archive_id = (
        f"{source.name}/{first:%Y%m%dT%H%M%S.%fZ}_{last:%Y%m%dT%H%M%S.%fZ}_{written.content_hash[:16]}_"
        f"{secrets.token_hex(4)}"
    )
    return Archive(
        archive_id,
        source.name,
        f"{archive_id}.parquet",
        written.row_count,
        written.content_hash,
        written.file_sha256,
        first,
        last,
        relation=source.table.name,
    )


def _times(work: Work, *texts: str) -> list[datetime]:
    """Let the warehouse read times as its server writes them."""
    found = work.warehouse.execute("SELECT unnest(%s::text[]::timestamptz[])", (list(texts),))
    return [value.astimezone(UTC) for (value,) in found]


# ----------------------------------------------------------------------------------------------- the deletion
def _finished(work: Work, chunk: Chunk, record: Archive) -> Chunk:
    if chunk.settled_before is not None:
        deleted = _delete(work, chunk)
        if deleted == record.row_count:
            archives.record_deleted(work.warehouse, record.archive_id)
            return chunk
    else:
        deleted = 0
    settle_content(work, record, fetched(work, record), already_deleted=deleted)
    return chunk


def _delete(work: Work, chunk: Chunk) -> int:
    """Delete the archived rows that are unchanged, in groups of stretches; return how many."""
    deleted, gone, position = 0, 0, 0
    with database.errors_named(f"pruning of {work.source.name}"):
        # A crash of the server may undo commits of the chunk but its last: until then the archive is not "deleted".
        work.platform.execute("SET synchronous_commit = off")
        while position < len(chunk.stretches):
            group, expected = _group(chunk.stretches, position, work.deleting.size)
            end = position + len(group)
            if end == len(chunk.stretches):
                work.platform.execute("SET synchronous_commit = on")  # its commit takes all before it to the disk
            work.throttle.wait()
            held = work.holds()
            whole = _whole_times(chunk.stretches, position, end)
            with work.deleting.measured(lambda: expected):  # noqa: B023 - called at once
                gone = rows.delete_stretches(
                    work.platform, chunk.source, group, held, chunk.settled_before or "", whole_times=whole
                )
            work.counts.deleted += gone
            deleted += gone
            position = end
        if deleted and not gone:  # a commit that changed nothing takes nothing to the disk
            work.platform.execute("SELECT pg_logical_emit_message(true, 'gold_escrow', 'pruned')")
    return deleted


def _whole_times(stretches: list[Stretch], start: int, end: int) -> bool:
    """Whether no neighbour of these stretches has a row of the same time; at a chunk's ends they are not known."""
    return (
        start > 0
        and end < len(stretches)
        and stretches[start - 1].last.time != stretches[start].first.time
        and stretches[end].first.time != stretches[end - 1].last.time
    )


def _group(stretches: list[Stretch], position: int, most: int) -> tuple[list[Stretch], int]:
    """Consecutive stretches of at most so many rows, at least one."""
    end, count = position + 1, stretches[position].rows
    while end < len(stretches) and count + stretches[end].rows <= most:
        count += stretches[end].rows
        end += 1
    return stretches[position:end], count


def fetched(work: Work, record: Archive) -> Content:
    """Read a verified archive back from its place. Raises ArchiveDamaged unless it is exactly what was recorded."""
    return archive_files.fetch_content(work.store, record, work.folder / f"{secrets.token_hex(4)}.parquet")


def settle_content(work: Work, record: Archive, content: Content, *, already_deleted: int | None) -> None:
    """Delete what is still in the table of a verified archive, row by row compared by content, and record its end.

    Rows that changed or are held stay in the table, and the archive is replaced by one without them.
    ``already_deleted`` is None when an earlier attempt may have deleted some: then nobody can tell who did.
    """
    source = source_of(work, record)
    archived = archive_files.keys(content, [source.key_column, source.time_column])
    deleted, stayed, position = 0, [], 0
    with database.errors_named(f"pruning of {record.source_table}"):
        while position < len(archived):
            batch = archived[position : position + work.deleting.size]
            work.throttle.wait()
            with work.deleting.measured(lambda: len(batch)):  # noqa: B023 - called at once
                deleted += rows.delete_equal(work.platform, source, batch, work.holds())
            stayed += rows.still_there(work.platform, source, batch)
            position += len(batch)
    work.counts.deleted += deleted
    work.counts.stayed += len(stayed)
    if already_deleted is not None:
        work.counts.vanished += record.row_count - already_deleted - deleted - len(stayed)
    if not stayed:
        archives.record_deleted(work.warehouse, record.archive_id)
    elif len(stayed) == record.row_count:
        archives.record_withdrawing(work.warehouse, record.archive_id)
        withdraw(work, record)
    else:
        _replace(work, source, record, content, stayed)
    content.path.unlink(missing_ok=True)


def source_of(work: Work, record: Archive) -> Source:
    """The table or partition that an archive's rows came from; the whole table where that partition is no more."""
    if record.relation in (None, work.source.table.name) or is_gone(work, record):
        return work.source
    with database.errors_named(f"pruning of {record.source_table}"):
        return sources.of_partition(work.platform, work.source, database.table_of(work.platform, record.relation))


def is_gone(work: Work, record: Archive) -> bool:
    """Whether there is no table or partition any more of the name that an archive's rows came from."""
    with database.errors_named(f"pruning of {record.source_table}"):
        row = work.platform.execute("SELECT to_regclass(%s) IS NULL", (record.relation,)).fetchone()
    return record.relation is not None and row == (True,)


def _replace(work: Work, source: Source, record: Archive, content: Content, stayed: list[tuple[str, ...]]) -> None:
    """Put an archive without some of its rows in the place of another."""
    path = work.folder / f"{secrets.token_hex(4)}.parquet"
    columns = [source.key_column, source.time_column]
    written = archive_files.write_without(content, path, columns, [row[:2] for row in stayed])
    if written.row_count != record.row_count - len(stayed):
        raise ArchiveDamaged(f"{record.location} could not be written anew without {len(stayed)} of its rows")
    left = archive_files.keys(archive_files.read(path), columns)
    keys = Keys(source.key_column, left[0][0], left[-1][0])
    times = _times(work, left[0][1], left[-1][1])
    new = replace(_record(source, written, *times), replaces=record.archive_id, relation=record.relation)
    archives.record_written(work.warehouse, new)
    verified(work, new, written, keys, path)
    archives.record_replaced(work.warehouse, new.archive_id, record.archive_id)
    withdraw(work, record)


def withdraw(work: Work, record: Archive) -> None:
    """Remove the file of an archive that does not count any more; its manifest stays as a link of the chain."""
    work.store.remove(record.location)
    archives.record_withdrawn(work.warehouse, record.archive_id)
