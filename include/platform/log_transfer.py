"""Copies logs from file systems that are not local, such as object storage, to read them like local ones."""

from __future__ import annotations

import fnmatch
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.outcome import ConfigurationError, SourceUnavailable
from include.platform import folders

if TYPE_CHECKING:
    import fsspec


def fetch(
    file_system: fsspec.AbstractFileSystem,
    folder: str,
    target: Path,
    patterns: list[str],
    oldest: datetime,
    connection_id: str,
) -> dict[str, int]:
    """Copy the matching files that were written since ``oldest`` (aware) to the folder ``target``.

    Returns when each was last written, in nanoseconds. Raises ConfigurationError when the folder does not exist or
    refuses its credentials, SourceUnavailable when it cannot be read or a file was moved meanwhile.
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
