"""Aggregates one day of the platform's logs in one pass with DuckDB. The statements stand in traffic_day.sql."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import repeat
from typing import TYPE_CHECKING, Any

from include.platform import log_lines
from include.platform.log_bounds import MARGIN
from include.platform.log_lines import Broken, Kind
from include.platform.logs import Identity, LogFile, LogFolder, ReadableLog
from include.platform.probes import USER_AGENT
from include.reporting import latency
from include.sections import Traffic
from include.warehouse.metrics import TableRows
from include.warehouse.statements import statements
from include.window import Window

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_STATEMENTS = statements(__file__)
_MOST_SUSPECTS = 10_000  # with more of them every line is looked at again
_EMPTY = {
    Kind.ACCESS: "file SMALLINT, of_day BOOLEAN, slot INTEGER, place INTEGER, method VARCHAR, text VARCHAR,"
    " status SMALLINT, bucket SMALLINT, lines BIGINT, microseconds HUGEINT, bytes_sent HUGEINT",
    Kind.APPLICATION: "file SMALLINT, of_day BOOLEAN, slot BIGINT, text VARCHAR, kind VARCHAR, endpoint VARCHAR,"
    " lines BIGINT",
}
_EMPTY[Kind.ERROR] = _EMPTY[Kind.APPLICATION]


@dataclass
class DayOfTraffic:
    """The figures of one day and what they rest on.

    ``held`` are the lines of the day by the log they stand in, ``line_counts`` the lines by what became of them;
    ``unread`` are the access logs with lines that could not be read. ``missing_hours`` are counted from 0; ``links``
    lead to files that may hold lines of the day and are not read; ``absent`` are the other kinds of log that tell
    nothing of the day.
    """

    hours: int
    tables: dict[str, TableRows] = field(default_factory=dict)
    has_lines: bool = False
    missing_hours: list[int] = field(default_factory=list)
    held: dict[Identity, int] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)
    read_once: list[str] = field(default_factory=list)
    broken_samples: list[str] = field(default_factory=list)
    line_counts: dict[str, int] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)


def aggregate(
    folder: LogFolder, window: Window, files: list[LogFile], traffic: Traffic
) -> tuple[DayOfTraffic, dict[LogFile, dict[date, int]]]:
    """Read files once and return the figures of the window's day, and the lines of each day in each file.

    A day of which a file holds only lines that cannot be read has no lines in it, and is returned with that.
    The memory it takes depends on the number of endpoints and not on the size of the files.
    Raises SourceUnavailable when a file changes meanwhile.
    """
    hours = math.ceil(window.seconds / 3600)
    day = DayOfTraffic(hours, links=folder.links_with(window))
    counted: dict[LogFile, dict[date, int]] = {}
    logs = [folder.readable(file) for file in files]
    with log_lines.database(folder.temporary) as connection:
        create_macros(connection)
        for kind in Kind:
            _read_kind(connection, window, traffic, kind, [log for log in logs if log.file.kind is kind])
        folder.check_unchanged(logs)
        for kind in Kind:
            _count_lines(connection, folder, window, kind, [log for log in logs if log.file.kind is kind], day, counted)
        _figures(connection, window, traffic, day)
    day.damaged = sorted(log.file.log for log in logs if log.damaged and window.first_day in counted[log.file])
    day.absent = _absent(folder, window, counted, day.line_counts)
    return day, counted


def _absent(
    folder: LogFolder, window: Window, counted: dict[LogFile, dict[date, int]], line_counts: dict[str, int]
) -> set[str]:
    """Name the logs besides the access log that tell nothing of a day, not even that nothing happened in it.

    There is no file, they begin after the day, or they hold no line of it and one of their files, which may be of the
    day, holds nothing that can be read.
    """
    unread = {
        file.kind
        for file in folder.files
        if counted.get(file, file.days) == {} and (file.latest is None or file.latest + MARGIN >= window.start)
    }
    begun = {kind for kind, time in folder.kinds.items() if time is None or time < window.end}
    told = {kind for kind in begun if kind not in unread or line_counts[f"{kind}_read"]}
    return {kind.value for kind in (Kind.APPLICATION, Kind.ERROR) if kind not in told}


def create_macros(connection: DuckDBPyConnection) -> None:
    """Define what the statements of traffic_day.sql call."""
    for statement in _STATEMENTS["macros"].split(";\n"):
        if statement.strip():
            connection.execute(statement)


def _read_kind(
    connection: DuckDBPyConnection,
    window: Window,
    traffic: Traffic,
    kind: Kind,
    logs: list[ReadableLog],
) -> None:
    if kind is Kind.ACCESS:
        # "" is no path: a list without values would have no type.
        connection.execute(_STATEMENTS["excluded_paths"], {"excluded": traffic.excluded_paths or [""]})
        requests = log_lines.usual_requests([log.path for log in logs])
        connection.execute(_STATEMENTS["usual_text"], {"requests": requests})
        for statement in ("usual_shape", "usual_befores", "usual_afters", "usual_request"):
            connection.execute(_STATEMENTS[statement])
    if not logs:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {kind}_group ({_EMPTY[kind]})")
        return
    log_lines.create_view(connection, kind, [log.path for log in logs], window)
    day = {"starts": int(window.start.timestamp()), "ends": int(window.end.timestamp())}
    parameters: dict[Kind, dict[str, Any]] = {
        Kind.ACCESS: day | {"probe": USER_AGENT},
        Kind.APPLICATION: day,
        Kind.ERROR: {"day_number": (window.first_day - date(1970, 1, 1)).days},
    }
    connection.execute(_STATEMENTS[f"{kind}_group"], parameters[kind])


def _count_lines(
    connection: DuckDBPyConnection,
    folder: LogFolder,
    window: Window,
    kind: Kind,
    logs: list[ReadableLog],
    day: DayOfTraffic,
    counted: dict[LogFile, dict[date, int]],
) -> None:
    """Count the lines of each day in each file, and find the day of each broken line."""
    if not logs:
        day.line_counts |= {f"{kind}_read": 0, f"{kind}_broken": 0}
        return
    group = f"{kind}_group"
    lines = [Counter[date]() for _ in logs]
    for place, slot, count in connection.execute(_STATEMENTS["lines_by_slot"].format(group=group)).fetchall():
        lines[place - 1][log_lines.day_of_slot(kind, slot, folder.zone)] += count
    for place, count in connection.execute(_STATEMENTS["lines_of_day"].format(group=group)).fetchall():
        lines[place - 1][window.first_day] += count
    limit = _MOST_SUSPECTS + 1
    found = connection.execute(_STATEMENTS["suspects"].format(group=group, limit=limit)).fetchall()
    suspects: dict[int, set[str]] = {}
    for place, suspect in found:
        suspects.setdefault(place, set()).add(suspect)
    all_suspect = len(found) == limit
    to_look_at = set(suspects) | log_lines.rejected_files(connection, kind)
    broken = Broken()
    read = 0
    for place, log in enumerate(logs, start=1):
        days = lines[place - 1]
        of_day = Broken()
        if all_suspect or place in to_look_at:
            chosen = None if all_suspect else suspects.get(place, set())
            of_day = _broken_lines(log, folder, window, chosen, days)
        counted[log.file] = dict(days)
        # The lines of a day of which a file holds none that can be read are not among those of the days.
        if own := days[window.first_day] or of_day.lines:
            day.held[log.file.identity] = day.held.get(log.file.identity, 0) + own
        read += own
        broken.lines += of_day.lines
        broken.samples += of_day.samples
        if kind is Kind.ACCESS and of_day.lines:
            day.unread.add(log.file.log)
    day.line_counts |= {f"{kind}_read": read, f"{kind}_broken": broken.lines}
    if kind is Kind.ACCESS:
        day.broken_samples = broken.samples[: log_lines.SAMPLES]


def _broken_lines(
    log: ReadableLog, folder: LogFolder, window: Window, suspects: set[str] | None, days: Counter[date]
) -> Broken:
    """Return the broken lines of the window's day in a log, and add all that are of a day to the lines by ``days``.

    A day of which no line can be read, as lines of the access log only name it, is noted without a line: nothing of it
    is counted. Lines of a file in which no line has a day are of none.
    """
    by_day, _ = log_lines.broken_lines(log.path, log.file.kind, folder.zone, suspects)
    days.update({when: one.lines if days[when] else 0 for when, one in by_day.items()})
    return by_day.get(window.first_day, Broken())


def _figures(connection: DuckDBPyConnection, window: Window, traffic: Traffic, day: DayOfTraffic) -> None:
    connection.execute(_STATEMENTS["request"])
    excluded, hours = connection.execute(_STATEMENTS["hours"]).fetchall()[0]
    day.has_lines = bool(hours)
    day.missing_hours = sorted(set(range(day.hours)) - set(hours or []))
    largest = {"largest": traffic.largest_number_of_endpoints}
    connection.execute(_STATEMENTS["kept_endpoint"], largest)
    for statement in ("request_name", "request_group", "figure_name"):
        connection.execute(_STATEMENTS[statement])
    starts = [window.start + timedelta(hours=hour) for hour in range(day.hours)]
    requests = connection.execute(_STATEMENTS["hourly_traffic"]).fetchall()
    latencies = connection.execute(_STATEMENTS["hourly_latency"]).fetchall()
    buckets = dict(connection.execute(_STATEMENTS["daily_latency"]).fetchall())
    errors = connection.execute(_STATEMENTS["daily_error"], largest).fetchall()
    day.line_counts["access_excluded"] = excluded
    day.tables = _tables(starts, requests, latencies, buckets, errors, day.line_counts)


def _tables(
    starts: list[datetime],
    requests: list[tuple[Any, ...]],
    latencies: list[tuple[Any, ...]],
    buckets: dict[int, int],
    errors: list[tuple[str, str, str, int]],
    counts: dict[str, int],
) -> dict[str, TableRows]:
    """Lay out what the statements gave; its hours are counted by the place in ``starts``, lines stand in ``counts``."""
    timed = sum(buckets.values())
    total = [sum((row[column] for row in requests), start=0) for column in (3, 4, 5)]
    return {
        "daily_traffic": TableRows(
            (
                "requests", "errors", "client_errors", "upgrades", "response_seconds_sum", "response_p95_seconds",
                "response_p99_seconds", "bytes_sent", "lines_read", "lines_broken", "lines_excluded",
            ),
            [(
                *total, total[0] - timed, sum((row[6] for row in requests), start=Decimal(0)),
                _rounded(latency.quantile(buckets, 0.95)), _rounded(latency.quantile(buckets, 0.99)),
                sum(row[7] for row in requests), counts["access_read"], counts["access_broken"],
                counts["access_excluded"],
            )],
        ),
        "hourly_traffic": TableRows(
            (
                "hour_start", "method", "endpoint", "requests", "errors", "client_errors", "response_seconds_sum",
                "bytes_sent",
            ),
            [(starts[hour], *rest) for hour, *rest in requests],
        ),
        "hourly_latency": TableRows(
            ("hour_start", "method", "endpoint", "bucket", "requests"),
            [
                row
                for hour, method, endpoint, places, numbers in latencies
                for row in zip(repeat(starts[hour]), repeat(method), repeat(endpoint), places, numbers)
            ],
        ),
        "daily_error": TableRows(("source", "kind", "endpoint", "errors"), _masked(errors)),
    }  # fmt: skip


def _masked(errors: list[tuple[str, str, str, int]]) -> list[tuple[str, str, str, int]]:
    """The errors with what looks like a secret in their kinds replaced; those that are alike then are one."""
    told: Counter[tuple[str, str, str]] = Counter()
    for source, kind, endpoint, count in errors:
        told[source, log_lines.mask(kind), endpoint] += count
    return [(*key, count) for key, count in sorted(told.items())]


def _rounded(seconds: Decimal | None) -> Decimal | None:
    return None if seconds is None else seconds.quantize(Decimal("0.000001"))
