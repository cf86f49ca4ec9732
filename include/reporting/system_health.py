"""The guide's Daily System Health Report: its sections in its order and wording, then what else an operator needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

from include.outcome import Outcome
from include.reporting import formats
from include.reporting.charts import Chart
from include.reporting.documents import Line, Section, Table, clean, figure_line
from include.reporting.figures import Figure, middle_of
from include.reporting.formats import Unit
from include.reporting.report_inputs import MOST_ERRORS, MOST_ERRORS_OF_A_LOG, Incident, Inputs, Row
from include.reporting.report_parts import (
    ACTIVE_USERS_CHART,
    TRANSACTIONS_CHART,
    Figures,
    cell,
    change_remark,
    chart,
    compared,
    subject_remark,
    uptime_row,
)
from include.reporting.verdicts import Limits

NAME = "Daily System Health Report"
SUBJECTS = ("uptime", "traffic", "users", "transactions", "support")

_UPTIME = {
    "uptime_overall": "Overall Uptime",
    "uptime_frontend": "Frontend Uptime",
    "uptime_api": "API Uptime",
    "uptime_database": "Database Uptime",
}
_MORE_UPTIME = {"uptime_cache": "Cache Uptime", "uptime_chain": "Chain Uptime"}
_PERFORMANCE = {
    "response_average_seconds": "Average Response Time",
    "response_p95_seconds": "95th Percentile",
    "error_rate": "Error Rate",
    "active_users": "Active Users",
}
_TRANSACTIONS = {
    "transactions_created": "Total Transactions",
    "transactions_completed": "Successful",
    "transactions_failed": "Failed",
    "value_created": "Total Value",
}
_ISSUES = {
    "tickets_breached": "Tickets Past Target",
    "unknown_seconds": "Unknown Uptime",
}
_TRAFFIC = {
    "requests": "Requests",
    "errors": "Server Errors (5xx)",
    "client_errors": "Client Errors (4xx)",
    "response_p99_seconds": "99th Percentile",
    "bytes_sent": "Data Sent",
    "lines_read": "Log Lines Read",
}
_LOG_ERRORS = {
    "application": ("application_log_errors", "Errors in Application Log"),
    "error": ("error_log_errors", "Errors in Error Log"),
}


def sections(inputs: Inputs, figures: Figures) -> tuple[Section, ...]:
    """Build the report's sections; the figures they show are collected by ``figures``."""
    uptime = Section("Uptime", _uptime_lines(inputs, figures), of_guide=True)
    performance = Section("Performance", figures.lines(_PERFORMANCE), of_guide=True)
    transactions = Section("Transactions", figures.lines(_TRANSACTIONS), of_guide=True)
    components = _components(inputs, figures)  # before the issues: they say whether anything is critical
    return (
        uptime,
        performance,
        transactions,
        Section("Issues", _issues(inputs, figures), of_guide=True),
        components,
        Section("Traffic", figures.lines(_TRAFFIC)),
        _errors(inputs),
    )


def charts(inputs: Inputs) -> tuple[Chart, ...]:
    """Build the report's charts."""
    limits = Limits.of(inputs.settings)
    return (
        chart(
            inputs,
            "response-time",
            "Response time",
            {"response_average_seconds": "average", "response_p95_seconds": "95th percentile"},
            limits.response_seconds,
            "average",
        ),
        chart(inputs, "error-rate", "Error rate", {"error_rate": "error rate"}, limits.error_rate),
        chart(inputs, *TRANSACTIONS_CHART),
        chart(inputs, *ACTIVE_USERS_CHART),
    )


def _uptime_lines(inputs: Inputs, figures: Figures) -> tuple[Line, ...]:
    """A component that this platform does not have is not missing."""
    lines = []
    for name, label in _UPTIME.items():
        component = name.removeprefix("uptime_")
        if component != "overall" and component not in inputs.settings.platform.components:
            lines.append(Line(label, "not available", "not a component of this platform"))
        else:
            lines += figures.lines({name: label})
    return tuple(lines)


def _issues(inputs: Inputs, figures: Figures) -> tuple[Line, ...]:
    minor = figures.add("tickets_created", "Minor")
    minor_line = figure_line(minor)
    if minor.value is not None:
        tickets = "support ticket" if minor.value == 1 else "support tickets"
        minor_line = Line("Minor", f"{minor.text} {tickets}", minor_line.note)
    broken = figure_line(figures.add("lines_broken", "Broken Log Lines"))
    return (
        minor_line,
        _critical(inputs, figures),
        *figures.lines(_ISSUES),
        replace(broken, items=inputs.broken_lines),
        *(_log_errors(inputs, figures, log) for log in _LOG_ERRORS),
    )


