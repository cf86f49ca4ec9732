"""The files of the platform's logs: which there are, which may hold lines of a day, and how to read each just once.

Files are told apart by what stands in them, never by their names: rotation renames, compresses and copies them at
any moment. The date in a name is not trusted; only the times of the lines are.
"""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO
from zoneinfo import ZoneInfo

from include import connections
from include.outcome import ConfigurationError, SourceUnavailable
from include.platform import folders, log_catalogue, log_lines, log_transfer, regular_files
from include.platform.compression import compression_of, open_content
from include.platform.log_bounds import MARGIN, bounded_by_successors, latest_in
from include.platform.log_lines import Kind
from include.platform.log_times import instants
from include.sections import Traffic
from include.window import Window

_log = logging.getLogger(__name__)
_HEAD, _BLOCK = 64 << 10, 1 << 20
_QUIET_SECONDS = 60  # a file that was written to within this time is copied before it is read
_ROTATION = re.compile(r"([-.]\d+([-_.T]\d+)*)?(\.(gz|zst|bz2|xz))?$")

Identity = tuple[str, str, str]
"""Kind of log, name before its rotation, SHA-256 of the first line."""


@dataclass(frozen=True)
class LogFile:
    """One file as it was when it was looked at.

    ``log`` is the name that the file had before its rotation, ``fingerprint`` the SHA-256 of its first line.
    ``earliest`` and ``begun`` are the first and the last time near its beginning, ``latest`` the last time it can hold,
    in UTC, None when unknown; ``days`` are the lines of each day when the file has been read before, none of a day
    that only unreadable lines name.
    """

    kind: Kind
    name: str
    log: str
    path: Path
    inode: tuple[int, int]
    size: int
    modified_ns: int
    compression: str
    fingerprint: str
    earliest: datetime | None
    begun: datetime | None
    latest: datetime | None
    days: dict[date, int] | None = field(compare=False)

    @property
    def identity(self) -> Identity:
        """What stays the same of a log while it grows, is rotated and compressed."""
        return self.kind.value, self.log, self.fingerprint

    def may_hold(self, window: Window) -> bool:
        """Tell whether lines of the window can stand in the file; certain when it has been read before."""
        if self.days is not None:
            return any(day in self.days for day in window.days)
        if self.earliest is not None and self.earliest >= window.end + MARGIN:
            return False
        return self.latest is None or self.latest + MARGIN >= window.start


@dataclass(frozen=True)
class ReadableLog:
    """A file ready to be read: ``path`` leads to complete, uncompressed lines that do not change any more.

    ``damaged`` says that the compressed content ends before its end, so lines are missing. ``size_and_time`` are those
    of a file that is read in place, None for a copy.
    """

    file: LogFile
    path: str
    damaged: bool
    size_and_time: tuple[int, int] | None = None


class LogsMoved(SourceUnavailable):
    """A log was rotated or written to while it was read; looking at the folder again helps at once."""


