"""Rolls daily metrics up to weeks and months: sums, merged histograms, merged sketches; from the warehouse alone."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from include.reporting import distinct, latency
from include.reporting.figures import ENOUGH
from include.warehouse import rollups
from include.warehouse.rollups import Estimates, Sketches
from include.window import WINDOW_OF, Grain, Window

logger = logging.getLogger(__name__)


def compute(window: Window, run_id: str) -> list[str]:
    """Roll one week or month up, and every other of its grain whose days have changed since.

    The run of the period of the last finished day also rolls those up that never were: old days of a week or month
    that was never computed as a whole. Returns the keys (2026-W40, 2026-10) of the periods that were written, this one
    first: none when nothing had changed or when the warehouse holds no day of it. Raises ValueError for the window of a
    day, ConfigurationError and SourceUnavailable when the warehouse is not as it must be or cannot be reached.
    """
    if window.grain is Grain.DAY:
        raise ValueError(f"a rollup is about a week or a month, not about a {window.grain.value}")
    today = _today(window)
    written = [window.key] if _replace(window, today) else []
    is_newest = today - timedelta(days=1) in window.days
    for first_day in rollups.stale_periods(window.grain.value, today, stored_only=not is_newest):
        other = WINDOW_OF[window.grain](first_day, window.timezone)
        if _replace(other, today):
            written.append(other.key)
    logger.info("%s wrote the rollups %s", run_id, ", ".join(written) or "of no period: nothing had changed")
    return written


def due(days: set[date], timezone: str, run_id: str) -> dict[Grain, set[date]]:
    """Return, of the days that a run has just computed, those whose week and those whose month is to be rolled up now.

    A period is due when all its days are computed, when it was rolled up before and its figures have changed, and on
    the day that has just ended; a month also with each of its weeks. One run is told so, not every run of its days,
    and of several days of one period only the newest is returned. ``timezone`` is the platform's. Raises as
    ``compute`` does.
    """
    weeks = _due(Grain.WEEK, days, timezone, run_id, with_week=set())
    return {Grain.WEEK: weeks, Grain.MONTH: _due(Grain.MONTH, days, timezone, run_id, with_week=weeks)}


def _due(grain: Grain, days: set[date], timezone: str, run_id: str, *, with_week: set[date]) -> set[date]:
    found: set[date] = set()
    for window in {WINDOW_OF[grain](day, timezone) for day in days}:
        own = {day for day in days if day in window.days}
        if rollups.announce(window, max(own), _today(window), run_id, with_week=bool(own & with_week)):
            found.add(max(own))
    return found


def _replace(window: Window, today: date) -> bool:
    return rollups.replace_period(window, today, _estimate, enough=ENOUGH)


def _today(window: Window) -> date:
    return datetime.now(UTC).astimezone(ZoneInfo(window.timezone)).date()


def _estimate(sketches: Sketches) -> Estimates:
    return Estimates(
        response_p95_seconds=latency.quantile(sketches.latency, 0.95),
        response_p99_seconds=latency.quantile(sketches.latency, 0.99),
        active_users=round(distinct.estimate(distinct.merge(sketches.users))),
        active_users_relative_error=Decimal(str(round(distinct.RELATIVE_ERROR, 5))),
    )
