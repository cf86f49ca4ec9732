"""Copies the files of a base backup, plain or in tar files, to where a scratch server is to run on them."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import compression

_TAR = re.compile(r"\.tar(\.gz|\.zst|\.lz4)?$")
_IN_TABLESPACE = re.compile(r"PG_\d+_\d+|lost\+found")
_IN_WAL = re.compile(
    r"[0-9A-F]{24}(\.partial|\.[0-9A-F]{8}\.backup)?|[0-9A-F]{8}\.history|archive_status|summaries|xlogtemp\.\d+"
    r"|RECOVERY(XLOG|HISTORY)|lost\+found"
)


def copy(backup: Path, data: Path) -> None:
    """Copy a base backup to the new folder ``data``, and its tablespaces to ``tablespaces`` beside that.

    Raises ConfigurationError (a compression that cannot be read, a link that leads astray), MaintenanceFailed (it is no
    base backup) or PermissionError (a file may not be read, which says nothing of the backup).
    """
    with _disk_errors_named(backup):
        if any(_TAR.search(path.name) for path in backup.iterdir()):
            _unpack(backup, data)
        elif (backup / "PG_VERSION").is_file():
            shutil.copytree(backup, data, symlinks=True)
            _copy_links(backup, data)
        else:
            raise MaintenanceFailed(f"{backup.name} is no base backup: it has neither PG_VERSION nor base.tar")


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
        with opened(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as members:
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
def opened(archive: Path) -> Iterator[IO[bytes]]:
    """Read what is packed in a file.

    Raises ConfigurationError (no program for its compression), and MaintenanceFailed at the end of one that is cut or
    broken.
    """
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


def _copy_links(backup: Path, data: Path) -> None:
    """Replace links out of a copied cluster (tablespaces, a WAL folder elsewhere) by copies of what they lead to.

    Who can write to a backup could have any folder copied and handed to the scratch server so: followed are only those
    that lead to the like. Raises ConfigurationError for any other.
    """
    if (data / "pg_tblspc").is_symlink():
        raise _leads_astray(backup, "pg_tblspc", (backup / "pg_tblspc").resolve())
    for link in [data / "pg_wal", *(data / "pg_tblspc").glob("*")]:
        if link.is_symlink():
            name = str(link.relative_to(data))
            source = (backup / name).resolve()
            is_wal = link.parent == data
            if not _may_be_copied(backup, source, _IN_WAL if is_wal else _IN_TABLESPACE):
                raise _leads_astray(backup, name, source)
            link.unlink()
            target = link if is_wal else data.parent / "tablespaces" / link.name
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("lost+found"))


def _may_be_copied(backup: Path, source: Path, names: re.Pattern[str]) -> bool:
    """Whether a folder lies in the backup, or is its owner's and holds nothing but what bears such names."""
    if source.is_relative_to(backup.resolve()):
        return True
    descriptor = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        is_theirs = os.fstat(descriptor).st_uid == backup.stat().st_uid
        return is_theirs and all(map(names.fullmatch, os.listdir(descriptor)))  # noqa: PTH208 - the open folder
    finally:
        os.close(descriptor)


def _leads_astray(backup: Path, name: str, source: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{name} of the backup {backup.name} is a link to {source}, which is no such folder of PostgreSQL that belongs "
        "to the backup's owner, and nothing was copied from there; take a backup that holds it, or correct the link or "
        "the owner"
    )


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
