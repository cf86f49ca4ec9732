"""The platform's nightly backup."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from include.platform import backups, estate_backup
from include.settings import configuration_file


def take(database_url: str, folder: Path, day: date) -> Path:
    """Dump the database to ``folder``/escrow-YYYYMMDD.dump, with the facts that its verification needs beside it.

    The server's roles and the configuration of operations lie beside it as globals-YYYYMMDD.sql and
    operations-YYYYMMDD.yaml. A file appears under its name only when it is whole; a second backup of a day replaces
    the first.
    Raises MaintenanceFailed with what pg_dump said, or SourceUnavailable.
    """
    estate_backup.take(database_url, folder, f"{day:%Y%m%d}", configuration_file())
    return backups.take(database_url, folder, f"escrow-{day:%Y%m%d}.dump")
