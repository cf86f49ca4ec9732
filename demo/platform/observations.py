"""What the watch would have observed in the history: probes of every component, and an announced maintenance."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from demo.platform import rhythm
from demo.platform.rhythm import DAY, HOUR, MINUTE, SECOND

if TYPE_CHECKING:
    import psycopg

_USUAL_SECONDS = {"frontend": 0.045, "api": 0.060, "database": 0.006, "cache": 0.002, "chain": 0.012}
_REASON = "database upgrade"


def gap(first_day: date, days: int) -> tuple[int, int]:
    """Return when the watch itself did not run: 47 minutes of the day after the first third."""
    start = rhythm.start_of(first_day + timedelta(days=days // 3)) + 13 * HOUR + 12 * MINUTE
    return start, start + 47 * MINUTE


def write(connection: psycopg.Connection[Any], *, first_day: date, days: int, seed: int) -> int:
    """Write the observations of the days that have none and the maintenance. Returns the number of observations."""
    begin, end = (rhythm.moment(rhythm.start_of(first_day + timedelta(days=number))) for number in (0, days))
    there = {
        day
        for (day,) in connection.execute(
            """SELECT DISTINCT (observed_at AT TIME ZONE 'UTC')::date FROM ops.observation
               WHERE signal = 'probe' AND observed_at >= %s AND observed_at < %s""",
            (begin, end),
        )
    }
    maintenance = rhythm.maintenance(first_day, days)
    absence = gap(first_day, days)
    copy = "COPY ops.observation (signal, resource, observed_at, outcome, value, unit, evidence) FROM STDIN"
    written = 0
    with connection.cursor() as cursor, cursor.copy(copy) as rows:
        for number in range(days):
            day = first_day + timedelta(days=number)
            if day not in there:
                for lines in _probes(day, seed, maintenance, absence):
                    rows.write("".join(lines))
                    written += len(lines)
    starts_at, ends_at = map(rhythm.moment, maintenance)
    connection.execute(
        """INSERT INTO ops.maintenance_window (component, starts_at, ends_at, reason, created_by)
           SELECT '*', %(starts_at)s, %(ends_at)s, %(reason)s, 'history'
           WHERE NOT EXISTS (SELECT FROM ops.maintenance_window WHERE starts_at = %(starts_at)s AND component = '*')""",
        {"starts_at": starts_at, "ends_at": ends_at, "reason": _REASON},
    )
    return written


def _probes(day: date, seed: int, maintenance: tuple[int, int], absence: tuple[int, int]) -> Iterator[list[str]]:
    """Yield, for each component, the lines of COPY for its probes of a day: one a minute while the watch ran."""
    random = rhythm.generator(seed, day, "probes")
    outages = rhythm.outages(seed, day)
    outages += [rhythm.Outage("api", maintenance[0] + 5 * MINUTE, maintenance[0] + 20 * MINUTE)]
    minutes = rhythm.start_of(day) + np.arange(0, DAY, MINUTE)
    for component in rhythm.COMPONENTS:
        times = minutes + random.integers(SECOND, 3 * SECOND, len(minutes))
        seconds = _USUAL_SECONDS[component] * random.lognormal(0, 0.35, len(minutes))
        ran = (minutes < absence[0]) | (minutes >= absence[1])
        failed = np.zeros(len(minutes), dtype=bool)
        for outage in outages:
            if outage.component == component:
                failed |= (times >= outage.start) & (times < outage.end)
        yield [
            f"probe\t{component}\t{text}\t"
            + ("critical\t\\N\t\\N\t{}\n" if bad else f"ok\t{value:.6f}\tseconds\t{{}}\n")
            for text, bad, value, there in zip(
                rhythm.timestamps(times), failed.tolist(), seconds.tolist(), ran.tolist(), strict=True
            )
            if there
        ]
