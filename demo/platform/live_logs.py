"""The log files that the running web application appends to; a rotated file is noticed and opened anew."""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from demo.platform.formats import access_line, error_line, escaped


class LogFile:
    """A file that whole lines are appended to. After it was renamed or removed, the next line begins a new file."""

    def __init__(self, path: Path) -> None:
        """Append to ``path``; it is made at once, as web servers do: a log that stays empty is not one that is gone."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.Lock()
        self._descriptor = -1
        self._open()

    def reopen(self) -> None:
        """Open the file anew."""
        with self._lock:
            self._open()

    def write(self, line: str) -> None:
        """Append one line (with its end) in one piece."""
        with self._lock:
            if not self._in_place():
                self._open()
            os.write(self._descriptor, line.encode("utf-8", "backslashreplace"))

    def _in_place(self) -> bool:
        if self._descriptor < 0:
            return False
        with suppress(OSError):
            here, there = os.fstat(self._descriptor), self.path.stat()
            return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
        return False

    def _open(self) -> None:
        self.close()
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Logs:
    """The logs access.log, application.log and error.log of a folder, as ``demo.platform.formats`` writes them; UTC."""

    def __init__(self, folder: Path) -> None:
        """Write to ``folder``."""
        self.access_file = LogFile(folder / "access.log")
        self.application_file = LogFile(folder / "application.log")
        self.error_file = LogFile(folder / "error.log")
        self._connections = count(1)

    def reopen(self) -> None:
        """Open all three anew, after a rotation. Safe to call from a signal handler: another thread does it."""
        threading.Thread(target=self._reopen_all, name="reopen logs", daemon=True).start()

    def _reopen_all(self) -> None:
        for file in (self.access_file, self.application_file, self.error_file):
            file.reopen()

    def access(
        self, client: str, request: str, status: int, size: int, referer: str, agent: str, seconds: float
    ) -> None:
        """Log one answered request; ``request`` is method and target."""
        now = datetime.now(UTC)
        line = access_line(
            client,
            f"{now:%d/%b/%Y:%H:%M:%S} +0000",
            escaped(request),
            status,
            size,
            escaped(referer),
            escaped(agent),
            f"{seconds:.3f}",
        )
        self.access_file.write(line)

    def application(self, level: str, logger: str, message: str, path: str, exception: str | None = None) -> None:
        """Log one event of the application as a JSON object; ``exception`` is the name of a class."""
        entry = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "logger": logger,
            "message": message,
            "path": path,
        }
        if exception:
            entry["exception"] = exception
        self.application_file.write(json.dumps(entry) + "\n")

    def error(self, message: str, client: str, request: str, upstream: str) -> None:
        """Log a failure of something behind the application; ``upstream`` is its address without credentials."""
        now = datetime.now(UTC)
        self.error_file.write(error_line(now, next(self._connections), message, client, escaped(request), upstream))