class LogFolder:
    """The platform's log files at one moment. Use ``open_folder``."""

    def __init__(
        self,
        files: list[LogFile],
        links: dict[str, datetime],
        kinds: dict[Kind, datetime | None],
        temporary: Path,
        stack: ExitStack,
        zone: ZoneInfo,
    ) -> None:
        """Take over the files; ``temporary`` is a folder for copies, ``zone`` the platform's time zone.

        ``links`` lead to files which are not read; with when these were last written to (UTC). Of each of ``kinds``
        the folder holds a file, be it empty or too old to be fetched; with the first time in them (UTC), None where
        that is not known.
        """
        self.files, self.temporary, self.zone, self.kinds = files, temporary, zone, kinds
        self._links = links
        self._stack = stack
        self._copies = 0

    def remember(self, file: LogFile, days: dict[date, int]) -> None:
        """Keep how many lines of each day were read from a file, so that it is read again only when it matters."""
        log_catalogue.store(file.kind, self.zone.key, file.fingerprint, file.size, file.modified_ns, days)

    def links_with(self, window: Window) -> list[str]:
        """Return the links that lead to files which are not read and may hold lines of the window."""
        return sorted(name for name, written in self._links.items() if written + MARGIN >= window.start)

    def without_copies(self, files: list[LogFile]) -> tuple[list[LogFile], list[str]]:
        """Leave out files whose content another of the files begins with.

        Returns the files to read, in the order of their first lines, and the names of those left out.
        Raises LogsMoved when a file vanished in between.
        """
        kept: list[LogFile] = []
        left_out: list[str] = []
        # Longest and uncompressed first, so that what is left out is the copy or the part.
        for file in sorted(files, key=lambda f: (f.compression != "", -f.size, f.name)):
            twins = [other for other in kept if (other.kind, other.fingerprint) == (file.kind, file.fingerprint)]
            if any(other.inode == file.inode for other in twins):
                left_out.append(file.name)
                continue
            answers = {other.name: _compare(file, other) for other in twins}
            if "begins" in answers.values():
                left_out.append(file.name)
                continue
            for other in [other for other in twins if answers[other.name] == "continues"]:
                kept.remove(other)
                left_out.append(other.name)
            kept.append(file)
        order = datetime.max.replace(tzinfo=UTC)
        return sorted(kept, key=lambda f: (f.earliest or order, f.log, f.fingerprint)), sorted(left_out)

    def readable(self, file: LogFile) -> ReadableLog:
        """Make a file readable: as it lies there when it is at rest, else as a copy up to its last complete line.

        The copies live as long as the folder is open. Raises LogsMoved when the file is no longer the one that was
        looked at, and ConfigurationError when the temporary folder has no room for its copy.
        """
        handle = self._stack.enter_context(_open(file))
        if not file.compression and _at_rest(handle, file):
            # Bound to the open file, so a rotation that renames it meanwhile does no harm.
            pinned = Path(f"/proc/self/fd/{handle.fileno()}")
            status = os.fstat(handle.fileno())
            path = str(pinned if pinned.exists() else file.path)
            return ReadableLog(file, path, False, (status.st_size, status.st_mtime_ns))
        self._copies += 1
        target = self.temporary / f"{self._copies:06d}.log"
        damaged = log_transfer.copy_lines(handle, file, target)
        return ReadableLog(file, str(target), damaged)

    def check_unchanged(self, logs: list[ReadableLog]) -> None:
        """Raise LogsMoved when a file that was read in place has changed meanwhile."""
        for log in logs:
            if log.size_and_time is None:
                continue
            found = Path(log.path).stat()
            if (found.st_size, found.st_mtime_ns) != log.size_and_time:
                raise LogsMoved(f"{log.file.name} was written to while it was read; it is read again")


@contextmanager
def open_folder(
    traffic: Traffic, zone: ZoneInfo, oldest: datetime, connection_id: str = "platform_logs"
) -> Iterator[LogFolder]:
    """Look at the log files of a connection.

    A local folder is read where it is; files of other file systems that were written since ``oldest`` (aware, less a
    margin) are copied to a temporary folder. Raises ConfigurationError when the folder is missing or may not be read,
    SourceUnavailable when the file system cannot be reached or the files do not come to rest.
    """
    file_system, folder = connections.folder(connection_id)
    patterns = log_lines.patterns(traffic)
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(TemporaryDirectory(prefix="gold-escrow-logs-")))
        local = Path(folder)
        times: dict[str, int] = {}
        if not folders.Folder(connection_id, file_system, folder).is_local:
            local = temporary / "copied"
            local.mkdir()
            times = log_transfer.fetch(
                file_system, folder, local, list(patterns.values()), oldest - MARGIN, connection_id
            )
        files, links = _look(local, patterns, zone, times, connection_id)
        names = _names(local, connection_id)
        kinds = {
            kind: _first_time(kind, files) if set(fnmatch.filter(times, pattern)) <= set(names) else None
            for kind, pattern in patterns.items()
            if fnmatch.filter([*times, *names], pattern)
        }
        yield LogFolder(files, links, kinds, temporary, stack, zone)


def _first_time(kind: Kind, files: list[LogFile]) -> datetime | None:
    """Return the first time of a log, None where one of its files does not tell when it begins, or all are empty."""
    times = [file.earliest for file in files if file.kind is kind]
    return None if None in times else min((time for time in times if time), default=None)


# --------------------------------------------------------------------------------------------- looking at files
def _look(
    folder: Path, patterns: dict[Kind, str], zone: ZoneInfo, times: dict[str, int], connection_id: str
) -> tuple[list[LogFile], dict[str, datetime]]:
    """Look at every file and link, again from the start when one was renamed, created or removed meanwhile."""
    for _ in range(5):
        before = _names(folder, connection_id)
        try:
            files = [
                look
                for kind, pattern in patterns.items()
                for name in before
                if fnmatch.fnmatchcase(name, pattern) and (look := _look_at(folder / name, kind, zone, times))
            ]
            links = _links_elsewhere(folder, patterns, before, connection_id)
        except (FileNotFoundError, regular_files.NoRegularFile):
            continue
        except PermissionError as error:
            raise ConfigurationError(
                f"{Path(str(error.filename)).name} of the connection {connection_id} may not be read by this user; "
                "grant it read permission"
            ) from None
        if _names(folder, connection_id) == before:
            return bounded_by_successors(files), links
        time.sleep(0.2)
    raise SourceUnavailable(
        f"the files of the connection {connection_id} keep changing their names; trying again helps"
    )


