"""When things happen on the platform: growth, weekdays, hours of the day, outages. All times are UTC.

Times are integer milliseconds since 1970 in numpy arrays. Every day draws from generators of its own, seeded by the
seed, the day and the topic, so a day is the same whichever other days are generated with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
WEEKDAYS = (1.08, 1.12, 1.12, 1.10, 1.02, 0.80, 0.76)
"""Volume of Monday to Sunday against the average day; they sum to 7."""
HOURS = (14, 9, 7, 6, 6, 9, 16, 30, 52, 70, 80, 82, 76, 80, 84, 82, 78, 72, 66, 62, 56, 46, 34, 22)
"""Volume of each hour of the day, relative to each other."""
GROWTH = 0.0025
"""Growth from one day to the next, of the volume of the middle of the first five weeks."""
COMPONENTS = ("frontend", "api", "database", "cache", "chain")
_CUMULATIVE = np.concatenate([[0.0], np.cumsum(HOURS)]) / sum(HOURS)


@dataclass(frozen=True)
class Outage:
    """A component that did not answer from ``start`` to ``end`` (milliseconds since 1970)."""

    component: str
    start: int
    end: int


def start_of(day: date) -> int:
    """Return the first millisecond of a day."""
    return (day - date(1970, 1, 1)).days * DAY


def generator(seed: int, day: date, topic: str) -> np.random.Generator:
    """Return the source of randomness of one topic of one day."""
    return np.random.default_rng([seed, day.toordinal(), *topic.encode()])


def volume(day: date, origin: date) -> float:
    """Return the day's volume against the average day: weekday times growth since ``origin``, the first day."""
    growth = 1 + GROWTH * ((day - origin).days - 17)
    return WEEKDAYS[day.weekday()] * max(growth, 0.2)


def moments(random: np.random.Generator, day: date, count: int) -> Array:
    """Return ``count`` sorted times of a day that follow the curve of its hours."""
    hours = np.interp(random.random(count), _CUMULATIVE, np.arange(25.0))
    found: Array = np.sort(start_of(day) + np.minimum(hours * HOUR, DAY - 1).astype(np.int64))
    return found


def outages(seed: int, day: date) -> list[Outage]:
    """Return the day's outages: one of two to seven minutes on about every fourth day."""
    random = generator(seed, day, "outages")
    if random.random() > 0.25:
        return []
    component = str(random.choice(COMPONENTS, p=(0.15, 0.4, 0.15, 0.15, 0.15)))
    start = start_of(day) + int(random.integers(HOUR, 22 * HOUR))
    return [Outage(component, start, start + int(random.integers(2 * MINUTE, 7 * MINUTE)))]


def maintenance(first_day: date, days: int) -> tuple[int, int]:
    """Return start and end of the one announced maintenance: 03:00 to 03:30 on the first Sunday, or the first day."""
    sunday = first_day + timedelta(days=6 - first_day.weekday())
    day = sunday if sunday < first_day + timedelta(days=days) else first_day
    start = start_of(day) + 3 * HOUR
    return start, start + 30 * MINUTE


def closures(seed: int, first_day: date, days: int) -> list[Outage]:
    """Return when nobody could use the platform between two days: outages of what users face, and maintenance."""
    start, _ = maintenance(first_day, days)
    found = [Outage("api", start + 5 * MINUTE, start + 20 * MINUTE)]
    for number in range(days):
        found += outages(seed, first_day + timedelta(days=number))
    return [outage for outage in found if outage.component in ("frontend", "api", "database")]


def postpone(times: Array, closed: list[Outage]) -> Array:
    """Move what falls into a closure to the minute after it, keeping the order: people come back when it is over."""
    for outage in closed:
        inside = (times >= outage.start) & (times < outage.end + MINUTE)
        length = outage.end + MINUTE - outage.start
        times = np.where(inside, outage.end + (times - outage.start) * MINUTE // length, times)
    return times


_CLOCK = [f"{hour:02d}:{minute:02d}:{second:02d}" for hour in range(24) for minute in range(60) for second in range(60)]


def clock_texts(times: Array) -> tuple[list[str], list[int]]:
    """Return the time of day as HH:MM:SS and the milliseconds beyond it, for each of ``times``."""
    of_day = times % DAY
    return [_CLOCK[second] for second in (of_day // SECOND).tolist()], (of_day % SECOND).tolist()


_ABSENT = np.iinfo(np.int64).min


def absent(count: int) -> Array:
    """Return an array of times that did not happen."""
    return np.full(count, _ABSENT, dtype=np.int64)


def happened(times: Array) -> Array:
    """Tell which of ``times`` happened."""
    result: Array = times != _ABSENT
    return result


def timestamps(times: Array) -> list[str]:
    """Return times as PostgreSQL reads them from COPY; what did not happen is its mark of NULL."""
    clocks, milliseconds = clock_texts(times)
    numbers = (times // DAY).tolist()
    dates = {number: _date(number) for number in set(numbers)}
    return [
        f"{dates[number]} {clock}.{rest:03d}+00" if dates[number] else r"\N"
        for number, clock, rest in zip(numbers, clocks, milliseconds, strict=True)
    ]


def _date(number: int) -> str:
    return "" if number < 0 else (date(1970, 1, 1) + timedelta(days=number)).isoformat()


def moment(time: int) -> datetime:
    """Return one time as an aware datetime."""
    return datetime.fromtimestamp(time / 1000, tz=UTC)
