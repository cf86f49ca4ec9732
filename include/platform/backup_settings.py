"""The settings of a dump's database (ALTER DATABASE … SET): pg_restore leaves them out unless it makes the database.

Without them the application would find another search_path than its own, for example.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from include.platform.database import quoted
from include.platform.scratch_server import ScratchServer

if TYPE_CHECKING:
    from collections.abc import Iterator

LEFT_OUT = ("default_tablespace", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries")
"""What a scratch server may lack, so that nobody could connect; the statement ``catalog`` leaves out the same."""

_NAME = r'(?:"(?:[^"]|"")+"|[^\s"]+)'
_TEXT = r"E?'(?:[^']|'')*'"
_ALTER = re.compile(
    rf"^ALTER (?:DATABASE|(?P<role>ROLE {_NAME} IN) DATABASE) {_NAME} "
    rf"SET (?P<name>{_NAME}) TO (?P<value>{_TEXT}(?:, {_TEXT})*);$",
    re.M,
)


def restore(server: ScratchServer, database: str, dump: Path) -> list[str]:
    """Give a database of a scratch server the settings that a dump has; return what could not be set, and why.

    A dump that cannot be read has none: its restoration tells the fault. Raises psycopg.OperationalError.
    """
    import psycopg

    remarks = []
    with server.connect() as connection:
        for name, statement in _statements(server, database, dump):
            try:
                connection.execute(statement.encode())
            except psycopg.OperationalError:
                raise
            except psycopg.Error as error:
                remarks.append(f"the setting {name} could not be restored: {error.diag.message_primary}")
    return remarks


def _statements(server: ScratchServer, database: str, dump: Path) -> Iterator[tuple[str, str]]:
    """Names of the settings, and the statements that set them for this database."""
    nothing = server.write("nothing.list", "")
    told = server.run("pg_restore", "--create", f"--use-list={nothing}", "--file=-", dump)
    for found in _ALTER.finditer(told.stdout if told.returncode == 0 else ""):
        name = found["name"].strip('"')
        if name not in LEFT_OUT:
            role = f"{found['role']} " if found["role"] else ""
            yield name, f"ALTER {role}DATABASE {quoted(database)} SET {found['name']} TO {found['value']}"
