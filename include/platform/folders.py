"""Files in a folder connection: a local folder or object storage, with errors in one sentence.

A file appears whole or not at all: on a local file system under another name first, on object storage because an
upload that is interrupted leaves nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include import connections
from include.outcome import ConfigurationError, SourceUnavailable
from include.platform import regular_files

if TYPE_CHECKING:
    import fsspec

_OBJECT_STORAGE = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "obs", "memory"}
# Errors of the storages' own libraries, which are not imported here, by name.
_CREDENTIALS_MISSING = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"}
_MOST_RIGHTS = 0o640
"""Of a file in a local folder, where the umask allows more: archives hold rows of the platform."""
_NEED_A_PERSON = (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)


@dataclass(frozen=True)
class Folder:
    """The folder of a connection; a ``location`` is a file's name within it."""

    connection_id: str
    system: fsspec.AbstractFileSystem
    root: str

    def put(self, path: Path, location: str, *, rights: int = _MOST_RIGHTS) -> None:
        """Copy a local file to its place, whole or not at all; what is there already is replaced.

        In a local folder it has these ``rights``, less the umask, from the beginning: by default its group reads it,
        others do not.
        """
        final = self.place(location)
        with self.errors(location, "written"):
            if self.is_object_storage:
                self.system.put_file(str(path), final)
                return
            folder = final.rpartition("/")[0]
            self.system.makedirs(folder, exist_ok=True)
            if self.is_local:
                with path.open("rb") as source, regular_files.replacing(Path(final), rights) as target:
                    shutil.copyfileobj(source, target, 1 << 20)
                to_disk(Path(folder))
                return
            partial = str(regular_files.partial_of(Path(final)))
            self.system.put_file(str(path), partial)
            self.system.mv(partial, final)

    def write(self, location: str, content: bytes) -> None:
        """Write a file, whole or not at all; what is there already is replaced. In a local one only its owner reads."""
        with self.errors(location, "written"):
            if self.is_local:
                write_privately(Path(self.place(location)), content)
            else:
                self.system.pipe_file(self.place(location), content)

    def fetch(self, location: str, path: Path) -> bool:
        """Copy a file to a local one; False when it is not there."""
        try:
            with self.errors(location, "read", missing_is_wrong=False):
                self.system.get_file(self.place(location), str(path))
        except FileNotFoundError:
            return False
        return True

    def glob(self, pattern: str) -> dict[str, dict[str, Any]]:
        """Return what a pattern within the folder names: whole paths, with what the storage tells of each.

        Of a link in a local folder that is what it leads to; one that leads nowhere is left out.
        """
        with self.errors(pattern, "read", missing_is_wrong=False):
            found: dict[str, dict[str, Any]] = self.system.glob(self.place(pattern), detail=True)
            for link in [path for path, facts in found.items() if facts.get("islink")]:
                try:
                    found[link] = self.system.info(link)  # a listing has the link's own age and kind
                except FileNotFoundError:
                    del found[link]
        return found

    def read(self, location: str) -> bytes | None:
        """Return a file's content, or None when it is not there."""
        try:
            with self.errors(location, "read", missing_is_wrong=False):
                content: bytes = self.system.cat_file(self.place(location))
        except FileNotFoundError:
            return None
        return content

    def remove(self, location: str) -> None:
        """Remove a file and what interrupted copies left of it; one that is not there is no error."""
        final = self.place(location)
        folder, _, name = final.rpartition("/")
        with self.errors(location, "removed", missing_is_wrong=False):
            if self.is_local:
                Path(final).unlink(missing_ok=True)
                for partial in Path(folder).glob(f".{_literally(name)}.*.partial"):
                    partial.unlink(missing_ok=True)
            elif self.system.exists(final):
                self.system.rm_file(final)

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine's file system."""
        return "file" in self._protocols

    @property
    def is_object_storage(self) -> bool:
        """Whether the storage puts whole objects by itself."""
        return bool(_OBJECT_STORAGE & set(self._protocols))

    def place(self, location: str) -> str:
        """The whole path of a file."""
        return f"{self.root.rstrip('/')}/{location}"

    @property
    def _protocols(self) -> tuple[str, ...]:
        protocol = self.system.protocol
        return (protocol,) if isinstance(protocol, str) else tuple(protocol)

    @contextmanager
    def errors(self, location: str, verb: str, *, missing_is_wrong: bool = True) -> Iterator[None]:
        """Raise a storage's errors as ConfigurationError or SourceUnavailable: ``location`` could not be ``verb``.

        Unless ``missing_is_wrong``, FileNotFoundError passes as it is.
        """
        try:
            yield
        except Exception as error:  # each kind of storage has errors of its own
            if isinstance(error, FileNotFoundError) and not missing_is_wrong:
                raise
            raise sentence(self.connection_id, location, verb, error) from None


def open_folder(connection_id: str) -> Folder:
    """Open the folder of a connection. Raises ConfigurationError."""
    return Folder(connection_id, *connections.folder(connection_id))


def sentence(connection_id: str, location: str, verb: str, error: Exception) -> ConfigurationError | SourceUnavailable:
    """Turn a storage's error into one sentence without what the storage said, which may quote secrets."""
    names = {kind.__name__ for kind in type(error).__mro__}
    where = f"the folder of the connection {connection_id}"
    if isinstance(error, FileNotFoundError):
        return ConfigurationError(
            f"{location} could not be {verb}: {where} does not exist (its bucket or folder is missing); create it or "
            "correct the connection"
        )
    if names & _CREDENTIALS_MISSING:
        return ConfigurationError(
            f"{location} could not be {verb}: {where} has no credentials; add them to the connection's storage_options"
        )
    what = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    if isinstance(error, _NEED_A_PERSON):
        return ConfigurationError(
            f"{location} may not be {verb}: {where} refused it ({what}); correct the connection's credentials or the "
            "folder's permissions"
        )
    return SourceUnavailable(f"{location} could not be {verb}: {where} failed ({what})")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a local file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_privately(path: Path, content: bytes) -> None:
    """Write a local file, whole or not at all, that only its owner may read."""
    with regular_files.replacing(path) as file:
        file.write(content)


def to_disk(path: Path) -> None:
    """Make a local file, or renamed and removed names of a local folder, safe on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _literally(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
