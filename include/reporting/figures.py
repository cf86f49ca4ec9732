"""The figures of the daily reports: each a value with its unit, its text, its comparison and its outcome.

A figure is compared with the median of the same weekday of the last weeks (reports.comparison_weeks). A day counts in
that median when it has the figure and at least ``ENOUGH`` of the figure's source was there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from statistics import median
from typing import Any

from include.outcome import Completeness, Outcome
from include.reporting import formats
from include.reporting.formats import Number, Unit
from include.warehouse.metrics import NEVER_COMPUTED, OUTCOMES

ENOUGH = Decimal("0.99")
"""Share of a source from which its figures can be relied on; 1 % unknown is where reference reports give up too."""

FEWEST_DAYS = 2
"""A median of fewer days is no comparison."""

NOT_COMPUTED = NEVER_COMPUTED.reason

OUTCOME_COLUMNS = ",\n".join(
    f"coalesce(sum({source}) FILTER (WHERE outcome = '{outcome}'), 0)::{kind} AS {name}_{outcome}"
    for source, kind, name in (("transactions", "bigint", "transactions"), ("value_usd", "numeric", "value"))
    for outcome in OUTCOMES
)
"""The figures of transactions in SQL, of the rows of a day or a rolled-up period; an outcome without a row is zero."""


@dataclass(frozen=True)
class Subject:
    """What is known of one subject on one day (a row of ops.daily_subject)."""

    subject: str
    state: Completeness = Completeness.MISSING
    completeness: Decimal = Decimal(0)
    reason: str = NOT_COMPUTED
    content_hash: str = ""

    @property
    def is_there(self) -> bool:
        """Whether the subject has figures at all."""
        return self.state is not Completeness.MISSING

    @property
    def is_enough(self) -> bool:
        """Whether its figures can be relied on."""
        return self.is_there and self.completeness >= ENOUGH


@dataclass(frozen=True)
class Day:
    """One day's row of report_figures.sql and its subjects."""

    day: date
    values: Mapping[str, Any]
    subjects: Mapping[str, Subject]

    def subject(self, name: str) -> Subject:
        """Return a subject; one without a row is missing."""
        return self.subjects.get(name, Subject(name))

    def value(self, name: str) -> Number | None:
        """Return a figure's value, absent when its subject's source was missing."""
        found: Number | None = self.values.get(name)
        return found if self.subject(DEFINITIONS[name].subject).is_there else None


@dataclass(frozen=True)
class Definition:
    """A figure by its column of report_figures.sql: its unit, its subject, and why it may not exist."""

    name: str
    unit: Unit
    subject: str
    undefined: str = ""
    """Why there is no value although the source was there; empty for a figure that then always has one."""


UPTIMES = (
    "uptime_overall",
    "uptime_frontend",
    "uptime_api",
    "uptime_database",
    "uptime_cache",
    "uptime_chain",
)
"""The uptime overall and of every component that ``platform.components`` may name."""

LOG_ERRORS = ("application_log_errors", "error_log_errors")
"""The errors of each log that tells of its own; those of the access log are its requests with status 4xx and 5xx.

They are not added up: a request that fails can leave a line in each of the three logs.
"""

_NO_REQUESTS = "no requests were served"
_NO_RESPONSE_TIMES = "no requests with a response time were served"
_COMPARED: dict[str, dict[Unit, tuple[str, ...]]] = {
    "uptime": {
        Unit.SHARE: UPTIMES,
        Unit.DURATION: ("unknown_seconds",),
    },
    "traffic": {
        Unit.COUNT: ("requests", "errors", "client_errors", "lines_read", "lines_broken", *LOG_ERRORS),
        Unit.SHARE: ("error_rate",),
        Unit.SECONDS: ("response_average_seconds", "response_p95_seconds", "response_p99_seconds"),
        Unit.BYTES: ("bytes_sent",),
    },
    "users": {
        Unit.COUNT: (
            "active_users",
            "sessions",
            "page_views",
            "new_users",
            "verified_users",
            "pending_verification",
        ),
    },
    "transactions": {
        Unit.COUNT: (
            *(f"transactions_{outcome}" for outcome in OUTCOMES),
            "fees",
        ),
        Unit.US_DOLLARS: (
            *(f"value_{outcome}" for outcome in OUTCOMES),
            "revenue",
        ),
    },
    "support": {
        Unit.COUNT: (
            "tickets_created",
            "tickets_resolved",
            "tickets_breached",
            "ratings",
            *(f"rating_{stars}" for stars in range(1, 6)),
        ),
        Unit.HOURS: ("first_response_hours",),
        Unit.RATING: ("rating_average",),
    },
}
_UNDEFINED = {
    "error_rate": _NO_REQUESTS,
    "response_average_seconds": _NO_RESPONSE_TIMES,
    "response_p95_seconds": _NO_RESPONSE_TIMES,
    "response_p99_seconds": _NO_RESPONSE_TIMES,
    "first_response_hours": "no ticket was first answered in the day",
    "rating_average": "no ratings were given",
    "application_log_errors": "no readable application log of the day was found",
    "error_log_errors": "no readable error log of the day was found",
}

