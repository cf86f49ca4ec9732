"""What period a run is about: a half-open window [start, end) in the platform's time zone, kept in UTC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from include.outcome import ConfigurationError


class Grain(StrEnum):
    """Length of a window."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True)
class Window:
    """A day, week or month of the platform.

    ``start`` and ``end`` are aware datetimes in UTC, ``end`` excluded; ``first_day`` is the first calendar day in
    the platform's time zone; ``key`` is how the window is written (2026-10-03, 2026-W40, 2026-10). A day of a
    daylight-saving change has 23 or 25 hours.
    """

    grain: Grain
    first_day: date
    start: datetime
    end: datetime
    timezone: str

    @property
    def key(self) -> str:
        """The window as people write it."""
        if self.grain is Grain.DAY:
            return self.first_day.isoformat()
        if self.grain is Grain.WEEK:
            year, week, _ = self.first_day.isocalendar()
            return f"{year}-W{week:02d}"
        return f"{self.first_day:%Y-%m}"

    @property
    def seconds(self) -> float:
        """Length of the window in seconds."""
        return (self.end - self.start).total_seconds()

    @property
    def days(self) -> list[date]:
        """The calendar days of the window in order."""
        zone = ZoneInfo(self.timezone)
        after = self.end.astimezone(zone).date()
        return [self.first_day + timedelta(days=n) for n in range((after - self.first_day).days)]

    def is_over(self, now: datetime) -> bool:
        """Tell whether the window had ended at ``now`` (an aware datetime)."""
        return now >= self.end


def _midnight(day: date, timezone: str) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone)).astimezone(UTC)


def day_window(day: date, timezone: str) -> Window:
    """Return the window of one calendar day of ``timezone`` (an IANA name)."""
    return Window(Grain.DAY, day, _midnight(day, timezone), _midnight(day + timedelta(days=1), timezone), timezone)


def week_window(day: date, timezone: str) -> Window:
    """Return the window of the ISO week (Monday to Sunday) that ``day`` lies in."""
    monday = day - timedelta(days=day.weekday())
    return Window(
        Grain.WEEK, monday, _midnight(monday, timezone), _midnight(monday + timedelta(days=7), timezone), timezone
    )


def month_window(day: date, timezone: str) -> Window:
    """Return the window of the calendar month that ``day`` lies in."""
    first = day.replace(day=1)
    following = (first + timedelta(days=32)).replace(day=1)
    return Window(Grain.MONTH, first, _midnight(first, timezone), _midnight(following, timezone), timezone)


WINDOW_OF = {Grain.DAY: day_window, Grain.WEEK: week_window, Grain.MONTH: month_window}
"""By grain, what gives the window that a day of a time zone lies in."""


def parse_day(text: str) -> date:
    """Read a day written as YYYY-MM-DD.

    Raises ConfigurationError, naming the text, when it is anything else.
    """
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        raise ConfigurationError(f"'{text}' is not a day; write it as YYYY-MM-DD, for example 2026-10-03")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"'{text}' is not a day of the calendar; write it as YYYY-MM-DD") from None


def window_of_key(grain: Grain, key: str, timezone: str) -> Window:
    """Return the window that an Airflow partition key names.

    Keys look like ``2026-10-03`` (day), ``2026-09-28 (W40)`` (week, from Airflow's week mapper) or ``2026-10``
    (month). Raises ConfigurationError when the key is of another form.
    """
    if grain is Grain.DAY:
        return day_window(parse_day(key), timezone)
    if grain is Grain.WEEK:
        return week_window(parse_day(key.split(" ")[0]), timezone)
    if not re.fullmatch(r"\d{4}-\d{2}", key):
        raise ConfigurationError(f"'{key}' is not a month; write it as YYYY-MM, for example 2026-10")
    return month_window(parse_day(f"{key}-01"), timezone)


def last_finished_day(now: datetime, timezone: str) -> date:
    """Return the calendar day of ``timezone`` that ended last before ``now`` (an aware datetime)."""
    return now.astimezone(ZoneInfo(timezone)).date() - timedelta(days=1)


def demand_over(window: Window, now: datetime) -> Window:
    """Return the window. Raises ConfigurationError, naming the last finished day, if it had not ended at ``now``."""
    if not window.is_over(now):
        raise _too_early(window, now, "is not over")
    return window


def demand_begun(window: Window, now: datetime) -> Window:
    """Return the window. Raises ConfigurationError, naming the last finished day, if it had not begun at ``now``."""
    if now < window.start:
        raise _too_early(window, now, "has not begun")
    return window


def _too_early(window: Window, now: datetime, state: str) -> ConfigurationError:
    last = last_finished_day(now, window.timezone)
    return ConfigurationError(
        f"the {window.grain} {window.key} {state} in {window.timezone}; the last finished day is {last}: pass that or "
        "an earlier one"
    )
