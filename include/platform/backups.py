"""Backups of the platform's database: taking one with the facts that its verification needs, and finding the newest.

A backup lies in the folder of the connection ``backups`` under a name of its own, its facts beside it. It appears under
its name only when it is whole, and only the account that took it may read it, unless the server gives its own files to
a group (pg_basebackup).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from include import connections
from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable
from include.platform import backup_facts, backup_looks, folders, postgres_binaries, programs
from include.platform.backup_facts import SUFFIX, Facts, FileFacts, TableFacts
from include.sections import BackupSource
from include.settings import settings

if TYPE_CHECKING:
    import psycopg

FOLDER = "backups"
Format = Literal["custom", "directory", "base"]
_PARTIAL = ".partial"
_END_OF_MANIFEST = 1 << 16
_WAL_RANGE = re.compile(r'"Timeline": (\d+), "Start-LSN": "([0-9A-F]+)/([0-9A-F]+)"')
_REPORTED_SECONDS = 1.1
"""After this time, active sessions have told the statistics what they changed (at most once a second; before
PostgreSQL 15, where readers see new figures every half second, twice a second)."""
_REPORTED_AT_LAST_SECONDS = 11.0
"""Idle ones take up to ten seconds."""
_SESSION = "-c timezone=UTC -c row_security=off -c search_path=pg_catalog"


@dataclass(frozen=True)
class Backup:
    """One backup. ``taken_at`` is the moment up to which it holds everything, as ``taken_at_from`` tells it."""

    name: str
    location: str
    bytes: int
    taken_at: datetime
    taken_at_from: str
    facts: Facts | None


# ---------------------------------------------------------------------------------------------------- taking one
def source_of(name: str) -> BackupSource:
    """Return the settings of a backup source. Raises ConfigurationError when there is none of that name."""
    sources = settings().backups.sources
    for source in sources:
        if source.name == name:
            return source
    known = ", ".join(source.name for source in sources) or "none"
    raise ConfigurationError(f"there is no backup source {name}; backups.sources has {known}")


def take(url: str, folder: Path, name: str, kind: Format = "custom", *, jobs: int = 1, tar: bool = False) -> Path:
    """Take a backup of the database (kind base: of its whole server) as ``folder``/``name``, with its facts beside it.

    A dump's rows are counted in the very snapshot that it holds, while it is written. A second backup of the same name
    replaces the first. ``tar`` writes a base backup as compressed tar files. Raises MaintenanceFailed with what the
    program said, ConfigurationError, or SourceUnavailable when the database cannot be reached.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder, name)
    # The program follows a link that it finds under the name it is given: nobody else may put one there meanwhile.
    private = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=_PARTIAL, dir=folder))
    partial = private / name
    try:
        with _reading(url, f"the backup {name}", "taken") as connection:
            if kind == "base":
                facts = _take_base(connection, url, partial, name, tar)
            else:
                facts = _take_dump(connection, url, partial, name, kind, jobs)
        _publish(partial, folder / name, facts)
    finally:
        shutil.rmtree(private, ignore_errors=True)  # what stays is removed before the next one
    return folder / name


@contextmanager
def _reading(url: str, what: str, done: str) -> Iterator[psycopg.Connection[Any]]:
    """Open a database for reading all rows of one snapshot; its errors name ``what`` cannot be ``done``."""
    import psycopg
    from psycopg import errors

    try:
        with psycopg.connect(url, options=_SESSION, connect_timeout=10) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            yield connection
    except errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"the rows of {what} cannot be counted ({error.diag.message_primary}); use a role that reads all rows"
        ) from None
    except (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName) as error:
        raise SourceUnavailable(
            f"{what} cannot be {done}: a table was changed meanwhile ({error.diag.message_primary}); try again"
        ) from None
    except psycopg.OperationalError as error:
        why = f"says: {error.diag.message_primary}" if error.sqlstate else "cannot be reached"
        database = connections.libpq_environment(url).get("PGDATABASE", "")
        raise SourceUnavailable(f"{what} cannot be {done}: the database {database} {why}") from None


