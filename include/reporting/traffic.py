"""The day's traffic from the platform's logs: requests, errors and response times per hour and endpoint.

Every line counts once, on the day of its own time, whatever file it stands in and however often that file was copied,
compressed or renamed. Where lines of an earlier day turn up late, that day is computed again from all its lines.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from include.outcome import Completeness
from include.platform.logs import Identity, LogFile, LogFolder, LogsMoved, open_folder
from include.reporting import formats, traffic_day
from include.reporting.figures import ENOUGH
from include.reporting.traffic_day import DayOfTraffic
from include.settings import settings
from include.warehouse import metrics
from include.warehouse.metrics import SubjectState
from include.window import Grain, Window, day_window

_log = logging.getLogger(__name__)
_ATTEMPTS = 3  # a rotation in the midst of reading takes moments
_REACH = timedelta(days=400)  # how far a day is looked back, and ahead, for lines that went astray
_NOT_ENOUGH = ENOUGH - Decimal("0.01")  # the most that is there of a day of which it is not known how much is missing

Held = dict[Identity, int]
"""Lines by the log they stand in."""


@dataclass(frozen=True)
class _Known:
    """What the warehouse holds of a day: whether it was computed, and how many lines of which logs it rests on.

    ``earlier`` are lines of earlier days in the same logs, by day; ``uncounted`` lines of the day that came too late.
    """

    computed: bool
    held: Held
    read_once: list[str]
    earlier: dict[date, Held]
    uncounted: Held
    stored: SubjectState


def compute(window: Window, run_id: str) -> list[date]:
    """Write the traffic of a day from the logs behind the connection platform_logs, and return the days that changed.

    These are the window's own day, and earlier days of which lines have turned up since they were computed. A day
    without any readable line is written as missing, without figures. Known figures stay when fewer lines are left of
    the day than they rest on. Raises ValueError when the window is not a day, ConfigurationError when the logs or
    the warehouse cannot be used, SourceUnavailable when they cannot be reached or do not come to rest.
    """
    if window.grain is not Grain.DAY:
        raise ValueError(f"traffic is computed by day, not by {window.grain}")
    changed, late = _compute_day(window, run_id, frozenset())
    days = {window.first_day} if changed else set()
    for day, logs in sorted(late.items()):
        earlier = day_window(day, window.timezone)
        if _compute_day(earlier, run_id, frozenset(logs))[0]:
            _log.info("lines of %s had turned up late; the day was computed again", day)
            days.add(day)
    return sorted(days)


def _compute_day(window: Window, run_id: str, also: frozenset[Identity]) -> tuple[bool, dict[date, set[Identity]]]:
    """Compute and write one day from the files that may hold its lines and the logs ``also``.

    Returns whether the day changed, and those days, computed before, of which the logs hold more lines than the
    warehouse rests on, with those logs.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            known, day, counted = _read(window, also)
            break
        except LogsMoved:
            if attempt == _ATTEMPTS:
                raise
    own = known[window.first_day]
    if sum(day.held.values()) < sum(own.held.values()):
        _log.warning(
            "%s: only %d of the %d lines that the known figures rest on are left in the logs; the figures stay",
            window.key, sum(day.held.values()), sum(own.held.values()),
        )  # fmt: skip
        changed = _keep(window, day.held, own, run_id)
    else:
        changed = _write(window, day, own, counted, run_id)
    late = _late_days(window.first_day, counted)
    # A later day that was computed meanwhile may have met lines of this day and found nothing to correct yet.
    logs = _found_by_later_days(window.first_day, _known(sorted(known)))
    if unread := set(logs) - set(day.held) - also:
        late[window.first_day] = unread
    return changed, late


def _found_by_later_days(day: date, known: dict[date, _Known]) -> Held:
    """Return the lines of a day that later days met in their logs."""
    found: Held = {}
    for later, states in known.items():
        if later > day:
            found |= states.earlier.get(day, {})
    return found


def _read(
    window: Window, also: frozenset[Identity]
) -> tuple[dict[date, _Known], DayOfTraffic, dict[LogFile, dict[date, int]]]:
    configuration = settings().traffic
    zone = ZoneInfo(window.timezone)
    with open_folder(configuration, zone, window.start) as folder:
        known = _known(_days_of_interest(folder, window))
        wanted = also | set(known[window.first_day].held) | set(_found_by_later_days(window.first_day, known))
        chosen = [
            file
            for file in folder.files
            if file.may_hold(window) or file.identity in wanted or _arrived_late(file, window, known, zone)
        ]
        files, left_out = folder.without_copies(chosen)
        day, counted = traffic_day.aggregate(folder, window, files, configuration)
        day.read_once.extend(left_out)
        for file, days in counted.items():
            folder.remember(file, days)
    return known, day, counted


