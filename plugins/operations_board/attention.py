"""What needs a person now, the worst first, each with since when and what to do next. Plain functions over rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from include.outcome import Outcome, worst
from include.sections import ResponseMinutes
from include.warehouse.incidents import LONG_WAITING, is_seen_again
from plugins.operations_board.presentation import (
    KIND_NAMES,
    Clock,
    act_name,
    capital,
    component_name,
    day_name,
    facts,
    plural,
    share,
    span,
    value_text,
    words,
)
from plugins.operations_board.warehouse import Row

SHORT_APPLYING = timedelta(hours=1)
LONG_APPLYING = {"vacuum": timedelta(hours=12), "analyze": timedelta(hours=12), "reindex": timedelta(hours=10)}
"""How long an act may be applying before the board calls it hung: the execution timeout of its task. Kinds not listed
have ``SHORT_APPLYING``.
"""

MOST_LINES = 3
"""Lines of one sort, such as findings, that the list shows one by one."""

_ORDER = (Outcome.CRITICAL, Outcome.WARNING, Outcome.UNKNOWN)


@dataclass(frozen=True)
class Item:
    """One thing that needs a person. ``since`` is aware or None when unknown; ``link`` is within the board.

    ``badge`` is the value whose word and colour stand beside it, when that is not its outcome. ``can_wait`` marks what
    was found in advance, by checks and drills: it stands after everything that happens now.
    """

    outcome: Outcome
    title: str
    since: datetime | None
    next_step: str
    link: str = ""
    label: str = ""
    badge: str = ""
    can_wait: bool = False


@dataclass(frozen=True)
class Verdict:
    """The one word at the top of the board."""

    outcome: Outcome
    sentence: str
    since: datetime | None


def verdict(items: Sequence[Item]) -> Verdict:
    """Sum the items up: the worst outcome, how many there are of it, and since when the oldest of them is known.

    What can wait is counted, and dates the verdict, only when nothing else has that outcome.
    """
    if not items:
        return Verdict(Outcome.OK, "Nothing needs attention", None)
    outcome = worst([item.outcome for item in items])
    same = [item for item in items if item.outcome is outcome]
    same = [item for item in same if not item.can_wait] or same
    sentence = {
        Outcome.CRITICAL: f"{_things(len(same))} wrong",
        Outcome.WARNING: f"{_things(len(same))} to look at",
        Outcome.UNKNOWN: f"{_things(len(same))} not known",
    }[outcome]
    return Verdict(outcome, sentence, min((item.since for item in same if item.since), default=None))


def _things(count: int) -> str:
    return "1 thing is" if count == 1 else f"{count} things are"


def ordered(items: Sequence[Item]) -> list[Item]:
    """Sort what happens now before what can wait, then the worst and the oldest; without a time is last."""
    return sorted(
        items,
        key=lambda item: (
            item.can_wait,
            _ORDER.index(item.outcome),
            item.badge not in ("critical", "failed"),
            item.since is None,
            item.since.timestamp() if item.since else 0,
        ),
    )


def shortened(items: Sequence[Item], what: str, link: str) -> list[Item]:
    """Keep the first ``MOST_LINES`` of items in order and count the others, each a ``what``, in one line."""
    if len(items) <= MOST_LINES + 1:  # the line that counts would take the place of the one that it counts
        return list(items)
    rest = items[MOST_LINES:]
    counts = Counter(words(item.badge or item.outcome.value).lower() for item in rest)
    return [
        *items[:MOST_LINES],
        Item(
            rest[0].outcome,
            f"{plural(len(rest), f'more {what}')}",
            min((item.since for item in rest if item.since), default=None),
            f"Among them: {', '.join(f'{count} {word}' for word, count in counts.items())}.",
            link,
            badge=rest[0].badge,
            can_wait=rest[0].can_wait,
        ),
    ]


def of_incidents(incidents: Sequence[Row], clock: Clock, within: ResponseMinutes) -> list[Item]:
    """One item per open incident; P0 and P1 are critical."""
    return [
        Item(
            Outcome.CRITICAL if row["class"] in ("P0", "P1") else Outcome.WARNING,
            f"{row['incident_id']} {row['title']}",
            row["detected_at"],
            response(row, clock, within),
            f"incidents/{row['incident_id']}",
            row["class"],
        )
        for row in incidents
    ]


def response(incident: Row, clock: Clock, within: ResponseMinutes) -> str:
    """Say what an open incident waits for; ``within`` is how soon somebody must have taken it."""
    affected = f"Affected: {incident['affected']}."
    taken_at, seen_at = incident["acknowledged_at"], incident["last_seen_at"]
    if is_seen_again(seen_at, taken_at):  # also of another task: one incident is open per DAG
        affected = f"It was seen again since, last {clock.ago(seen_at)}: {incident['last_title']}. {affected}"
    if incident["state"] == "mitigated":
        return f"Mitigated; find the cause and resolve it. {affected}"
    if incident["state"] == "acknowledged":
        return f"Somebody took it {clock.ago(taken_at)}. {affected}"
    minutes = {"P0": within.p0, "P1": within.p1, "P2": within.p2, "P3": within.p3}[incident["class"]]
    due = incident["detected_at"] + timedelta(minutes=minutes)
    if clock.now > due:
        return f"Nobody took it; the response is overdue by {span(clock.now - due)}. {affected}"
    return f"Nobody took it yet; respond by {clock.moment(due)} (in {span(due - clock.now)}). {affected}"


def of_components(components: Sequence[Row], clock: Clock, holds: timedelta) -> list[Item]:
    """One item for all components that are not known, one for each that is not ok."""
    items, silent = [], [row for row in components if is_silent(row, clock, holds)]
    if silent:
        seen = [row["observed_at"] for row in silent if row["observed_at"]]
        names = (
            "any component"
            if len(silent) == len(components)
            else " and ".join(component_name(row["component"]) for row in silent)
        )
        items.append(
            Item(
                Outcome.UNKNOWN,
                f"Nobody watches {names}" if len(silent) == len(components) else f"The state of {names} is not known",
                min(seen, default=None),
                "Look at the newest runs of the DAG platform_watch: is it paused, failing, or is the scheduler down?",
            )
        )
    for row in components:
        if row in silent or row["outcome"] in ("ok", "not_applicable"):
            continue
        outcome = Outcome(row["outcome"])
        said, step = _COMPONENT[outcome]
        probe = latest_probe(row)
        step += f"; the latest probe: {probe}." if probe else "."
        items.append(Item(outcome, f"{component_name(row['component'])} {said}", since(row), step))
    return items


_COMPONENT = {
    Outcome.CRITICAL: ("is down", "Check that it runs and can be reached"),
    Outcome.WARNING: ("is not well", "Watch it closely"),
    Outcome.UNKNOWN: ("could not be checked", "Find out why the probe itself failed"),
}


def latest_probe(component: Row) -> str:
    """Write what the latest probe of a component saw, for example "3.412 seconds, status: 200"."""
    value = component["value"]
    seen = [] if value is None else [f"{value_text(value)} {component['unit'] or ''}".strip()]
    seen += [f"{name.lower()}: {text}" for name, text in facts(component["evidence"])[:3]]
    return ", ".join(seen)


def is_silent(component: Row, clock: Clock, holds: timedelta) -> bool:
    """Whether the latest observation of a component is too old to say anything about now."""
    return component["observed_at"] is None or clock.now - component["observed_at"] > holds


def since(component: Row) -> datetime | None:
    """When the present outcome of a component began, as far back as it was looked for."""
    found: datetime | None = component["changed_at"] or component["seen_since"]
    return found


def of_reports(reports: Sequence[Row], expected_day: date) -> list[Item]:
    """Items for reports whose verdict is not ok and for reports that should be there and are not."""
    known = {row["kind"]: row for row in reports}
    late = [kind for kind in KIND_NAMES if kind not in known or known[kind]["period_key"] < expected_day.isoformat()]
    items = [_late(late, known, expected_day)] if late else []
    for kind, row in known.items():
        if kind not in late and row["verdict"] != "ok":
            items.append(
                Item(
                    Outcome(row["verdict"]),
                    f"{KIND_NAMES.get(kind, kind)} of {day_name(row['period_key'])}: {row['headline']}",
                    None,  # the day stands in the title; when in the day it began, the report knows
                    "Read the report; it lists every figure that is out of its limits.",
                    f"reports/{kind}/{row['period_key']}",
                )
            )
    return items


def _late(kinds: Sequence[str], known: dict[str, Row], expected_day: date) -> Item:
    newest = max((known[kind]["period_key"] for kind in kinds if kind in known), default=None)
    names = " and ".join(KIND_NAMES[kind] for kind in kinds)
    return Item(
        Outcome.UNKNOWN,
        f"{names} of {day_name(expected_day)}: no report; "
        + (f"the newest is of {day_name(newest)}" if newest else "there is none of any day"),
        max((known[kind]["window_end"] for kind in kinds if kind in known), default=None),
        "Look at the newest runs of the DAGs daily_metrics and daily_reports.",
        f"reports?month={expected_day:%Y-%m}",
    )


def of_subjects(rows: Sequence[Row], expected_day: date) -> list[Item]:
    """One item for the subjects of the newest finished day that are not complete, one for the days left out before."""
    return _incomplete(rows, expected_day) + _left_out(rows, expected_day)


def _incomplete(rows: Sequence[Row], expected_day: date) -> list[Item]:
    open_rows = [row for row in rows if row["day"] == expected_day and row["state"] != "complete"]
    if not open_rows:
        return []
    said = ", ".join(
        f"{row['subject']} {'partial at ' + share(row['completeness']) if row['state'] == 'partial' else 'missing'}"
        for row in open_rows
    )
    reason = next((row["reason"] for row in open_rows if row["reason"]), "")
    return [
        Item(
            Outcome.UNKNOWN,
            f"Metrics of {day_name(expected_day)} are not complete: {said}",
            None,
            f"{capital(reason).rstrip('.')}. Run daily_metrics for the day again once its source is back."
            if reason
            else "Run the DAG daily_metrics for the day; it may be run again at any time.",
        )
    ]


def _left_out(rows: Sequence[Row], expected_day: date) -> list[Item]:
    """An item for earlier days of which nothing was computed: after an outage Airflow makes up for the last only."""
    computed = {row["day"] for row in rows if row["state"] is not None}
    days = sorted(
        {row["day"] for row in rows if row["first_day"] and row["first_day"] < row["day"] < expected_day} - computed
    )
    if not days:
        return []
    return [
        Item(
            Outcome.UNKNOWN,
            f"No metrics of {plural(len(days), 'day')}: {', '.join(day_name(day) for day in days)}",
            None,
            "Compute them while the logs of those days are kept: airflow backfill create --dag-id daily_metrics"
            f" --from-date {days[0]} --to-date {days[-1]} --reprocess-behavior completed",
        )
    ]


def of_actions(actions: Sequence[Row], clock: Clock) -> list[Item]:
    """Items for maintenance acts whose latest attempt failed or never ended."""
    items = []
    for row in actions:
        link = f"maintenance/{row['maintenance_action_id']}"
        name = f"{act_name(row['kind'])} of {row['resource']}"
        began = row["applied_at"] or row["planned_at"]
        if row["state"] == "failed":
            reason = capital(row["reason"]).rstrip(".")
            step = f"{reason}. See what was planned and done, then clear its task to try again."
            items.append(Item(Outcome.WARNING, f"{name} failed", row["finished_at"] or began, step, link))
        elif row["state"] == "applying" and clock.now - began > LONG_APPLYING.get(row["kind"], SHORT_APPLYING):
            step = "Its task was killed or hangs. Look at the run, then clear its task; it continues its own action."
            items.append(Item(Outcome.UNKNOWN, f"{name} began and never ended", began, step, link))
    return items


def of_signals(waiting: Row | None, clock: Clock) -> list[Item]:
    """An item when signals wait longer than the incident watch should let them."""
    if waiting is None or not waiting["signals"] or clock.now - waiting["since"] <= LONG_WAITING:
        return []
    many = waiting["signals"]
    return [
        Item(
            Outcome.CRITICAL,
            f"{many} {'signal has' if many == 1 else 'signals have'} not become an incident",
            waiting["since"],
            "Look at the DAG incident_watch, or run python -m include.incidents handle.",
        )
    ]
