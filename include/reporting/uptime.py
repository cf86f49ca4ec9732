"""The subject uptime: time up, down, in maintenance and unknown in one day, by time and not by number of probes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from include.outcome import Completeness
from include.reporting.extent import Extent, not_begun, not_over
from include.settings import settings
from include.warehouse import metrics, session
from include.warehouse.metrics import TableRows
from include.warehouse.statements import statements
from include.window import Window

OVERALL = "overall"
"""The platform as its users meet it: down whenever a user-facing component is."""

_STATEMENTS = statements(__file__)
_COLUMNS = ("component", "up_seconds", "down_seconds", "maintenance_seconds", "unknown_seconds", "outages")
_UNKNOWN = _COLUMNS.index("unknown_seconds")


def compute(window: Window, run_id: str) -> bool:
    """Compute the uptime of one day from the observations of the watch and write it; tell whether it changed.

    An observation holds until the next one of its component, at most watch.observation_holds_seconds, also into the
    window. ``ok`` and ``warning`` are up, ``critical`` is down; anything else, and nothing, is unknown. Announced
    maintenance of a component wins over all of these. Overall is, at each instant, down if any user-facing component is
    down, else in maintenance if any is, else unknown if any is unknown, else up. A day without any observation is
    missing.
    While the observations of an earlier computation are all there still, the day follows its maintenance windows, also
    where one that was corrected leaves more of it unknown; once some have expired, or where the configuration judges
    them in another way now, the better known figures stay.
    Raises ConfigurationError and SourceUnavailable as ``session.transaction`` does.
    """
    now = datetime.now(UTC)
    rows = _read(window, now)
    observations = {row[0]: row[-1] for row in rows if row[0] != OVERALL}
    configured = settings()
    rules: dict[str, Any] = {
        "hold_seconds": configured.watch.observation_holds_seconds,
        "user_facing": list(configured.platform.user_facing_components),
    }
    found = _judge(window, now, rows, sum(observations.values()))
    kept = [row[:-1] for row in rows] if found.state is not Completeness.MISSING else []
    return metrics.replace_day(
        window.first_day,
        "uptime",
        {"daily_uptime": TableRows(_COLUMNS, kept)},
        state=found.state,
        completeness=found.completeness,
        reason=found.reason,
        detail={"observations": observations} | rules,
        run_id=run_id,
        is_correction=lambda stored: (
            rules == {name: stored.get(name, rule) for name, rule in rules.items()}
            and _none_has_expired(stored.get("observations", {}), observations)
        ),
    )


def _none_has_expired(before: Mapping[str, int], now: Mapping[str, int]) -> bool:
    """Tell whether the same components have at least the observations that the stored figures rest on.

    Observations are never changed, and those of a day added only until it is over: one that is gone has expired. What
    is known of other components than those that the platform has now is not to be had any more.
    """
    return before.keys() == now.keys() and all(now[component] >= count for component, count in before.items())


def _read(window: Window, now: datetime) -> list[tuple[Any, ...]]:
    platform = settings().platform
    parameters = {
        "start": window.start,
        "end": window.end,
        "as_of": now,
        "hold_seconds": settings().watch.observation_holds_seconds,
        "components": list(platform.components),
        "user_facing": list(platform.user_facing_components),
    }
    with session.transaction() as connection:
        return connection.execute(_STATEMENTS["uptime"], parameters).fetchall()


def _judge(window: Window, now: datetime, rows: list[tuple[Any, ...]], observations: int) -> Extent:
    if now <= window.start:
        return Extent(Completeness.MISSING, Decimal(0), not_begun(window))
    if observations == 0:
        return Extent(Completeness.MISSING, Decimal(0), f"the watch observed no component in {window.key}")
    unknown: Decimal = next(row[_UNKNOWN] for row in rows if row[0] == OVERALL)
    reasons = [] if window.is_over(now) else [not_over(window, now)]
    if unknown and window.is_over(now):
        reasons.append(f"for {unknown:.0f} seconds of {window.key} no observation tells whether the platform was up")
    share = 1 - unknown / Decimal(str(window.seconds))
    return Extent(Completeness.PARTIAL if reasons else Completeness.COMPLETE, share, "; ".join(reasons))
