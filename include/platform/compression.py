"""Reads files whatever their compression, which is told by their first bytes and not by their names."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

_SIGNATURES = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
_PACKED = 64 << 10
_STEP = 8192  # small: what was unpacked before an error in the same step is lost
_XZ_MEMORY = 128 << 20  # xz -9 needs 65 MiB; zstandard refuses by itself what needs more than this


class Content:
    """The uncompressed content of a file; it ends early, with ``damaged`` set, where the file is cut or broken."""

    def __init__(self, stream: IO[bytes], errors: tuple[type[Exception], ...]) -> None:
        """Read from ``stream``, taking ``errors`` for the end of what can be read."""
        self._stream, self._errors = stream, errors
        self.damaged = False

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes, fewer only at the end."""
        parts: list[bytes] = []
        wanted = size
        while wanted and not self.damaged:
            try:
                part = self._stream.read(min(wanted, _STEP) if self._errors else wanted)
            except self._errors:
                self.damaged = True
                break
            if not part:
                break
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)


class _Zstandard:
    """Zstandard frames one after the other, unpacked block by block (RFC 8878, 3.1), each 128 KiB at most.

    The library's own readers unpack gigabytes at once when a few bytes stand for them, or do not notice a cut frame.
    """

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle, self._ready, self._place = handle, b"", 0
        self._frame: Any = None
        self._has_checksum = False

    def read(self, size: int) -> bytes:
        while self._place == len(self._ready):
            packed = self._next_block() if self._frame else self._next_header()
            if not packed:
                return b""
            self._ready, self._place = self._frame.decompress(packed), 0
            if self._frame.eof:
                self._frame = None
        part = self._ready[self._place : self._place + size]
        self._place += len(part)
        return part

    def _next_header(self) -> bytes:
        """Begin the next frame; return its header, or nothing at the end of the file."""
        import zstandard

        while self._is_skippable(start := self._handle.read(18)):  # no header is longer
            self._handle.seek(int.from_bytes(start[4:8], "little") - len(start) + 8 - 1, os.SEEK_CUR)
            self._exactly(1)
        if not start:
            return b""
        length = zstandard.frame_header_size(start)
        self._handle.seek(length - len(start), os.SEEK_CUR)
        self._has_checksum = zstandard.get_frame_parameters(start).has_checksum
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        return start[:length]

    @staticmethod
    def _is_skippable(start: bytes) -> bool:
        return len(start) >= 8 and start[0] >> 4 == 5 and start[1:4] == b"\x2a\x4d\x18"

    def _next_block(self) -> bytes:
        head = self._exactly(3)
        block = int.from_bytes(head, "little")
        is_repeated, is_last = (block >> 1) & 3 == 1, block & 1  # of a byte that is repeated one is there
        packed = self._exactly(1 if is_repeated else block >> 3)
        return head + packed + (self._exactly(4) if is_last and self._has_checksum else b"")

    def _exactly(self, size: int) -> bytes:
        packed = self._handle.read(size)
        if len(packed) < size:
            raise EOFError
        return packed


class _Xz:
    """xz streams one after the other; the library's own reader takes as much memory as a file asks for, up to 4 GiB."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self._stream: lzma.LZMADecompressor | None = None

    def read(self, size: int) -> bytes:
        part = b""
        while not part:
            if self._stream is None or self._stream.eof:
                rest = self._stream.unused_data if self._stream else b""
                packed = (rest or self._handle.read(_PACKED)).lstrip(b"\0")  # streams may be padded
                if not packed:
                    return b""
                self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
            else:
                packed = self._handle.read(_PACKED) if self._stream.needs_input else b""
                if self._stream.needs_input and not packed:
                    raise EOFError
            part = self._stream.decompress(packed, size)
        return part


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

        yield Content(cast("IO[bytes]", _Zstandard(handle)), (zstandard.ZstdError, EOFError))
    elif compression == "bzip2":
        with bz2.BZ2File(handle) as stream:
            yield Content(cast("IO[bytes]", stream), (EOFError, OSError))
    elif compression == "xz":
        yield Content(cast("IO[bytes]", _Xz(handle)), (EOFError, lzma.LZMAError))
    else:
        yield Content(handle, ())
