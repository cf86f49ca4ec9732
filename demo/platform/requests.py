"""The HTTP requests of one day of the history, and the log lines they leave."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

import numpy as np

from demo.platform import rhythm
from demo.platform.activity import Activity
from demo.platform.formats import access_line, error_line, upstream_failure
from demo.platform.rhythm import DAY, HOUR, MINUTE, SECOND, Array
from demo.platform.trades import Trades

MEDIAN_LOG, SIGMA = -0.0220, 0.6393
"""Response times are log-normal: mean exp(m + s^2/2) = 1.2 s, 95th percentile exp(m + 1.645 s) = 2.8 s (the guide)."""
ERROR_SHARE = 0.0025
"""Share of requests that fail outside outages, which bring the guide's error rate of 0.3 %."""
WATCH_AGENT = "gold-escrow-operations"
CHUNK = 100_000
_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    r"Mozilla/5.0 (Linux; Android 16; \x22Pixel 10\x22) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile",
)
_REFERERS = (
    "-",
    "https://gold-escrow.example/",
    "https://gold-escrow.example/transactions",
    "https://search.example/?q=escrow",
)
_TAILS = [f'"{referer}" "{agent}"' for referer in _REFERERS for agent in _AGENTS]
_READS = ("/api/transactions", "/api/prices", "/api/transactions/{id}", "/api/account", "/api/transactions?page=2")
_SCANS = ("/wp-login.php", "/.env", "/admin.php", "/favicon.png")
_FAILURES = ("GET /api/transactions", "POST /api/transactions", "GET /api/account", "GET /dashboard", "GET /api/prices")
_FAILED_STATUS = {"api": 502, "frontend": 502, "database": 503}
_EXCEPTIONS = ("OperationalError", "TimeoutError", "KeyError", "ValidationError")
_BROKEN = (
    "10.1.2.3 - - [",
    '10.20.30.40 - - [{day:%d/%b/%Y}:11:12:13 +0000] "GET /dashboard HTTP/1.1" 200',
    '10.8.8.8 - - [{day:%d/%b/%Y}:14:00:01 +0000] "\\x16\\x03\\x01\\x00" - - "-" "-" -',
    "\x00\x00\x00\x00\x00\x00",
)


@dataclass
class Requests:
    """Requests of a day, sorted by time: parallel arrays."""

    day: date
    times: Array
    texts: Array
    statuses: Array
    addresses: Array
    seconds: Array
    sizes: Array
    tails: Array

    def __len__(self) -> int:
        return len(self.times)

    def lines(self, start: int, stop: int) -> Iterator[str]:
        """Yield the access lines of a range of requests."""
        for first in range(start, stop, CHUNK):
            part = slice(first, min(first + CHUNK, stop))
            clocks, _ = rhythm.clock_texts(self.times[part])
            stamp = f"{self.day:%d/%b/%Y}:"
            milliseconds = np.rint(self.seconds[part] * 1000).astype(np.int64)
            yield from (
                f'{address} - - [{stamp}{clock} +0000] "{text} HTTP/1.1" {status} {size} {_TAILS[tail]} '
                f"{duration // 1000}.{duration % 1000:03d}\n"
                for address, clock, text, status, size, tail, duration in zip(
                    self.addresses[part].tolist(),
                    clocks,
                    self.texts[part].tolist(),
                    self.statuses[part].tolist(),
                    self.sizes[part].tolist(),
                    self.tails[part].tolist(),
                    milliseconds.tolist(),
                    strict=True,
                )
            )


@dataclass
class _Collector:
    """Gathers requests of several kinds."""

    parts: list[tuple[Array, Array, Array, Array]] = field(default_factory=list)

    def add(self, times: Array, texts: list[str] | Array | str, status: int | Array, addresses: Array) -> None:
        count = len(times)
        if isinstance(texts, list):
            texts = np.array(texts, dtype=object)
        elif isinstance(texts, str):
            texts = np.full(count, texts, dtype=object)
        statuses = np.full(count, status) if isinstance(status, int) else status
        self.parts.append((times, texts, statuses, addresses))

    def joined(self) -> tuple[Array, Array, Array, Array]:
        times, texts, statuses, addresses = (
            np.concatenate([part[column] for part in self.parts]) for column in range(4)
        )
        order = np.argsort(times, kind="stable")
        return times[order], texts[order], statuses[order], addresses[order]


