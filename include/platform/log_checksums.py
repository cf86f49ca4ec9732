"""The checksums of compressed logs: the file SHA256SUMS beside them, as ``sha256sum --check`` reads it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from include.outcome import MaintenanceFailed
from include.platform import folders, regular_files

NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^/\n]+)")


def read(folder: Path) -> dict[str, str]:
    """Return the noted SHA-256 of each file name. Raises MaintenanceFailed for a line that is none, and OSError."""
    try:
        with regular_files.open_to_read(folder / NAME) as file:
            content = file.read().decode()
        # Only this ends a line: a name may hold all else that splitlines() takes for an end.
        lines = content.removesuffix("\n").split("\n") if content else []
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        lines = [""]
    noted = {}
    for number, line in enumerate(lines, 1):
        if not (match := _LINE.fullmatch(line)):
            raise MaintenanceFailed(
                f"line {number} of {NAME} is not a checksum and a file name; correct it, or remove the file to have "
                "the logs that are readable noted anew"
            )
        noted[match[2]] = match[1]
    return noted


def note(folder: Path, name: str, checksum: str) -> None:
    """Note a file's checksum, safely on disk."""
    _write(folder, read(folder) | {name: checksum})


def forget(folder: Path, name: str) -> None:
    """Remove what is noted of a file, safely on disk."""
    noted = read(folder)
    if noted.pop(name, None):
        _write(folder, noted)


def _write(folder: Path, noted: dict[str, str]) -> None:
    target = folder / NAME
    with regular_files.replacing(target, 0o644) as file:
        file.writelines(f"{checksum}  {name}\n".encode() for name, checksum in sorted(noted.items()))
        if regular_files.is_regular(target):
            os.fchmod(file.fileno(), target.lstat().st_mode & 0o777)
    folders.to_disk(folder)
