"""How much of a day's source is there: whether the day is over, how far back the source reaches, what it leaves out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from include.outcome import Completeness
from include.window import Window

Begins = Mapping[str, datetime | None]
"""The oldest time (aware) in each view of the source contract that a subject reads; None for a view without rows."""


class Extent(NamedTuple):
    """State, share of the source that is there (0 to 1) and the reason when it is not all of it.

    ``begins_late`` tells that the source does not reach back over the whole day: it has expired, or is younger.
    ``untold`` are the views that begin after the day, though the subject can be told without them.
    """

    state: Completeness
    completeness: Decimal
    reason: str
    begins_late: bool = False
    untold: tuple[str, ...] = ()


def told_share(window: Window, now: datetime, since: datetime) -> Decimal:
    """Return the share of the window, 0 to 1, that has passed at ``now`` and lies after ``since``."""
    passed = (min(now, window.end) - max(since, window.start)).total_seconds()
    return Decimal(str(max(0.0, passed))) / Decimal(str(window.seconds))


def extent(
    window: Window,
    now: datetime,
    begins: Begins,
    *,
    optional: Collection[str] = (),
    counted: int = 1,
    left_out: int = 0,
    why: str = "",
) -> Extent:
    """Judge a subject whose source is complete from its beginning up to ``now``, but for ``left_out`` items.

    A view tells nothing of the time before its oldest row, which may have expired: a day that ends before it is missing
    and not zero, unless the view is ``optional``; a day that it lies in is partial. A view without any row is taken to
    tell that nothing of its kind has happened yet, but not when all of ``begins`` are without.
    The completeness is the mean of the views' shares. ``counted`` and ``left_out`` are numbers of items of the source,
    the latter named by ``why``; ``now``, which is after the window's start, is when its reading began.
    """
    if not any(begins.values()):
        empty = " and ".join(f"operations.{view}" for view in begins)
        return Extent(Completeness.MISSING, Decimal(0), f"the source holds nothing at all: no row in {empty}", True)
    shares = {view: told_share(window, now, oldest or window.start) for view, oldest in begins.items()}
    late = {view: oldest for view, oldest in begins.items() if oldest is not None and oldest > window.start}
    reasons = [_begins_late(window, late)] if late else []
    untold = tuple(view for view, share in shares.items() if not share)
    if set(untold) - set(optional):
        return Extent(Completeness.MISSING, Decimal(0), reasons[0], True)
    share = sum(shares.values(), Decimal(0)) / len(shares)
    if not window.is_over(now):
        reasons.append(not_over(window, now))
    if left_out:
        share = share * counted / (counted + left_out)
        reasons.append(why)
    state = Completeness.PARTIAL if reasons else Completeness.COMPLETE
    return Extent(state, share, "; ".join(reasons), bool(late), untold)


def not_begun(window: Window) -> str:
    """Say that the window lies in the future."""
    return f"the {window.grain.value} {window.key} had not begun"


def not_over(window: Window, now: datetime) -> str:
    """Say that the window had not ended, and how far it was."""
    return f"the {window.grain.value} {window.key} was not over: its figures reach to {_written(now)}"


def _begins_late(window: Window, late: Mapping[str, datetime]) -> str:
    where = "within" if all(oldest < window.end for oldest in late.values()) else "after"
    views = ", ".join(f"operations.{view} at {_written(oldest)}" for view, oldest in late.items())
    return f"the source begins {where} the {window.grain.value} {window.key}: {views}"


def _written(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
