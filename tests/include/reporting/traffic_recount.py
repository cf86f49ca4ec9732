"""Counts a day's traffic again in plain Python, line by line, without any code of the collection."""

import gzip
import json
import math
import string
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import zstandard

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"}


def content(path: Path) -> str:
    raw = path.read_bytes()
    if path.suffix == ".gz":
        raw = gzip.decompress(raw)
    if path.suffix == ".zst":
        raw = zstandard.ZstdDecompressor().decompressobj().decompress(raw)
    return raw[: raw.rfind(b"\n") + 1].decode()


def access(line: str) -> tuple[datetime, str, str, int, int, Decimal, str] | None:
    """Time, method, path, status, bytes, seconds, agent; None for a broken line."""
    quoted = line.split('"')
    try:
        head, request, answer, _, _, agent, seconds = quoted
        stamp = head[head.index("[") + 1 : head.index("]")]
        moment = datetime.strptime(stamp, "%d/%b/%Y:%H:%M:%S %z")
        status, size = answer.split()
        method, _, rest = request.partition(" ")
        target = rest.split(" ")[0]
        return moment, method, target.split("?")[0], int(status), int(size), Decimal(seconds.strip()), agent
    except (ValueError, ArithmeticError):
        return None


def named(line: str) -> datetime | None:
    """The time that a broken line names."""
    try:
        return datetime.strptime(line[line.index("[") + 1 : line.index("]")], "%d/%b/%Y:%H:%M:%S %z")
    except ValueError:
        return None


def is_identifier(segment: str) -> bool:
    digits = set("0123456789")
    if segment and set(segment) <= digits:
        return True
    hexadecimal = digits | set("abcdefABCDEF")
    if segment[:2] in ("0x", "0X") and len(segment) > 2 and set(segment[2:]) <= hexadecimal:
        return True
    if len(segment) >= 8 and set(segment) <= hexadecimal:
        return True
    word = set(string.ascii_letters + string.digits + "_-")
    if len(segment) >= 20 and set(segment) <= word | set("+=") and set(segment) & digits:
        return True
    if [len(part) >= 8 and set(part) <= word for part in segment.split(".")] == [True] * 3:
        return True
    try:
        return str(UUID(segment)) == segment.lower()
    except ValueError:
        return False


def endpoint(path: str) -> str:
    first, *segments = path.split("/")
    return "/".join([first, *("{id}" if is_identifier(s) else s for s in segments)])[:200] if path else "-"


def recount(
    paths: list[Path],
    day: date,
    timezone: str,
    *,
    excluded: tuple[str, ...] = ("/health", "/metrics"),
    largest: int = 200,
) -> dict[str, Any]:
    """Tables of one day as sets of rows, from files that each hold other lines."""
    zone = ZoneInfo(timezone)
    read = broken = skipped = 0
    samples = []
    hits = []
    for path in paths:
        before, waiting = None, 0
        for line in content(path).split("\n")[:-1]:
            told = access(line)
            moment = told[0] if told else named(line)
            if moment is not None:
                when = moment.astimezone(zone).date()
                if before is None and when == day:
                    broken += waiting
                before = when
            if told is None:
                if before is None:
                    waiting += 1
                elif before == day:
                    broken += 1
                    samples.append(line)
                continue
            if before != day:
                continue
            if told[2].rstrip("/") in excluded or told[6] == "gold-escrow-operations":
                skipped += 1
                continue
            hits.append(told)
    start = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(ZoneInfo("UTC"))
    ranking = Counter(name for hit in hits if (name := endpoint(hit[2])) != "-")
    kept = {e for e, _ in sorted(ranking.items(), key=lambda item: (-item[1], item[0]))[:largest]} | {"-"}
    traffic: dict[Any, list[Any]] = defaultdict(lambda: [0, 0, 0, Decimal(0), 0])
    latency: Counter[Any] = Counter()
    errors: Counter[Any] = Counter()
    for moment, method, target, status, size, seconds, _ in hits:
        name = endpoint(target)
        name = name if name in kept else "(other)"
        hour = start + timedelta(hours=(moment - start) // timedelta(hours=1))
        key = (hour, method if method in METHODS else "(other)", name)
        row = traffic[key]
        row[0] += 1
        row[1] += status >= 500
        row[2] += 400 <= status < 500
        row[4] += size
        if status >= 400:
            errors["access", f"HTTP {status}", name] += 1
        if status == 101:  # its time is how long the connection was open
            continue
        row[3] += seconds
        place = -32768 if seconds == 0 else math.ceil(math.log(seconds) / math.log(1.01 / 0.99))
        latency[(*key, place)] += 1
    read = len(hits) + skipped + broken
    daily = (
        len(hits),
        sum(row[1] for row in traffic.values()),
        sum(row[2] for row in traffic.values()),
        sum((row[3] for row in traffic.values()), Decimal(0)),
        sum(row[4] for row in traffic.values()),
        read, broken, skipped,
    )  # fmt: skip
    return {
        "daily_traffic": daily,
        "hourly_traffic": {(*key, *row) for key, row in traffic.items()},
        "hourly_latency": {(*key, count) for key, count in latency.items()},
        "daily_error": {(*key, count) for key, count in errors.items()},
        "seconds": sorted(hit[5] for hit in hits if hit[3] != 101),
    }


def json_line(**told: Any) -> str:
    return json.dumps(told) + "\n"
