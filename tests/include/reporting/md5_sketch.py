"""The sketch that users.sql must make, in plain Python."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from include.reporting.distinct import REGISTERS


def by_md5(identifiers: Iterable[str]) -> bytes:
    """The sketch of identifiers as texts."""
    registers = [0] * REGISTERS
    for identifier in identifiers:
        bits = int.from_bytes(hashlib.md5(identifier.encode(), usedforsecurity=False).digest()[:8], "big")
        rest = bits & ((1 << 50) - 1)
        registers[bits >> 50] = max(registers[bits >> 50], 51 - rest.bit_length())
    return bytes(registers)