DEFINITIONS: dict[str, Definition] = {
    name: Definition(name, unit, subject, _UNDEFINED.get(name, ""))
    for subject, units in _COMPARED.items()
    for unit, names in units.items()
    for name in names
}
"""Every figure of the daily reports by its name."""


@dataclass(frozen=True)
class Figure:
    """One figure of a report.

    ``value`` is exact (shares 0 to 1, seconds, hours, US dollars) and None when absent; ``text`` is how it is
    written; ``comparison`` is the same weekday's median and ``change`` the difference to it. ``outcome`` is judged
    against the guide's thresholds (``not_applicable`` for a figure without one) and ``reason`` says why it is not ok,
    or why the figure is absent.
    """

    name: str
    label: str
    value: Number | None
    unit: Unit
    text: str
    comparison: Decimal | None
    comparison_days: int
    change: Decimal | None
    comparison_text: str
    outcome: Outcome
    reason: str

    @property
    def is_missing(self) -> bool:
        """Whether the figure should be there and is not; a mean of nothing is absent but not missing."""
        return self.value is None and self.outcome is Outcome.UNKNOWN

    def judged(self, outcome: Outcome, reason: str) -> Figure:
        """Return the figure with its outcome."""
        return replace(self, outcome=outcome, reason=reason)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values; decimals as strings, so that nothing is lost."""
        return {key: plain(value) for key, value in asdict(self).items()}


def plain(value: object) -> object:
    """Return a decimal as its shortest exact text without an exponent; anything else unchanged."""
    if isinstance(value, Decimal):
        return f"{value.normalize() if value else Decimal(0):f}"
    return value


def comparison_days(day: date, weeks: int) -> list[date]:
    """Return the same weekday of the ``weeks`` weeks before ``day``, newest first."""
    return [day - timedelta(weeks=n) for n in range(1, weeks + 1)]


def comparable_days(day: date, history: Mapping[date, Day], weeks: int, subject: str) -> list[Day]:
    """Return those of the comparison days of ``day`` on which the figures of a subject can be relied on."""
    found = (history[other] for other in comparison_days(day, weeks) if other in history)
    return [other for other in found if other.subject(subject).is_enough]


def middle_of(values: Sequence[Number]) -> Decimal | None:
    """Return the median of the values of comparison days, None when they are too few."""
    return median([Decimal(value) for value in values]) if len(values) >= FEWEST_DAYS else None


def figure(name: str, label: str, day: Day, history: Mapping[date, Day], weeks: int) -> Figure:
    """Build a figure of ``day`` and compare it with the same weekday of the days in ``history``."""
    definition = DEFINITIONS[name]
    subject = day.subject(definition.subject)
    value = day.value(name)
    if value is None:
        outcome, reason = _why_absent(definition, day)
        return Figure(name, label, None, definition.unit, "not available", None, 0, None, "", outcome, reason)
    days = comparable_days(day.day, history, weeks, definition.subject)
    compared = [found for other in days if (found := other.value(name)) is not None]
    middle = middle_of(compared)
    return Figure(
        name=name,
        label=label,
        value=value,
        unit=definition.unit,
        text=formats.write(value, definition.unit),
        comparison=middle,
        comparison_days=len(compared),
        change=None if middle is None else Decimal(value) - middle,
        comparison_text=_comparison_text(value, middle, definition.unit, subject),
        outcome=Outcome.NOT_APPLICABLE,
        reason="",
    )


def _why_absent(definition: Definition, day: Day) -> tuple[Outcome, str]:
    subject = day.subject(definition.subject)
    if not subject.is_there:
        return Outcome.UNKNOWN, subject.reason or f"the {definition.subject} of this day are missing"
    if definition.undefined and (definition.name != "rating_average" or day.value("ratings") is not None):
        return Outcome.NOT_APPLICABLE, definition.undefined
    if definition.unit is Unit.SHARE:
        return Outcome.UNKNOWN, "no time up or down is known"
    if subject.state is Completeness.PARTIAL:
        return Outcome.UNKNOWN, subject.reason
    return Outcome.UNKNOWN, f"the warehouse holds no such figure although {definition.subject} is {subject.state}"


def _comparison_text(value: Number, middle: Decimal | None, unit: Unit, subject: Subject) -> str:
    if middle is None:
        text = "no comparison yet"
    else:
        text = f"same weekday: {formats.write(middle, unit)}, {formats.change(value, middle, unit)}"
    return text if subject.state is Completeness.COMPLETE else f"{text}; incomplete"
