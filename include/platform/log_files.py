"""The platform's log folder as rotation sees it: live logs, rotated files, what they hold.

A rotated file is named <log>-YYYYMMDD after the day that its rotation closed, then .N where that name was taken, then
.gz, .zst, .bz2 or .xz. Files named otherwise belong to other tools and are left alone.
"""

from __future__ import annotations

import fcntl
import fnmatch
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo

from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import folders, log_times, regular_files
from include.platform.compression import compression_of, open_content
from include.platform.log_lines import LONGEST_LINE, Kind, patterns
from include.sections import Traffic

CONNECTION = "platform_logs"
COMPRESSIONS = ("", ".gz", ".zst", ".bz2", ".xz")
_ROTATED = re.compile(r"(?P<log>.+)-(?P<day>\d{8})(?:\.(?P<number>\d+))?(?P<compression>\.(?:gz|zst|bz2|xz))?")
_PARTIAL = re.compile(r"\.(?:SHA256SUMS|.+-\d{8}(?:\.\d+)?\.zst)(?:\.[0-9a-f]{8})?\.partial")
_BLOCK = 1 << 20
_PIECE = 1 << 19  # of whole lines; what is shorter than the longest line holds no longer one
# Measured on access, application and error logs: level 6 is the first that is smaller than gzip -6 on all of them, in
# three quarters of its processor time. Matches in logs are long: shorter ones than 6 bytes are not looked for. A long
# window (--long) doubles the processor time for one hundredth less, so it is not used.
_ZSTD_LEVEL, _SHORTEST_MATCH = 6, 6
_MOST_THREADS = 4


@dataclass(frozen=True)
class LiveLog:
    """A log that is appended to; its file may not exist (yet)."""

    kind: Kind
    path: Path


@dataclass(frozen=True)
class RotatedLog:
    """A file that was rotated away; ``day`` is the day its name tells, in the platform's time zone.

    ``log`` is the name that it had before, ``number`` the one that made its name free (0 without).
    """

    kind: Kind
    path: Path
    day: date
    compressed: bool
    log: str
    number: int


@dataclass(frozen=True)
class Measure:
    """Content of a file after decompression: whole and broken-off lines, bytes, SHA-256."""

    lines: int
    bytes: int
    sha256: str

    def facts(self) -> dict[str, Any]:
        """The measure as it is recorded."""
        return vars(self).copy()


class _Lines:
    """Counts lines block by block, in one pass with whatever else is done with them."""

    def __init__(self) -> None:
        self._ended, self._last = 0, b"\n"

    def add(self, block: bytes) -> None:
        if block:
            self._ended += block.count(b"\n")
            self._last = block[-1:]

    @property
    def count(self) -> int:
        """The lines of all blocks so far; a last one without its end counts."""
        return self._ended + (self._last != b"\n")


class Meter:
    """Measures content block by block, in one pass with whatever else is done with it."""

    def __init__(self) -> None:
        """Begin with no content."""
        self._lines, self._bytes, self._digest = _Lines(), 0, hashlib.sha256()

    def add(self, block: bytes) -> None:
        """Take up the next block."""
        self._lines.add(block)
        self._bytes += len(block)
        self._digest.update(block)

    def measure(self) -> Measure:
        """Return the measure of all blocks so far; a last line without its end counts as a line."""
        return Measure(self._lines.count, self._bytes, self._digest.hexdigest())


def local_folder() -> Path:
    """Return the local folder of the connection ``platform_logs``.

    Raises ConfigurationError when it is another file system or does not exist.
    """
    folder = folders.open_folder(CONNECTION)
    if not folder.is_local:
        raise ConfigurationError(
            f"the connection {CONNECTION} is no local folder; run the rotation where the logs are written"
        )
    if not Path(folder.root).is_dir():
        raise ConfigurationError(
            f"the folder {folder.root} of the connection {CONNECTION} does not exist; correct its path"
        )
    return Path(folder.root)


