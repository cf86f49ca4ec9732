"""Renders the two daily reports of a day from the warehouse alone, stores them and writes them to the reports folder.

The same inputs give the same bytes: nothing of the time or the run of the rendering stands in a report.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_DOWN, Decimal
from typing import TYPE_CHECKING, Any

from include.outcome import Completeness, ConfigurationError, Outcome
from include.reporting import delivery, documents, formats, report_inputs, system_health, user_activity, verdicts
from include.reporting.charts import Chart
from include.reporting.documents import Document, Section, clean
from include.reporting.figures import DEFINITIONS, Figure, Subject
from include.reporting.report_inputs import Inputs, Known
from include.reporting.report_parts import Figures
from include.settings import Settings, settings
from include.warehouse import reports, session
from include.window import Grain, Window, day_window, demand_over, last_finished_day, parse_day

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Kind:
    """One of the daily reports: its title, the subjects it uses, whether it tells of incidents, and its parts."""

    name: str
    subjects: tuple[str, ...]
    with_incidents: bool
    sections: Callable[[Inputs, Figures], tuple[Section, ...]]
    charts: Callable[[Inputs], tuple[Chart, ...]]


KINDS = {
    "daily_system_health": _Kind(
        system_health.NAME, system_health.SUBJECTS, True, system_health.sections, system_health.charts
    ),
    "daily_user_activity": _Kind(
        user_activity.NAME, user_activity.SUBJECTS, False, user_activity.sections, user_activity.charts
    ),
}


def render_day(window: Window, run_id: str, now: datetime | None = None) -> list[str]:
    """Render both daily reports of the day ``window``, store them and write them to the reports folder.

    Earlier days within the charts' days, and the later ones that are compared with this day, are rendered again when
    their stored report is stale: when the content_hash of a subject it uses, or its incidents, differ from those it
    was rendered from, on its own day or on those that it is compared with. A chart that merely grew does not make a
    report stale; only the newest reported day, the one that people look at, is rendered again whenever a day in its
    history was. With the last day that had ended at ``now`` (aware) those of the charts' days are rendered that have
    metrics and no report: Airflow starts no run for what was computed while ``daily_reports`` was paused. Reports of
    this and earlier days that are stored but not in the folder yet (a delivery failed, a run was killed) are written
    too.

    Returns the kinds whose content changed; those of other days as ``2026-10-01/daily_system_health``. Repeating it
    changes nothing. Raises ConfigurationError when the window is not a day or not over, and, once the reports are
    safely stored, ConfigurationError or SourceUnavailable when the folder cannot be written; SourceUnavailable when
    the warehouse cannot be reached.
    """
    if window.grain is not Grain.DAY:
        raise ConfigurationError(f"daily reports are about a day and {window.key} is a {window.grain}; pass a day")
    now = now or datetime.now(UTC)
    demand_over(window, now)  # else it would stand as the newest report until its day comes
    configuration = settings()
    changed = _render(window, configuration)
    if window.first_day == last_finished_day(now, window.timezone):
        for other in _days_without_a_report(window, configuration):
            changed += [f"{other.key}/{kind}" for kind in _render(other, configuration)]
    others = _stale_days(window, configuration)
    newest = _newest_day_that_shows(window, configuration)
    if newest is not None and newest not in others:
        others.append(newest)
    for other in others:
        changed += [f"{other.key}/{kind}" for kind in _render(other, configuration, stale_only=other != newest)]
    log.info("run %s: reports of %s: %s changed", run_id, window.key, ", ".join(changed) or "nothing")
    _deliver(window)
    if later := [other for other in others if other.end > window.end]:
        _deliver(max(later, key=lambda other: other.end))
    return changed


def _render(window: Window, configuration: Settings, *, stale_only: bool = False) -> list[str]:
    """Render and store both reports of one day in one transaction, which sees one state of the warehouse.

    ``stale_only`` leaves out those that another run has rendered meanwhile.
    """
    with session.transaction() as connection:
        _one_snapshot(connection)
        reports.lock(connection)
        if stale_only and not _stale_of(connection, [window], configuration):
            return []
        inputs = report_inputs.read(connection, window, configuration)
        return [kind for kind in KINDS if reports.store(connection, report(kind, inputs))]


def _days_without_a_report(window: Window, configuration: Settings) -> list[Window]:
    """Return the earlier days in the charts of ``window`` that have metrics and no report."""
    windows = report_inputs.earlier_windows(window, configuration)
    with session.transaction() as connection:
        stored = {key for key, _ in reports.own_inputs(connection, windows[0].start, windows[-1].end)}
        computed = report_inputs.read_subjects(connection, [each.first_day for each in windows])
    return [each for each in windows if each.first_day in computed and each.key not in stored]


def _stale_days(window: Window, configuration: Settings) -> list[Window]:
    """Return the days in the charts of ``window``, and those compared with it, whose stored report is stale.

    Their inputs are no longer those that it was rendered from.
    """
    windows = report_inputs.earlier_windows(window, configuration) + report_inputs.later_windows(window, configuration)
    with session.transaction() as connection:
        _one_snapshot(connection)
        return _stale_of(connection, windows, configuration)


def _stale_of(connection: psycopg.Connection[Any], windows: Sequence[Window], configuration: Settings) -> list[Window]:
    """Return those of some days, which follow each other in time, whose stored report is stale."""
    stored = reports.own_inputs(connection, windows[0].start, windows[-1].end)
    reported = [each for each in windows if any((each.key, kind) in stored for kind in KINDS)]
    if not reported:
        return []
    known = report_inputs.read_known(connection, reported, configuration)
    return [
        each
        for each in reported
        if any(
            stored.get((each.key, kind), current) != current
            for kind in KINDS
            for current in [_own_inputs(kind, each.first_day, known, configuration)]
        )
    ]


def _newest_day_that_shows(window: Window, configuration: Settings) -> Window | None:
    """Return the newest reported day if it is later than ``window`` and has it in its history."""
    with session.transaction() as connection:
        stored = reports.latest(connection)
    if not stored or stored[0].window_end <= window.end:
        return None
    newest = day_window(parse_day(stored[0].period_key), window.timezone)
    return newest if window in report_inputs.earlier_windows(newest, configuration) else None


def _one_snapshot(connection: psycopg.Connection[Any]) -> None:
    import psycopg

    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ


def _own_inputs(kind: str, day: date, known: Known, configuration: Settings) -> dict[str, str]:
    of, weeks = KINDS[kind], configuration.reports.comparison_weeks
    return report_inputs.own_inputs(day, of.subjects, known, weeks, with_incidents=of.with_incidents)


def _deliver(window: Window) -> None:
    """Write the day's reports, and every earlier one that is outstanding, to the reports folder."""
    with session.transaction() as connection:
        keys = {window.key, *(each.period_key for each in reports.undelivered(connection, window.end))}
    for key in sorted(keys):
        with session.transaction() as connection:
            reports.lock_delivery(connection, key)
            found = reports.of_day(connection, key)
            waiting = [each for each in found if key == window.key or each.delivered_at is None]
            delivery.deliver(waiting)
            for each in waiting:
                reports.mark_delivered(connection, each)


