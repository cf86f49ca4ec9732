"""Compressed files: what is cut or broken is noticed, and a small file that holds very much takes little memory."""

import io
import lzma
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import zstandard

from include.platform.compression import compression_of, open_content
from include.settings import ROOT

MIB = 1 << 20
SKIPPED = b"\x53\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
READ = """
import re, sys
from include.platform.compression import compression_of, open_content
with open(sys.argv[1], "rb") as handle, open_content(handle, compression_of(handle)) as content:
    size = len(content.read(1))
    while block := content.read(1 << 20):
        size += len(block)
    memory = re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]
    print(size, content.damaged, int(memory) // 1024)
"""


def content_of(packed: bytes) -> tuple[bytes, bool]:
    """What can be read, and whether it was damaged."""
    handle = io.BytesIO(packed)
    with open_content(handle, compression_of(handle)) as content:
        return b"".join(iter(lambda: content.read(5000), b"")), content.damaged


def repeated(size: int) -> bytes:
    """A zstandard frame of zeros: four bytes for each 128 KiB of them (RFC 8878, a block of the type RLE)."""
    blocks = size // (128 << 10)
    words = [(128 << 10) << 3 | 1 << 1 | (number == blocks - 1) for number in range(blocks)]
    window = 7 << 3  # of 128 KiB
    return b"\x28\xb5\x2f\xfd\x00" + bytes([window]) + b"".join(word.to_bytes(3, "little") + b"\0" for word in words)


def with_dictionary(packed: bytes, size: int) -> bytes:
    """An xz file that asks for a dictionary of 2 << size / 2 + 11 bytes (the format's description, 5.3.1)."""
    end = 12 + packed[12] * 4
    header = bytearray(packed[12:end])
    assert header[2:4] == b"\x21\x01"
    header[4] = size
    return packed[:12] + header + zlib.crc32(header).to_bytes(4, "little") + packed[end + 4 :]


def read_elsewhere(path: Path) -> tuple[int, bool, int]:
    """Bytes that another process reads, whether they were damaged, and the most memory that it took, in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", READ, path],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    size, damaged, memory = done.stdout.split()
    return int(size), damaged == "True", int(memory)


def test_a_small_file_that_holds_very_much_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "access.log-1.zst"
    path.write_bytes(repeated(128 << 10))
    size, damaged, usual = read_elsewhere(path)
    assert (size, damaged) == (128 << 10, False)
    path.write_bytes(repeated(512 * MIB))
    assert path.stat().st_size < 17_000
    size, damaged, memory = read_elsewhere(path)
    assert (size, damaged) == (512 * MIB, False)
    assert memory < usual + 16


def test_an_xz_file_does_not_get_the_memory_that_it_asks_for(tmp_path: Path) -> None:
    path = tmp_path / "access.log-1.xz"
    packed = lzma.compress(bytes(120 * MIB), preset=0)
    path.write_bytes(with_dictionary(packed, 28))
    assert read_elsewhere(path)[:2] == (120 * MIB, False), "64 MiB, as xz -9"
    path.write_bytes(with_dictionary(packed, 32))
    size, damaged, memory = read_elsewhere(path)
    assert (size, damaged) == (0, True), "256 MiB"
    assert memory < 100


@pytest.mark.parametrize("checksum", [True, False])
def test_a_zstandard_file_that_is_cut_anywhere_is_noticed(checksum: bool) -> None:
    texts = [os.urandom(3000) + b"abc" * 90_000, b"", b"x"]
    packer = zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=checksum)
    frames = [packer.compress(texts[0]), SKIPPED, *map(packer.compress, texts[1:])]
    packed = b"".join(frames)
    assert content_of(packed) == (b"".join(texts), False)
    assert content_of(packed + SKIPPED) == (b"".join(texts), False)
    whole = {sum(map(len, frames[:number])) for number in range(len(frames) + 1)}
    for cut in sorted({*range(4, len(packed), 61), *range(len(frames[0]) - 9, len(packed))}):
        content, damaged = content_of(packed[:cut])
        assert b"".join(texts).startswith(content)
        assert damaged == (cut not in whole), cut
    for junk in (b"\0\0\0\0", b"no frame", SKIPPED[:-1], SKIPPED[:6], b"\x28"):
        assert content_of(packed + junk) == (b"".join(texts), True), junk


def test_an_xz_file_of_several_streams_is_read_to_its_end_and_a_cut_is_noticed() -> None:
    texts = [os.urandom(70_000), b"two\n", b""]
    first, *others = map(lzma.compress, texts)
    packed = first + bytes(8) + b"".join(others)  # streams may be padded
    assert content_of(packed) == (b"".join(texts), False)
    for cut in (len(first) - 1, len(first) + 8 + 20, len(packed) - 1):
        content, damaged = content_of(packed[:cut])
        assert b"".join(texts).startswith(content)
        assert damaged, cut
    assert content_of(packed + b"no stream") == (b"".join(texts), True)
