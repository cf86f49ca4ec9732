"""The pages of the board: each reads the warehouse once and renders a template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from include.outcome import ConfigurationError
from include.sections import ResponseMinutes
from include.warehouse.metrics import SUBJECT_TABLES
from include.window import WINDOW_OF, Grain, last_finished_day, month_window, parse_day
from plugins.operations_board import archive, attention, pages, period_pages, periods, upkeep
from plugins.operations_board.common import Number, Problem, clock_of, configuration, expected_day, paging, rows_of_page
from plugins.operations_board.drill_pages import shown as shown_drill
from plugins.operations_board.presentation import KIND_NAMES, Clock, day_name, key_figures
from plugins.operations_board.warehouse import Reader, Row, read

router = APIRouter()

DAYS_OF_COMPLETENESS = 7
DAYS_OF_ACTIONS = 7
MOST_ACTIONS = 12
"""Acts that the overview shows: those that did not end well come first, the list of all is a page of its own."""
LOOK_BACK = timedelta(days=2)
"""How far back the board looks for the moment at which a component became what it is."""
MOST_SIGNALS = 20

Kind = Literal["daily_system_health", "daily_user_activity"]


# ------------------------------------------------------------------------------------------------------ overview
@dataclass(frozen=True)
class _Seen:
    """What the overview reads of the warehouse; ``expected`` is the last day whose metrics and reports are due."""

    expected: date
    reports: list[Row]
    incidents: list[Row]
    waiting: Row | None
    actions: list[Row]
    components: list[Row]
    subjects: list[Row]
    freshness: Row | None
    open_findings: list[Row]
    checks: list[Row]
    drills: list[Row]


@router.get("/")
def overview(request: Request, refresh: Annotated[int | None, Query(ge=15, le=3600)] = None) -> Response:
    """Show what needs a person now and the latest of everything; ``refresh`` loads it anew after so many seconds."""
    clock = clock_of(request)
    configured = configuration()
    holds = timedelta(seconds=configured.watch.observation_holds_seconds)
    sources = [source.name for source in configured.backups.sources]
    with read() as reader:
        seen = _seen(reader, clock, configured.platform.components, holds)
    verdict, items = _judged(seen, clock, holds, configured.incidents.response_minutes, sources)
    return pages.page(
        request, "overview.html", clock, section="overview", refresh=refresh,
        verdict=verdict, items=items, reports=seen.reports, incidents=seen.incidents,
        actions=seen.actions[:MOST_ACTIONS], more_actions=Counter(row["state"] for row in seen.actions[MOST_ACTIONS:]),
        components=[_shown(row, clock, holds) for row in seen.components],
        subjects=_by_subject(seen.subjects), freshness=seen.freshness, key_figures=key_figures,
        days_of_actions=DAYS_OF_ACTIONS, open_findings=Counter(row["outcome"] for row in seen.open_findings),
        checks=upkeep.expected_checks(seen.checks, clock.now), drills=[shown_drill(row, clock) for row in seen.drills],
        never_tried=upkeep.never_tried(seen.drills, sources),
    )  # fmt: skip


def _seen(reader: Reader, clock: Clock, components: Sequence[str], holds: timedelta) -> _Seen:
    expected = expected_day(clock.now)
    return _Seen(
        expected=expected,
        reports=_in_order(reader.rows("latest_reports")),
        incidents=reader.rows("open_incidents"),
        waiting=reader.row("waiting_signals"),
        actions=reader.rows("latest_actions", since=clock.now - timedelta(days=DAYS_OF_ACTIONS)),
        components=reader.rows("components", components=components, look_back=LOOK_BACK, holds=holds, now=clock.now),
        subjects=_completeness(reader, expected),
        freshness=reader.row("freshness"),
        open_findings=reader.rows("open_findings"),
        checks=reader.rows("finding_checks", runs=upkeep.PAUSES),
        drills=reader.rows("latest_drills"),
    )


def _judged(
    seen: _Seen, clock: Clock, holds: timedelta, within: ResponseMinutes, sources: Sequence[str]
) -> tuple[attention.Verdict, list[attention.Item]]:
    """Return the verdict on everything, and the list in order: of acts, findings and drills each the worst alone."""
    now = (
        attention.of_incidents(seen.incidents, clock, within)
        + attention.of_components(seen.components, clock, holds)
        + attention.of_signals(seen.waiting, clock)
        + attention.of_reports(seen.reports, seen.expected)
        + attention.of_subjects(seen.subjects, seen.expected)
    )
    by_sort = [
        (attention.of_actions(seen.actions, clock), "act that failed or never ended", "maintenance?state=failed"),
        (upkeep.of_findings(seen.open_findings, seen.checks, clock), "finding", "findings"),
        (upkeep.of_drills(seen.drills, sources, clock), "drill", "drills"),
    ]
    everything = now + [item for items, _, _ in by_sort for item in items]
    for items, what, link in by_sort:
        now += attention.shortened(attention.ordered(items), what, link)
    return attention.verdict(everything), attention.ordered(now)


def _in_order(reports: list[Row]) -> list[Row]:
    return sorted(reports, key=lambda row: list(KIND_NAMES).index(row["kind"]) if row["kind"] in KIND_NAMES else 99)


def _completeness(reader: Reader, last_day: date) -> list[Row]:
    first_day = last_day - timedelta(days=DAYS_OF_COMPLETENESS - 1)
    return reader.rows("completeness", first_day=first_day, last_day=last_day, subjects=list(SUBJECT_TABLES))


def _by_subject(rows: list[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["subject"], []).append(row | {"state": row["state"] or "missing"})
    return found


def _shown(component: Row, clock: Clock, holds: timedelta) -> Row:
    """A component with the word for its present state and since when it has been so."""
    if attention.is_silent(component, clock, holds):
        return component | {"state": "unknown", "since": component["observed_at"], "silent": True}
    status = component["evidence"].get("status")
    warned = "refuses" if isinstance(status, int) and status >= 400 else "slow"
    state = {"ok": "up", "warning": warned, "critical": "down"}.get(component["outcome"], component["outcome"])
    return component | {"state": state, "since": attention.since(component), "silent": False}


# ------------------------------------------------------------------------------------------------------- reports
@router.get("/reports")
def reports_archive(
    request: Request, month: Annotated[str | None, Query(max_length=7)] = None, kind: Kind | Literal["all"] = "all"
) -> Response:
    """Show a month of days, newest first, each with its reports or the word that says why there is none."""
    clock = clock_of(request)
    zone = configuration().platform.timezone
    kinds = list(KIND_NAMES) if kind == "all" else [kind]
    finished = last_finished_day(clock.now, zone)
    asked = period_pages.window_of(Grain.MONTH, month, zone) if month else month_window(finished, zone)
    days = asked.days
    with read() as reader:
        bounds = reader.row("archive_bounds", kinds=kinds) or {"first_key": None}
        rows = reader.rows("archive_month", kinds=kinds, first_key=days[0].isoformat(), last_key=days[-1].isoformat())
    shown = archive.days_of(
        days, rows, kinds, first_key=bounds["first_key"], finished=finished, expected=expected_day(clock.now)
    )
    earliest = bounds["first_key"] or finished.isoformat()
    return pages.page(
        request, "archive.html", clock, section="archive", month=asked, kind=kind, days=shown,
        previous=periods.preceding(asked) if earliest < days[0].isoformat() else None,
        next=periods.following(asked) if days[-1] < finished else None,
        missing=sum(entry.state == "missing" for day in shown for entry in day.entries),
    )  # fmt: skip


def _no_report(kind: Kind, day: date) -> Problem:
    return Problem(
        f"There is no {KIND_NAMES[kind]} report of {day_name(day)}.",
        title="Report missing",
        remedy="If the day is over, look at the DAGs daily_metrics and daily_reports of that day and run them again.",
    )


def _day(text: str) -> date:
    try:
        return parse_day(text)
    except ConfigurationError as error:
        sentence = f"{str(error).partition(';')[0]}."
        raise Problem(sentence, title="Not understood", remedy="Write it as YYYY-MM-DD.", status=422) from None


@router.get("/reports/{kind}/{day}")
def report(request: Request, kind: Kind, day: str) -> Response:
    """Show one report with its charts in a frame of its own."""
    wanted = _day(day)
    with read() as reader:
        found = reader.row("report", kind=kind, period_key=wanted.isoformat())
    if found is None:
        raise _no_report(kind, wanted)
    zone = configuration().platform.timezone
    return pages.page(
        request, "report.html", clock_of(request), section="archive", report=found, kind=kind,
        periods=[WINDOW_OF[grain](wanted, zone) for grain in periods.SHOWN],
    )  # fmt: skip


@router.get("/reports/{kind}/{day}/document")
def report_document(kind: Kind, day: str) -> Response:
    """Return the rendered report itself."""
    return pages.document(_document("report_html", kind, _day(day)))


@router.get("/reports/{kind}/{day}/markdown")
def report_markdown(kind: Kind, day: str) -> Response:
    """Return the report as Markdown, to paste into a ticket or a chat."""
    return pages.plain_text(_document("report_markdown", kind, _day(day)))


def _document(query: str, kind: Kind, day: date) -> str:
    with read() as reader:
        found = reader.row(query, kind=kind, period_key=day.isoformat())
    if found is None:
        raise _no_report(kind, day)
    return str(found["document"])


# ----------------------------------------------------------------------------------------------------- incidents
@router.get("/incidents")
def incidents(request: Request, state: Literal["all", "open", "closed"] = "all", page: Number = 1) -> Response:
    """List incidents, open ones first."""
    with read() as reader:
        rows = rows_of_page(reader, "incidents", page, state=state)
    return pages.page(
        request,
        "incidents.html",
        clock_of(request),
        section="incidents",
        rows=rows,
        state=state,
        **paging(rows, page),
    )


@router.get("/incidents/{incident_id}")
def incident(request: Request, incident_id: Annotated[str, Path(max_length=40)]) -> Response:
    """Show one incident with its timeline and what its signals said."""
    clock, within = clock_of(request), configuration().incidents.response_minutes
    with read() as reader:
        found = reader.row("incident", incident_id=incident_id) if "\x00" not in incident_id else None
        if found is None:
            raise Problem(f"There is no incident {incident_id}.", remedy="See the list of all incidents.")
        timeline = reader.rows("incident_timeline", incident_id=incident_id)
        signals = reader.rows("incident_signals", incident_id=incident_id, limit=MOST_SIGNALS)
    return pages.page(
        request, "incident.html", clock, section="incidents", incident=found, timeline=timeline, signals=signals,
        next_step=attention.response(found, clock, within) if found["is_open"] else "",
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------- maintenance
@router.get("/maintenance")
def maintenance(
    request: Request,
    state: Literal["all", "planned", "applying", "proven", "nothing_to_do", "postponed", "failed"] = "all",
    page: Number = 1,
) -> Response:
    """List maintenance actions, the newest first."""
    with read() as reader:
        rows = rows_of_page(reader, "actions", page, state=state)
    return pages.page(
        request, "maintenance.html", clock_of(request), section="maintenance", rows=rows, state=state,
        states=("all", "failed", "applying", "postponed", "proven", "nothing_to_do", "planned"),
        **paging(rows, page),
    )  # fmt: skip


@router.get("/maintenance/{action_id}")
def action(request: Request, action_id: Annotated[int, Path(ge=1, le=2**63 - 1)]) -> Response:
    """Show one maintenance action: what was planned, what was done, and the proof."""
    with read() as reader:
        found = reader.row("action", action_id=action_id)
    if found is None:
        raise Problem(f"There is no maintenance action {action_id}.", remedy="See the list of all actions.")
    return pages.page(request, "action.html", clock_of(request), section="maintenance", action=found)


@router.get("/{anything:path}")
def nothing() -> Response:
    """Answer every other address, so that it needs a login like the rest."""
    raise Problem("The board has no such page.", remedy="Go back to the overview.")
