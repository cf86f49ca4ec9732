"""Brings a backup back into a scratch server of the version it was taken from: dumps and copies of whole clusters."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.outcome import MaintenanceFailed
from include.platform import backup_settings, backups, cluster_copy, postgres_binaries
from include.platform.backup_facts import Facts, TableFacts
from include.platform.database import as_argument
from include.platform.scratch_place import ScratchPlace
from include.platform.scratch_server import ScratchServer, new_server

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

DATABASE = "restored"
"""Name of a dump's database when none was recorded."""


class Part(StrEnum):
    """What of a dump is restored: foreign keys can follow while the tables are read already.

    Event triggers come after them, as pg_restore has it: they would fire at each key, and write or refuse.
    """

    ALL = "all"
    ALL_BUT_FOREIGN_KEYS = "all_but_foreign_keys"
    FOREIGN_KEYS = "foreign_keys"


_LAST = re.compile(r"\d+; \d+ \d+ ((FK CONSTRAINT|EVENT TRIGGER) |COMMENT .*\b(CONSTRAINT|EVENT TRIGGER) )")
_LEFT_OUT = ("standby.signal", "recovery.signal", "postmaster.pid", "postmaster.opts", "recovery.done")


@dataclass(frozen=True)
class AtBackup:
    """Rows of the logged tables, and the schema, at the end of a backup beyond which WAL was replayed afterwards."""

    counts: dict[str, TableFacts]
    catalog: list[tuple[str, str, str]]


@dataclass
class Restored:
    """A restored database on its scratch server. ``problems`` are what kept the restoration from being complete.

    ``databases`` are all that came back with it, when it is a whole cluster. ``replayed_to`` (UTC) is when the last
    transaction of the WAL that was replayed ended; ``at_backup`` is what was read before that.
    """

    server: ScratchServer
    database: str
    databases: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    at_backup: AtBackup | None = None
    replayed_to: datetime | None = None

    def comparable(self, counts: dict[str, TableFacts]) -> dict[str, TableFacts]:
        """Return the rows that the backup's facts are about, given those that there are now."""
        return counts if self.at_backup is None else self.at_backup.counts


# ----------------------------------------------------------------------------------------------------- dumps
def dump_major(dump: Path) -> int:
    """Return the major version of the server that a dump was taken from, as the dump says.

    Raises MaintenanceFailed when it is no readable dump.
    """
    binaries = postgres_binaries.newest()[1]
    said = subprocess.run(
        [binaries / "pg_restore", "--list", dump], capture_output=True, text=True, errors="replace", check=False
    )
    found = re.search(r"Dumped from database version: (\d+)", said.stdout)
    if said.returncode != 0 or not found:
        raise MaintenanceFailed(f"pg_restore cannot read the dump {dump.name}: {first_problem(said.stderr)}")
    return int(found[1])


def prepare_for_dump(server: ScratchServer, dump: Path, facts: Facts | None) -> Restored:
    """Make the roles and the empty database that a dump is restored to, as they were recorded, with its settings.

    Without facts the roles are those that own something in the dump, and none is a superuser. Raises psycopg.Error.
    """
    from psycopg import sql

    name = str(facts.database["datname"]) if facts else DATABASE
    restored = Restored(server, name)
    roles = facts.roles if facts else _owners(server, dump)
    # Event triggers and publications of all tables can belong to nobody else, and their views read what is not granted.
    superusers = facts.superusers if facts else []
    with server.connect() as connection:
        known = {role for (role,) in connection.execute("SELECT rolname FROM pg_roles")}
        for role in roles:
            if role not in known:
                rights = sql.SQL("SUPERUSER" if role in superusers else "NOSUPERUSER")
                connection.execute(sql.SQL("CREATE ROLE {} {}").format(sql.Identifier(role), rights))
        if name != "postgres":
            _create_database(restored, connection, facts)
    restored.remarks += backup_settings.restore(server, name, dump)
    return restored