def find(folder: Path, traffic: Traffic) -> tuple[list[LiveLog], list[RotatedLog], list[str]]:
    """Return the live logs that the configuration names, the files rotated from them, links named like rotated ones.

    All by name. Links are not followed; those named like live logs are among these, so that their acts tell of them.
    Raises ConfigurationError when a pattern of the configuration would not match rotated files.
    """
    live: list[LiveLog] = []
    rotated: list[RotatedLog] = []
    links: list[str] = []
    with os.scandir(folder) as entries:
        is_link = {one.name: one.is_symlink() for one in entries if one.is_symlink() or one.is_file()}
    names = sorted(name for name, link in is_link.items() if not link)
    for kind, pattern in patterns(traffic).items():
        stem = pattern.removesuffix("*")
        if stem == pattern or not stem:
            raise ConfigurationError(
                f"traffic.{kind}_logs is '{pattern}', which rotated files would not match; "
                f"write it as '{stem or 'name.log'}*'"
            )
        found = [name for name in sorted(is_link) if fnmatch.fnmatchcase(name, stem) and not _ROTATED.fullmatch(name)]
        live += [LiveLog(kind, folder / name) for name in found or ([] if set(stem) & set("*?[") else [stem])]
        rotated += [file for name in names if (file := _rotated(folder, name, kind, stem))]
        links += [name for name, link in is_link.items() if link and _rotated(folder, name, kind, stem)]
    return live, rotated, sorted(set(links))


def remove_partials(folder: Path) -> None:
    """Remove what runs that were killed had begun to write. Other runs must be kept off the folder."""
    for path in folder.iterdir():
        if _PARTIAL.fullmatch(path.name):
            with suppress(OSError):  # what cannot be removed is in nobody's way: no such name is used twice
                path.unlink()


def _rotated(folder: Path, name: str, kind: Kind, stem: str) -> RotatedLog | None:
    match = _ROTATED.fullmatch(name)
    if not match or not fnmatch.fnmatchcase(match["log"], stem):
        return None
    try:
        day = datetime.strptime(match["day"], "%Y%m%d").date()  # noqa: DTZ007 - a calendar day
    except ValueError:
        return None
    return RotatedLog(kind, folder / name, day, bool(match["compression"]), match["log"], int(match["number"] or 0))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other rotations off the folder. Raises MaintenanceFailed when one is at work."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MaintenanceFailed(f"another run rotates the logs in {folder} just now; try again later") from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def errors_named(path: Path) -> Iterator[None]:
    """Turn the file system's errors within into one sentence: ConfigurationError or MaintenanceFailed."""
    try:
        yield
    except regular_files.NoRegularFile as error:
        raise MaintenanceFailed(str(error.strerror)) from None
    except PermissionError:
        raise ConfigurationError(
            f"{path.name} in the folder of {CONNECTION} may not be read or changed by this user; grant it permission"
        ) from None
    except OSError as error:
        raise MaintenanceFailed(f"{path.name}: {error.strerror or type(error).__name__}; no line was lost") from None


def measure(path: Path, first_bytes: int | None = None) -> Measure:
    """Count lines and bytes of a file and hash them, decompressed; only its first bytes when that is given.

    Raises MaintenanceFailed for a damaged file.
    """
    meter, left = Meter(), first_bytes
    for block in _content(path):
        meter.add(block if left is None else block[:left])
        if left is not None and (left := left - len(block)) <= 0:
            break
    return meter.measure()


def measure_open(handle: IO[bytes], first_bytes: int | None = None) -> Measure:
    """Measure what an open, uncompressed file holds (its first bytes only), whatever name it has by now, if any."""
    meter, left = Meter(), first_bytes
    handle.seek(0)
    while (block := handle.read(_BLOCK if left is None else min(_BLOCK, left))) and left != 0:
        meter.add(block)
        left = None if left is None else left - len(block)
    return meter.measure()