def generate(
    day: date, activity: Activity, trades: Trades, pool: Array, closed: list[rhythm.Outage], *, seed: int
) -> Requests:
    """Return every request of a day: one GET per page view, one POST per change of state, reads, scans and failures."""
    random = rhythm.generator(seed, day, "requests")
    start = rhythm.start_of(day)
    last = start + DAY - 1
    closed = [outage for outage in closed if start <= outage.start <= last]
    found = _Collector()
    clients = pool[activity.session_address[activity.view_session]]
    found.add(activity.view_time, [f"GET {path}" for path in activity.view_paths()], 200, clients)
    reading = np.flatnonzero(random.random(len(clients)) < 0.55)
    times = np.minimum(activity.view_time[reading] + random.integers(100, 900, len(reading)), last)
    found.add(times, _reads(random, len(reading), trades), _read_status(random, len(reading)), clients[reading])
    _add_changes(found, random, activity, trades, pool, start)
    scans = int(random.poisson(len(times) * 0.01))
    texts = [f"GET {_SCANS[number]}" for number in random.integers(0, len(_SCANS), scans).tolist()]
    found.add(rhythm.moments(random, day, scans), texts, 404, random.choice(pool, scans))
    _add_failures(found, random, day, closed, pool)
    return _measured(random, day, *found.joined())


def _reads(random: np.random.Generator, count: int, trades: Trades) -> list[str]:
    highest = max(int(trades.ids.max(initial=1)), 1)
    return [
        f"GET {_READS[kind].replace('{id}', str(number))}"
        for kind, number in zip(
            random.choice(len(_READS), count, p=(0.35, 0.3, 0.2, 0.1, 0.05)).tolist(),
            random.integers(1, highest + 1, count).tolist(),
            strict=True,
        )
    ]


def _read_status(random: np.random.Generator, count: int) -> Array:
    return random.choice([200, 304, 401, 404], count, p=(0.93, 0.05, 0.007, 0.013))


def _add_changes(
    found: _Collector, random: np.random.Generator, activity: Activity, trades: Trades, pool: Array, start: int
) -> None:
    """Add the requests that changed something, at the times that stand in the database."""

    def of_day(times: Array) -> Array:
        return np.flatnonzero((times >= start) & (times < start + DAY))

    def add(times: Array, texts: list[str] | str, status: int) -> None:
        found.add(times, texts, status, random.choice(pool, len(times)))

    created = of_day(trades.created)
    add(trades.created[created], "POST /api/transactions", 201)
    for state, word in (
        ("completed", "release"),
        ("disputed", "dispute"),
        ("refunded", "refund"),
        ("cancelled", "cancel"),
    ):
        times = getattr(trades, state)
        chosen = of_day(times)
        add(times[chosen], [f"POST /api/transactions/{number}/{word}" for number in trades.ids[chosen].tolist()], 200)
    add(activity.registered, "POST /api/users", 201)
    chosen = of_day(activity.verified)
    add(activity.verified[chosen], "POST /api/verification", 200)
    add(np.array([ticket[3] for ticket in activity.tickets], dtype=np.int64), "POST /api/support-tickets", 201)
    add(np.array([time for _, time, _ in activity.ratings], dtype=np.int64), "POST /api/feedback", 201)
    paths = {"login": "POST /api/login", "logout": "POST /api/logout", "password_reset": "POST /api/password-reset"}
    found.add(
        activity.event_time,
        [paths[kind] for kind in activity.event_kind.tolist()],
        np.where(activity.event_succeeded, 200, 401),
        pool[activity.event_address],
    )


def _add_failures(
    found: _Collector, random: np.random.Generator, day: date, closed: list[rhythm.Outage], pool: Array
) -> None:
    """Add requests that changed nothing because the server failed: a few all day, every one during an outage."""
    total = sum(len(part[0]) for part in found.parts)
    count = int(random.binomial(total, ERROR_SHARE))
    statuses = random.choice([500, 502, 503, 504], count, p=(0.5, 0.15, 0.15, 0.2))
    times = [rhythm.moments(random, day, count)]
    kinds = [statuses]
    for outage in closed:
        tries = int(random.poisson(total * (outage.end - outage.start) / DAY * 0.3))
        times.append(random.integers(outage.start, outage.end, tries))
        kinds.append(np.full(tries, _FAILED_STATUS[outage.component]))
    joined = np.concatenate(times)
    texts = [_FAILURES[number] for number in random.integers(0, len(_FAILURES), len(joined)).tolist()]
    found.add(joined, texts, np.concatenate(kinds), random.choice(pool, len(joined)))