def _critical(inputs: Inputs, figures: Figures) -> Line:
    """The guide's line about critical issues: P0 and P1 incidents that were open in the day.

    An outage of the platform opens no incident: with a critical figure it is not said that nothing is critical.
    """
    found = inputs.incidents
    is_critical = any(each.outcome is Outcome.CRITICAL for each in figures.collected)
    incidents = "incident" if len(found) == 1 else "incidents"
    first = f"{found[0].incident_id} ({found[0].incident_class}) {found[0].title}" if found else ""
    outcome = Outcome.CRITICAL if found else Outcome.OK
    reason = f"{len(found)} critical {incidents}: {first}" if found else ""
    days = compared(inputs, "incidents")
    usual = middle_of(days)
    # Quiet while all is as it should be: no incident today, and none on such a day.
    note = ""
    if usual is not None and (found or usual):
        note = f"same weekday: {formats.count(usual)}, {formats.change(len(found), usual, Unit.COUNT)}"
    figures.append(
        Figure(
            "critical_incidents",
            "Critical",
            len(found),
            Unit.COUNT,
            str(len(found)),
            usual,
            len(days),
            None if usual is None else len(found) - usual,
            note,
            outcome,
            reason,
        )
    )
    if not found:
        return Line("", "No P0 or P1 incident" if is_critical else "None critical", note, outcome)
    items = tuple(_incident(each, inputs.window.timezone) for each in found)
    return Line("Critical", f"{len(found)} {incidents}", note, outcome, items)


def _incident(incident: Incident, timezone: str) -> str:
    over = f"resolved {_time(incident.resolved_at, timezone)}" if incident.resolved_at else "open at the end of the day"
    detected = _time(incident.detected_at, timezone)
    return (
        f"{incident.incident_id} {incident.incident_class}: {incident.title} "
        f"(affected: {incident.affected}; detected {detected}; {over})"
    )


def _time(at: datetime, timezone: str) -> str:
    return f"{at.astimezone(ZoneInfo(timezone)):%Y-%m-%d %H:%M %Z}"


def _log_errors(inputs: Inputs, figures: Figures, log: str) -> Line:
    line = figure_line(figures.add(*_LOG_ERRORS[log]))
    if line.text == "not available":
        return line
    most = [row for row in inputs.errors if row["source"] == log][:MOST_ERRORS_OF_A_LOG]
    items = (f"{formats.count(row['errors'])} x {clean(row['kind'])} at {clean(row['endpoint'])}" for row in most)
    return Line(line.label, line.text, line.note, line.outcome, tuple(items))


def _components(inputs: Inputs, figures: Figures) -> Section:
    """The times of every component, and above them each that the guide's report does not name and that is not ok."""
    heading = "Uptime by Component"
    if remark := subject_remark(inputs, "uptime"):
        return Section(heading, remark=remark)
    more = [figures.add(name, label) for name, label in _MORE_UPTIME.items() if uptime_row(inputs, name)]
    lines = tuple(figure_line(each) for each in more if each.outcome is not Outcome.OK)
    header = ("Component", "Uptime", "Up", "Down", "Maintenance", "Unknown", "Outages")
    texts = {each.name: each.text for each in figures.collected if each.value is not None}
    table = Table(header, tuple(_component(inputs, row, texts) for row in inputs.uptime))
    return Section(heading, lines, table, change_remark(table))


def _component(inputs: Inputs, row: Row, texts: Mapping[str, str]) -> tuple[str, ...]:
    """A row of the table; the uptime reads as in the line of its figure, where ``texts`` has it."""

    def told(name: str, text: str, unit: Unit) -> str:
        return cell(inputs, text, row[name], unit, "uptime", row["component"], name)

    told_uptime = "not known" if row["uptime"] is None else formats.percent(row["uptime"])
    uptime = texts.get(f"uptime_{row['component']}", told_uptime)
    states = (f"{state}_seconds" for state in ("up", "down", "maintenance", "unknown"))
    return (
        clean(row["component"]),
        told("uptime", uptime, Unit.SHARE),
        *(told(name, formats.duration(row[name]), Unit.DURATION) for name in states),
        told("outages", formats.count(row["outages"]), Unit.COUNT),
    )


def _errors(inputs: Inputs) -> Section:
    heading = "Errors by Kind and Endpoint"
    if remark := subject_remark(inputs, "traffic"):
        return Section(heading, remark=remark)
    if not inputs.errors:
        absent = [f"the {log} log" for log, (name, _) in _LOG_ERRORS.items() if inputs.day.value(name) is None]
        no_errors = f"No errors are known: {' and '.join(absent)} of the day could not be read."
        return Section(heading, remark=no_errors if absent else "No errors were logged.")
    rows = tuple(
        (clean(row["kind"]), clean(row["endpoint"]), row["source"], _number_of_errors(inputs, row))
        for row in inputs.errors[:MOST_ERRORS]
    )
    more = inputs.errors[0]["kinds"] - len(rows)
    remarks = [f"{formats.count(more)} more kinds stand in ops.daily_error."] if more else []
    table = Table(("Kind", "Endpoint", "Log", "Errors"), rows, text_columns=3)
    return Section(heading, table=table, remark=" ".join(filter(None, [*remarks, change_remark(table)])))


def _number_of_errors(inputs: Inputs, row: Row) -> str:
    key = (row["source"], row["kind"], row["endpoint"])
    return cell(inputs, formats.count(row["errors"]), row["errors"], Unit.COUNT, "errors", *key)
