"""The platform's nightly backup."""

from __future__ import annotations

import os
import subprocess
from datetime import date
from pathlib import Path
from urllib.parse import unquote, urlsplit

from demo.servers import postgres_binaries


class BackupError(Exception):
    """The backup could not be taken. The message holds what pg_dump said."""


def take(database_url: str, folder: Path, day: date) -> Path:
    """Dump the database to ``folder``/escrow-YYYYMMDD.dump (pg_dump's custom format) and return the file.

    The file appears under its name only when it is whole; a second backup of a day replaces the first.
    Raises BackupError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"escrow-{day:%Y%m%d}.dump"
    partial = final.with_name(f".{final.name}.partial")
    parts = urlsplit(database_url)
    # The password goes by the environment: command lines can be read by everybody on the machine.
    target = {
        "PGHOST": parts.hostname or "",
        "PGPORT": str(parts.port or 5432),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": unquote(parts.path.lstrip("/")),
    }
    command = [postgres_binaries() / "pg_dump", "--format=custom", "--no-password", "--file", partial]
    try:
        done = subprocess.run(
            [str(part) for part in command], env=os.environ | target, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise BackupError(f"pg_dump of {target['PGDATABASE']} failed: {done.stderr.strip()}")
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(final)
    finally:
        partial.unlink(missing_ok=True)
    return final