def _days_of_interest(folder: LogFolder, window: Window) -> list[date]:
    """Return the days that the files may be about, the window's own among them."""
    bounds = [window.start, *(time for file in folder.files for time in (file.earliest, file.latest) if time)]
    zone = ZoneInfo(window.timezone)
    first = max(min(bounds).astimezone(zone).date(), window.first_day - _REACH)
    last = min(max(bounds).astimezone(zone).date(), window.first_day + _REACH)
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _known(days: list[date]) -> dict[date, _Known]:
    return {
        day: _Known(
            bool(states["traffic"].content_hash),
            _held_of_detail(states["traffic"].detail),
            list(states["traffic"].detail.get("read_once", [])),
            _earlier_of_detail(states["traffic"].detail),
            _held_of_detail(states["traffic"].detail, "uncounted"),
            states["traffic"],
        )
        for day, states in metrics.subject_states(days).items()
    }


def _earlier_of_detail(detail: dict[str, Any]) -> dict[date, Held]:
    earlier: dict[date, Held] = {}
    for file in detail.get("files", []):
        for day, lines in file.get("earlier_days", {}).items():
            earlier.setdefault(date.fromisoformat(day), {})[file["kind"], file["log"], file["first_line"]] = lines
    return earlier


def _held_of_detail(detail: dict[str, Any], key: str = "files") -> Held:
    held: Counter[Identity] = Counter()
    for file in detail.get(key, []):
        held[file["kind"], file["log"], file["first_line"]] += int(file["lines"])
    return dict(held)


def _arrived_late(file: LogFile, window: Window, known: dict[date, _Known], zone: ZoneInfo) -> bool:
    """Tell whether a file begins on an earlier day that was computed without it."""
    if file.earliest is None or file.earliest >= window.start:
        return False
    begins = known.get(file.earliest.astimezone(zone).date())
    return bool(begins and begins.computed and not any(file.identity in other.held for other in known.values()))


def _late_days(day: date, counted: dict[LogFile, dict[date, int]]) -> dict[date, set[Identity]]:
    """Return the earlier computed days that the files hold more lines of than the warehouse rests on."""
    found: dict[date, Counter[Identity]] = {}
    for file, days in counted.items():
        for earlier, lines in days.items():
            if lines and earlier < day:
                found.setdefault(earlier, Counter())[file.identity] += lines
    late: dict[date, set[Identity]] = {}
    for earlier, known in _known(sorted(found)).items():
        counted_before = Counter(known.held) + Counter(known.uncounted)
        if known.computed and any(lines > counted_before[identity] for identity, lines in found[earlier].items()):
            late[earlier] = set(found[earlier])
    return late


def _keep(window: Window, held: Held, own: _Known, run_id: str) -> bool:
    """Leave the figures of a day whose logs are gone; say of lines that came only now that they are not in them.

    What is left of the day's logs cannot be told from what came later, so that these lines cannot be added. Returns
    whether that is new. Raises as ``metrics.amend_day`` does.
    """
    new = Counter(held) - Counter(own.held)
    uncounted = Counter(own.uncounted) | new
    if uncounted == Counter(own.uncounted):
        metrics.keep_day(window.first_day, "traffic", run_id)
        return False
    lines, known = sum(uncounted.values()), sum(own.held.values())
    before = own.stored.detail.get("before_uncounted") or {
        "completeness": str(own.stored.completeness), "reason": own.stored.reason
    }  # fmt: skip
    late = f"{lines} {'line' if lines == 1 else 'lines'} came after the day's logs were deleted and cannot be counted"
    return metrics.amend_day(
        window.first_day,
        "traffic",
        completeness=Decimal(before["completeness"]) * known / (known + lines),
        reason="; ".join(part for part in (before["reason"], late) if part),
        detail=own.stored.detail | {"uncounted": _facts_of_files(window, uncounted, {}), "before_uncounted": before},
        run_id=run_id,
    )


def _facts_of_files(window: Window, held: Held, counted: dict[LogFile, dict[date, int]]) -> list[dict[str, Any]]:
    """Say which logs the day rests on, and which lines of earlier days stand in them too."""
    earlier: dict[Identity, Counter[str]] = {}
    for file, days in counted.items():
        for day, lines in days.items():
            if lines and day < window.first_day:
                earlier.setdefault(file.identity, Counter())[day.isoformat()] += lines
    return [
        {"kind": identity[0], "log": identity[1], "first_line": identity[2], "lines": lines}
        | ({"earlier_days": dict(earlier[identity])} if identity in earlier else {})
        for identity, lines in sorted(held.items())
    ]


