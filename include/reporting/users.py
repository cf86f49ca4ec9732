"""The subject users: registrations and activity of one day, and the sketch of its active users."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from include.outcome import Completeness
from include.platform import source
from include.reporting import distinct
from include.reporting.extent import extent
from include.warehouse import metrics
from include.warehouse.metrics import TableRows
from include.warehouse.statements import statements
from include.window import Window

_STATEMENTS = statements(__file__)
_FIGURES = ("active_users", "sessions", "page_views", "new_users", "verified_users", "pending_verification")


def compute(window: Window, run_id: str) -> bool:
    """Compute the users of one day and write them; tell whether they changed.

    Raises ConfigurationError when the source contract or the warehouse is not as it must be, SourceUnavailable when
    one of them cannot be reached.
    """
    now = datetime.now(UTC)
    found = extent(window, now)
    tables: dict[str, TableRows] = {}
    detail: dict[str, Any] = {}
    if found.state is not Completeness.MISSING:
        tables, detail = _read(window)
    return metrics.replace_day(
        window.first_day,
        "users",
        tables,
        state=found.state,
        completeness=found.completeness,
        reason=found.reason,
        detail=detail,
        run_id=run_id,
    )


def _read(window: Window) -> tuple[dict[str, TableRows], dict[str, Any]]:
    bounds = {"start": window.start, "end": window.end}
    with source.snapshot("page_views", "sessions", "users") as connection:
        viewers = connection.execute(_STATEMENTS["viewers"], bounds).fetchone()
        activity = connection.execute(_STATEMENTS["activity"], bounds).fetchone()
    assert viewers is not None
    assert activity is not None
    active_users, page_views, anonymous_page_views, registers, ranks = viewers
    sessions, new_users, verified_users = activity
    figures = (active_users, sessions, page_views, new_users, verified_users, new_users - verified_users)
    sketch = distinct.sketch(zip(registers, ranks, strict=True))
    tables = {
        "daily_users": TableRows(_FIGURES, [figures]),
        "daily_user_sketch": TableRows(("registers",), [(sketch,)]),
    }
    return tables, {"page_views_without_user": anonymous_page_views}
