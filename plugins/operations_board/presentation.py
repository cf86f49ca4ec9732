"""How values are written for people: times, spans, numbers, the facts of a JSON column. Nothing here reads anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any

from plugins.operations_board.warehouse import Row

ABSENT = "\u2013"

KIND_NAMES = {"daily_system_health": "System health", "daily_user_activity": "User activity"}
"""Every kind of report and how people call it."""

OUTCOME_WORDS = {
    "ok": "ok", "warning": "warning", "critical": "critical", "unknown": "unknown", "not_applicable": "not applicable",
    "complete": "complete", "partial": "partial", "missing": "missing",
    "planned": "planned", "applying": "applying", "proven": "proven", "nothing_to_do": "nothing to do",
    "failed": "failed",
    "up": "up", "down": "down", "slow": "slow",
}  # fmt: skip
"""Every word that a badge may show."""

TONES = {
    "ok": "ok", "complete": "ok", "proven": "ok", "up": "ok",
    "warning": "warning", "partial": "warning", "applying": "warning", "slow": "warning",
    "critical": "critical", "failed": "critical", "down": "critical", "P0": "critical", "P1": "critical",
    "P2": "warning", "P3": "neutral",
    "unknown": "unknown", "missing": "unknown",
}  # fmt: skip
"""Colour of a badge by its value; any other value is neutral. The word always stands beside the colour."""


@dataclass(frozen=True)
class Clock:
    """The instant a page is about and the time zone that it is written in."""

    now: datetime
    zone: tzinfo

    def moment(self, value: datetime | None) -> str:
        """Write an instant, for example "Sun 4 Oct, 02:14 UTC"; with its year when it is not this one."""
        if value is None:
            return ABSENT
        local = value.astimezone(self.zone)
        year = "" if local.year == self.now.astimezone(self.zone).year else f" {local.year}"
        return f"{local:%a} {local.day} {local:%b}{year}, {local:%H:%M} {local.tzname()}"

    def ago(self, value: datetime | None) -> str:
        """Write how long ago an instant was, for example "47 min ago"."""
        if value is None:
            return ABSENT
        seconds = (self.now - value).total_seconds()
        return f"in {span(-seconds)}" if seconds < 0 else f"{span(seconds)} ago"


def span(seconds: float | timedelta) -> str:
    """Write a length of time in its two largest units, for example "1 h 12 min"."""
    total = int(seconds.total_seconds() if isinstance(seconds, timedelta) else seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min"
    if total < 86_400:
        hours, minutes = total // 3600, total % 3600 // 60
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = total // 86_400, total % 86_400 // 3600
    return f"{days} d {hours} h" if hours and days < 3 else f"{days} d"


def day_name(day: date | str) -> str:
    """Write a day, for example "Sat 3 Oct 2026"."""
    value = date.fromisoformat(day) if isinstance(day, str) else day
    return f"{value:%a} {value.day} {value:%b %Y}"


def share(value: Decimal | float | None) -> str:
    """Write a share of 0 to 1 as a percentage that never rounds up to 100 % (or down to 0 %)."""
    if value is None:
        return ABSENT
    percent = Decimal(str(value)) * 100
    if percent in (0, 100):
        return f"{percent:.0f} %"
    return f"{min(max(percent, Decimal('0.1')), Decimal('99.9')):.1f} %"


def capital(text: str) -> str:
    """Begin a sentence with a capital letter."""
    return text[:1].upper() + text[1:]


def words(name: str) -> str:
    """Write a key of a JSON column or a state as words: ``rows_before`` becomes "Rows before"."""
    return capital(str(name).replace("_", " ").strip())


def component_name(component: str) -> str:
    """Write the name of a component of the platform."""
    return "API" if component == "api" else words(component)


def value_text(value: Any) -> str:
    """Write one value of a JSON column."""
    if value is None or value == "" or value == [] or value == {}:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    if isinstance(value, list):
        return ", ".join(value_text(item) for item in value)
    return str(value)


Fact = tuple[str, str]
"""Name and value, both written for people."""


def facts(document: Any, prefix: str = "") -> list[Fact]:
    """Write a JSON column as a flat list of facts; a list of objects is numbered."""
    if isinstance(document, dict):
        pairs = [(f"{prefix} / {words(key)}" if prefix else words(key), value) for key, value in document.items()]
    elif isinstance(document, list) and any(isinstance(item, dict | list) for item in document):
        pairs = [(f"{prefix} {number}".strip(), item) for number, item in enumerate(document, start=1)]
    else:
        return [(prefix or "Value", value_text(document))] if document is not None else []
    found: list[Fact] = []
    for name, value in pairs:
        nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(i, dict | list) for i in value))
        found.extend(facts(value, name) if nested and value else [(name, value_text(value))])
    return found


def split_proof(proof: Any) -> tuple[list[tuple[str, str, str]], list[Fact]]:
    """Split a proof into rows of (what, before, after) and the other facts.

    A proof keeps what it measured either as two objects ``before`` and ``after`` or as keys that end in ``_before``
    and ``_after``. Both are understood; whatever is neither is a fact of its own.
    """
    if not isinstance(proof, dict):
        return [], facts(proof)
    rest = dict(proof)
    pairs: list[tuple[str, str, str]] = []
    before, after = rest.get("before"), rest.get("after")
    if "before" in rest and "after" in rest:
        del rest["before"], rest["after"]
        if isinstance(before, dict) and isinstance(after, dict):
            left, right = dict(facts(before)), dict(facts(after))
            pairs += [(name, left.get(name, ABSENT), right.get(name, ABSENT)) for name in {**left, **right}]
        else:
            pairs.append(("Value", value_text(before), value_text(after)))
    for key in [key for key in rest if key.endswith("_before") and f"{key[:-7]}_after" in rest]:
        pairs.append((words(key[:-7]), value_text(rest.pop(key)), value_text(rest.pop(f"{key[:-7]}_after"))))
    return pairs, facts(rest)


def action_summary(action: Row, most: int = 3) -> list[str]:
    """Write an action in a few short lines: its proof, or its plan as long as there is none."""
    pairs, others = split_proof(action["proof"])
    changed = [pair for pair in pairs if pair[1] != pair[2]] or pairs
    lines = [f"{name}: {before} → {after}" for name, before, after in changed]
    if not lines:
        lines = [f"{name}: {value}" for name, value in (others or facts(action["plan"])) if len(value) <= 60]
    return lines[:most]


KEY_FIGURES = {
    "daily_system_health": (
        "uptime_overall", "response_average_seconds", "response_p95_seconds", "error_rate", "active_users",
        "transactions_created", "value_created",
    ),
    "daily_user_activity": (
        "new_users", "active_users", "sessions", "page_views", "transactions_created", "tickets_created",
        "first_response_hours",
    ),
}  # fmt: skip
"""Figures of the overview by kind of report; figures that are not well come first, whichever they are."""


def key_figures(report: Row, most: int = 8) -> list[Row]:
    """Choose the figures of a report that the overview shows."""
    wanted = KEY_FIGURES.get(report["kind"], ())
    figures = {figure["name"]: figure for figure in report["figures"]}
    alarming = [figure for figure in figures.values() if figure["outcome"] in ("critical", "warning", "unknown")]
    alarming.sort(key=lambda figure: ("critical", "warning", "unknown").index(figure["outcome"]))
    usual = [figures[name] for name in wanted if name in figures and figures[name] not in alarming]
    return [*alarming, *usual][:most]


FILTERS: dict[str, Callable[..., Any]] = {
    "span": span, "day_name": day_name, "share": share, "words": words, "value_text": value_text, "facts": facts,
    "split_proof": split_proof, "action_summary": action_summary,
    "capital": capital, "component_name": component_name,
}  # fmt: skip
"""What templates may use."""
