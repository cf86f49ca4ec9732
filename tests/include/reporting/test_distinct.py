"""HyperLogLog: merging is a set union, and estimates stay within four standard errors from nothing to a million."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from include.reporting.distinct import EMPTY, HIGHEST_RANK, REGISTERS, RELATIVE_ERROR, estimate, merge, sketch
from tests.include.reporting.md5_sketch import by_md5

SKETCHES = st.lists(st.tuples(st.integers(0, REGISTERS - 1), st.integers(1, HIGHEST_RANK)), max_size=60).map(sketch)


def of_hashes(hashes: np.ndarray) -> bytes:
    """The sketch of 64-bit hashes, by arithmetic on whole arrays."""
    registers = (hashes >> np.uint64(50)).astype(np.int64)
    rest = hashes & np.uint64((1 << 50) - 1)
    # frexp gives the length of an integer in bits exactly, because 50 bits fit into a double.
    ranks = 51 - np.frexp(rest.astype(np.float64))[1]
    kept = np.zeros(REGISTERS, dtype=np.uint8)
    np.maximum.at(kept, registers, ranks.astype(np.uint8))
    return kept.tobytes()


def random_hashes(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, size=count, dtype=np.uint64)


@hypothesis_settings(max_examples=20)
@given(SKETCHES, SKETCHES, SKETCHES)
def test_merging_is_a_union(one: bytes, two: bytes, three: bytes) -> None:
    assert merge([merge([one, two]), three]) == merge([one, merge([two, three])]) == merge([one, two, three])
    assert merge([one, two]) == merge([two, one])
    assert merge([one, one]) == merge([one]) == merge([one, EMPTY]) == one
    assert merge([]) == EMPTY


def test_the_sketch_of_two_sets_is_the_merge_of_their_sketches() -> None:
    hashes = random_hashes(30_000, 1)
    assert merge([of_hashes(hashes[:20_000]), of_hashes(hashes[10_000:])]) == of_hashes(hashes)


@pytest.mark.parametrize(
    "count", [0, 1, 2, 10, 100, 1247, 5_000, 16_384, 40_000, 41_000, 60_000, 82_000, 200_000, 500_000, 1_000_000]
)
def test_estimates_stay_within_four_standard_errors(count: int) -> None:
    for seed in range(4):
        assert abs(estimate(of_hashes(random_hashes(count, seed))) - count) <= 4 * RELATIVE_ERROR * count


@hypothesis_settings(max_examples=60, derandomize=True)
@given(count=st.integers(0, 200_000), seed=st.integers(0, 2**32))
def test_estimates_of_any_size_stay_within_four_standard_errors(count: int, seed: int) -> None:
    assert abs(estimate(of_hashes(random_hashes(count, seed))) - count) <= 4 * RELATIVE_ERROR * count


def test_the_estimator_has_no_bias() -> None:
    estimates = [estimate(of_hashes(random_hashes(30_000, seed))) for seed in range(100)]
    standard_error_of_mean = 30_000 * RELATIVE_ERROR / math.sqrt(len(estimates))
    assert abs(sum(estimates) / len(estimates) - 30_000) < 4 * standard_error_of_mean


def test_one_thing_is_estimated_as_one_and_a_repeated_one_counts_once() -> None:
    assert estimate(EMPTY) == 0
    first = sketch([(7, 3)])
    assert round(estimate(first)) == 1
    assert sketch([(7, 3), (7, 2), (7, 3)]) == first
    assert pytest.approx(0.008125) == RELATIVE_ERROR


def test_full_registers_do_not_break_the_estimator() -> None:
    assert estimate(bytes([HIGHEST_RANK]) * REGISTERS) == math.inf


@pytest.mark.parametrize("broken", [b"", bytes(REGISTERS - 1), bytes(REGISTERS - 1) + b"\x34"])
def test_broken_sketches_are_refused(broken: bytes) -> None:
    with pytest.raises(ValueError, match="sketch"):
        estimate(broken)
    with pytest.raises(ValueError, match="sketch"):
        merge([EMPTY, broken])


@pytest.mark.parametrize("pair", [(-1, 1), (REGISTERS, 1), (0, 0), (0, 52)])
def test_pairs_out_of_range_are_refused(pair: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cannot stand in a sketch"):
        sketch([pair])


def test_md5_spreads_consecutive_identifiers_evenly() -> None:
    for count in (100, 20_000):
        assert abs(estimate(by_md5([str(n) for n in range(count)])) - count) <= 4 * RELATIVE_ERROR * count
