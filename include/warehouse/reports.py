"""The only writer of ops.report, and what the renderer and the command line read of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.warehouse.statements import columns, one_row

if TYPE_CHECKING:
    import psycopg

KINDS = ("daily_system_health", "daily_user_activity")
"""The kinds of reports in the order in which they are shown."""

_STORE = (Path(__file__).parent / "reports.sql").read_text()


@dataclass(frozen=True)
class Report:
    """A rendered report before it is stored. ``figures`` and ``own_inputs`` hold plain JSON values."""

    kind: str
    period_key: str
    window_start: datetime
    window_end: datetime
    title: str
    verdict: str
    headline: str
    completeness: Decimal
    missing: list[str]
    figures: list[dict[str, Any]]
    markdown: str
    html: str
    input_hash: str
    own_inputs: dict[str, str]


@dataclass(frozen=True)
class StoredReport(Report):
    """A report as it stands in the warehouse. Times are aware, in UTC."""

    delivered_at: datetime | None
    first_rendered_at: datetime
    rendered_at: datetime


def lock(connection: psycopg.Connection[Any]) -> None:
    """Make other renderers wait until this transaction ends; readers are not held up.

    To be the first statement of a REPEATABLE READ transaction: LOCK TABLE takes no snapshot, so what is read after it
    is at least as new as what the renderer before it stored, and an old report never overwrites a newer one.
    """
    connection.execute("LOCK TABLE ops.report IN SHARE ROW EXCLUSIVE MODE")


def store(connection: psycopg.Connection[Any], report: Report) -> bool:
    """Insert or replace a report and tell whether its content (Markdown, HTML or inputs) changed.

    ``first_rendered_at`` is kept. ``rendered_at`` moves and the delivery becomes outstanding only when the content
    changed. To be called once per report in a transaction.
    """
    from psycopg.types.json import Jsonb

    values: dict[str, Any] = {field.name: getattr(report, field.name) for field in fields(Report)}
    values |= {"figures": Jsonb(report.figures), "own_inputs": Jsonb(report.own_inputs)}
    [changed] = one_row(connection, _STORE, values)
    return bool(changed)


def lock_delivery(connection: psycopg.Connection[Any], key: str) -> None:
    """Make others who deliver the reports of a period key (2026-10-03) wait until this transaction ends.

    To be called before they are read: who has waited reads what was stored meanwhile, so that the file which is written
    last is of the newest content, and an older one never counts as delivered in its place.
    """
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"report delivery {key}",))


def mark_delivered(connection: psycopg.Connection[Any], report: StoredReport) -> None:
    """Note that this content was written to the reports folder; a content that has changed since stays outstanding."""
    connection.execute(
        "UPDATE ops.report SET delivered_at = now() WHERE kind = %s AND period_key = %s AND rendered_at = %s"
        " AND input_hash = %s",
        (report.kind, report.period_key, report.rendered_at, report.input_hash),
    )


_ORDER = "window_end DESC, period_key DESC, array_position(%(kinds)s::text[], kind), kind"


def _stored(connection: psycopg.Connection[Any], condition: str, values: Mapping[str, Any]) -> list[StoredReport]:
    found = connection.execute(
        f"SELECT {columns(StoredReport)} FROM ops.report WHERE {condition} ORDER BY {_ORDER}",  # noqa: S608 - constants
        {"kinds": list(KINDS), **values},
    )
    return [StoredReport(*row) for row in found]


def latest(connection: psycopg.Connection[Any]) -> list[StoredReport]:
    """Return the reports of the newest period that has any, in the order of ``KINDS``; empty without reports."""
    return _stored(connection, "window_end = (SELECT max(window_end) FROM ops.report)", {})


def of_day(connection: psycopg.Connection[Any], key: str) -> list[StoredReport]:
    """Return every report of one period key (2026-10-03), in the order of ``KINDS``."""
    return _stored(connection, "period_key = %(key)s", {"key": key})


def undelivered(connection: psycopg.Connection[Any], until: datetime) -> list[StoredReport]:
    """Return the reports of windows that end no later than ``until`` and whose content is not in the folder yet."""
    return _stored(connection, "delivered_at IS NULL AND window_end <= %(until)s", {"until": until})


def own_inputs(connection: psycopg.Connection[Any], start: datetime, end: datetime) -> dict[tuple[str, str], Any]:
    """Return what the stored reports of windows within [start, end) were rendered from, by period key and kind."""
    rows = connection.execute(
        "SELECT period_key, kind, own_inputs FROM ops.report WHERE window_start >= %s AND window_end <= %s",
        (start, end),
    )
    return {(key, kind): inputs for key, kind, inputs in rows}
