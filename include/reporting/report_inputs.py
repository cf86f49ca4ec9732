"""Reads what the daily reports of one day are made of: that day, the days it is compared with, and its incidents.

All of it comes from the warehouse, within the caller's transaction, so a report shows one state of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.outcome import Completeness
from include.reporting.documents import clean
from include.reporting.figures import OUTCOME_COLUMNS, Day, Subject, comparison_days
from include.reporting.formats import Number
from include.settings import Settings
from include.warehouse.metrics import canonical
from include.window import Window, day_window

if TYPE_CHECKING:
    import psycopg

MOST_ERRORS = 20
"""Lines of the error summary that a report tells one by one."""
MOST_ERRORS_OF_A_LOG = 5
"""So many of each log are told beside its number of errors, however many of another log are more frequent."""

_FIGURES = (Path(__file__).parent / "report_figures.sql").read_text().replace("{outcome_columns}", OUTCOME_COLUMNS)
_BREAKDOWNS = (Path(__file__).parent / "report_breakdowns.sql").read_text()
_INCIDENTS = (Path(__file__).parent / "report_incidents.sql").read_text()
_UPTIME = "SELECT * FROM ops.daily_uptime WHERE day = %s ORDER BY component <> 'overall', component COLLATE \"C\""
_REVENUE = 'SELECT kind, fees, amount_usd FROM ops.daily_revenue WHERE day = %s ORDER BY kind COLLATE "C"'
_SUPPORT = (
    "SELECT * FROM ops.daily_support WHERE day = %s ORDER BY array_position('{high,medium,low}'::text[], priority)"
)
_ERRORS = """
SELECT source, kind, endpoint, errors, kinds
FROM (
    SELECT *, count(*) OVER () AS kinds, row_number() OVER of_all AS place, row_number() OVER of_log AS place_in_log
    FROM ops.daily_error
    WHERE day = %(day)s
    WINDOW of_all AS (ORDER BY errors DESC, source COLLATE "C", kind COLLATE "C", endpoint COLLATE "C"),
           of_log AS (PARTITION BY source ORDER BY errors DESC, kind COLLATE "C", endpoint COLLATE "C")
) AS ranked
WHERE place <= %(most)s OR place_in_log <= %(most_of_a_log)s
ORDER BY place
"""

_BROKEN = "SELECT detail FROM ops.daily_subject WHERE day = %s AND subject = 'traffic'"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Incident:
    """A P0 or P1 incident of a day; ``resolved_at`` is None when it was not over at the day's end."""

    incident_id: str
    incident_class: str
    title: str
    affected: str
    detected_at: datetime
    resolved_at: datetime | None


