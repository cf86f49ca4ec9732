"""Remembers how many lines of which day a log file holds, so that a file is read again only when it matters.

Only a cache: one small JSON file per log file in a private folder under the system's temporary folder. It may be
deleted at any time; figures never depend on it, only how many files are read.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
import time
from datetime import date
from pathlib import Path

_VERSION = 4  # raise it when the rules for lines change
_KEEP_SECONDS = 60 * 86400


def _folder() -> Path | None:
    """The cache's folder, or None when it cannot be used; another user's folder or link is never trusted."""
    folder = Path(tempfile.gettempdir()) / f"gold-escrow-log-catalogue-{os.geteuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
    return folder if private else None


def _entry(kind: str, timezone: str, fingerprint: str, size: int, modified_ns: int) -> Path | None:
    folder = _folder()
    if folder is None:
        return None
    key = json.dumps([_VERSION, kind, timezone, fingerprint, size, modified_ns])
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


def load(kind: str, timezone: str, fingerprint: str, size: int, modified_ns: int) -> dict[date, int] | None:
    """Return the lines per day of a file that was read before, unchanged since; None when it is not known.

    A day that only unreadable lines name has none.
    """
    entry = _entry(kind, timezone, fingerprint, size, modified_ns)
    try:
        if entry is None:
            return None
        return {date.fromisoformat(day): int(lines) for day, lines in json.loads(entry.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def store(kind: str, timezone: str, fingerprint: str, size: int, modified_ns: int, days: dict[date, int]) -> None:
    """Remember the lines per day of a file, and forget files that were not asked for in a long time."""
    entry = _entry(kind, timezone, fingerprint, size, modified_ns)
    if entry is None:
        return
    partial = entry.with_suffix(f".{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps({day.isoformat(): lines for day, lines in sorted(days.items())}))
        partial.replace(entry)
        for old in entry.parent.iterdir():
            if time.time() - old.stat().st_mtime > _KEEP_SECONDS:
                old.unlink(missing_ok=True)
    except OSError:
        partial.unlink(missing_ok=True)