def _names(folder: Path, connection_id: str) -> dict[str, tuple[int, int]]:
    """Return the files of a folder with what identifies each; links are left out."""
    try:
        with os.scandir(folder) as entries:
            found = {}
            for entry in entries:
                try:
                    if entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        found[entry.name] = (status.st_dev, status.st_ino)
                except FileNotFoundError:
                    continue
            return dict(sorted(found.items()))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigurationError(
            f"the folder {folder} of the connection {connection_id} does not exist; correct its path"
        ) from None
    except PermissionError:
        raise ConfigurationError(
            f"the folder {folder} of the connection {connection_id} may not be read by this user; grant it permission"
        ) from None


def _links_elsewhere(
    folder: Path, patterns: dict[Kind, str], names: dict[str, tuple[int, int]], connection_id: str
) -> dict[str, datetime]:
    """Return the links that lead to files which are none of the logs, with when these were last written to."""
    found: dict[str, datetime] = {}
    matches = re.compile("|".join(map(fnmatch.translate, patterns.values()))).match
    read = {inode for name, inode in names.items() if matches(name)}
    for path in sorted(folder.iterdir()):
        if matches(path.name) and path.is_symlink():
            try:
                status = path.stat()
                if stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) not in read:
                    found[path.name] = datetime.fromtimestamp(status.st_mtime, UTC)
            except PermissionError:  # so it may be one that is written to
                found[path.name] = datetime.now(UTC)
            except OSError:  # it leads nowhere
                continue
    for name in found:
        _log.warning("%s of the connection %s is a link and is not read; put the file there", name, connection_id)
    return found


def _look_at(path: Path, kind: Kind, zone: ZoneInfo, times: dict[str, int]) -> LogFile | None:
    """Look at the beginning and, where that is cheap, the end of a file. None for a file without a whole line."""
    with regular_files.open_to_read(path) as handle:
        status = os.fstat(handle.fileno())
        compression = compression_of(handle)
        with open_content(handle, compression) as content:
            head = content.read(_HEAD)
        first_line, found, _ = head.partition(b"\n")
        if not found and len(head) < _HEAD:
            return None
        modified_ns = times.get(path.name, status.st_mtime_ns)
        modified = datetime.fromtimestamp(modified_ns / 1e9, UTC)
        # What a line tells of a time after the file's last change, a clock told wrongly.
        first_times = [time for time in instants(kind, head, zone) if time <= modified + MARGIN]
        if not compression:
            latest = latest_in(handle, status.st_size, kind, zone, modified)
        else:
            latest = min(modified, max(first_times, default=modified)) if len(head) < _HEAD else modified
    fingerprint = hashlib.sha256(first_line.rstrip(b"\r")).hexdigest()
    return LogFile(
        kind=kind,
        name=path.name,
        log=_ROTATION.sub("", path.name) or path.name,
        path=path,
        inode=(status.st_dev, status.st_ino),
        size=status.st_size,
        modified_ns=modified_ns,
        compression=compression,
        fingerprint=fingerprint,
        earliest=min(first_times, default=None),
        begun=max(first_times, default=None),
        latest=latest,
        days=log_catalogue.load(kind, zone.key, fingerprint, status.st_size, modified_ns),
    )


# ----------------------------------------------------------------------------------------------- reading files
def _open(file: LogFile) -> IO[bytes]:
    try:
        handle = regular_files.open_to_read(file.path)
    except OSError:
        raise LogsMoved(f"{file.name} was moved while the logs were read; they are read again") from None
    status = os.fstat(handle.fileno())
    if (status.st_dev, status.st_ino) != file.inode or status.st_size < file.size:
        handle.close()
        raise LogsMoved(f"{file.name} was rotated while the logs were read; they are read again")
    return handle


def _at_rest(handle: IO[bytes], file: LogFile) -> bool:
    status = os.fstat(handle.fileno())
    if status.st_size != file.size or time.time() - status.st_mtime < _QUIET_SECONDS:
        return False
    handle.seek(-1, os.SEEK_END)
    return handle.read(1) == b"\n"


def _compare(file: LogFile, other: LogFile) -> str:
    """Tell how the content of a file relates to another: ``begins`` it (or equals it), ``continues`` it, or neither."""
    with (
        _open(file) as one,
        _open(other) as two,
        open_content(one, file.compression) as left,
        open_content(two, other.compression) as right,
    ):
        while True:
            a, b = left.read(_BLOCK), right.read(_BLOCK)
            common = min(len(a), len(b))
            if a[:common] != b[:common]:
                return "differs"
            if len(a) < _BLOCK or len(b) < _BLOCK:
                return "begins" if len(a) <= len(b) else "continues"
