"""Reads and makes files in a folder that others may write to, such as that of the platform's logs.

Who may write there could lay a link under a name that is expected, and so have any file of this user read, copied or
overwritten. So neither is done through a link; the folder itself may be one.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO


class NoRegularFile(OSError):
    """A name belongs to a link, a pipe or the like, where a file of its own is expected."""

    def __init__(self, path: Path) -> None:
        """Name what is no file."""
        super().__init__(errno.ELOOP, f"{path.name} is a link or no ordinary file, and is left alone; remove it")


def is_regular(path: Path) -> bool:
    """Whether a file has this name, and not a link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def open_to_read(path: Path) -> BufferedReader:
    """Open a file. Raises NoRegularFile for a link, pipe or the like, and OSError."""
    try:
        # Without waiting: a pipe is opened only when somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NoRegularFile(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NoRegularFile(path)
    return os.fdopen(descriptor, "rb")


def create(path: Path, mode: int = 0o600) -> IO[bytes]:
    """Make a new file with these rights, less the umask. Raises FileExistsError when the name is taken."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb")


@contextmanager
def replacing(target: Path, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """Write a file with these rights, less the umask, which becomes ``target`` at the end of the block.

    It does so whole and safe on disk, or not at all when the block fails. Raises OSError.
    """
    partial = partial_of(target)
    try:
        with create(partial, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def partial_of(target: Path) -> Path:
    """Return a name, new each time, under which a file is written that becomes ``target`` once it is whole.

    It is hidden: readers of the folder do not see it.
    """
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
