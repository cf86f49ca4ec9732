"""The subject support: tickets of one day against the response targets, and the feedback of users."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from include.platform import source
from include.reporting.extent import Begins, Extent, extent
from include.reporting.subject import Found, begins, compute_day, untold
from include.settings import settings
from include.warehouse.metrics import TableRows
from include.warehouse.statements import statements
from include.window import Window

PRIORITIES = ("high", "medium", "low")
"""The priorities of the guide, "User Support Review"; each has its row, also without tickets."""
RATINGS = (1, 2, 3, 4, 5)

_STATEMENTS = statements(__file__)
_TICKET_COLUMNS = (
    "priority", "created", "resolved", "first_responses", "response_seconds_sum", "within_target", "breached",
    "target_seconds",
)  # fmt: skip
_FEEDBACK_COLUMNS = ("ratings", "rating_sum", "rating_1", "rating_2", "rating_3", "rating_4", "rating_5")
_NAMED_AT_MOST = 10  # of the values that cannot be counted


def compute(window: Window, run_id: str) -> bool:
    """Compute the support tickets and the feedback of one day and write them; tell whether they changed.

    The targets are those of the configuration (support.response_hours) at the time of the run and are kept with the
    rows. A ticket of another priority, or a rating that is not 1 to 5, is counted nowhere; the reason names it.
    Raises ConfigurationError when the source contract or the warehouse is not as it must be, SourceUnavailable when
    one of them cannot be reached.
    """
    return compute_day(window, run_id, "support", _read)


def _read(window: Window, now: datetime) -> Found:
    hours = settings().support.response_hours
    targets = {priority: getattr(hours, priority) * 3600 for priority in PRIORITIES}
    bounds = {
        "start": window.start,
        "end": window.end,
        "passed_until": min(window.end, now),
        "priorities": list(targets),
        "targets": list(targets.values()),
    }
    with source.snapshot("support_tickets", "feedback") as connection:
        tickets = connection.execute(_STATEMENTS["tickets"], bounds).fetchall()
        feedback = connection.execute(_STATEMENTS["feedback"], bounds).fetchall()
        oldest = begins(connection, _STATEMENTS["begins"])
    known = {row[0]: row for row in tickets if row[0] in targets}
    strange_tickets = {row[0]: row[-1] for row in tickets if row[0] not in targets}
    ratings = {rating: count for rating, count in feedback if rating in RATINGS}
    strange_ratings = {str(rating): count for rating, count in feedback if rating not in RATINGS}
    tables = {
        "daily_support": TableRows(
            _TICKET_COLUMNS,
            [(*known.get(priority, _no_tickets(priority))[:-1], targets[priority]) for priority in PRIORITIES],
        ),
        "daily_feedback": TableRows(_FEEDBACK_COLUMNS, [_feedback_row(ratings)]),
    }
    detail = {"tickets_of_unknown_priority": strange_tickets, "ratings_out_of_range": strange_ratings}
    counted = sum(row[-1] for row in known.values()) + sum(ratings.values())
    judged = _judge(window, now, oldest, counted, strange_tickets, strange_ratings)
    if "feedback" in judged.untold:
        del tables["daily_feedback"]  # ratings that nobody can tell are absent, not zero
    return Found(tables, detail | untold(judged), judged)


def _no_tickets(priority: str) -> tuple[Any, ...]:
    return (priority, 0, 0, 0, Decimal(0), 0, 0, 0)


def _feedback_row(ratings: dict[int, int]) -> tuple[int, ...]:
    weighted = sum(rating * count for rating, count in ratings.items())
    return (sum(ratings.values()), weighted, *(ratings.get(rating, 0) for rating in RATINGS))


def _judge(
    window: Window,
    now: datetime,
    oldest: Begins,
    counted: int,
    strange_tickets: dict[str, int],
    strange_ratings: dict[str, int],
) -> Extent:
    reasons = []
    if strange_tickets:
        reasons.append(
            f"{sum(strange_tickets.values())} tickets have a priority that is not high, medium or low "
            f"({_named(strange_tickets)}) and are counted nowhere"
        )
    if strange_ratings:
        reasons.append(
            f"{sum(strange_ratings.values())} ratings are not 1 to 5 ({_named(strange_ratings)}) "
            "and are counted nowhere"
        )
    left_out = sum(strange_tickets.values()) + sum(strange_ratings.values())
    return extent(
        window,
        now,
        oldest,
        optional=("feedback",),
        counted=counted,
        left_out=left_out,
        why="; ".join(reasons),
    )


def _named(counts: dict[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    text = ", ".join(f"{value}: {count}" for value, count in most[:_NAMED_AT_MOST])
    return text + (f" and {len(most) - _NAMED_AT_MOST} more" if len(most) > _NAMED_AT_MOST else "")