def _measured(
    random: np.random.Generator, day: date, times: Array, texts: Array, statuses: Array, addresses: Array
) -> Requests:
    count = len(times)
    of_the_day = np.exp(0.04 * random.standard_normal())
    seconds = random.lognormal(MEDIAN_LOG, SIGMA, count) * of_the_day
    seconds[statuses == 504] = 10.0  # the proxy gives up after ten seconds
    sizes = np.where(statuses == 304, 0, random.integers(180, 48_000, count))
    tails = random.integers(0, len(_TAILS), count)
    return Requests(day, times, texts, statuses, addresses, seconds, sizes, tails)


def health_lines(
    day: date, closed: list[rhythm.Outage], gap: tuple[int, int] | None, seed: int
) -> list[tuple[int, str]]:
    """Return time and access line of the watch's own requests: one a minute while the watch and the proxy ran."""
    random = rhythm.generator(seed, day, "health")
    start = rhythm.start_of(day)
    times = start + np.arange(0, DAY, MINUTE) + 2 * SECOND
    down = [outage for outage in closed if outage.component in ("api", "frontend")]
    found = []
    for time, clock, duration in zip(
        times.tolist(), rhythm.clock_texts(times)[0], random.integers(1, 6, len(times)).tolist(), strict=True
    ):
        if gap and gap[0] <= time < gap[1]:
            continue
        status = 502 if any(outage.start <= time < outage.end for outage in down) else 200
        line = access_line("127.0.0.1", f"{day:%d/%b/%Y}:{clock} +0000", "GET /health", status, 15, "-", WATCH_AGENT,
                           f"0.{duration:03d}")  # fmt: skip
        found.append((time, line))
    return found


def broken_lines(day: date, seed: int) -> list[tuple[int, str]]:
    """Return time and text of the day's access lines that nobody can read: none to three."""
    random = rhythm.generator(seed, day, "broken")
    return [
        (
            rhythm.start_of(day) + int(random.integers(HOUR, 23 * HOUR)),
            _BROKEN[int(random.integers(0, len(_BROKEN)))].format(day=day) + "\n",
        )
        for _ in range(int(random.integers(0, 4)))
    ]


def problem_logs(requests: Requests, trades: Trades, seed: int) -> tuple[list[str], list[str]]:
    """Return the lines of application.log and of error.log of the day, sorted by time."""
    random = rhythm.generator(seed, requests.day, "problems")
    application: list[tuple[int, str]] = []
    errors: list[tuple[int, str]] = []
    failed = np.flatnonzero(requests.statuses >= 500)
    for number, place in enumerate(failed.tolist()):
        time, status = int(requests.times[place]), int(requests.statuses[place])
        text, client = str(requests.texts[place]), str(requests.addresses[place])
        path = text.split(" ")[1]
        if status in (500, 503):
            kind = "OperationalError" if status == 503 else _EXCEPTIONS[int(random.integers(1, len(_EXCEPTIONS)))]
            message = "the database cannot be reached" if status == 503 else "request failed"
            application.append((time, _application("ERROR", "escrow.api", time, message, path, kind)))
        if status in (502, 503, 504):
            errors.append((time, error_line(rhythm.moment(time), number, upstream_failure(status), client, text)))
    start = rhythm.start_of(requests.day)
    for place in np.flatnonzero((trades.created >= start) & (trades.created < start + DAY)).tolist():
        time = int(trades.created[place])
        message = f"transaction {trades.ids[place]} created"
        application.append((time, _application("INFO", "escrow.transactions", time, message, "/api/transactions")))
    slow = np.flatnonzero((requests.seconds > 5) & (requests.statuses < 500))
    for place in slow.tolist():
        time = int(requests.times[place])
        message = f"slow request: {requests.seconds[place]:.3f} s"
        path = str(requests.texts[place]).split(" ")[1]
        application.append((time, _application("WARNING", "escrow.web", time, message, path)))
    return [line for _, line in sorted(application)], [line for _, line in sorted(errors)]


def _application(level: str, logger: str, time: int, message: str, path: str, exception: str | None = None) -> str:
    entry = {"time": rhythm.moment(time).isoformat(timespec="milliseconds"), "level": level, "logger": logger,
             "message": message, "path": path}  # fmt: skip
    if exception:
        entry["exception"] = exception
    return json.dumps(entry) + "\n"
