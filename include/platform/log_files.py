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
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from include import connections
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import log_transfer
from include.platform.compression import compression_of, open_content
from include.platform.log_lines import Kind, instants
from include.settings import Traffic

CONNECTION = "platform_logs"
COMPRESSIONS = ("", ".gz", ".zst", ".bz2", ".xz")
_ROTATED = re.compile(r"(?P<log>.+)-(?P<day>\d{8})(?:\.\d+)?(?P<compression>\.(?:gz|zst|bz2|xz))?")
_BLOCK = 1 << 20
_ZSTD_LEVEL = 3  # zstd's default: about gzip's size at several times its speed


@dataclass(frozen=True)
class LiveLog:
    """A log that is appended to; its file may not exist (yet)."""

    kind: Kind
    path: Path


@dataclass(frozen=True)
class RotatedLog:
    """A file that was rotated away; ``day`` is the day its name tells, in the platform's time zone."""

    kind: Kind
    path: Path
    day: date
    compressed: bool


@dataclass(frozen=True)
class Measure:
    """Content of a file after decompression: whole and broken-off lines, bytes, SHA-256."""

    lines: int
    bytes: int
    sha256: str

    def facts(self) -> dict[str, Any]:
        """The measure as it is recorded."""
        return vars(self).copy()


def local_folder() -> Path:
    """Return the local folder of the connection ``platform_logs``.

    Raises ConfigurationError when it is another file system or does not exist.
    """
    system, path = connections.folder(CONNECTION)
    if "file" not in log_transfer.protocols(system):
        raise ConfigurationError(
            f"the connection {CONNECTION} is no local folder; run the rotation where the logs are written"
        )
    if not Path(path).is_dir():
        raise ConfigurationError(f"the folder {path} of the connection {CONNECTION} does not exist; correct its path")
    return Path(path)


def find(folder: Path, traffic: Traffic) -> tuple[list[LiveLog], list[RotatedLog]]:
    """Return the live logs that the configuration names and the files rotated from them, by name.

    Raises ConfigurationError when a pattern of the configuration would not match rotated files.
    """
    live: list[LiveLog] = []
    rotated: list[RotatedLog] = []
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    for kind in Kind:
        key = f"{kind.value}_logs"
        pattern: str = getattr(traffic, key)
        stem = pattern.removesuffix("*")
        if stem == pattern or not stem:
            raise ConfigurationError(
                f"traffic.{key} is '{pattern}', which rotated files would not match; "
                f"write it as '{stem or 'name.log'}*'"
            )
        found = [name for name in names if fnmatch.fnmatchcase(name, stem) and not _ROTATED.fullmatch(name)]
        live += [LiveLog(kind, folder / name) for name in found or ([] if set(stem) & set("*?[") else [stem])]
        rotated += [file for name in names if (file := _rotated(folder, name, kind, stem))]
    return live, rotated


def _rotated(folder: Path, name: str, kind: Kind, stem: str) -> RotatedLog | None:
    match = _ROTATED.fullmatch(name)
    if not match or not fnmatch.fnmatchcase(match["log"], stem):
        return None
    try:
        day = datetime.strptime(match["day"], "%Y%m%d").date()  # noqa: DTZ007 - a calendar day
    except ValueError:
        return None
    return RotatedLog(kind, folder / name, day, bool(match["compression"]))


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
    except PermissionError:
        raise ConfigurationError(
            f"{path.name} in the folder of {CONNECTION} may not be read or changed by this user; grant it permission"
        ) from None
    except OSError as error:
        raise MaintenanceFailed(f"{path.name}: {error.strerror or type(error).__name__}; no line was lost") from None


def measure(path: Path) -> Measure:
    """Count lines and bytes of a file and hash them, decompressed. Raises MaintenanceFailed for a damaged file."""
    lines, size, digest, last = 0, 0, hashlib.sha256(), b"\n"
    for block in _content(path):
        lines += block.count(b"\n")
        size += len(block)
        digest.update(block)
        last = block[-1:]
    return Measure(lines + (last != b"\n"), size, digest.hexdigest())


def days_in(path: Path, kind: Kind, zone: ZoneInfo) -> list[date]:
    """Return the days in ``zone`` that lines of a file lie in. Raises MaintenanceFailed for a damaged file."""
    quarters: set[datetime] = set()  # every zone's midnight begins a quarter of an hour
    rest = b""
    for block in _content(path):
        whole, _, rest = (rest + block).rpartition(b"\n")
        quarters.update(_quarters(kind, whole, zone))
    quarters.update(_quarters(kind, rest, zone))
    return sorted({quarter.astimezone(zone).date() for quarter in quarters})


def _quarters(kind: Kind, text: bytes, zone: ZoneInfo) -> set[datetime]:
    found = instants(kind, text.decode("utf-8", "replace"), zone)
    return {instant.replace(minute=instant.minute // 15 * 15, second=0, microsecond=0) for instant in found}


def _content(path: Path) -> Iterator[bytes]:
    with path.open("rb") as handle, open_content(handle, compression_of(handle)) as content:
        while block := content.read(_BLOCK):
            yield block
        if content.damaged:
            raise MaintenanceFailed(f"{path.name} is damaged: it cannot be decompressed to its end")


def compress(source: Path, target: Path) -> None:
    """Write a local file compressed with zstd, with a checksum, safely on disk, with the source's times and rights."""
    import zstandard

    with source.open("rb") as raw, target.open("wb") as packed:
        zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).copy_stream(raw, packed)
        packed.flush()
        status = os.fstat(raw.fileno())
        os.fchmod(packed.fileno(), status.st_mode & 0o7777)
        if os.geteuid() == 0:
            os.fchown(packed.fileno(), status.st_uid, status.st_gid)
        os.fsync(packed.fileno())
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def to_disk(folder: Path) -> None:
    """Make renamed and removed names of a folder safe on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def writer() -> tuple[int, signal.Signals] | None:
    """Return the process to tell of a rotation, and how, when the connection's extra names a ``pid_file``.

    ``reopen_signal`` in the extra (SIGHUP by default; nginx wants SIGUSR1) is what makes it open its logs anew.
    Raises ConfigurationError when the file or the signal's name is not what it should be.
    """
    extra = connections.details(CONNECTION).extra
    if not (name := extra.get("pid_file")):
        return None
    wanted = str(extra.get("reopen_signal", "SIGHUP"))
    try:
        return int(Path(str(name)).read_text().split()[0]), signal.Signals[wanted]
    except KeyError:
        raise ConfigurationError(
            f"reopen_signal of the connection {CONNECTION} is {wanted}; write SIGHUP, say"
        ) from None
    except (OSError, ValueError, IndexError):
        raise ConfigurationError(
            f"the pid_file {name} of the connection {CONNECTION} does not hold a process id; correct its path"
        ) from None