def document(kind: str, inputs: Inputs) -> Document:
    """Build one report of a day from its inputs."""
    definition = KINDS[kind]
    figures = Figures(inputs)
    sections = definition.sections(inputs, figures)
    subjects = [inputs.day.subject(name) for name in definition.subjects]
    judgements = [_judgement(each, inputs) for each in figures.collected]
    verdict, headline = verdicts.verdict([*judgements, *map(verdicts.judge_subject, subjects)])
    completeness = _mean([each.completeness if each.is_there else Decimal(0) for each in subjects])
    window = inputs.window
    return Document(
        kind=kind,
        platform=inputs.settings.platform.name,
        name=definition.name,
        day=window.key,
        window=f"{window.first_day:%A}, {formats.duration(Decimal(str(window.seconds)))} in {window.timezone}",
        verdict=verdict,
        headline=clean(headline),
        completeness=completeness,
        completeness_text=formats.percent(completeness),
        incomplete=tuple(_incomplete(each) for each in subjects if each.state is not Completeness.COMPLETE),
        sections=sections,
        charts=definition.charts(inputs),
        figures=tuple(figures.collected),
    )


def _judgement(figure: Figure, inputs: Inputs) -> verdicts.Judgement:
    """A figure that is absent with its whole subject is told once, with the subject."""
    if figure.is_missing:
        if not inputs.day.subject(DEFINITIONS[figure.name].subject).is_there:
            return Outcome.NOT_APPLICABLE, ""
        return figure.outcome, f"{figure.label} is not available: {figure.reason}"
    return figure.outcome, figure.reason


def _mean(shares: Sequence[Decimal]) -> Decimal:
    """Return the mean, rounded down, so that only what is whole is called whole."""
    return (sum(shares, Decimal(0)) / len(shares)).quantize(Decimal("0.00001"), ROUND_DOWN)


def _incomplete(subject: Subject) -> str:
    share = f" ({formats.percent(subject.completeness)})" if subject.state is Completeness.PARTIAL else ""
    reason = subject.reason or "no reason was recorded"
    return f"{subject.subject} {subject.state}{share}: {reason}"


def report(kind: str, inputs: Inputs) -> reports.Report:
    """Render one report of a day from its inputs."""
    found = document(kind, inputs)
    return reports.Report(
        kind=kind,
        period_key=inputs.window.key,
        window_start=inputs.window.start,
        window_end=inputs.window.end,
        title=found.title,
        verdict=found.verdict.value,
        headline=found.headline,
        completeness=found.completeness,
        missing=found.missing,
        figures=[each.as_json() for each in found.figures],
        markdown=documents.markdown(found),
        html=documents.html(found),
        input_hash=found.input_hash,
        own_inputs=_own_inputs(kind, inputs.window.first_day, inputs.known, inputs.settings),
    )