def days_in(path: Path, kind: Kind, zone: ZoneInfo) -> list[date]:
    """Return the days in ``zone`` by which traffic counts the lines of a file; broken lines have no day of their own.

    Raises MaintenanceFailed for a damaged file.
    """
    return _days(path, lambda piece: log_times.days_of_lines(kind, piece, zone))


def days_named_in(path: Path, kind: Kind, zone: ZoneInfo) -> list[date]:
    """Return the days in ``zone`` of all times in a file, those in broken lines and in what clients sent as well.

    Raises MaintenanceFailed for a damaged file.
    """
    return _days(path, lambda piece: log_times.days_named(kind, piece, zone))


def _days(path: Path, days_of: Callable[[bytes], set[date]]) -> list[date]:
    return sorted(set[date]().union(*map(days_of, _pieces(path))))


def _pieces(path: Path) -> Iterator[bytes]:
    """Give a file in pieces of whole lines, the last one perhaps without its end; of an endless line its beginning."""
    rest = b""
    for block in _content(path, _PIECE):
        whole, end, rest = (rest + block).rpartition(b"\n")
        yield whole + end
        if len(rest) > LONGEST_LINE:
            whole, end, rest = rest.rpartition(b"\r")  # these end lines as well, but not a file's last one
            yield whole + b"\n" * len(end)
            rest = rest[: LONGEST_LINE + 1]  # enough to tell that it is too long
    yield rest


def _content(path: Path, size: int = _BLOCK) -> Iterator[bytes]:
    with regular_files.open_to_read(path) as handle, open_content(handle, compression_of(handle)) as content:
        while block := content.read(size):
            yield block
        if content.damaged:
            raise MaintenanceFailed(f"{path.name} is damaged: it cannot be decompressed to its end")


def compress(source: Path, target: Path) -> tuple[int, int, str]:
    """Write a local file compressed with zstd to a new one, safely on disk, with the source's times and rights.

    Returns lines and bytes of the content and the SHA-256 of the compressed file as it was written. What is appended
    to the source meanwhile is not taken up.
    """
    import zstandard

    lines, packed_digest = _Lines(), hashlib.sha256()
    with regular_files.open_to_read(source) as raw, regular_files.create(target) as packed:
        status = os.fstat(raw.fileno())
        threads = min(len(os.sched_getaffinity(0)), _MOST_THREADS)
        parameters = zstandard.ZstdCompressionParameters.from_level(
            _ZSTD_LEVEL,
            source_size=status.st_size,
            write_checksum=True,
            threads=threads,
            min_match=_SHORTEST_MATCH,
        )
        compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=status.st_size)
        left = status.st_size
        while left and (block := raw.read(min(_BLOCK, left))):
            left -= len(block)
            part = compressor.compress(block)
            packed_digest.update(part)
            packed.write(part)
            lines.add(block)
        part = compressor.flush()
        packed_digest.update(part)
        packed.write(part)
        packed.flush()
        os.fchmod(packed.fileno(), status.st_mode & 0o777)
        if os.geteuid() == 0:
            os.fchown(packed.fileno(), status.st_uid, status.st_gid)
        os.utime(packed.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
        os.fsync(packed.fileno())
        # What is read back for the verification shall come from the disk, not from memory.
        os.posix_fadvise(packed.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return lines.count, status.st_size - left, packed_digest.hexdigest()


def same_content(packed: Path, original: Path, size: int) -> bool:
    """Compare a compressed file with the first ``size`` bytes of an uncompressed one, byte for byte.

    Raises MaintenanceFailed for a damaged file.
    """
    with regular_files.open_to_read(original) as source:
        left = size
        for block in _content(packed):
            if len(block) > left or source.read(len(block)) != block:
                return False
            left -= len(block)
    return left == 0


def regular_file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as it lies there. Raises NoRegularFile for a link, and OSError."""
    with regular_files.open_to_read(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def count_lines(path: Path) -> int:
    """Count the lines of an uncompressed file; a last one without its end counts."""
    lines = _Lines()
    with regular_files.open_to_read(path) as handle:
        while block := handle.read(_BLOCK):
            lines.add(block)
    return lines.count