def _take_dump(
    connection: psycopg.Connection[Any], url: str, partial: Path, name: str, kind: Format, jobs: int
) -> Facts:
    row = connection.execute("SELECT pg_export_snapshot()").fetchone()
    assert row is not None
    program = _Program(
        connection, url, "pg_dump", f"--format={kind}", f"--snapshot={row[0]}", "--no-password", f"--file={partial}",
        *([f"--jobs={jobs}"] if kind == "directory" else []),
    )  # fmt: skip
    with program:
        listed = backup_facts.tables_of(connection)
        backup_facts.lock(connection, listed)  # pg_dump may be done, with its own locks, before all are counted
        seen = backup_facts.read_snapshot(connection)
        tables = backup_facts.count(connection, listed, seen.snapshot_at)
    files = backup_facts.hash_files(partial)
    if partial.is_file():
        files = {name: files[partial.name]}
    return _facts(name, kind, seen, tables, files)


def _take_base(connection: psycopg.Connection[Any], url: str, partial: Path, name: str, tar: bool) -> Facts:
    statistics = backup_facts.read_statistics(connection)
    seen, before, _ = backup_looks.look(connection)
    with _Program(
        connection, url, "pg_basebackup", f"--pgdata={partial}", "--wal-method=stream", "--checkpoint=fast",
        "--no-password", *(["--format=tar", "--gzip"] if tar else ["--format=plain"]),
    ):  # fmt: skip
        pass
    ended = time.monotonic()
    later = backup_looks.look(connection, done=True)
    # The manifest holds the checksums of a plain one's files; a tar file has only this one.
    names = None if tar else ["backup_manifest"]
    facts = _facts(name, "base", seen, before, backup_facts.hash_files(partial, names), before)
    facts = replace(backup_looks.joined(facts, *later), statistics_before=statistics)
    return _with_statistics(connection, facts, ended)


def _with_statistics(connection: psycopg.Connection[Any], facts: Facts, ended: float) -> Facts:
    """Add the counters of after the backup, which ``ended`` at a monotonic time, once all sessions have told theirs."""
    while True:
        time.sleep(max(0.0, ended + _REPORTED_SECONDS - time.monotonic()))
        found = replace(facts, statistics=backup_facts.read_statistics(connection))
        if not found.statistics_late or time.monotonic() > ended + _REPORTED_AT_LAST_SECONDS:
            return found
        time.sleep(0.2)


def _facts(
    name: str, kind: Format, seen: backup_facts.SnapshotFacts, tables: dict[str, TableFacts],
    files: dict[str, FileFacts], before: dict[str, TableFacts] | None = None,
) -> Facts:  # fmt: skip
    return Facts(
        backup=name, format=kind, server_version=seen.server_version, snapshot_at=seen.snapshot_at,
        finished_at=datetime.now(UTC), database=seen.database, roles=seen.roles, tables=tables, catalog=seen.catalog,
        files=files, tables_before=before, kinds=list(backup_facts.ADDED_KINDS),
    )  # fmt: skip