@dataclass(frozen=True)
class Known:
    """Subjects and P0 and P1 incidents by day, of the days that have any: what tells whether a report is stale."""

    subjects: Mapping[date, Mapping[str, Subject]] = field(default_factory=dict)
    incidents: Mapping[date, tuple[Incident, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Inputs:
    """Everything that the reports of one day rest on."""

    window: Window
    settings: Settings
    day: Day
    history: Mapping[date, Day]
    chart_days: tuple[date, ...]
    incidents: tuple[Incident, ...]
    uptime: Sequence[Row]
    revenue: Sequence[Row]
    support: Sequence[Row]
    errors: Sequence[Row]
    """The most frequent errors of all logs, then more of each; ``kinds`` of each row is how many there are in all."""
    broken_lines: tuple[str, ...] = ()
    """Some of the access log's broken lines, without secrets, and how many lines of the other logs are broken."""
    earlier: Mapping[tuple[str, ...], Mapping[date, Number]] = field(default_factory=dict)
    """What tables and incidents are compared with: values on the comparison days, by part and the key of a row."""
    known: Known = field(default_factory=Known)


def read(connection: psycopg.Connection[Any], window: Window, settings: Settings) -> Inputs:
    """Read the inputs of the day ``window``."""
    day = window.first_day
    chart_days = tuple(day - timedelta(days=n) for n in reversed(range(settings.reports.chart_days)))
    compared = comparison_days(day, settings.reports.comparison_weeks)
    days = sorted({*chart_days, *compared})
    subjects = read_subjects(connection, days)
    known = {
        row["day"]: Day(row["day"], row, subjects.get(row["day"], {}))
        for row in _rows(connection, _FIGURES, {"days": days})
    }
    windows = [window, *(day_window(other, window.timezone) for other in compared)]
    incidents = read_incidents(connection, windows)
    earlier: dict[tuple[str, ...], dict[date, Number]] = {
        ("incidents",): {other: len(incidents.get(other, ())) for other in compared}
    }
    for row in _rows(connection, _BREAKDOWNS, {"days": compared}):
        if row["value"] is not None:
            earlier.setdefault((row["part"], *row["key"]), {})[row["day"]] = row["value"]
    return Inputs(
        window=window,
        settings=settings,
        day=known[day],
        history={other: found for other, found in known.items() if other != day},
        chart_days=chart_days,
        incidents=incidents.get(day, ()),
        uptime=_rows(connection, _UPTIME, (day,)),
        revenue=_rows(connection, _REVENUE, (day,)),
        support=_rows(connection, _SUPPORT, (day,)),
        errors=_rows(connection, _ERRORS, {"day": day, "most": MOST_ERRORS, "most_of_a_log": MOST_ERRORS_OF_A_LOG}),
        broken_lines=_broken_lines(connection, day),
        earlier=earlier,
        known=Known(subjects, incidents),
    )


def _broken_lines(connection: psycopg.Connection[Any], day: date) -> tuple[str, ...]:
    row = connection.execute(_BROKEN, (day,)).fetchone()
    detail = row[0] if row else {}
    others = ((kind, detail.get("lines", {}).get(f"{kind}_broken", 0)) for kind in ("application", "error"))
    return (
        *(clean(sample) for sample in detail.get("broken_samples", ())),
        *(
            f"and {count} broken {'line' if count == 1 else 'lines'} of the {kind} log"
            for kind, count in others
            if count
        ),
    )


def read_subjects(connection: psycopg.Connection[Any], days: Iterable[date]) -> dict[date, dict[str, Subject]]:
    """Return the subjects of each day that has any."""
    found: dict[date, dict[str, Subject]] = {}
    rows = connection.execute(
        "SELECT day, subject, state, completeness, reason, content_hash FROM ops.daily_subject WHERE day = ANY (%s)",
        (list(days),),
    )
    for day, name, state, completeness, reason, content_hash in rows:
        subject = Subject(name, Completeness(state), Decimal(completeness), clean(reason), content_hash)
        found.setdefault(day, {})[name] = subject
    return found


def read_incidents(connection: psycopg.Connection[Any], windows: Sequence[Window]) -> dict[date, tuple[Incident, ...]]:
    """Return the P0 and P1 incidents of each day that has any, the gravest and oldest first."""
    found: dict[date, tuple[Incident, ...]] = {}
    rows = connection.execute(
        _INCIDENTS,
        {
            "days": [window.first_day for window in windows],
            "starts": [window.start for window in windows],
            "ends": [window.end for window in windows],
        },
    )
    for day, identifier, incident_class, title, affected, detected_at, resolved_at in rows:
        incident = Incident(identifier, incident_class, clean(title), clean(affected), detected_at, resolved_at)
        found[day] = (*found.get(day, ()), incident)
    return found


def read_known(connection: psycopg.Connection[Any], windows: Sequence[Window], settings: Settings) -> Known:
    """Return what is known of days and of those that they are compared with."""
    weeks = settings.reports.comparison_weeks
    days = {window.first_day for window in windows}
    days |= {other for day in days for other in comparison_days(day, weeks)}
    timezone = windows[0].timezone
    return Known(
        read_subjects(connection, days),
        read_incidents(connection, [day_window(day, timezone) for day in sorted(days)]),
    )


def own_inputs(day: date, names: Sequence[str], known: Known, weeks: int, *, with_incidents: bool) -> dict[str, str]:
    """Return hashes of what a report of ``day`` is about: each subject in ``names``, the incidents, the comparison.

    The last is over the same subjects, and the number of incidents, of the ``weeks`` days that it is compared with.
    """
    hashes = _subjects_of(day, names, known)
    compared: list[list[Any]] = []
    for other in comparison_days(day, weeks):
        count = len(known.incidents.get(other, ())) if with_incidents else None
        compared.append([other, _subjects_of(other, names, known), count])
    hashes["comparison"] = sha256(canonical(compared).encode()).hexdigest()
    if with_incidents:
        facts = [
            [each.incident_id, each.incident_class, each.title, each.affected, each.detected_at, each.resolved_at]
            for each in known.incidents.get(day, ())
        ]
        hashes["incidents"] = sha256(canonical(facts).encode()).hexdigest()
    return hashes


def _subjects_of(day: date, names: Sequence[str], known: Known) -> dict[str, str]:
    subjects = known.subjects.get(day, {})
    return {name: subjects[name].content_hash if name in subjects else "" for name in names}


def earlier_windows(window: Window, settings: Settings) -> list[Window]:
    """Return the days before ``window`` that its charts show, oldest first."""
    days = range(settings.reports.chart_days - 1, 0, -1)
    return [day_window(window.first_day - timedelta(days=n), window.timezone) for n in days]


def later_windows(window: Window, settings: Settings) -> list[Window]:
    """Return the days after ``window`` that are compared with it, oldest first."""
    weeks = range(1, settings.reports.comparison_weeks + 1)
    return [day_window(window.first_day + timedelta(weeks=n), window.timezone) for n in weeks]


def _rows(connection: psycopg.Connection[Any], query: str, values: Any) -> list[dict[str, Any]]:
    from psycopg.rows import dict_row

    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, values).fetchall()
