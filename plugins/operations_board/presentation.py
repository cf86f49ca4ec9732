"""How values are written for people: times, spans, numbers, the facts of a JSON column. Nothing here reads anything."""

from __future__ import annotations

import re
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
    "postponed": "postponed", "failed": "failed",
    "up": "up", "down": "down", "slow": "slow", "refuses": "refuses",
    "passed": "passed", "could_not_run": "could not run", "running": "running", "never": "never run",
    "overdue": "overdue", "gone": "not found any more", "met": "within target", "missed": "misses target",
}  # fmt: skip
"""Every word that a badge may show."""

TONES = {
    "ok": "ok", "complete": "ok", "proven": "ok", "up": "ok",
    "warning": "warning", "partial": "warning", "applying": "warning", "postponed": "warning", "slow": "warning",
    "refuses": "warning",
    "critical": "critical", "failed": "critical", "down": "critical", "P0": "critical", "P1": "critical",
    "P2": "warning", "P3": "neutral",
    "unknown": "unknown", "missing": "unknown",
    "passed": "ok", "met": "ok", "missed": "critical", "could_not_run": "unknown", "never": "unknown",
    "overdue": "unknown",
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


def long_span(seconds: float | timedelta) -> str:
    """Write how long something has lasted in the one unit that people would use, for example "3 weeks"."""
    length = seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
    for unit, longer_than, unit_name in (
        (timedelta(days=30.44), timedelta(days=60), "months"),
        (timedelta(weeks=1), timedelta(days=14), "weeks"),
        (timedelta(days=1), timedelta(days=2), "days"),
    ):
        if length >= longer_than:
            return f"{int(length / unit)} {unit_name}"
    return span(length)


def short_duration(seconds: Decimal | float | None) -> str:
    """Write a measured length of time, also a very short one: "0.042 s", "12.3 s", "1 h 12 min"."""
    if seconds is None:
        return ABSENT
    value = float(seconds)
    if 86_400 <= value < 3 * 86_400:  # beside a target people compare hours
        return f"{int(value // 3600)} h {int(value % 3600 // 60)} min".removesuffix(" 0 min")
    if value >= 60:
        return span(value)
    return f"{value:.{3 if 0 < value < 0.1 else 2 if value < 10 else 1}f}".rstrip("0").rstrip(".") + " s"


def short_size(count: int | float) -> str:
    """Write a number of bytes, for example "3.2 MB" (powers of 1000)."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while abs(value) >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:,.0f} {units[0]}" if units[0] == "B" or abs(value) >= 99.5 else f"{value:.1f} {units[0]}"


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
    """Begin a sentence with a capital letter, unless it begins with the name of something, such as public.users."""
    first = text.partition(" ")[0].rstrip(".,:;")
    return text if "_" in first or "." in first else text[:1].upper() + text[1:]


def words(name: str) -> str:
    """Write a key of a JSON column or a state as words: ``rows_before`` becomes "Rows before"."""
    return capital(str(name).replace("_", " ").strip())


def act_name(kind: str) -> str:
    """Write what a kind of maintenance does; its resource stands beside it."""
    return "Clean-up" if kind in ("clean_airflow_database", "delete_airflow_logs", "remove_leftovers") else words(kind)


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
    if isinstance(value, str) and (instant := _INSTANT.fullmatch(value)):
        return f"{instant[1]} {instant[2]}{' UTC' if instant[3] in ('Z', '+00:00') else instant[3]}"
    if isinstance(value, list):
        return ", ".join(value_text(item) for item in value)
    return str(value)


_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)")
"""A time as JSON columns hold it; people need neither its T nor its microseconds."""


def named_value(name: str, value: Any) -> str:
    """Write one value of a JSON column under its key; what the key says of its unit makes large numbers readable."""
    text = value_text(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        last = name.rpartition("_")[2]
        if (name.endswith("bytes") or name.startswith("bytes_")) and abs(value) >= 10_000:
            return f"{text} ({short_size(value)})"
        if last == "seconds" and value >= 120:
            return f"{text} ({span(value)})"
    return text


def gain_text(gain: dict[str, Any]) -> str:
    """Write what a remedy is expected to bring, for example "1.3 MB of space, 12.5 s per week"."""
    said = []
    for name, value in gain.items():
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if name == "bytes" and numeric:
            said.append(f"{short_size(value)} of space")
        elif name.startswith("seconds") and numeric:
            said.append(f"{short_duration(value)}{name[7:].replace('_', ' ')}")
        else:
            said.append(f"{value_text(value)} {name.replace('_', ' ')}")
    return ", ".join(said) or ABSENT


def plural(count: int, one: str) -> str:
    """Write a number of things: "1 row", "1,893 rows"."""
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


Fact = tuple[str, str]
"""Name and value, both written for people."""


def facts(document: Any, prefix: str = "") -> list[Fact]:
    """Write a JSON column as a flat list of facts; a list of objects is numbered."""
    if isinstance(document, dict):
        pairs = [(key, f"{prefix} / {words(key)}" if prefix else words(key), value) for key, value in document.items()]
    elif isinstance(document, list) and any(isinstance(item, dict | list) for item in document):
        pairs = [("", f"{prefix} {number}".strip(), item) for number, item in enumerate(document, start=1)]
    else:
        return [(prefix or "Value", value_text(document))] if document is not None else []
    found: list[Fact] = []
    for key, name, value in pairs:
        nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(i, dict | list) for i in value))
        found.extend(facts(value, name) if nested and value else [(name, named_value(key, value))])
    return found


def is_address(text: str) -> bool:
    """Whether a text is an address that a page may lead to: of HTTP, and nothing that a browser would run."""
    return re.fullmatch(r"https?://[^\s<>\"'\\]+", text) is not None


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
            pairs += _side_by_side(before, after)
        else:
            pairs.append(("Value", value_text(before), value_text(after)))
    for key in [key for key in rest if key.endswith("_before") and f"{key[:-7]}_after" in rest]:
        left, right = rest.pop(key), rest.pop(f"{key[:-7]}_after")
        if isinstance(left, dict) or isinstance(right, dict):
            pairs += _side_by_side(left, right, f"{words(key[:-7])} / ")
        else:
            pairs.append((words(key[:-7]), named_value(key[:-7], left), named_value(key[:-7], right)))
    return pairs, facts(rest)


def _side_by_side(before: Any, after: Any, prefix: str = "") -> list[tuple[str, str, str]]:
    left, right = dict(facts(before)), dict(facts(after))
    return [(f"{prefix}{name}", left.get(name, ABSENT), right.get(name, ABSENT)) for name in {**left, **right}]


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
    "split_proof": split_proof, "short_duration": short_duration, "long_span": long_span,
    "capital": capital, "component_name": component_name, "act_name": act_name,
    "plural": plural, "gain_text": gain_text, "is_address": is_address,
}  # fmt: skip
"""What templates may use; pages.py adds what other modules write."""
