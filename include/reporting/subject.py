"""Computes one subject of one day from the platform's database: what the subjects read there have in common."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from include.outcome import Completeness, SourceUnavailable
from include.reporting.extent import Begins, Extent, not_begun
from include.settings import settings
from include.warehouse import metrics
from include.warehouse.metrics import TableRows
from include.window import Window, day_window, last_finished_day

if TYPE_CHECKING:
    import psycopg

_log = logging.getLogger(__name__)
_LOOK_BACK = timedelta(minutes=10)  # for how long earlier days are begun to be read again; the task has 30 minutes
_FIRST_USER = "SELECT nullif(min(registered_at), '-infinity') FROM operations.users"


class Found(NamedTuple):
    """What a subject's source gave: its rows by table, facts about the source, and how much of it was there."""

    tables: dict[str, TableRows]
    detail: dict[str, Any]
    extent: Extent


def begins(connection: psycopg.Connection[Any], statement: str) -> Begins:
    """Return the oldest time of each view that ``statement`` asks for: rows of a view's name and that time.

    When none of them has a row, a platform that has users had nothing of their kind yet: its first user is returned
    instead, as the view ``users``.
    """
    found: dict[str, datetime | None] = dict(connection.execute(statement).fetchall())
    if not any(found.values()) and "users" not in found:
        row = connection.execute(_FIRST_USER).fetchone()
        if row and row[0]:
            return {"users": row[0]}
    return found


def untold(judged: Extent) -> dict[str, list[str]]:
    """Return, for the facts about the source, the views that begin after the day: none, and no fact, on most days."""
    return {"views_that_begin_later": list(judged.untold)} if judged.untold else {}


def compute_day(window: Window, run_id: str, subject: str, read: Callable[[Window, datetime], Found]) -> bool:
    """Read a subject's day and write it; tell whether its rows changed.

    ``read`` is called with the window and the instant (UTC) at which the reading begins; a day that has not begun
    is not read and is missing. A source that begins late has lost a part, and never replaces what was known before;
    a whole one does, even where more of it had to be left out. Raises what ``read`` raises, and as
    ``metrics.replace_day`` does.
    """
    now = datetime.now(UTC)
    if now > window.start:
        found = read(window, now)
    else:
        found = Found({}, {}, Extent(Completeness.MISSING, Decimal(0), not_begun(window)))
    is_missing = found.extent.state is Completeness.MISSING
    return metrics.replace_day(
        window.first_day,
        subject,
        {} if is_missing else found.tables,
        state=found.extent.state,
        completeness=found.extent.completeness,
        reason=found.extent.reason,
        detail={"rules": _rules(subject, window.timezone)} | ({} if is_missing else found.detail),
        run_id=run_id,
        is_correction=not is_missing and not found.extent.begins_late,
    )


def with_late_rows(subject: str, compute: Callable[[Window, str], bool]) -> Callable[[Window, str], list[str]]:
    """Return a function that computes a subject's day, and returns earlier days (YYYY-MM-DD) that late rows changed.

    On the day that ended last the ``reports.late_rows_days`` days before it are computed again, those that ever were
    by the rules of today: a row is dated when something happened, and may come after its day was read. When the source
    is lost meanwhile, or the time is up, the rest is for the next night. A run that is repeated returns what it changed
    at its first try too, which may have ended before it was told. Raises what ``compute`` raises of the window's own
    day, and as ``metrics.subject_states`` does.
    """

    def computed(window: Window, run_id: str) -> list[str]:
        compute(window, run_id)
        earlier = [window.first_day - timedelta(days=n) for n in range(1, settings().reports.late_rows_days + 1)]
        if window.first_day == last_finished_day(datetime.now(UTC), window.timezone):
            rules = _rules(subject, window.timezone)
            states = metrics.subject_states(earlier)
            same = [day for day in earlier if states[day][subject].detail.get("rules") == rules]
            _compute_again(subject, compute, [day_window(day, window.timezone) for day in same], run_id)
        return [day.isoformat() for day in metrics.days_changed_by(run_id, subject, earlier)]

    return computed


def _compute_again(subject: str, compute: Callable[[Window, str], bool], windows: list[Window], run_id: str) -> None:
    """Compute days that have their figures already: that it fails makes the day of the run no poorer."""
    begun = time.monotonic()
    for window in windows:
        try:
            if time.monotonic() - begun >= _LOOK_BACK.total_seconds():
                raise SourceUnavailable(f"the days after it took more than {_LOOK_BACK}")
            compute(window, run_id)
        except SourceUnavailable as error:
            _log.warning(
                "%s: late rows of %s and of the days before it were not looked for; the next night looks again at"
                " those still within reports.late_rows_days, of older ones run daily_metrics by hand (%s)",
                subject, window.key, error,
            )  # fmt: skip
            return


def _rules(subject: str, timezone: str) -> dict[str, Any]:
    """The settings that a day's figures follow: by others it would change although nothing has come late."""
    targets = {"response_hours": settings().support.response_hours.model_dump()} if subject == "support" else {}
    return {"timezone": timezone} | targets
