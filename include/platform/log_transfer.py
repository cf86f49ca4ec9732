"""Copies logs from file systems that are not local, such as object storage, to read them like local ones."""

from __future__ import annotations

import fnmatch
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.outcome import ConfigurationError, SourceUnavailable

if TYPE_CHECKING:
    import fsspec


def protocols(file_system: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    """Return the names of a file system's protocol, such as file or s3."""
    protocol = file_system.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def fetch(
    file_system: fsspec.AbstractFileSystem,
    folder: str,
    target: Path,
    patterns: list[str],
    oldest: datetime,
    connection_id: str,
) -> dict[str, int]:
    """Copy the matching files that were written since ``oldest`` (aware) to the folder ``target``.

    Returns when each was last written, in nanoseconds. Raises ConfigurationError when the folder does not exist,
    SourceUnavailable when it cannot be read.
    """
    times: dict[str, int] = {}
    try:
        for entry in file_system.ls(folder, detail=True):
            name = str(entry["name"]).rstrip("/").rpartition("/")[2]
            if entry.get("type") == "directory" or not any(fnmatch.fnmatchcase(name, p) for p in patterns):
                continue
            written = _written(entry)
            if written < oldest:
                continue
            times[name] = int(written.timestamp() * 1e9)
            file_system.get_file(entry["name"], str(target / name))
    except FileNotFoundError:
        raise ConfigurationError(
            f"the folder {folder} of the connection {connection_id} does not exist; correct its url"
        ) from None
    except OSError as error:
        raise SourceUnavailable(f"the connection {connection_id} cannot be read: {type(error).__name__}") from error
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
