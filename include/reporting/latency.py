"""Percentiles of response times from DDSketch histograms.

Masson, Rim, Lee: "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error Guarantees", VLDB 2019.
With the ratio gamma = (1 + 0.01) / (1 - 0.01) a bucket k holds the values in (gamma^(k-1), gamma^k]; its
representative 2 gamma^k / (gamma + 1) is within 1 % of each of them. Histograms are merged by adding their buckets,
which gives exactly the histogram of all values together. The buckets of log lines are made in
include/platform/log_lines.sql.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal

GAMMA = Decimal("1.01") / Decimal("0.99")
ZERO_BUCKET = -32768
"""The bucket of response times of zero, which have no logarithm."""


def representative(place: int) -> Decimal:
    """Return the value in seconds, to 12 digits, that stands for a bucket: within 1 % of all of the bucket's values."""
    if place == ZERO_BUCKET:
        return Decimal(0)
    exact = 2 * GAMMA**place / (GAMMA + 1)
    return exact.normalize().quantize(Decimal(1).scaleb(exact.adjusted() - 11))


def quantile(buckets: Mapping[int, int], q: float) -> Decimal | None:
    """Return the q-quantile in seconds of a histogram (bucket -> requests), or None when it holds none.

    ``q`` lies from 0 to 1. The value of rank floor(q (n - 1)) is taken, counted from 0 in ascending order; the result
    is within 1 % of it. Raises ValueError when ``q`` lies outside.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile lies from 0 to 1, not at {q}")
    held = sorted((place, count) for place, count in buckets.items() if count > 0)
    if not held:
        return None
    rank = math.floor(Decimal(str(q)) * (sum(count for _, count in held) - 1))
    below = 0
    for place, count in held:
        below += count
        if below > rank:
            return representative(place)
    raise AssertionError("a rank is always below the number of requests")
