"""Brings a backup back into a scratch server of the version it was taken from: dumps and copies of whole clusters."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import backup_settings, backups, compression, postgres_binaries
from include.platform.backup_facts import Facts, TableFacts
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
_TAR = re.compile(r"\.tar(\.gz|\.zst|\.lz4)?$")
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
        "pg_restore", f"--dbname={restored.database}", f"--jobs={jobs}", "--no-tablespaces", *listed, *acl, dump
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
    with _disk_errors_named(backup):
        if any(_TAR.search(path.name) for path in backup.iterdir()):
            _unpack(backup, data)
        elif (backup / "PG_VERSION").is_file():
            shutil.copytree(backup, data, symlinks=True)
            _copy_links(data)
        else:
            raise MaintenanceFailed(f"{backup.name} is no base backup: it has neither PG_VERSION nor base.tar")
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


def _unpack(backup: Path, data: Path) -> None:
    data.mkdir(mode=0o700)
    archives = {_TAR.sub("", path.name): path for path in backup.iterdir() if _TAR.search(path.name)}
    if "base" not in archives:
        raise MaintenanceFailed(f"{backup.name} is no base backup: base.tar is missing")
    _extract(archives.pop("base"), data)
    if "pg_wal" in archives:
        _extract(archives.pop("pg_wal"), data / "pg_wal")
    for number, archive in archives.items():
        if number.isdecimal():
            target = data.parent / "tablespaces" / number
            target.mkdir(mode=0o700, parents=True)
            _extract(archive, target)
    manifest = backup / "backup_manifest"
    if manifest.exists():
        shutil.copy2(manifest, data / "backup_manifest")


def _extract(archive: Path, target: Path) -> None:
    """Write the files and folders of a tar file within ``target``; links, which may lead anywhere, are left out.

    Only tablespaces are links, and theirs are made anew. Raises MaintenanceFailed for a name that leads out of it.
    """
    try:
        with _opened(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as members:
            for member in members:
                path = Path(os.path.normpath(target / member.name))
                if not path.is_relative_to(target):
                    raise MaintenanceFailed(f"{archive.name} is damaged: {member.name} would lie outside the cluster")
                if member.isdir():
                    path.mkdir(mode=0o700, parents=True, exist_ok=True)
                elif member.isreg():
                    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    content = members.extractfile(member)
                    assert content is not None
                    with path.open("wb") as file:
                        shutil.copyfileobj(content, file, 1 << 20)
    except tarfile.TarError as error:
        raise MaintenanceFailed(f"{archive.name} is damaged and cannot be unpacked: {error}") from None


@contextmanager
def _opened(archive: Path) -> Iterator[IO[bytes]]:
    """Read what is packed in a file. Raises MaintenanceFailed at the end when the file is cut or broken."""
    damaged = MaintenanceFailed(f"{archive.name} is damaged and cannot be unpacked")
    if archive.suffix == ".lz4":
        program = shutil.which("lz4")
        if program is None:
            raise ConfigurationError(f"{archive.name} is compressed with lz4; install the program lz4")
        with archive.open("rb") as file:  # opened here: that it may not be read is no damage
            process = subprocess.Popen([program, "-dc"], stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        try:
            yield process.stdout
            _read_to_the_end(process.stdout)
        finally:
            process.stdout.close()
            process.wait()
        if process.returncode != 0:
            raise damaged
        return
    with archive.open("rb") as raw, compression.open_content(raw, compression.compression_of(raw)) as content:
        yield cast("IO[bytes]", content)
        _read_to_the_end(cast("IO[bytes]", content))
        if content.damaged:
            raise damaged


def _read_to_the_end(stream: IO[bytes]) -> None:
    """Read what the padding of a tar file leaves: the checksum of the compression comes last."""
    while stream.read(1 << 20):
        pass


def _copy_links(data: Path) -> None:
    """Replace links out of a copied cluster (tablespaces, a WAL folder elsewhere) by copies of what they lead to."""
    links = [data / "pg_wal", *(data / "pg_tblspc").glob("*")]
    for link in links:
        if link.is_symlink():
            source = link.resolve()
            link.unlink()
            if link.parent == data:
                shutil.copytree(source, link, symlinks=True)
            else:
                shutil.copytree(source, data.parent / "tablespaces" / link.name, symlinks=True)


@contextmanager
def _disk_errors_named(backup: Path) -> Iterator[None]:
    """Raise MaintenanceFailed for errors of the disk, but PermissionError where nothing else kept a file from us."""
    try:
        yield
    except PermissionError:
        raise
    except OSError as error:
        if refused := _refused(error):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), refused) from None
        raise MaintenanceFailed(f"the backup {backup.name} cannot be read: {str(error)[:200]}") from None


def _refused(error: OSError) -> str | None:
    """Return the first file of a copied tree that may not be read, when that is all that went wrong."""
    if not isinstance(error, shutil.Error) or not isinstance(error.args[0], list):
        return None
    why = f"[Errno {errno.EACCES}]"  # ``copytree`` keeps source, target and the text of each error
    return str(error.args[0][0][0]) if all(str(one[-1]).startswith(why) for one in error.args[0]) else None


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
            with _opened(copy) as content, (target / plain).open("wb") as unpacked:
                while chunk := content.read(1 << 20):
                    unpacked.write(chunk)
            copy.unlink()
