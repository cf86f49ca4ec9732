"""How much of a day's source is there: whether the day is over, and what of it could not be counted."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from include.outcome import Completeness
from include.window import Window


class Extent(NamedTuple):
    """State, share of the source that is there (0 to 1) and the reason when it is not all of it."""

    state: Completeness
    completeness: Decimal
    reason: str


def elapsed_share(window: Window, now: datetime) -> Decimal:
    """Return the share of the window that has passed at ``now``, 0 to 1."""
    passed = (min(now, window.end) - window.start).total_seconds()
    return Decimal(str(max(0.0, passed))) / Decimal(str(window.seconds))


def extent(window: Window, now: datetime, *, counted: int = 1, left_out: int = 0, why: str = "") -> Extent:
    """Judge a subject whose source is complete up to ``now`` but for ``left_out`` items that ``why`` names.

    ``counted`` and ``left_out`` are numbers of items of the source; ``now`` is when its reading began.
    """
    share = elapsed_share(window, now)
    if share == 0:
        return Extent(Completeness.MISSING, Decimal(0), not_begun(window))
    reasons = []
    if not window.is_over(now):
        reasons.append(not_over(window, now))
    if left_out:
        share = share * counted / (counted + left_out)
        reasons.append(why)
    return Extent(Completeness.PARTIAL if reasons else Completeness.COMPLETE, share, "; ".join(reasons))


def not_begun(window: Window) -> str:
    """Say that the window lies in the future."""
    return f"the {window.grain.value} {window.key} had not begun"


def not_over(window: Window, now: datetime) -> str:
    """Say that the window had not ended, and how far it was."""
    until = now.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"the {window.grain.value} {window.key} was not over: its figures reach to {until}"
