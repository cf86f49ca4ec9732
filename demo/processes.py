"""Starts child processes, waits for them to be ready and stops every one of them."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO


class StartError(Exception):
    """A process did not come up. The message names it, what it last said and where its log lies."""


def free_port(preferred: int | None = None) -> int:
    """Return a free TCP port of 127.0.0.1: the preferred one unless something listens there."""
    for port in (preferred, 0):
        if port is None:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StartError("no free TCP port on 127.0.0.1")


def listens(port: int) -> bool:
    """Tell whether something accepts connections on the port of 127.0.0.1."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5):
        return True
    return False


def claim(lock: Path) -> TextIO:
    """Take a folder for this process alone, by the file ``lock`` in it, until the returned file is closed.

    The end of the process, however it comes, closes it. Raises StartError while another process has it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = lock.open("a+", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise StartError(f"a demo is running here already (pid {holder}); stop it with Ctrl-C where it runs") from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


@dataclass
class Process:
    """A running child with a process group of its own."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.popen.poll() is None

    def last_lines(self, count: int = 15) -> str:
        """The end of its log."""
        with suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
        return ""


@dataclass
class Processes:
    """All children of one demo or test run, stopped in reverse order of their start.

    Their process ids are kept in ``register``, so that what a killed run left behind is ended by the next one.
    """

    register: Path
    children: list[Process] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: dict[str, str] | None = None,
        folder: Path | None = None,
        user: int | None = None,
        group: int | None = None,
    ) -> Process:
        """Start a command whose output goes to ``log`` (appended), in a process group of its own."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            popen = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=[] if user is not None else None,
            )
        child = Process(name, popen, log)
        self._keep(child)
        return child

    def _keep(self, child: Process) -> None:
        with self._lock:  # parts of a demo start at the same time
            self.children.append(child)
            self._write_register()

    def _forget(self, child: Process) -> None:
        with self._lock:
            if child in self.children:
                self.children.remove(child)
            self._write_register()

    def wait_until(self, child: Process, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait for a child to be ready. Raises StartError when it ends first or takes longer than ``seconds``."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not child.running:
                raise StartError(
                    f"{child.name} ended with status {child.popen.returncode}; its log {child.log} ends with:\n"
                    f"{child.last_lines()}"
                )
            with suppress(Exception):
                if ready():
                    return
            time.sleep(0.05)
        raise StartError(f"{child.name} was not ready after {seconds:.0f} s; see its log {child.log}")

    def stop(self, child: Process, *, seconds: float = 10.0) -> None:
        """End one child and all that it started: politely first, then by force."""
        _end_group(child.popen.pid, seconds, child.popen)
        self._forget(child)

    def stop_together(self, children: Sequence[tuple[Process, float]], *, alone: Collection[Process] = ()) -> None:
        """End several children, each with the seconds it may take, that need not wait for each other.

        Those in ``alone`` end their own processes in order, and would be disturbed if these were asked too.
        """
        for child, _ in children:
            with suppress(ProcessLookupError, PermissionError):
                (os.kill if child in alone else os.killpg)(child.popen.pid, signal.SIGTERM)
        for child, seconds in children:
            _end_group(child.popen.pid, seconds, child.popen, asked=True)
            self._forget(child)

    def stop_all(self) -> None:
        """End every child, the last started first."""
        for child in reversed(self.children[:]):
            self.stop(child)
        self.register.unlink(missing_ok=True)

    def sweep(self) -> int:
        """End what an earlier run that was killed left behind. Returns how many it ended."""
        try:
            left = json.loads(self.register.read_text())
        except (OSError, ValueError):
            return 0
        ended = 0
        for entry in left:
            if _started_at(entry["pid"]) == entry["started_at"]:
                _end_group(entry["pid"], 5.0, None)
                ended += 1
        self.register.unlink(missing_ok=True)
        return ended

    def _write_register(self) -> None:
        entries = [
            {"pid": child.popen.pid, "name": child.name, "started_at": _started_at(child.popen.pid)}
            for child in self.children
        ]
        self.register.parent.mkdir(parents=True, exist_ok=True)
        partial = self.register.with_suffix(".partial")
        partial.write_text(json.dumps(entries))
        partial.replace(self.register)


# A request can get lost: Python drops what a signal's handler raises while an object's end is being reported.
_SECONDS_UNTIL_ASKED_AGAIN = 8.0


def _started_at(pid: int) -> str | None:
    """Start time of a process, so that a recycled process id is not taken for ours."""
    try:
        if Path("/proc/self/stat").exists():
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
        found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return found.stdout.strip() or None
    except (OSError, IndexError):
        return None


def _group_lives(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _end_group(pid: int, seconds: float, popen: subprocess.Popen[bytes] | None, *, asked: bool = False) -> None:
    """End a process group; ``asked``: its first process was asked, and is asked once more before force is used."""
    once_more = [min(seconds, _SECONDS_UNTIL_ASKED_AGAIN), seconds - _SECONDS_UNTIL_ASKED_AGAIN]
    steps = [(None if asked else signal.SIGTERM, once_more[0]), (signal.SIGTERM, once_more[1]), (signal.SIGKILL, 5.0)]
    for number, patience in steps:
        if patience <= 0:
            continue
        if number is not None:
            with suppress(ProcessLookupError, PermissionError):
                (os.kill if asked and number == signal.SIGTERM else os.killpg)(pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if popen is not None:
                popen.poll()
            if not _group_lives(pid):
                return
            time.sleep(0.05)
