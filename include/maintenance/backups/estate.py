"""What a platform consists of beside its databases, as far as it is backed up: the server's roles, the configuration.

Both lie in the folder of the connection ``backups`` under the names that ``restoration`` gives.
"""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include import connections
from include.maintenance.backups.backup_checks import Result, failed, not_applicable, passed
from include.outcome import ConfigurationError
from include.platform.backups import FOLDER
from include.platform.scratch_server import ScratchServer
from include.settings import Settings, settings

if TYPE_CHECKING:
    import psycopg

_CREATE_ROLE = re.compile(r'^CREATE ROLE ("(?:[^"]|"")+"|[^\s;]+);', re.M)
_ALREADY_THERE = re.compile(r'ERROR:  role "[^"]*" already exists')


def restore_globals(server: ScratchServer, folder: Path) -> Result:
    """Run the newest dump of the server's roles on a restored server and check that every role is there.

    ``folder`` takes the fetched file. A role that the restoration of the database made already is no fault.
    """
    fetched = _newest(settings().restoration.globals, folder)
    if fetched is None:
        return not_applicable("the server's roles are not part of the backup (restoration.globals is empty)")
    name, path = fetched
    text = path.read_text(errors="replace")
    roles = [_unquoted(role) for role in _CREATE_ROLE.findall(text)]
    if not roles:
        return failed(f"{name} creates no role; is it the output of pg_dumpall --globals-only?")
    done = server.run("psql", "--no-psqlrc", "--quiet", f"--file={path}")
    problems = [line for line in done.stderr.splitlines() if "ERROR:" in line and not _ALREADY_THERE.search(line)]
    if problems:
        return failed(f"{name} could not be run: {_without_secrets(problems[0])}", roles=len(roles))
    with server.connect() as connection:
        missing = sorted(set(roles) - _roles(connection))
    if missing:
        return failed(f"{name} did not bring back the role {missing[0]}", roles=len(roles), missing=missing[:20])
    return passed(file=name, roles=len(roles))


def restore_configuration(folder: Path) -> Result:
    """Fetch the newest copy of the configuration to ``folder`` and check that this collection could work with it."""
    import yaml

    fetched = _newest(settings().restoration.configuration, folder)
    if fetched is None:
        return not_applicable("the configuration is not part of the backup (restoration.configuration is empty)")
    name, path = fetched
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        return failed(f"{name} is no YAML")
    if not isinstance(content, dict) or not content:
        return failed(f"{name} holds no configuration")
    if problem := _problem(content):
        return failed(f"{name} is no configuration that works: {problem}")
    return passed(file=name, sections=len(content))


def _problem(content: dict[str, object]) -> str | None:
    """The first reason why a configuration is not accepted; a section that it lacks is one too."""
    from pydantic import ValidationError

    if missing := sorted(set(Settings.model_fields) - set(content)):
        return f"the section {missing[0]} is missing"
    try:
        Settings(**content)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return None


def _newest(pattern: str, folder: Path) -> tuple[str, Path] | None:
    """Fetch the file of the backups whose name is the last by the pattern; None without a pattern.

    Raises ConfigurationError when nothing bears such a name.
    """
    if not pattern:
        return None
    files, root = connections.folder(FOLDER)
    names = [str(path).rsplit("/", 1)[-1] for path in files.ls(root, detail=False)] if files.exists(root) else []
    found = sorted(name for name in names if fnmatch.fnmatchcase(name, pattern) and not name.startswith("."))
    if not found:
        raise ConfigurationError(f"nothing in the folder of the connection {FOLDER} is named {pattern}")
    path = folder / f"estate-{found[-1]}"
    files.get_file(f"{root.rstrip('/')}/{found[-1]}", str(path))
    path.chmod(0o600)  # it may hold hashes of passwords
    return found[-1], path


def _roles(connection: psycopg.Connection[Any]) -> set[str]:
    return {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}


def _unquoted(identifier: str) -> str:
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier


def _without_secrets(line: str) -> str:
    return re.sub(r"'[^']*'", "'…'", line)[:300]
