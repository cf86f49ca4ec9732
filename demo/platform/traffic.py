"""Light live traffic: ``python -m demo.platform.traffic --web URL``, a day's volumes of the guide until stopped."""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx

from demo.platform import activity, rhythm, trades

VOLUMES = {
    "visit": activity.SESSIONS,
    "trade": trades.PER_DAY,
    "register": activity.REGISTRATIONS,
    "rate": activity.RATINGS,
    "complain": activity.TICKETS,
}
"""How often each thing is begun on an average day; what follows from it comes later."""
_USERS_SHARE = 0.8
_REGULARS = 1_480
"""Of so many users those who come on a day are drawn: about 1,247 of them, some more than once."""
_SECONDS_BETWEEN_VIEWS, _READS_PER_VIEW = 120.0, 0.55
_SETTLE_SECONDS, _SUPPORT_SECONDS, _SETTLED_AT_ONCE = 300.0, 600.0, 10
_READS = ("/api/prices", "/api/transactions", "/api/transactions?page=2")
_ANSWER_HOURS = {"high": 0.8, "medium": 2.1, "low": 3.3}
_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


@dataclass
class Visitor:
    """A browser during one session."""

    address: str
    user: int | None
    views: int
    session: str | None = None


def next_step(one: dict[str, Any], now: datetime) -> tuple[str, dict[str, str]] | None:
    """Return what becomes of an open transaction now, with the request's body; None while it has to wait.

    Its number decides how long it waits and how it ends, as often as in the history (``demo.platform.trades``).
    """
    own = random.Random(one["transaction_id"])
    fate = own.random()
    confirmed = timedelta(minutes=own.uniform(1, 20))
    turning = timedelta(hours=min(max(own.lognormvariate(math.log(20), 0.8), 0.2), 240))
    decided = timedelta(hours=own.uniform(12, 96))
    created, funded, disputed = (
        one[name] and datetime.fromisoformat(one[name]) for name in ("created_at", "funded_at", "disputed_at")
    )
    if not funded:
        if now - created < confirmed:
            return None
        return ("cancel", {}) if 0.02 <= fate < 0.035 else ("fund", {"paid_usd": "0"} if fate < 0.02 else {})
    if not disputed:
        if now - funded < turning:
            return None
        return ("dispute" if 0.035 <= fate < 0.06 else "release", {})
    return None if now - disputed < decided else ("refund" if fate < 0.045 else "release", {})


def ticket_step(one: dict[str, Any], now: datetime) -> str | None:
    """Return what the support team does with an open ticket now; None while it has to wait. One in 33 stays open."""
    own = random.Random(one["ticket_id"])
    answered = timedelta(hours=_ANSWER_HOURS[one["priority"]] * own.lognormvariate(-0.32, 0.8))
    resolved = timedelta(hours=own.lognormvariate(math.log(3), 1.0))
    if not one["first_response_at"]:
        return "answer" if now - datetime.fromisoformat(one["created_at"]) >= answered else None
    waited = now - datetime.fromisoformat(one["first_response_at"])
    return "resolve" if waited >= resolved and own.random() < 0.97 else None