class _Program:
    """One of PostgreSQL's programs, running while the block runs; ended when the block fails."""

    def __init__(self, connection: psycopg.Connection[Any], url: str, program: str, *arguments: str) -> None:
        self.what = f"{program} of {connection.info.dbname}"
        binaries = postgres_binaries.find_at_least(connection.info.server_version // 10000)
        self.process = subprocess.Popen(
            [str(binaries / program), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=environment(url), umask=0o077,
        )  # fmt: skip

    def __enter__(self) -> _Program:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        if kind is not None:
            self.process.kill()
        _nothing, said = self.process.communicate()
        if kind is None and self.process.returncode != 0:
            raise MaintenanceFailed(f"{self.what} failed: {programs.last_line(said)}")


def environment(url: str) -> dict[str, str]:
    """Return the environment in which PostgreSQL's programs reach the database of a URL, by TLS as it asks for.

    The password goes by it as well: command lines can be read by everybody on the machine.
    """
    own = connections.libpq_environment(url)
    return {key: value for key, value in os.environ.items() if not key.startswith("PG")} | own


def _publish(partial: Path, final: Path, facts: Facts) -> None:
    """Give a whole backup its name. Killed on the way, it leaves no facts rather than those of another backup."""
    record = final.with_name(final.name + SUFFIX)
    written = partial.with_name(final.name + SUFFIX)
    folders.write_privately(written, backup_facts.to_json(facts).encode())
    record.unlink(missing_ok=True)
    if final.is_dir():
        shutil.rmtree(final)
    partial.replace(final)
    written.replace(record)


def _remove_leftovers(folder: Path, name: str) -> None:
    """Remove what our own earlier backups of that name have left when they were killed."""
    partial = re.compile(rf"\.{re.escape(name)}(\.[a-z0-9_]{{8}})?{re.escape(_PARTIAL)}")
    for path in folder.iterdir():
        if partial.fullmatch(path.name) and path.lstat().st_uid == os.geteuid():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


# --------------------------------------------------------------------------------------------------- finding one
def folder() -> folders.Folder:
    """Open the folder in which backups lie. Raises ConfigurationError."""
    return folders.open_folder(FOLDER)


def all_of(source: BackupSource) -> list[tuple[str, str, datetime, int]]:
    """Return name, location, time of the last change and size in bytes of a source's backups, the newest first.

    Raises ConfigurationError or SourceUnavailable when the folder cannot be read.
    """
    there, found = folder(), []
    for location, facts in there.glob(source.files).items():
        name = location.rsplit("/", 1)[-1]
        if name.startswith(".") or name.endswith(SUFFIX):
            continue
        with there.errors(name, "read"):
            files = {location: facts}
            if facts["type"] == "directory":  # what is removed meanwhile, or a link to nowhere, counts nothing
                files = there.system.find(location, detail=True)
            size = sum(int(file.get("size") or 0) for file in files.values())
            dated = {location: facts} if there.is_local else files  # a folder of object storage has no time of its own
            if dated:
                found.append((name, location, max(changed_at(there.system, *file) for file in dated.items()), size))
    return sorted(found, key=lambda one: (one[2], one[0]), reverse=True)


def changed_at(files: Any, location: str, facts: Mapping[str, Any]) -> datetime:
    """Return when a file was changed (aware), as its kind of storage tells it in ``facts``."""
    if "mtime" in facts:
        return datetime.fromtimestamp(facts["mtime"], UTC)
    for key in ("LastModified", "last_modified", "updated", "created"):
        if isinstance(found := facts.get(key), datetime):
            return found if found.tzinfo else found.replace(tzinfo=UTC)
    modified: datetime = files.modified(location)
    return modified if modified.tzinfo else modified.replace(tzinfo=UTC)


def newest(source: BackupSource, listed: Sequence[tuple[str, str, datetime, int]] | None = None) -> Backup:
    """Return the newest backup of a source in the folder, with its facts when they were recorded.

    ``listed`` is what ``all_of`` returned, where that is known already.
    Raises MaintenanceFailed when there is no backup or its facts are damaged; ConfigurationError; SourceUnavailable.
    """
    found = all_of(source) if listed is None else listed
    if not found:
        raise MaintenanceFailed(
            f"there is no backup of {source.name}: nothing in the folder of the connection {FOLDER} is named "
            f"{source.files}"
        )
    backups = [_backup(*one) for one in found[:3]]  # times of files may be those of a copy: the recorded ones count
    return max(backups, key=lambda one: one.taken_at)


def _backup(name: str, location: str, changed: datetime, size: int) -> Backup:
    facts = read_facts(name)
    if facts is not None:
        return Backup(name, location, size, facts.snapshot_at, "recorded facts", facts)
    return Backup(name, location, size, changed, "time of its file", None)


def taken_at(name: str, changed: datetime) -> datetime:
    """Return when a backup was taken as its facts tell, or else when its file was changed."""
    try:
        facts = read_facts(name)
    except (MaintenanceFailed, ConfigurationError):  # they count when it is the newest
        facts = None
    return facts.snapshot_at if facts else changed


def read_facts(name: str) -> Facts | None:
    """Return the recorded facts of a backup by its name; None when none were recorded.

    Raises MaintenanceFailed when they are damaged or those of another backup, ConfigurationError or SourceUnavailable
    when they cannot be read.
    """
    content = folder().read(f"{name}{SUFFIX}")
    if content is None:
        return None
    facts = backup_facts.from_json(content.decode(errors="replace"), f"{name}{SUFFIX}")
    if facts.backup != name:
        raise MaintenanceFailed(f"the recorded facts {name}{SUFFIX} are those of another backup, {facts.backup}")
    return facts


def fetch(backup: Backup, target: Path) -> Path:
    """Return a local path of a backup: its own, or that of a copy in ``target`` when it lies in object storage."""
    there = folder()
    if there.is_local:
        return Path(backup.location)
    target.mkdir(exist_ok=True)
    there.system.get(backup.location, str(target / backup.name), recursive=True)
    return target / backup.name


def record_facts(url: str, name: str, before: str | None = None, *, begin: bool = False) -> None:
    """Record the facts of the database as they are now, for a backup ``name`` that another tool is about to take.

    Call it again when the backup is finished: the first call's counts are then those from before it. Of a tool that
    names a backup only then, ``before`` is the name that was used for the first call; those facts are taken over.
    ``begin`` makes it the first call, whatever a backup that failed has left. Raises ConfigurationError or
    SourceUnavailable.
    """
    there = folder()
    before = None if before == name else before
    earlier = None if begin else read_facts(before or name)
    if before and earlier is None:
        raise ConfigurationError(
            f"no facts were recorded under the name {before}; run backup-facts {before} before the backup"
        )
    begun = time.monotonic()
    with _reading(url, f"the facts of {name}", "recorded") as connection:
        statistics = backup_facts.read_statistics(connection)
        seen, counts, gone = backup_looks.look(connection, done=earlier is not None)
        if earlier is None:
            facts = _facts(name, "base", seen, counts, {}, counts)
            facts = replace(facts, statistics_before=statistics, statistics=statistics)
        else:
            facts = replace(backup_looks.joined(earlier, seen, counts, gone), backup=name)
            if before:
                facts = replace(facts, tables_before=earlier.tables)
            facts = _with_statistics(connection, facts, begun)
    there.write(f"{name}{SUFFIX}", backup_facts.to_json(facts).encode())
    if before:
        there.remove(f"{before}{SUFFIX}")


def wal_files(pattern: str) -> Sequence[tuple[str, str, int]]:
    """Return name, location and size of the archived WAL files that a pattern within the backups' folder names."""
    found = folder().glob(pattern).items()
    return sorted((path.rsplit("/", 1)[-1], path, int(facts["size"] or 0)) for path, facts in found)


def first_wal(backup: Backup, segment_bytes: int) -> str | None:
    """Return the WAL segment in which a base backup begins, as the end of its manifest tells; None when it does not.

    With an unknown size of segments (0) it is the first one that it may be.
    """
    files = folder().system
    manifest = f"{backup.location}/backup_manifest"
    try:
        size = files.size(manifest)
        told = files.cat_file(manifest, start=max(0, size - _END_OF_MANIFEST), end=size).decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    begins = [
        (int(timeline), int(log, 16), int(offset, 16) // segment_bytes if segment_bytes else 0)
        for timeline, log, offset in _WAL_RANGE.findall(told)
    ]
    return "{:08X}{:08X}{:08X}".format(*min(begins)) if begins else None