def _create_database(restored: Restored, connection: psycopg.Connection[Any], facts: Facts | None) -> None:
    from psycopg import errors, sql

    plain = sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(restored.database))
    try:
        connection.execute(plain + _properties(facts) if facts else plain)
    except errors.Error as error:  # a locale that this machine does not have
        restored.remarks.append(f"the database's own locale is not available here ({error.diag.message_primary})")
        connection.execute(plain)


def _properties(facts: Facts) -> sql.Composed:
    """Encoding and locale of the recorded database, in the words of its version."""
    from psycopg import sql

    said = facts.database
    parts: list[sql.Composable] = [
        sql.SQL(" ENCODING {}").format(sql.Literal(said["encoding_name"])),
        sql.SQL(" LC_COLLATE {}").format(sql.Literal(said["datcollate"])),
        sql.SQL(" LC_CTYPE {}").format(sql.Literal(said["datctype"])),
    ]
    provider = {"i": "icu", "b": "builtin"}.get(said.get("datlocprovider") or "c")
    if provider:
        locale = said.get("datlocale") or said.get("daticulocale") or ""
        parts.append(sql.SQL(f" LOCALE_PROVIDER {provider} "))
        parts.append(sql.SQL("ICU_LOCALE {}" if provider == "icu" else "BUILTIN_LOCALE {}").format(sql.Literal(locale)))
    return sql.SQL("").join(parts)


def _owners(server: ScratchServer, dump: Path) -> list[str]:
    listed = server.run("pg_restore", "--list", dump).stdout.splitlines()
    return sorted({line.rsplit(" ", 1)[-1] for line in listed if re.match(r"\d+; \d+ \d+ ", line)} - {"-", ""})


def restore_dump(restored: Restored, dump: Path, jobs: int, *, privileges: bool, part: Part = Part.ALL) -> None:
    """Restore a dump (custom or directory format) with ``jobs`` parallel jobs; problems are kept in ``restored``.

    Without known roles ``privileges`` must be left out. Tablespaces are: the scratch server has those of no other.
    """
    listed = [] if part is Part.ALL else [f"--use-list={_list_of(restored.server, dump, part)}"]
    acl = [] if privileges else ["--no-acl"]
    done = restored.server.run(
        "pg_restore",
        f"--dbname={as_argument(restored.database)}",
        f"--jobs={jobs}",
        "--no-tablespaces",
        *listed,
        *acl,
        dump,
    )
    if done.returncode != 0:
        restored.problems.append(first_problem(done.stderr))


def _list_of(server: ScratchServer, dump: Path, part: Part) -> Path:
    """Write the list of what a part restores. Raises MaintenanceFailed when the dump cannot be read."""
    said = server.run("pg_restore", "--list", dump)
    if said.returncode != 0:
        raise MaintenanceFailed(f"pg_restore cannot read the dump {dump.name}: {first_problem(said.stderr)}")
    lines = said.stdout.splitlines(keepends=True)
    chosen = (line for line in lines if bool(_LAST.match(line)) == (part is Part.FOREIGN_KEYS))
    return server.write(f"{part.value}.list", "".join(chosen))


