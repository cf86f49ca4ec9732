"""The subject users: registrations and activity of one day, and the sketch of its active users."""

from __future__ import annotations

from datetime import datetime

from include.platform import source
from include.reporting import distinct
from include.reporting.extent import extent
from include.reporting.subject import Found, begins, compute_day
from include.warehouse.metrics import TableRows
from include.warehouse.statements import one_row, statements
from include.window import Window

_STATEMENTS = statements(__file__)
_FIGURES = ("active_users", "sessions", "page_views", "new_users", "verified_users", "pending_verification")


def compute(window: Window, run_id: str) -> bool:
    """Compute the users of one day and write them; tell whether they changed.

    Raises ConfigurationError when the source contract or the warehouse is not as it must be, SourceUnavailable when
    one of them cannot be reached.
    """
    return compute_day(window, run_id, "users", _read)


def _read(window: Window, now: datetime) -> Found:
    bounds = {"start": window.start, "end": window.end}
    with source.snapshot("page_views", "sessions", "users") as connection:
        viewers = one_row(connection, _STATEMENTS["viewers"], bounds)
        sessions, new_users, verified_users = one_row(connection, _STATEMENTS["activity"], bounds)
        judged = extent(window, now, begins(connection, _STATEMENTS["begins"]))
    active_users, page_views, anonymous_page_views, registers, ranks = viewers
    figures = (active_users, sessions, page_views, new_users, verified_users, new_users - verified_users)
    sketch = distinct.sketch(zip(registers, ranks, strict=True))
    tables = {
        "daily_users": TableRows(_FIGURES, [figures]),
        "daily_user_sketch": TableRows(("registers",), [(sketch,)]),
    }
    return Found(tables, {"page_views_without_user": anonymous_page_views}, judged)
