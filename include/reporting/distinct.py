"""Counts distinct things over any days from HyperLogLog sketches, so that nobody is counted twice.

A sketch is 16,384 registers of one byte: of the 64-bit hash of a thing, the first 14 bits name a register, and the
register keeps the greatest place of the first 1 in the other 50 bits. users.sql makes the hashes.
Flajolet, Fusy, Gandouet, Meunier: "HyperLogLog: the analysis of a near-optimal cardinality estimation algorithm", 2007.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

REGISTERS = 16_384
"""2 to the power of 14."""
HIGHEST_RANK = 51
"""One more than the 50 bits that the rank is taken from: all of them are zero."""
RELATIVE_ERROR = 1.04 / math.sqrt(REGISTERS)
"""Standard error of an estimate as a share of it: 0.81 %."""
EMPTY = bytes(REGISTERS)
"""The sketch of nothing."""


def sketch(ranks: Iterable[tuple[int, int]]) -> bytes:
    """Build a sketch from pairs of a register and its rank; a register that is named twice keeps the greater rank.

    Raises ValueError when a register or a rank is out of range.
    """
    registers = bytearray(REGISTERS)
    for register, rank in ranks:
        if not (0 <= register < REGISTERS and 1 <= rank <= HIGHEST_RANK):
            raise ValueError(f"register {register} with rank {rank} cannot stand in a sketch")
        registers[register] = max(registers[register], rank)
    return bytes(registers)


def merge(sketches: list[bytes]) -> bytes:
    """Return the sketch of everything that any of the sketches holds. Raises ValueError for a broken sketch."""
    for one in sketches:
        _check(one)
    return bytes(map(max, zip(EMPTY, *sketches, strict=True))) if sketches else EMPTY


def estimate(registers: bytes) -> float:
    """Estimate how many distinct things a sketch holds; its standard error is RELATIVE_ERROR.

    Ertl's improved estimator (Otmar Ertl: "New cardinality estimation algorithms for HyperLogLog sketches", 2017,
    algorithm 6): unbiased from nothing up to the range of the hash, without tables or thresholds. Raises ValueError
    for a broken sketch.
    """
    _check(registers)
    held = Counter(registers)
    total = REGISTERS * _tau(1 - held[HIGHEST_RANK] / REGISTERS)
    for rank in range(HIGHEST_RANK - 1, 0, -1):
        total = (total + held[rank]) / 2
    total += REGISTERS * _sigma(held[0] / REGISTERS)
    if total == 0:  # every register is full: more than the hash can tell apart
        return math.inf
    return REGISTERS * REGISTERS / (2 * math.log(2) * total)


def _check(registers: bytes) -> None:
    if len(registers) != REGISTERS:
        raise ValueError(f"a sketch has {REGISTERS} registers, not {len(registers)}")
    if max(registers) > HIGHEST_RANK:
        raise ValueError(f"a register of a sketch is at most {HIGHEST_RANK}, not {max(registers)}")


def _sigma(share: float) -> float:
    """The sum over k of share^(2^k) 2^(k-1), plus share: corrects for registers that are still zero."""
    if share == 1:
        return math.inf
    power, total, before = 1.0, share, -1.0
    while total != before:
        share *= share
        before, total = total, total + share * power
        power *= 2
    return total


def _tau(share: float) -> float:
    """A third of 1 - share less the sum over k of (1 - share^(2^-k))^2 2^-k: corrects for registers that are full."""
    if share in (0, 1):
        return 0.0
    power, total, before = 1.0, 1 - share, -1.0
    while total != before:
        share = math.sqrt(share)
        power /= 2
        before, total = total, total - (1 - share) ** 2 * power
    return total / 3