def first_problem(said: str) -> str:
    """Return the first error that a program of PostgreSQL tells, shortened; it may name objects, never a password."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for line in lines:
        if "error:" in line.lower() or "fatal:" in line.lower():
            return line[:300]
    return lines[-1][:300] if lines else "it said nothing"


# -------------------------------------------------------------------------------------------------- clusters
def copy_cluster(backup: Path, place: ScratchPlace) -> ScratchServer:
    """Copy a base backup (plain, or tar files) into a place and return its server, ready to be verified and started.

    Tablespaces are copied too and lie in the place: the links never lead to the originals. Raises ConfigurationError
    (no programs of its version, a compression that cannot be read), MaintenanceFailed (it is no base backup) or
    PermissionError (a file may not be read, which says nothing of the backup).
    """
    folder = place.folder / "copy"
    folder.mkdir(mode=0o700)
    data = folder / "data"
    cluster_copy.copy(backup, data)
    return adopt_cluster(data, place)


def adopt_cluster(data: Path, place: ScratchPlace) -> ScratchServer:
    """Return a server for a cluster that was restored to ``data`` within the place.

    Raises ConfigurationError (no programs of its version) or MaintenanceFailed (it is no cluster).
    """
    try:
        major = int((data / "PG_VERSION").read_text())
    except (OSError, ValueError):
        raise MaintenanceFailed("what was restored is no cluster of PostgreSQL: it has no PG_VERSION") from None
    server = new_server(place, "restored", major)
    server.data.rmdir()
    data.rename(server.data)
    server.data.chmod(0o700)
    copies = data.parent / "tablespaces"
    if copies.is_dir():
        copies.rename(server.folder / "tablespaces")
        for path in (server.folder / "tablespaces").iterdir():
            link = server.data / "pg_tblspc" / path.name
            link.unlink(missing_ok=True)
            link.symlink_to(path)
    place.own(server.folder)
    return server


def make_startable(server: ScratchServer, wal: Path | None = None, wal_command: Sequence[str] = ()) -> dict[str, str]:
    """Remove what would make a restored cluster follow or wait for others; return the settings it recovers with.

    ``wal`` is a folder with archived WAL and ``wal_command`` a command that fetches a file of it ({wal} to {target},
    for the cluster in {data}); with either, WAL is replayed to its end.
    """
    for name in _LEFT_OUT:
        (server.data / name).unlink(missing_ok=True)
    told = server.data / "tablespace_map"
    if told.exists():  # it would lead to the originals
        links = (server.data / "pg_tblspc").iterdir()
        told.unlink()  # it may be a link itself
        told.write_text("".join(f"{link.name} {link.readlink()}\n" for link in links))
    if wal is not None:
        wal_command = ("cp", f"{wal}/{{wal}}", "{target}")
    if not wal_command:
        return {}
    (server.data / "recovery.signal").touch(mode=0o600)
    # The server runs it by a shell: every word is quoted, then % stands for the server's own names.
    quoted = shlex.join([word.replace("%", "%%").replace("{data}", str(server.data)) for word in wal_command])
    return {
        "restore_command": quoted.replace("{wal}", "%f").replace("{target}", "%p"),
        "recovery_target_timeline": "latest",
        "recovery_target_action": "promote",
        "hot_standby": "off",
    }


# ------------------------------------------------------------------------------------------------------- WAL
def first_wal(server: ScratchServer) -> str:
    """Return the name of the WAL segment in which a base backup begins. Raises MaintenanceFailed if it is not told."""
    try:
        found = re.search(r"\(file ([0-9A-F]{24})\)", (server.data / "backup_label").read_text())
    except OSError:
        found = None
    if found is None:
        raise MaintenanceFailed("the base backup has no backup_label that tells where its WAL begins")
    return found[1]


def wal_segment_bytes(server: ScratchServer) -> int:
    """Return the size of a cluster's WAL segments in bytes."""
    said = server.run("pg_controldata", "-D", server.data).stdout
    found = re.search(r"^Bytes per WAL segment: +(\d+)$", said, re.M)
    return int(found[1]) if found else 16 << 20


def copy_wal(archived: Sequence[tuple[str, str, int]], target: Path) -> None:
    """Copy archived WAL files (name, location, size) into a folder under their plain names, uncompressed."""
    files = backups.folder().system
    target.mkdir(mode=0o700)
    for name, location, _size in archived:
        plain = re.sub(r"\.(gz|zst|lz4|bz2)$", "", name)
        copy = target / name
        files.get(location, str(copy))
        if plain != name:
            with cluster_copy.opened(copy) as content, (target / plain).open("wb") as unpacked:
                while chunk := content.read(1 << 20):
                    unpacked.write(chunk)
            copy.unlink()
