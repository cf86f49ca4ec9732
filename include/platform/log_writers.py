"""Who writes to a log, how it is told to open its log anew, and whether it has done so.

The proof that nobody writes to a renamed log is the kernel's: it grants a read lease on a file only while no process,
in whatever container of this machine, has it open for writing. On a file system that other machines may share (a
network's, FUSE's, a virtual machine's folder of its host) it does not know who else writes; there, and where a lease is
refused for another reason (another owner), the answer is "cannot tell", never "nobody".
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shlex
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from include import connections
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import folders, regular_files
from include.platform.log_files import CONNECTION

_HOOK_SECONDS = 30
_NO_PROCESS = 1 << 31  # nor are 1, 0 and below: they stand for the first one of all, a group of them, all of them
_LONGEST_NUMBER = 64  # bytes read of a pid_file
_LOOK_AGAIN_SECONDS = 0.05
_OWN = Path("/proc/self")
_MOUNTS = _OWN / "mountinfo"
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "ceph")
"""They refuse a lease that their server did not promise them as if somebody wrote, whoever has the file open."""
_LOCAL = (
    "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "ramfs", "zfs", "overlay", "bcachefs", "jfs", "reiserfs",
)  # fmt: skip
"""Nobody writes to them but processes of this machine, so that a lease that is granted is believed."""


class Evidence(StrEnum):
    """What is known of the writer of a renamed log."""

    CLOSED = "closed"  # no process has the renamed file open for writing
    NEW_LOG = "new log"  # a new log was begun; whether all writers went on to it cannot be told
    HELD = "held"  # a process has the renamed file open for writing
    UNKNOWN = "unknown"  # no new log was begun, and who has the renamed one open cannot be told


@dataclass(frozen=True)
class Hook:
    """How the writer is told of a rotation: a signal to a process, a command, or a POST to an address.

    ``folder`` is that of the logs: a process that is seen to have no file of it open is no writer, whatever the
    pid_file says.
    """

    process: tuple[int, signal.Signals] | None = None
    folder: Path | None = None
    command: tuple[str, ...] = ()
    url: str = ""

    def tell(self) -> str:
        """Tell the writer to open its logs anew; return what was done, in words.

        Raises ConfigurationError or MaintenanceFailed, both saying that the log itself is rotated.
        """
        if self.process:
            return self._signal(*self.process)
        return self._run() if self.command else self._post()

    def _signal(self, process: int, number: signal.Signals) -> str:
        if self.folder is not None and _has_one_open(process, self.folder) is False:
            raise ConfigurationError(
                f"the process {process} of the pid_file has no file of the folder of {CONNECTION} open and is not "
                "signalled; correct the file, or use reopen_command; the log itself is rotated"
            )
        try:
            os.kill(process, number)
        except ProcessLookupError:
            raise MaintenanceFailed(
                f"the process {process} of the pid_file does not run; the log itself is rotated"
            ) from None
        except PermissionError:
            raise ConfigurationError(
                f"the process {process} of the pid_file may not be signalled by this user; the log itself is rotated"
            ) from None
        return f"{number.name} sent to process {process}"

    def _run(self) -> str:
        program = self.command[0]
        try:
            done = subprocess.run(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_HOOK_SECONDS,
                check=False,
            )
        except OSError:
            raise ConfigurationError(
                f"reopen_command of the connection {CONNECTION}: {program} cannot be run; the log itself is rotated"
            ) from None
        except subprocess.TimeoutExpired:
            raise MaintenanceFailed(
                f"{program} (reopen_command) did not end in {_HOOK_SECONDS} s; the log itself is rotated"
            ) from None
        if done.returncode:
            raise MaintenanceFailed(
                f"{program} (reopen_command) ended with {done.returncode}; the log itself is rotated"
            )
        return f"{program} was run"

    def _post(self) -> str:
        import httpx

        try:
            with httpx.stream("POST", self.url, timeout=_HOOK_SECONDS) as answer:  # whatever it says is not read
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise MaintenanceFailed(
                f"the reopen_url of the connection {CONNECTION} did not answer ({type(error).__name__}); "
                "the log itself is rotated"
            ) from None
        if status >= httpx.codes.BAD_REQUEST:
            raise MaintenanceFailed(
                f"the reopen_url of the connection {CONNECTION} answered {status}; the log itself is rotated"
            )
        return f"the reopen_url answered {status}"


def hook() -> Hook | None:
    """Return how the extra of the connection ``platform_logs`` says that the writer is told; None when it is not.

    ``pid_file`` with ``reopen_signal`` (SIGUSR1 by default, as nginx and logrotate's examples have it),
    ``reopen_command`` (a list, or one line that is not given to a shell) or ``reopen_url``. A writer that is not told
    must notice the new name by itself. Raises ConfigurationError.
    """
    extra = connections.details(CONNECTION).extra
    given = [name for name in ("pid_file", "reopen_command", "reopen_url") if extra.get(name)]
    if not given:
        return None
    if len(given) > 1:
        raise ConfigurationError(
            f"the extra of the connection {CONNECTION} names {' and '.join(given)}; name one of them"
        )
    if given == ["pid_file"]:
        process = _process(str(extra["pid_file"]), str(extra.get("reopen_signal", "SIGUSR1")))
        there = folders.open_folder(CONNECTION)
        return Hook(process=process, folder=Path(there.root) if there.is_local else None)
    if given == ["reopen_command"]:
        return Hook(command=_command(extra["reopen_command"]))
    return Hook(url=str(extra["reopen_url"]))


def _command(given: Any) -> tuple[str, ...]:
    try:
        return tuple(map(str, given) if isinstance(given, list) else shlex.split(str(given)))
    except ValueError:
        raise ConfigurationError(
            f"reopen_command of the connection {CONNECTION} opens a quote that it does not close; correct it"
        ) from None


def _process(name: str, wanted: str) -> tuple[int, signal.Signals]:
    try:
        with regular_files.open_to_read(Path(name)) as file:
            process = int(file.read(_LONGEST_NUMBER).split()[0])
        if process == 1:
            raise ConfigurationError(
                f"the pid_file {name} of the connection {CONNECTION} names process 1, which is never signalled; "
                "use reopen_command or reopen_url"
            )
        if not 1 < process < _NO_PROCESS:
            raise ValueError
        return process, signal.Signals[wanted]
    except KeyError:
        raise ConfigurationError(
            f"reopen_signal of the connection {CONNECTION} is {wanted}; write SIGUSR1, say"
        ) from None
    except (OSError, ValueError, IndexError):
        raise ConfigurationError(
            f"the pid_file {name} of the connection {CONNECTION} does not hold a process id; correct its path"
        ) from None


# ------------------------------------------------------------------------------------------------ who writes
def held_for_writing(path: Path) -> bool | None:
    """Tell whether any process has a file open for writing; None when that cannot be told."""
    with kept_from_writers(path) as kept:
        return None if kept is None else not kept


@contextmanager
def kept_from_writers(path: Path) -> Iterator[bool | None]:
    """Keep a file from being opened for writing. Yields False when somebody has it open already, None: cannot tell.

    Keep it short: whoever opens the file for writing meanwhile waits until the end.
    """
    with regular_files.open_to_read(path) as file:  # its end also gives the lease back
        yield _lease(file.fileno())


def _lease(descriptor: int) -> bool | None:
    kind = _file_system(descriptor)
    try:
        # The signal that tells of a waiting writer would by default be SIGIO, which ends a process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return False if error.errno == errno.EAGAIN and kind not in _NETWORK else None
    return True if kind in _LOCAL else None


def _file_system(descriptor: int) -> str:
    """The type of the file system that an open file lies on; empty where that is not known.

    It is found by the mount: the device that btrfs and overlay tell of a file is another one than that of their mount.
    """
    with suppress(OSError):
        mount = re.search(r"^mnt_id:\s*(\d+)$", (_OWN / "fdinfo" / str(descriptor)).read_text(), re.MULTILINE)
        for line in _MOUNTS.read_text().splitlines() if mount else ():
            if mount and line.split()[0] == mount[1]:
                return line.split(" - ")[1].split()[0]
    return ""


def holders(path: Path) -> list[int]:
    """Return the processes that are seen to have a file open for writing; those of other users may not be seen."""
    status, found = path.lstat(), []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for link in (process / "fd").iterdir():
                with suppress(OSError):
                    seen = link.stat()
                    same = (seen.st_dev, seen.st_ino) == (status.st_dev, status.st_ino)
                    if same and link.lstat().st_mode & stat.S_IWUSR:
                        found.append(int(process.name))
                        break
    return sorted(found)


def _has_one_open(process: int, folder: Path) -> bool | None:
    """Tell whether a process has any file of a folder open; None where that is not shown, as of other users'."""
    opened: set[tuple[int, int]] = set()
    try:
        links = list(Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return None
    for link in links:
        with suppress(OSError):
            opened.add((link.stat().st_dev, link.stat().st_ino))
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                status = Path(path, name).lstat()
                if (status.st_dev, status.st_ino) in opened:
                    return True
    return False


def evidence(live: Path, rotated: Path, seconds: float) -> Evidence:
    """Wait up to ``seconds`` until nobody writes to a renamed log any more; return what is known in the end."""
    deadline = time.monotonic() + seconds
    while True:
        held = held_for_writing(rotated)
        if held is False:
            return Evidence.CLOSED
        if held is None and live.exists():
            return Evidence.NEW_LOG
        if time.monotonic() >= deadline:
            return Evidence.HELD if held else Evidence.UNKNOWN
        time.sleep(_LOOK_AGAIN_SECONDS)
