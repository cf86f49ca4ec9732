"""The guide's Daily User Activity Report: its sections in its order and wording, then revenue, support and feedback."""

from __future__ import annotations

from include.reporting import formats
from include.reporting.charts import Chart
from include.reporting.documents import Section, Table, clean
from include.reporting.formats import Unit
from include.reporting.report_inputs import Inputs, Row
from include.reporting.report_parts import (
    ACTIVE_USERS_CHART,
    TRANSACTIONS_CHART,
    Figures,
    cell,
    change_remark,
    chart,
    subject_remark,
)

NAME = "Daily User Activity Report"
SUBJECTS = ("users", "transactions", "support")

_REGISTRATIONS = {
    "new_users": "New Users",
    "verified_users": "Verified Users",
    "pending_verification": "Pending Verification",
}
_ACTIVITY = {"active_users": "Active Users", "sessions": "Sessions", "page_views": "Page Views"}
_TRANSACTIONS = {
    "transactions_created": "Created",
    "transactions_completed": "Completed",
    "transactions_disputed": "Disputed",
    "transactions_cancelled": "Cancelled",
}
_SUPPORT = {
    "tickets_created": "Tickets Created",
    "tickets_resolved": "Tickets Resolved",
    "first_response_hours": "Average Response Time",
}
_MORE_TRANSACTIONS = {
    "transactions_failed": "Failed Transactions",
    "value_created": "Value Created",
    "value_completed": "Value Completed",
    "value_disputed": "Value Disputed",
    "value_cancelled": "Value Cancelled",
    "value_failed": "Value Failed",
}
_REVENUE = {"revenue": "Revenue", "fees": "Fees and Refunds"}
_FEEDBACK = {"ratings": "Ratings", "rating_average": "Average Rating"} | {
    f"rating_{stars}": f"{stars} {'Star' if stars == 1 else 'Stars'}" for stars in range(5, 0, -1)
}


def sections(inputs: Inputs, figures: Figures) -> tuple[Section, ...]:
    """Build the report's sections; the figures they show are collected by ``figures``."""
    return (
        Section("Registrations", figures.lines(_REGISTRATIONS), of_guide=True),
        Section("Activity", figures.lines(_ACTIVITY), of_guide=True),
        Section("Transactions", figures.lines(_TRANSACTIONS), of_guide=True),
        Section("Support", figures.lines(_SUPPORT), of_guide=True),
        Section("Transaction Value", figures.lines(_MORE_TRANSACTIONS)),
        _revenue(inputs, figures),
        _support(inputs, figures),
        Section("Feedback Ratings", figures.lines(_FEEDBACK)),
    )


def charts(inputs: Inputs) -> tuple[Chart, ...]:
    """Build the report's charts."""
    return (
        chart(inputs, *ACTIVE_USERS_CHART),
        chart(inputs, "new-users", "New users", {"new_users": "new", "verified_users": "verified"}),
        chart(inputs, *TRANSACTIONS_CHART),
        chart(inputs, "tickets", "Support tickets", {"tickets_created": "created", "tickets_resolved": "resolved"}),
    )


def _revenue(inputs: Inputs, figures: Figures) -> Section:
    lines = figures.lines(_REVENUE)
    if subject_remark(inputs, "transactions") or not inputs.revenue:
        return Section("Revenue", lines)
    table = Table(("Fee", "Number", "Amount"), tuple(_fee(inputs, row) for row in inputs.revenue))
    return Section("Revenue", lines, table, change_remark(table))


def _fee(inputs: Inputs, row: Row) -> tuple[str, ...]:
    kind, fees, amount = row["kind"], row["fees"], row["amount_usd"]
    return (
        clean(kind),
        cell(inputs, formats.count(fees), fees, Unit.COUNT, "revenue", kind, "fees"),
        cell(inputs, formats.exact_dollars(amount), amount, Unit.US_DOLLARS, "revenue", kind, "amount_usd"),
    )


def _support(inputs: Inputs, figures: Figures) -> Section:
    """Every priority against its target (guide: 2 h, 24 h, 48 h), which the heading names."""
    hours = inputs.settings.support.response_hours
    heading = f"Support by Priority (Targets: {hours.high} h / {hours.medium} h / {hours.low} h)"
    lines = figures.lines({"tickets_breached": "Tickets Past Target"})
    if subject_remark(inputs, "support"):
        return Section(heading, lines)
    header = (
        "Priority",
        "Target",
        "Created",
        "Resolved",
        "Answered",
        "Within Target",
        "Past Target",
        "Average Response",
    )
    table = Table(header, tuple(_priority(inputs, row) for row in inputs.support))
    return Section(heading, lines, table, change_remark(table))


def _priority(inputs: Inputs, row: Row) -> tuple[str, ...]:
    priority, average = row["priority"], row["response_average_seconds"]
    numbers = ("created", "resolved", "first_responses", "within_target", "breached")
    response = "none answered" if average is None else formats.hours(average / 3600)
    return (
        priority,
        formats.duration(row["target_seconds"]),
        *(cell(inputs, formats.count(row[name]), row[name], Unit.COUNT, "tickets", priority, name) for name in numbers),
        cell(inputs, response, average, Unit.SECONDS, "responses", priority, "response_average_seconds"),
    )
