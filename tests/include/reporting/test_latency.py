"""Buckets as log_lines.sql makes them, and quantiles of histograms, against their definitions and against numpy."""

import math
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from functools import cache

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.platform import log_lines
from include.reporting import latency
from include.reporting.latency import ZERO_BUCKET, quantile, representative

seconds = st.decimals(min_value="0.000001", max_value=9_999_999, places=6).filter(bool)


@cache
def macros() -> duckdb.DuckDBPyConnection:
    session = duckdb.connect(config={"threads": 1})
    log_lines.define_buckets(session)
    return session


def buckets(values: Iterable[Decimal | float]) -> list[int]:
    microseconds = [round(value * 1_000_000) for value in values]
    told = macros().execute("SELECT bucket_of(unnest(CAST(? AS BIGINT[])))", [microseconds])
    return [place for (place,) in told.fetchall()]


def bucket(value: Decimal | float) -> int:
    return buckets([value])[0]


def histogram(values: Iterable[Decimal | float]) -> Counter[int]:
    return Counter(buckets(values))


def test_buckets_worked_out_by_hand() -> None:
    # log(1.01 / 0.99) = 0.0200006667; log(2) / that = 34.656..., so 2 s lies in bucket 35
    assert bucket(Decimal(2)) == 35
    assert bucket(Decimal(1)) == 0
    assert bucket(Decimal("0.5")) == -34
    assert bucket(Decimal(0)) == ZERO_BUCKET == -32768


def test_every_response_time_of_the_log_format_fits_a_smallint_apart_from_zero() -> None:
    assert -32768 < bucket(Decimal("0.000001")) < bucket(Decimal("9999999.999999")) < 32767


@given(seconds)
def test_a_value_lies_within_the_bounds_of_its_bucket(value: Decimal) -> None:
    place = bucket(value)
    # The logarithm is a float: its last digit may put a value on the bound into the neighbouring bucket.
    slack = Decimal("1e-9")
    assert latency.GAMMA ** (place - 1) * (1 - slack) < value <= latency.GAMMA**place * (1 + slack)


@given(seconds)
def test_representative_is_within_one_percent(value: Decimal) -> None:
    assert abs(representative(bucket(value)) - value) <= value * Decimal("0.010000001")


@given(st.lists(seconds | st.just(Decimal(0)), min_size=1, max_size=200), st.floats(0, 1))
def test_quantile_is_within_one_percent_of_the_value_of_that_rank(values: list[Decimal], q: float) -> None:
    exact = sorted(values)[math.floor(Decimal(str(q)) * (len(values) - 1))]
    found = quantile(histogram(values), q)
    assert found is not None
    assert abs(found - exact) <= exact * Decimal("0.010000001")


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99, 0.999])
def test_quantiles_of_a_long_tail_against_numpy(q: float) -> None:
    values = np.random.default_rng(3).lognormal(-2, 1.5, 100_000)
    found = quantile(histogram([float(v) for v in values]), q)
    assert found is not None
    assert float(found) == pytest.approx(np.quantile(values, q, method="lower"), rel=0.0100001)


def test_quantile_of_nothing_is_absent() -> None:
    assert quantile({}, 0.95) is None
    assert quantile({3: 0}, 0.95) is None


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_quantile_outside_0_to_1_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        quantile({1: 1}, q)


def test_zeros_come_first() -> None:
    assert quantile({ZERO_BUCKET: 9, 35: 1}, 0.5) == 0
    assert float(quantile({ZERO_BUCKET: 9, 35: 1}, 1.0) or 0) == pytest.approx(2, rel=0.01)
