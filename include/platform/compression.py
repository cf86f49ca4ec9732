"""Reads files whatever their compression, which is told by their first bytes and not by their names."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

_SIGNATURES = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}


class Content:
    """The uncompressed content of a file; it ends early, with ``damaged`` set, where the file is cut or broken."""

    def __init__(self, stream: IO[bytes], errors: tuple[type[Exception], ...], step: int = 8192) -> None:
        """Read from ``stream``, taking ``errors`` for the end of what can be read.

        ``step`` is small where what was unpacked before an error in the same step would be lost.
        """
        self._stream, self._errors, self._step = stream, errors, step
        self.damaged = False

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes, fewer only at the end."""
        parts: list[bytes] = []
        wanted = size
        while wanted and not self.damaged:
            try:
                part = self._stream.read(min(wanted, self._step) if self._errors else wanted)
            except self._errors:
                self.damaged = True
                break
            if not part:
                break
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)


class _Zstandard:
    """Zstandard frames one after the other; unlike the library's own reader it notices that a frame is cut."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle, self._ready, self._place = handle, b"", 0
        self._frame: Any = None
        self._error: Exception | None = None

    def read(self, size: int) -> bytes:
        while self._place == len(self._ready):
            if self._error:
                raise self._error
            packed = self._handle.read(64 << 10)
            if not packed:
                if self._frame is not None:
                    raise EOFError
                return b""
            self._unpack(packed)
        part = self._ready[self._place : self._place + size]
        self._place += len(part)
        return part

    def _unpack(self, packed: bytes) -> None:
        import zstandard

        parts = []
        try:
            while packed:
                self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
                parts.append(self._frame.decompress(packed))
                packed = self._frame.unused_data if self._frame.eof else b""
                if self._frame.eof:
                    self._frame = None
        except zstandard.ZstdError as error:
            self._error = error  # raised once everything before it has been read
        self._ready, self._place = b"".join(parts), 0


def compression_of(handle: IO[bytes]) -> str:
    """Return gzip, zstd, bzip2, xz, or the empty string for a file that is not compressed."""
    handle.seek(0)
    start = handle.read(6)
    handle.seek(0)
    return next((name for signature, name in _SIGNATURES.items() if start.startswith(signature)), "")


@contextmanager
def open_content(handle: IO[bytes], compression: str) -> Iterator[Content]:
    """Read a file's content from its beginning. The file itself stays open."""
    handle.seek(0)
    if compression == "gzip":
        with gzip.GzipFile(fileobj=handle) as stream:
            yield Content(cast("IO[bytes]", stream), (EOFError, zlib.error, gzip.BadGzipFile))
    elif compression == "zstd":
        import zstandard

        yield Content(cast("IO[bytes]", _Zstandard(handle)), (zstandard.ZstdError, EOFError), 1 << 20)
    elif compression == "bzip2":
        with bz2.BZ2File(handle) as stream:
            yield Content(cast("IO[bytes]", stream), (EOFError, OSError))
    elif compression == "xz":
        with lzma.LZMAFile(handle) as stream:
            yield Content(cast("IO[bytes]", stream), (EOFError, lzma.LZMAError))
    else:
        yield Content(handle, ())