class Visitors:
    """People who look at pages, log in, trade, complain and rate, and the staff that answers and settles."""

    def __init__(
        self, url: str, *, users: int = activity.FIRST_USERS, times: float = 1.0, seed: int | None = None
    ) -> None:
        """Visit the platform at ``url`` ``times`` as often as the guide says; its users 1 to ``users`` may log in."""
        self.random, self.users, self.times = random.Random(seed), users, times
        # One for all: each client of httpx reads every certificate of the system. Cookies are each visitor's own.
        self.client = httpx.Client(base_url=url, timeout=10, trust_env=False, headers={"User-Agent": _AGENT})
        self.newest_transaction = 0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._regulars: tuple[date, list[int]] | None = None

    # ------------------------------------------------------------------------------------------------ the clock
    def per_second(self, now: datetime) -> float:
        """Return how many things are begun a second at an aware time in UTC: by its weekday and hour."""
        of_hour = rhythm.HOURS[now.hour] * 24 / sum(rhythm.HOURS)
        return sum(VOLUMES.values()) / 86_400 * of_hour * rhythm.WEEKDAYS[now.weekday()] * self.times

    def live(self, stop: threading.Event) -> None:
        """Do everything at its time until ``stop`` is set; a platform that is away or refuses is tried again later."""
        self._again(_SETTLE_SECONDS, self.settle)
        self._again(_SUPPORT_SECONDS, self.support)
        self._arrive()
        while not stop.wait(max(0.0, self._due[0][0] - time.monotonic())):
            _, _, act = heapq.heappop(self._due)
            with suppress(httpx.HTTPError):
                act()

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), act))

    def _again(self, seconds: float, act: Callable[[], None]) -> None:
        def repeated() -> None:
            self._later(seconds / self.times, repeated)
            act()

        self._later(0, repeated)

    def _arrive(self) -> None:
        def arrived() -> None:
            self._arrive()
            self.begin()

        self._later(self.random.expovariate(self.per_second(datetime.now(UTC))), arrived)

    def begin(self) -> None:
        """Begin one thing, each as often as its share of the day's volumes."""
        acts = {"visit": self.visit, "trade": self.trade, "register": self.register, "rate": self.rate,
                "complain": self.complain}  # fmt: skip
        acts[self.random.choices(list(VOLUMES), list(VOLUMES.values()))[0]]()

    # ----------------------------------------------------------------------------------------------- visitors
    def newcomer(self, today: date) -> Visitor:
        """Return a new visitor: four in five log in. They look at 3.7 pages on average, the page to log in included."""
        if self._regulars is None or self._regulars[0] != today:
            self._regulars = (today, self.random.sample(range(1, self.users + 1), min(_REGULARS, self.users)))
        is_user = self.random.random() < _USERS_SHARE
        user = self.random.choice(self._regulars[1]) if is_user else None
        more = int(self.random.expovariate(1 / (2.47 if is_user else 1.96)))
        return Visitor(self._address(), user, (2 if is_user else 1) + more)

    def visit(self) -> None:
        """Open the platform in a new session."""
        visitor = self.newcomer(datetime.now(UTC).date())
        self._view(visitor, "/login" if visitor.user else None)
        if visitor.user:
            if self.random.random() < 0.06:
                self._log_in(visitor, "wrong")
            self._log_in(visitor, "gold")

    def _view(self, visitor: Visitor, path: str | None = None) -> None:
        visitor.views -= 1
        if visitor.views > 0:
            wait = self.random.expovariate(1 / _SECONDS_BETWEEN_VIEWS) / self.times
            self._later(wait, lambda: self._view(visitor))
        self._request(visitor, "GET", path or self._page(visitor))
        if self.random.random() < _READS_PER_VIEW:
            self._request(visitor, "GET", self.random.choice(_READS))
        if visitor.views == 0 and visitor.user and self.random.random() < 0.15:
            self._request(visitor, "POST", "/api/logout")  # the others just leave; the platform ends their session

    def _page(self, visitor: Visitor) -> str:
        if visitor.user:
            path = self.random.choices(activity.PAGES, activity.PAGE_SHARES)[0]
        else:
            path = self.random.choices(activity.VISITOR_PAGES, activity.VISITOR_SHARES)[0]
        if "{id}" not in path:
            return path
        newest = self.newest_transaction
        return path.replace("{id}", str(self.random.randint(max(newest - 600, 1), newest))) if newest else "/dashboard"

    def _log_in(self, visitor: Visitor, password: str) -> None:
        name = f"user{visitor.user}@gold-escrow.example"
        self._request(visitor, "POST", "/api/login", json={"email": name, "password": password})

    def _request(self, visitor: Visitor, method: str, path: str, **more: Any) -> None:
        headers = {"X-Forwarded-For": visitor.address}
        if visitor.session:
            headers["Cookie"] = f"session={visitor.session}"
        response = self.client.request(method, path, headers=headers, **more)
        visitor.session = response.cookies.get("session", visitor.session)
        self.client.cookies.clear()

    def _address(self) -> str:
        return f"10.200.{self.random.randrange(256)}.{self.random.randrange(1, 255)}"

    # ------------------------------------------------------------------------------------------- what they do
    def _post(self, path: str, **body: Any) -> dict[str, Any]:
        response = self.client.post(path, json=body, headers={"X-Forwarded-For": self._address()})
        found = response.json() if response.is_success else {}
        return found if isinstance(found, dict) else {}

    def _somebody(self) -> int:
        return self.random.randint(1, self.users)

    def trade(self) -> None:
        """Create a transaction; it is looked at again when its deposit may have come."""
        buyer, seller = self.random.sample(range(1, self.users + 1), 2)
        amount = f"{min(self.random.lognormvariate(math.log(trades.MEAN_AMOUNT_USD) - 0.5, 1.0), 900_000):.2f}"
        made = self._post("/api/transactions", buyer_id=buyer, seller_id=seller, amount_usd=amount)
        if "transaction_id" in made:
            self._later(1200 / self.times, self.settle)

    def register(self) -> None:
        """Register a user; most are verified at once."""
        made = self._post("/api/users", email=f"live{time.time_ns():x}@gold-escrow.example", full_name="Live User")
        if "user_id" in made and self.random.random() < activity.VERIFIED_SHARE:
            self._post("/api/verification", user_id=made["user_id"])

    def rate(self) -> None:
        """Give a rating."""
        rating = self.random.choices([1, 2, 3, 4, 5], [4, 5, 13, 33, 45])[0]
        self._post("/api/feedback", user_id=self._somebody(), rating=rating)

    def complain(self) -> None:
        """Open a support ticket."""
        priority = self.random.choices(activity.PRIORITIES, [15, 50, 35])[0]
        subject = self.random.choice(activity.SUBJECTS)
        self._post("/api/support-tickets", user_id=self._somebody(), priority=priority, subject=subject)

    # -------------------------------------------------------------------------------------------------- staff
    def settle(self) -> None:
        """Move on the oldest open transactions whose time has come."""
        found = self.client.get("/api/staff/transactions").raise_for_status().json()
        self.newest_transaction = max([self.newest_transaction, *(one["transaction_id"] for one in found)])
        now = datetime.now(UTC)
        steps = [(one["transaction_id"], step) for one in found if (step := next_step(one, now))]
        self.random.shuffle(steps)  # one that is refused must not keep the others waiting
        for number, (act, body) in steps[:_SETTLED_AT_ONCE]:
            self._post(f"/api/transactions/{number}/{act}", **body)

    def support(self) -> None:
        """Answer and resolve the tickets whose time has come."""
        now = datetime.now(UTC)
        for one in self.client.get("/api/staff/support-tickets").raise_for_status().json():
            if act := ticket_step(one, now):
                self._post(f"/api/staff/support-tickets/{one['ticket_id']}/{act}")

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def main() -> None:
    """Visit the platform until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m demo.platform.traffic", description="Light live traffic.")
    parser.add_argument("--web", required=True, help="address of the platform, such as http://127.0.0.1:8000")
    parser.add_argument("--users", type=int, default=activity.FIRST_USERS, help="highest number of a user")
    parser.add_argument("--times", type=float, default=1.0, help="how many times the guide's volumes")
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    visitors = Visitors(arguments.web, users=arguments.users, times=arguments.times)
    visitors.live(stop)
    visitors.close()


if __name__ == "__main__":
    main()