def _write(
    window: Window, day: DayOfTraffic, own: _Known, counted: dict[LogFile, dict[date, int]], run_id: str
) -> bool:
    absent = _absent_logs(day, own)
    detail: dict[str, Any] = {
        "files": _facts_of_files(window, day.held, counted),
        # What was once seen stays said, so that a re-run after the rotation is over gives the same rows.
        "read_once": sorted({*day.read_once, *own.read_once}),
        "damaged_files": day.damaged,
        "broken_samples": day.broken_samples,
        "lines": day.line_counts,
    } | ({"absent_logs": absent} if absent else {})
    if day.has_lines:
        share, reason = _share(window, day)
        state = Completeness.PARTIAL if reason else Completeness.COMPLETE
    else:
        state, share = Completeness.MISSING, Decimal(0)
        reason = "; ".join([_reason_for_missing(day), *_links_in_words(day)])

    def is_correction(stored: dict[str, Any]) -> bool:
        """No log has lost a line since: what is new are lines that cannot be read, and the like."""
        return not Counter(_held_of_detail(stored)) - Counter(day.held)

    return metrics.replace_day(
        window.first_day,
        "traffic",
        day.tables if day.has_lines else {},
        state=state,
        completeness=share,
        reason=reason,
        detail=detail,
        run_id=run_id,
        is_correction=is_correction,
    )


def _share(window: Window, day: DayOfTraffic) -> tuple[Decimal, str]:
    """Return how much of the day's logs was there, and why it is not all of them.

    These are the hours with a line times the lines that could be read; a few that could not be do not count. What a
    damaged file or a link would hold is not known: such a day is never one to rely on.
    """
    missing, unread = day.missing_hours, _unread_in_words(day)
    share = Decimal(day.hours - len(missing)) / day.hours
    if unread:
        share *= 1 - Decimal(day.line_counts["access_broken"]) / day.line_counts["access_read"]
    unknown = [*_damage_in_words(day), *_links_in_words(day)]
    if unknown:
        share = min(share, _NOT_ENOUGH)
    return share, "; ".join([*_hours_in_words(window, missing), *unread, *unknown])


def _absent_logs(day: DayOfTraffic, own: _Known) -> list[str]:
    """Name the logs besides the access log that tell nothing of the day, so that its errors in them are not known.

    A log that was there when the day was computed first has only lost its files since.
    """
    return sorted(day.absent & set(own.stored.detail.get("absent_logs", [])) if own.computed else day.absent)


def _reason_for_missing(day: DayOfTraffic) -> str:
    if unreadable := day.line_counts["access_broken"]:
        return f"the access logs hold no readable line of the day, but {unreadable} broken ones"
    return "the access logs hold no line of the day"


def _hours_in_words(window: Window, missing: list[int]) -> list[str]:
    """Name the hours without a line, neighbouring ones together, in the platform's time."""
    if not missing:
        return []
    zone = ZoneInfo(window.timezone)
    form = "%H:%M" if window.seconds == 86400 else "%H:%M %Z"

    def at(hour: int) -> str:
        moment: datetime = min(window.start + timedelta(hours=hour), window.end)
        return moment.astimezone(zone).strftime(form) if moment < window.end else "24:00"

    spans: list[list[int]] = []
    for hour in missing:
        if spans and spans[-1][1] == hour:
            spans[-1][1] = hour + 1
        else:
            spans.append([hour, hour + 1])
    return ["no line from " + ", ".join(f"{at(first)} to {at(after)}" for first, after in spans)]


def _unread_in_words(day: DayOfTraffic) -> list[str]:
    """Tell of lines that could not be read, when they are more than those few that come with every log."""
    unread, read = day.line_counts["access_broken"], day.line_counts["access_read"]
    if unread <= (1 - ENOUGH) * read:
        return []
    return [
        f"{formats.count(unread)} of {formats.count(read)} access log lines could not be read"
        f" ({', '.join(sorted(day.unread))}); docs/source-contract.md tells their format"
    ]


def _damage_in_words(day: DayOfTraffic) -> list[str]:
    return [f"damaged, so that lines are missing: {', '.join(day.damaged)}"] if day.damaged else []


def _links_in_words(day: DayOfTraffic) -> list[str]:
    if not day.links:
        return []
    return [f"links are not read, so that lines may be missing: {', '.join(day.links)}; put the files in their place"]
