"""Computes one subject of one day from the platform's database: what the subjects read there have in common."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from include.outcome import Completeness
from include.reporting.extent import Begins, Extent, not_begun
from include.settings import settings
from include.warehouse import metrics
from include.warehouse.metrics import TableRows
from include.window import Window, day_window, last_finished_day

if TYPE_CHECKING:
    import psycopg

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
        detail={} if is_missing else found.detail,
        run_id=run_id,
        is_correction=not is_missing and not found.extent.begins_late,
    )


def with_late_rows(subject: str, compute: Callable[[Window, str], bool]) -> Callable[[Window, str], list[str]]:
    """Return a function that computes a subject's day, and returns earlier days (YYYY-MM-DD) that late rows changed.

    On the day that ended last the ``reports.late_rows_days`` days before it are computed again, those that ever were:
    a row is dated when something happened, and may come after its day was read. A run that is repeated returns what it
    changed at its first try too, which may have ended before it was told. Raises what ``compute`` raises, and as
    ``metrics.subject_states`` does.
    """

    def computed(window: Window, run_id: str) -> list[str]:
        compute(window, run_id)
        earlier = [window.first_day - timedelta(days=n) for n in range(1, settings().reports.late_rows_days + 1)]
        if window.first_day == last_finished_day(datetime.now(UTC), window.timezone):
            for day, states in metrics.subject_states(earlier).items():
                if states[subject].content_hash:
                    compute(day_window(day, window.timezone), run_id)
        return [day.isoformat() for day in metrics.days_changed_by(run_id, subject, earlier)]

    return computed
