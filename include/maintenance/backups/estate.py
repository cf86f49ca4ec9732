"""What a platform consists of beside its databases, as far as it is backed up: the server's roles, the configuration.

Both lie in the folder of the connection ``backups`` under the names that ``restoration`` gives, and may be no older
than what may be lost of everything else (``backups.recovery_point_hours``).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.maintenance.backups.backup_checks import ANEW, Result, ahead, failed, not_applicable, passed, unknown
from include.outcome import ConfigurationError, SourceUnavailable
from include.platform import backups
from include.platform.backup_restore import Restored
from include.platform.database import bare
from include.platform.scratch_server import ScratchServer
from include.settings import Settings, settings

if TYPE_CHECKING:
    import psycopg
    from pydantic_settings import PydanticBaseSettingsSource

_CREATE_ROLE = re.compile(r'CREATE ROLE ("(?:[^"]|"")++"|[^\s;]++);')
_OF_PSQL = r"^\\(?:restrict|unrestrict|connect)\ [^\n]*+"
"""What pg_dumpall writes for psql alone. Any other line for psql is refused by the server: it could run programs."""
_TOKEN = re.compile(
    rf"""(?P<quoted>(?<![\w$])[eE]'(?:[^'\\]|\\.|'')*+(?:'|\Z) | '(?:[^']|'')*+(?:'|\Z) | "(?:[^"]|"")*+(?:"|\Z))
      | --[^\n]*+ | {_OF_PSQL} | (?P<end>;)""",
    re.M | re.S | re.X,
)
"""Where statements end. Anybody's settings and comments are in the text: no part of it can be matched in two ways."""
_BETWEEN = re.compile(rf"(?:\s++|--[^\n]*+|{_OF_PSQL})*+", re.M)
"""What stands before a statement and is none: blanks, comments and lines for psql."""
_TABLESPACE = re.compile(
    r"(?:CREATE|ALTER|DROP)\s+TABLESPACE\b|(?:COMMENT|SECURITY\s+LABEL|GRANT|REVOKE)\b.*?\sON\s+TABLESPACE\b",
    re.S | re.I,
)
"""Statements about tablespaces. Their folders are those of production: a drill makes nothing there."""

_NOT_ITS_FAULT = (None, "53100")  # the server was lost, its disk is full
_OF_THE_SERVER = ("postgresql.conf", "pg_hba.conf")


@dataclass(frozen=True)
class _Fetched:
    """The newest file of a kind: its name among the backups, where it lies now, and when it was written (aware)."""

    name: str
    path: Path
    written_at: datetime

    def judged(self, **detail: Any) -> Result:
        """Passed, with these facts, unless the file is too old to recover with; unknown when its age cannot be told."""
        now = datetime.now(UTC)
        hours = (now - self.written_at).total_seconds() / 3600
        facts = {"file": self.name, "written_at": self.written_at, "age_hours": round(hours, 2)} | detail
        if told := ahead(self.name, self.written_at, now):
            return unknown(told + ANEW, **facts)
        accepted = settings().backups.recovery_point_hours
        if hours <= accepted:
            return passed(**facts)
        return failed(
            f"{self.name} is the newest by its name and was written {hours:.1f} hours ago; the target is {accepted:g}",
            **facts,
        )


def restore_globals(server: ScratchServer, folder: Path) -> Result:
    """Run the newest dump of the server's roles on a restored server and check that every role is there.

    ``folder`` takes the fetched file. A role that the restoration of the database made already is not made again. What
    the dump says of tablespaces is left out: on this machine their folders may be those of production. All of it is one
    transaction of the server's; psql, which runs programs of a file's choice, has no part in it.
    """
    import psycopg

    fetched = _newest(settings().restoration.globals, folder)
    if fetched is None:
        return not_applicable("the server's roles are not part of the backup (restoration.globals is empty)")
    name = fetched.name
    statements = list(_statements(fetched.path.read_text("utf-8", errors="surrogateescape")))
    wanted = [one for one in statements if not _TABLESPACE.match(_TOKEN.sub(_without_quoted, one))]
    roles = [bare(found[1]) for one in wanted if (found := _CREATE_ROLE.match(one))]
    if not roles:
        return failed(f"{name} creates no role; is it the output of pg_dumpall --globals-only?")
    try:
        with server.connect() as connection:
            known = _roles(connection)
            new = [one for one in wanted if not ((found := _CREATE_ROLE.match(one)) and bare(found[1]) in known)]
            connection.execute("\n".join(new).encode("utf-8", errors="surrogateescape"))
    except psycopg.Error as error:
        if error.sqlstate in _NOT_ITS_FAULT:
            raise
        return failed(f"{name} could not be run: {_without_secrets(str(error.diag.message_primary))}", roles=len(roles))
    with server.connect() as connection:
        missing = sorted(set(roles) - _roles(connection))
    if missing:
        return failed(f"{name} did not bring back the role {missing[0]}", roles=len(roles), missing=missing[:20])
    return fetched.judged(roles=len(roles), statements_of_tablespaces_left_out=len(statements) - len(wanted))


def _statements(text: str) -> Iterator[str]:
    """Split what pg_dumpall wrote into statements; what stands before one is left out, and so is an empty end."""
    begin = 0
    ends = (found.end() for found in _TOKEN.finditer(text) if found["end"])
    for end in [*ends, len(text)]:
        before = _BETWEEN.match(text, begin, end)
        assert before is not None, "it matches nothing, too"
        if before.end() < end:
            yield text[before.end() : end]
        begin = end


def _without_quoted(found: re.Match[str]) -> str:
    return "''" if found["quoted"] else found[0]


def restore_configuration(folder: Path) -> Result:
    """Fetch the newest copy of the configuration to ``folder`` and check that this collection could work with it."""
    import yaml

    fetched = _newest(settings().restoration.configuration, folder)
    if fetched is None:
        return not_applicable("the configuration is not part of the backup (restoration.configuration is empty)")
    name = fetched.name
    try:
        content = yaml.safe_load(fetched.path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        return failed(f"{name} is no YAML")
    if not isinstance(content, dict) or not content:
        return failed(f"{name} holds no configuration")
    if problem := _problem(content):
        return failed(f"{name} is no configuration that works: {problem}")
    return fetched.judged(sections=len(content))


def server_configuration(restored: Restored) -> Result:
    """Look for the server's own configuration in what came back; most backups do not have it, which it says."""
    found = {}
    if restored.databases:  # a whole cluster: a server that was made for a dump has files of its own
        files = {name: restored.server.data / name for name in _OF_THE_SERVER}
        found = {name: path.stat().st_size for name, path in files.items() if path.is_file()}
    if absent := [name for name in _OF_THE_SERVER if not found.get(name)]:
        return not_applicable(
            f"{' and '.join(absent)} of the server are not part of the backup and were not checked; keep copies of them"
        )
    return passed(bytes=found, remark="that they are there was checked, not what they say")


class _Alone(Settings):
    """The configuration as one file has it: nothing is filled in by the environment or by the file that is in use."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[Any],  # noqa: ARG003 - the base class names it
        init_settings: PydanticBaseSettingsSource,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _problem(content: dict[str, object]) -> str | None:
    """The first reason why a configuration by itself is not accepted; a section that it lacks is one too."""
    from pydantic import ValidationError

    if missing := sorted(set(Settings.model_fields) - set(content)):
        return f"the section {missing[0]} is missing"
    try:
        _Alone(**content)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return None


def _newest(pattern: str, folder: Path) -> _Fetched | None:
    """Fetch the file of the backups whose name is the last by the pattern; None without a pattern.

    Raises ConfigurationError when nothing bears such a name, SourceUnavailable when it went meanwhile.
    """
    if not pattern:
        return None
    there = backups.folder()
    listed = {location.rsplit("/", 1)[-1]: (location, facts) for location, facts in there.glob("*").items()}
    found = sorted(name for name in listed if fnmatch.fnmatchcase(name, pattern) and not name.startswith("."))
    if not found:
        raise ConfigurationError(f"nothing in the folder of the connection {backups.FOLDER} is named {pattern}")
    name, path = found[-1], folder / f"estate-{found[-1]}"
    path.touch(mode=0o600)  # it may hold hashes of passwords
    if not there.fetch(name, path):
        raise SourceUnavailable(f"{name} left the folder of {backups.FOLDER} while it was read; trying again helps")
    return _Fetched(name, path, backups.changed_at(there.system, *listed[name]))


def _roles(connection: psycopg.Connection[Any]) -> set[str]:
    return {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}


def _without_secrets(line: str) -> str:
    return re.sub(r"'[^']*'", "'…'", line)[:300]
