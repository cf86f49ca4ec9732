"""Copies logs to a temporary folder to read them there.

Those of file systems that are not local, such as object storage, and local ones that are compressed or may still grow.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from include.outcome import ConfigurationError, SourceUnavailable
from include.platform import folders
from include.platform.compression import open_content

if TYPE_CHECKING:
    import fsspec

    from include.platform.logs import LogFile

_BLOCK = 1 << 20
_LEFT_FREE = 256 << 20  # bytes that a copy leaves to others on the disk; half of what is free where that is less


def fetch(
    file_system: fsspec.AbstractFileSystem,
    folder: str,
    target: Path,
    patterns: list[str],
    oldest: datetime,
    connection_id: str,
) -> dict[str, int]:
    """Copy the matching files that were written since ``oldest`` (aware) to the folder ``target``.

    Returns when each was last written, those older than that too, in nanoseconds. Raises ConfigurationError when the
    folder does not exist or refuses its credentials, SourceUnavailable when it cannot be read or a file was moved
    meanwhile.
    """
    times: dict[str, int] = {}
    try:
        for entry in file_system.ls(folder, detail=True):
            name = str(entry["name"]).rstrip("/").rpartition("/")[2]
            if entry.get("type") == "directory" or not any(fnmatch.fnmatchcase(name, p) for p in patterns):
                continue
            written = _written(entry)
            times[name] = int(written.timestamp() * 1e9)
            if written < oldest:
                continue
            try:
                file_system.get_file(entry["name"], str(target / name))
            except FileNotFoundError:
                raise SourceUnavailable(
                    f"{name} of the connection {connection_id} was moved while it was copied; trying again helps"
                ) from None
    except SourceUnavailable:
        raise
    except FileNotFoundError:
        raise ConfigurationError(
            f"the folder {folder} of the connection {connection_id} does not exist; correct its url"
        ) from None
    except Exception as error:  # each kind of storage has errors of its own
        raise folders.sentence(connection_id, "the logs", "read", error) from None
    return times


def _written(entry: dict[str, Any]) -> datetime:
    """When a file was last written, as its file system tells it; now when it does not."""
    for key in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = entry.get(key)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
    return datetime.now(UTC)


def copy_lines(handle: IO[bytes], file: LogFile, target: Path) -> bool:
    """Unpack and copy the content of an open local file, as long as it was when it was looked at, to its last line end.

    Returns whether the content is damaged (ends before its end). Raises ConfigurationError when the disk has no room
    for it: a small file may hold very much.
    """
    left = None if file.compression else file.size
    left_free = min(_LEFT_FREE, shutil.disk_usage(target.parent).free // 2)
    with target.open("wb") as copy, open_content(handle, file.compression) as content:
        while left != 0 and (block := content.read(_BLOCK if left is None else min(_BLOCK, left))):
            if shutil.disk_usage(target.parent).free - len(block) < left_free:
                raise ConfigurationError(
                    f"{file.name} of {file.size} bytes cannot be read: the temporary folder {tempfile.gettempdir()} "
                    f"has no room for its content, of which {copy.tell()} bytes were copied; free space there, or "
                    "move the file away if it is no log of the platform"
                )
            copy.write(block)
            left = None if left is None else left - len(block)
        damaged = content.damaged
    _cut_partial_line(target)
    return damaged


def _cut_partial_line(path: Path) -> None:
    with path.open("r+b") as copy:
        end = copy.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _BLOCK)
            copy.seek(start)
            place = copy.read(end - start).rfind(b"\n")
            if place >= 0:
                copy.truncate(start + place + 1)
                return
            end = start
        copy.truncate(0)
