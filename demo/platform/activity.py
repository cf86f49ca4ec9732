"""What users did on one day: registrations, sessions, page views, logins, support tickets, feedback."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from demo.platform import rhythm
from demo.platform.rhythm import DAY, HOUR, MINUTE, SECOND, Array

ACTIVE_USERS, SESSIONS, PAGE_VIEWS = 1_247, 3_456, 12_789
REGISTRATIONS, VERIFIED_SHARE, TICKETS, RATINGS = 23, 18 / 23, 3, 12
"""An average day of the operations guide, "Daily Reports"; ratings are ours."""
FIRST_USERS = 9_000
"""Users that registered before the history, at scale 1."""
PAGES = ("/", "/dashboard", "/transactions", "/transactions/{id}", "/pricing", "/account", "/help", "/transactions/new")
PAGE_SHARES = (0.22, 0.20, 0.18, 0.16, 0.08, 0.07, 0.05, 0.04)
_DETAIL = PAGES.index("/transactions/{id}")
VISITOR_PAGES = ("/", "/pricing", "/help", "/login", "/register")
VISITOR_SHARES = (0.42, 0.22, 0.14, 0.14, 0.08)
PRIORITIES = ("high", "medium", "low")
SUBJECTS = (
    "Payment not visible",
    "How do I verify my account?",
    "Delivery disputed",
    "Cannot log in",
    "Invoice needed",
)
ADDRESSES = 20_000


@dataclass
class NextIds:
    """The number that the next row of each table gets."""

    users: int = 1
    sessions: int = 1
    page_views: int = 1
    transactions: int = 1
    fees: int = 1
    support_tickets: int = 1
    feedback: int = 1
    authentication_events: int = 1
    audit_logs: int = 1


@dataclass
class Activity:
    """One day. User 0 stands for nobody (a visitor, or a name that is not known)."""

    registered: Array
    verified: Array
    session_ids: Array
    session_user: Array
    session_start: Array
    session_end: Array
    session_address: Array
    view_session: Array
    view_time: Array
    view_page: Array
    event_user: Array
    event_time: Array
    event_kind: Array
    event_succeeded: Array
    event_address: Array
    tickets: list[tuple[int, str, str, int, int, int]]
    ratings: list[tuple[int, int, int]]

    def view_paths(self) -> list[str]:
        """Return the path of every page view."""
        detail = len(PAGES)
        names = np.array([*PAGES, *VISITOR_PAGES], dtype=object)
        numbered = self.view_page >= detail + len(VISITOR_PAGES)
        paths = names[np.where(numbered, 0, self.view_page)]
        paths[numbered] = [
            f"/transactions/{number}" for number in (self.view_page[numbered] - detail - len(VISITOR_PAGES)).tolist()
        ]
        found: list[str] = paths.tolist()
        return found


def addresses(seed: int) -> Array:
    """Return the network addresses that clients come from (of ranges kept for documentation and private use)."""
    random = np.random.default_rng([seed, 4])
    parts = random.integers(0, 256, (ADDRESSES, 3)).tolist()
    found = [f"10.{a}.{b}.{c}" if c % 9 else f"2001:db8:{a:x}:{b:x}::{c:x}" for a, b, c in parts]
    return np.array(found, dtype=object)


def affinity(seed: int, users: int) -> Array:
    """Return how often each user comes, as a logarithm; the first users are the same however many there are."""
    return np.log(np.random.default_rng([seed, 5]).pareto(1.6, users) + 0.15)


def first_registrations(first_day: date, scale: int, seed: int) -> tuple[Array, Array]:
    """Return when the users of the two years before the history registered and were verified."""
    random = rhythm.generator(seed, first_day, "first users")
    count = FIRST_USERS * scale
    start = rhythm.start_of(first_day)
    registered = np.sort(start - DAY - (random.random(count) ** 1.5 * 730 * DAY).astype(np.int64))
    verified = np.where(random.random(count) < 0.94, registered + random.integers(MINUTE, DAY, count), rhythm.absent(1))
    return registered, verified


def generate(
    day: date,
    *,
    origin: date,
    scale: int,
    seed: int,
    known_users: int,
    likings: Array,
    transactions: int,
    next_ids: NextIds,
    end: date,
    closed: list[rhythm.Outage],
) -> Activity:
    """Return the activity of a day.

    ``known_users`` have registered before it, ``likings`` is their ``affinity``, ``transactions`` is the highest
    transaction that can be looked at; what would happen at or after the day ``end`` has not happened yet.
    """
    factor = rhythm.volume(day, origin) * scale
    random = rhythm.generator(seed, day, "activity")
    closed = [outage for outage in closed if rhythm.start_of(day) <= outage.start < rhythm.start_of(day) + DAY]
    registered, verified = _registrations(random, day, factor, end, closed)
    sessions = _sessions(random, day, factor, known_users, likings, registered, closed)
    views = _views(random, day, factor, sessions, transactions, closed)
    user, start, address = sessions
    session_end = start.copy()
    np.maximum.at(session_end, views[0], views[1])
    events = _events(random, day, factor, user, start, session_end, address, known_users, closed)
    return Activity(
        registered,
        verified,
        next_ids.sessions + np.arange(len(user)),
        user,
        start,
        session_end,
        address,
        *views,
        *events,
        _tickets(rhythm.generator(seed, day, "support"), day, factor, known_users, end, closed),
        _ratings(rhythm.generator(seed, day, "feedback"), day, factor, known_users, closed),
    )


def _registrations(
    random: np.random.Generator, day: date, factor: float, end: date, closed: list[rhythm.Outage]
) -> tuple[Array, Array]:
    count = int(random.poisson(REGISTRATIONS * factor))
    registered = rhythm.postpone(rhythm.moments(random, day, count), closed)
    midnight = rhythm.start_of(day) + DAY
    luck = random.random(count)
    # Verified on the same day, one to three days later, or never.
    same_day = registered + ((midnight - registered) * random.random(count) * 0.5).astype(np.int64)
    later = midnight + random.integers(0, 3 * DAY, count)
    chance = VERIFIED_SHARE
    verified = np.where(luck < chance, same_day, np.where(luck < chance + 0.13, later, rhythm.absent(1)))
    verified = np.maximum(rhythm.postpone(verified, closed), np.where(rhythm.happened(verified), registered, verified))
    return registered, np.where(verified < rhythm.start_of(end), verified, rhythm.absent(1))


def _sessions(
    random: np.random.Generator,
    day: date,
    factor: float,
    known_users: int,
    likings: Array,
    registered: Array,
    closed: list[rhythm.Outage],
) -> tuple[Array, Array, Array]:
    """Return user, start and address of every session: first the new users', then those of all who came."""
    jitter = 1 + 0.02 * random.standard_normal(2)
    new = len(registered)
    active = min(max(round(ACTIVE_USERS * factor * jitter[0]) - new, 1), known_users)
    # The highest scores of affinity plus Gumbel noise are a sample without replacement, weighted by affinity.
    scores = likings[:known_users] + random.gumbel(size=known_users)
    came = np.sort(np.argpartition(scores, known_users - active)[known_users - active :]) + 1
    total = max(round(SESSIONS * factor * jitter[1]) - new, active)
    again = random.choice(came, max(round(total * 0.8) - active, 0))
    users = np.concatenate([came, again, np.zeros(max(total - active - len(again), 0), dtype=np.int64)])
    start = rhythm.postpone(rhythm.moments(random, day, len(users)), closed)
    user = np.concatenate([known_users + 1 + np.arange(new), random.permutation(users)])
    start = np.concatenate([np.minimum(registered + SECOND, rhythm.start_of(day) + DAY - 1), start])
    return user, start, random.integers(0, ADDRESSES, len(user))


