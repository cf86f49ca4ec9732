"""Rolls daily metrics up to weeks and months: sums, merged histograms, merged sketches; from the warehouse alone."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from include.reporting import distinct, latency
from include.warehouse import rollups
from include.warehouse.rollups import Estimates, Sketches
from include.window import Grain, Window, month_window, week_window

logger = logging.getLogger(__name__)

_WINDOW_OF = {Grain.WEEK: week_window, Grain.MONTH: month_window}


def compute(window: Window, run_id: str) -> list[str]:
    """Roll one week or month up, and every other of its grain whose days have changed since.

    Returns the keys (2026-W40, 2026-10) of the periods that were written, this one first: none when nothing had changed
    or when the warehouse holds no day of it. Raises ValueError for the window of a day, ConfigurationError and
    SourceUnavailable when the warehouse is not as it must be or cannot be reached.
    """
    if window.grain not in _WINDOW_OF:
        raise ValueError(f"a rollup is about a week or a month, not about a {window.grain.value}")
    today = datetime.now(UTC).astimezone(ZoneInfo(window.timezone)).date()
    written = [window.key] if rollups.replace_period(window, today, _estimate) else []
    for first_day in rollups.stale_periods(window.grain.value, today):
        other = _WINDOW_OF[window.grain](first_day, window.timezone)
        if rollups.replace_period(other, today, _estimate):
            written.append(other.key)
    logger.info("%s wrote the rollups %s", run_id, ", ".join(written) or "of no period: nothing had changed")
    return written


def _estimate(sketches: Sketches) -> Estimates:
    return Estimates(
        response_p95_seconds=latency.quantile(sketches.latency, 0.95),
        response_p99_seconds=latency.quantile(sketches.latency, 0.99),
        active_users=round(distinct.estimate(distinct.merge(sketches.users))),
        active_users_relative_error=Decimal(str(round(distinct.RELATIVE_ERROR, 5))),
    )
