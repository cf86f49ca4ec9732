"""Writes reports to the reports folder: a local folder or object storage, through the connection of the configuration.

The files are <folder>/<period key>/<kind>.md and .html. A file is written only when its content differs. On a local
file system it appears whole or not at all (a temporary name, then a rename); object storage puts whole objects anyway.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from include import connections
from include.outcome import ConfigurationError, SourceUnavailable
from include.settings import settings
from include.warehouse.reports import Report

if TYPE_CHECKING:
    import fsspec

_NEED_A_PERSON = (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)


def deliver(reports: Sequence[Report]) -> list[str]:
    """Write the Markdown and HTML of ``reports`` and return the paths whose content was written, within the folder.

    Raises ConfigurationError (the folder is not defined or may not be written) or SourceUnavailable (it cannot be
    reached or has no room) in one sentence without secrets. What was written before stays.
    """
    name = settings().reports.folder
    if not reports:
        return []
    file_system, root = connections.folder(name)
    written = []
    for report in reports:
        for ending, text in (("md", report.markdown), ("html", report.html)):
            path = f"{report.period_key}/{report.kind}.{ending}"
            try:
                if _write(file_system, f"{root.rstrip('/')}/{path}", text.encode()):
                    written.append(path)
            except Exception as error:  # each kind of storage has errors of its own
                raise _sentence(name, path, error) from None
    return written


def _sentence(name: str, path: str, error: Exception) -> ConfigurationError | SourceUnavailable:
    what = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    if isinstance(error, _NEED_A_PERSON):
        return ConfigurationError(
            f"the report {path} may not be written to the folder of the connection {name} ({what}); "
            "correct the connection or the folder's permissions"
        )
    return SourceUnavailable(f"the report {path} could not be written to the folder of the connection {name} ({what})")


def _write(file_system: fsspec.AbstractFileSystem, path: str, content: bytes) -> bool:
    """Write a file unless it has this content already; tell whether it was written."""
    try:
        if file_system.cat_file(path) == content:
            return False
    except FileNotFoundError:
        pass
    if "file" in _protocols(file_system):
        _replace(Path(path), content)
    else:
        file_system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        file_system.pipe_file(path, content)
    return True


def _protocols(file_system: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    protocol = file_system.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _replace(path: Path, content: bytes) -> None:
    """Write a local file under a temporary name, then give it its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
