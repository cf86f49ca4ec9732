"""What both daily reports share: collecting their figures, and their charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from include.outcome import Completeness, Outcome
from include.reporting import formats
from include.reporting.charts import Chart, Series
from include.reporting.documents import Line, Table, figure_line
from include.reporting.figures import DEFINITIONS, LOG_ERRORS, Day, Figure, comparable_days, figure, middle_of
from include.reporting.formats import Number, Unit
from include.reporting.report_inputs import Inputs, Row
from include.reporting.verdicts import Limits, Times, judge

TRANSACTIONS_CHART = (
    "transactions",
    "Transactions",
    {"transactions_created": "created", "transactions_completed": "completed"},
)
ACTIVE_USERS_CHART = ("active-users", "Active users", {"active_users": "active users"})


@dataclass
class Figures:
    """Builds, judges and collects the figures of one report in their order."""

    inputs: Inputs
    collected: list[Figure] = field(default_factory=list)

    def add(self, name: str, label: str) -> Figure:
        """Build the figure ``name``, judge it against the thresholds and collect it."""
        inputs = self.inputs
        found = figure(name, label, inputs.day, inputs.history, inputs.settings.reports.comparison_weeks)
        times = Times(Decimal(str(inputs.window.seconds)))
        if row := uptime_row(inputs, name):
            overall = Decimal(inputs.day.value("unknown_seconds") or 0)
            times = Times(times.day, row["down_seconds"], row["unknown_seconds"], overall)
            if found.is_missing and row["unknown_seconds"] == 0:
                found = found.judged(Outcome.NOT_APPLICABLE, "it was under maintenance all day")
        return self.append(judge(found, Limits.of(inputs.settings), times))

    def append(self, found: Figure) -> Figure:
        """Collect a figure that was built elsewhere."""
        self.collected.append(found)
        return found

    def lines(self, labels: Mapping[str, str]) -> tuple[Line, ...]:
        """Add figures by their names and labels, and return a line for each."""
        return tuple(figure_line(self.add(name, label)) for name, label in labels.items())


def uptime_row(inputs: Inputs, name: str) -> Row | None:
    """Return the row of the component whose uptime is the figure ``name``, None when there is none."""
    return next((row for row in inputs.uptime if name == f"uptime_{row['component']}"), None)


def chart(
    inputs: Inputs, name: str, title: str, lines: Mapping[str, str], target: Decimal | None = None, target_of: str = ""
) -> Chart:
    """Build a chart of figures (by name, with what each line is called) over the chart days."""
    days = [inputs.day if day == inputs.day.day else inputs.history[day] for day in inputs.chart_days]
    definition = DEFINITIONS[next(iter(lines))]
    return Chart(
        name=name,
        title=title,
        unit=definition.unit,
        days=inputs.chart_days,
        series=tuple(
            Series(label, tuple(day.value(figure_name) for day in days)) for figure_name, label in lines.items()
        ),
        target=target,
        target_of=target_of,
        incomplete=frozenset(day.day for day in days if _is_partial(day, definition.subject)),
    )


def _is_partial(day: Day, subject: str) -> bool:
    return day.subject(subject).state is Completeness.PARTIAL


def subject_remark(inputs: Inputs, name: str) -> str:
    """Say why a section has nothing to show, or return an empty text when its subject is there."""
    subject = inputs.day.subject(name)
    return "" if subject.is_there else f"not available ({subject.reason})"


_SUBJECT_OF = {
    "uptime": "uptime",
    "incidents": "uptime",  # the collection watched on the days whose uptime it knows
    "revenue": "transactions",
    "tickets": "support",
    "responses": "support",
    "errors": "traffic",
}
_ABSENT_IS_UNKNOWN = ("uptime", "responses")
CHANGE_REMARK = "In brackets: the change against the same weekday's median, where there is one."


def compared(inputs: Inputs, part: str, *key: str) -> list[Number]:
    """Return what a figure of a table, or the incidents, are compared with: its known values on the same weekday.

    A day that is known and has no such row had none of its kind, but not an uptime or a response time of nothing, nor
    no error of a log that was not there.
    """
    weeks = inputs.settings.reports.comparison_weeks
    known = inputs.earlier.get((part, *key), {})
    absent = None if part in _ABSENT_IS_UNKNOWN else 0
    days = comparable_days(inputs.day.day, inputs.history, weeks, _SUBJECT_OF[part])
    if part == "errors" and (figure_name := f"{key[0]}_log_errors") in LOG_ERRORS:
        days = [day for day in days if day.value(figure_name) is not None]
    values = (known.get(day.day, absent) for day in days)
    return [value for value in values if value is not None]


def cell(inputs: Inputs, text: str, value: Number | None, unit: Unit, part: str, *key: str) -> str:
    """Return a figure's text with its change against the same weekday's median in brackets, if it has changed."""
    usual = middle_of(compared(inputs, part, *key))
    if value is None or usual is None or value == usual:
        return text
    return f"{text} ({formats.change(value, usual, unit)})"


def change_remark(table: Table) -> str:
    """Say what stands in brackets; empty for a table in which no figure has changed."""
    figures = (text for row in table.rows for text in row[table.text_columns :])
    return CHANGE_REMARK if any(text.endswith(")") for text in figures) else ""