def _views(
    random: np.random.Generator,
    day: date,
    factor: float,
    sessions: tuple[Array, Array, Array],
    transactions: int,
    closed: list[rhythm.Outage],
) -> tuple[Array, Array, Array]:
    """Return session (its place in the day), time and page of every page view, sorted by time.

    Every session has one at least. A page beyond the two lists of names stands for the page of a transaction.
    """
    user, start, _ = sessions
    total = max(round(PAGE_VIEWS * factor * (1 + 0.02 * random.standard_normal())), len(user))
    appetite = random.exponential(size=len(user))
    more = random.choice(len(user), total - len(user), p=appetite / appetite.sum())
    session = np.concatenate([np.arange(len(user)), more])
    delay = np.zeros(total, dtype=np.int64)
    delay[len(user) :] = random.exponential(6 * MINUTE, len(more)).astype(np.int64) + SECOND
    time = np.minimum(rhythm.postpone(start[session] + delay, closed), rhythm.start_of(day) + DAY - 1)
    names = len(PAGES) + len(VISITOR_PAGES)
    page = random.choice(len(PAGES), total, p=PAGE_SHARES)
    looked_at = names + transactions - np.minimum(random.integers(0, 600 + transactions // 20, total), transactions - 1)
    page = np.where(page == _DETAIL, looked_at, page)
    visitor = len(PAGES) + random.choice(len(VISITOR_PAGES), total, p=VISITOR_SHARES)
    page = np.where(user[session] == 0, visitor, page)
    order = np.argsort(time, kind="stable")
    return session[order], time[order], page[order]


def _events(
    random: np.random.Generator,
    day: date,
    factor: float,
    user: Array,
    start: Array,
    end: Array,
    address: Array,
    known_users: int,
    closed: list[rhythm.Outage],
) -> tuple[Array, Array, Array, Array, Array]:
    """Return user, time, kind, success and address of authentication events, sorted by time.

    More than half of the sessions begin with a login, some of those with a mistyped password before it; now and then
    somebody guesses passwords from one address.
    """
    first, last = rhythm.start_of(day), rhythm.start_of(day) + DAY - 1
    parts: list[tuple[Array, Array, str, bool, Array]] = []
    entered = np.flatnonzero((user > 0) & (random.random(len(user)) < 0.55))
    parts.append((user[entered], start[entered], "login", True, address[entered]))
    wrong = entered[random.random(len(entered)) < 0.06]
    before = np.maximum(start[wrong] - random.integers(2 * SECOND, 20 * SECOND, len(wrong)), first)
    parts.append((user[wrong], before, "login", False, address[wrong]))
    left = entered[random.random(len(entered)) < 0.2]
    parts.append((user[left], np.minimum(end[left] + 3 * SECOND, last), "logout", True, address[left]))
    reset = random.poisson(4 * factor)
    parts.append(
        (
            random.integers(1, known_users + 1, reset),
            rhythm.moments(random, day, reset),
            "password_reset",
            True,
            random.integers(0, ADDRESSES, reset),
        )
    )
    if random.random() < 0.15:
        guesses = int(random.integers(60, 200))
        times = first + random.integers(HOUR, 22 * HOUR) + np.sort(random.integers(0, 10 * MINUTE, guesses))
        account = random.integers(1, known_users + 1) if random.random() < 0.5 else 0
        source = np.full(guesses, random.integers(0, ADDRESSES))
        parts.append((np.full(guesses, account), times, "login", False, source))
    times = np.concatenate([part[1] for part in parts])
    times = np.minimum(rhythm.postpone(times, closed), last)
    order = np.argsort(times, kind="stable")
    sizes = [len(part[0]) for part in parts]
    return (
        np.concatenate([part[0] for part in parts])[order],
        times[order],
        np.repeat(np.array([part[2] for part in parts], dtype=object), sizes)[order],
        np.repeat([part[3] for part in parts], sizes)[order],
        np.concatenate([part[4] for part in parts])[order],
    )


def _tickets(
    random: np.random.Generator, day: date, factor: float, known_users: int, end: date, closed: list[rhythm.Outage]
) -> list[tuple[int, str, str, int, int, int]]:
    """Return user, priority, subject, creation, first answer and resolution of the day's tickets.

    The mean time to the first answer is 2.3 hours (guide, "User Activity Report"), less for a higher priority.
    """
    count = int(random.poisson(TICKETS * factor))
    created = rhythm.postpone(rhythm.moments(random, day, count), closed)
    priority = random.choice(3, count, p=(0.15, 0.5, 0.35))
    hours = np.array([0.8, 2.1, 3.3])[priority] * random.lognormal(-0.32, 0.8, count)
    answered = created + (hours * HOUR).astype(np.int64)
    resolved = answered + (random.lognormal(np.log(3), 1.0, count) * HOUR).astype(np.int64)
    horizon = rhythm.start_of(end)
    never = rhythm.absent(1)
    answered = np.where(answered < horizon, answered, never)
    resolved = np.where((resolved < horizon) & (random.random(count) < 0.97), resolved, never)
    users = random.integers(1, known_users + 1, count).tolist()
    subjects = random.integers(0, len(SUBJECTS), count).tolist()
    return [
        (user, PRIORITIES[level], SUBJECTS[subject], *times)
        for user, level, subject, *times in zip(
            users,
            priority.tolist(),
            subjects,
            created.tolist(),
            answered.tolist(),
            resolved.tolist(),
            strict=True,
        )
    ]


def _ratings(
    random: np.random.Generator, day: date, factor: float, known_users: int, closed: list[rhythm.Outage]
) -> list[tuple[int, int, int]]:
    """Return user, time and rating of the day's feedback."""
    count = int(random.poisson(RATINGS * factor))
    times = rhythm.postpone(rhythm.moments(random, day, count), closed)
    ratings = random.choice(5, count, p=(0.04, 0.05, 0.13, 0.33, 0.45)) + 1
    users = random.integers(1, known_users + 1, count)
    return list(zip(users.tolist(), times.tolist(), ratings.tolist(), strict=True))
