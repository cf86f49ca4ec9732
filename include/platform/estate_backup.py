"""Backs up what a platform has beside its databases: the server's roles, and the configuration of operations."""

from __future__ import annotations

import subprocess
from pathlib import Path

from include.outcome import MaintenanceFailed, SourceUnavailable
from include.platform import backups, folders, postgres_binaries, programs
from include.platform.database import as_argument


def take(url: str, folder: Path, name: str, configuration: Path) -> tuple[Path, Path]:
    """Write ``globals-<name>.sql`` and ``operations-<name>.yaml`` to ``folder`` and return their paths.

    The roles come without their passwords, so that no superuser is needed: passwords are set anew after a recovery.
    A file appears under its name only when it is whole, and only its owner may read it. Raises MaintenanceFailed with
    what pg_dumpall said, or SourceUnavailable.
    """
    import psycopg

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with psycopg.connect(url, connect_timeout=10) as connection:
            binaries = postgres_binaries.find_at_least(connection.info.server_version // 10000)
            database = as_argument(connection.info.dbname)
    except psycopg.OperationalError:
        raise SourceUnavailable(f"the roles of {name} cannot be backed up: the server cannot be reached") from None
    done = subprocess.run(
        [binaries / "pg_dumpall", "--globals-only", "--no-role-passwords", "--no-password", f"--database={database}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=backups.environment(url),
    )  # fmt: skip
    if done.returncode != 0:
        raise MaintenanceFailed(f"pg_dumpall of the roles failed: {programs.last_line(done.stderr)}")
    roles, settings = folder / f"globals-{name}.sql", folder / f"operations-{name}.yaml"
    folders.write_privately(roles, done.stdout.encode())
    folders.write_privately(settings, configuration.read_bytes())
    return roles, settings
