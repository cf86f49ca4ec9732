"""Light live traffic: ``python -m demo.platform.traffic --web URL``, about two requests a second until stopped."""

from __future__ import annotations

import argparse
import random
import signal
import threading
import time
from typing import Any

import httpx

_PAGES = ("/", "/", "/dashboard", "/dashboard", "/transactions", "/pricing", "/account", "/help")
_READS = ("/api/prices", "/api/transactions", "/api/transactions?page=2")
_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


class Visitors:
    """A handful of browsers that look at pages, log in, trade, complain and rate."""

    def __init__(self, url: str, seed: int | None = None) -> None:
        """Visit the platform at ``url``."""
        self.random = random.Random(seed)
        self.browsers = [
            httpx.Client(base_url=url, timeout=10, trust_env=False, headers=self._headers()) for _ in range(12)
        ]
        self.users: list[int] = [1, 2, 3, 4, 5]

    def _headers(self) -> dict[str, str]:
        address = f"10.200.{self.random.randrange(256)}.{self.random.randrange(1, 255)}"
        return {"User-Agent": _AGENT, "X-Forwarded-For": address}

    def step(self) -> None:
        """Do one thing; a platform that is away or refuses is simply tried again later."""
        browser = self.random.choice(self.browsers)
        acts = (
            (lambda: browser.get(self.random.choice(_PAGES)), 60),
            (lambda: browser.get(self.random.choice(_READS)), 25),
            (lambda: self._login(browser), 6),
            (lambda: self._trade(browser), 4),
            (lambda: self._register(browser), 2),
            (lambda: self._rate(browser), 2),
            (lambda: self._complain(browser), 1),
        )
        act = self.random.choices([one for one, _ in acts], [weight for _, weight in acts])[0]
        try:
            act()
        except httpx.HTTPError:
            return

    def _post(self, browser: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
        response = browser.post(path, json=body)
        found = response.json() if response.is_success else {}
        return found if isinstance(found, dict) else {}

    def _login(self, browser: httpx.Client) -> None:
        user = self.random.choice(self.users)
        password = "wrong" if self.random.random() < 0.1 else "gold"
        self._post(browser, "/api/login", email=f"user{user}@gold-escrow.example", password=password)

    def _register(self, browser: httpx.Client) -> None:
        name = f"live{time.time_ns():x}"
        made = self._post(browser, "/api/users", email=f"{name}@gold-escrow.example", full_name="Live User")
        if "user_id" in made:
            self.users.append(made["user_id"])
            if self.random.random() < 0.8:
                self._post(browser, "/api/verification", user_id=made["user_id"])

    def _trade(self, browser: httpx.Client) -> None:
        buyer, seller = self.random.sample(self.users, 2)
        amount = f"{min(self.random.lognormvariate(9.66, 1.0), 900_000):.2f}"
        made = self._post(browser, "/api/transactions", buyer_id=buyer, seller_id=seller, amount_usd=amount)
        if "transaction_id" not in made:
            return
        path = f"/api/transactions/{made['transaction_id']}"
        luck = self.random.random()
        if luck < 0.04:
            self._post(browser, f"{path}/cancel")
            return
        paid = {"paid_usd": "0"} if luck < 0.07 else {}
        if self._post(browser, f"{path}/fund", **paid).get("state") != "funded":
            return
        if self.random.random() < 0.05:
            self._post(browser, f"{path}/dispute")
            self._post(browser, f"{path}/{self.random.choice(['release', 'refund'])}")
        elif self.random.random() < 0.9:
            self._post(browser, f"{path}/release")

    def _rate(self, browser: httpx.Client) -> None:
        rating = self.random.choices([1, 2, 3, 4, 5], [4, 5, 13, 33, 45])[0]
        self._post(browser, "/api/feedback", user_id=self.random.choice(self.users), rating=rating)

    def _complain(self, browser: httpx.Client) -> None:
        priority = self.random.choices(["high", "medium", "low"], [15, 50, 35])[0]
        self._post(
            browser,
            "/api/support-tickets",
            user_id=self.random.choice(self.users),
            priority=priority,
            subject="Question",
        )

    def close(self) -> None:
        """Close all browsers."""
        for browser in self.browsers:
            browser.close()


def main() -> None:
    """Visit the platform until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m demo.platform.traffic", description="Light live traffic.")
    parser.add_argument("--web", required=True, help="address of the platform, such as http://127.0.0.1:8000")
    parser.add_argument("--per-second", type=float, default=2.0, help="requests a second, on average")
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    visitors = Visitors(arguments.web)
    while not stop.wait(visitors.random.expovariate(arguments.per_second)):
        visitors.step()
    visitors.close()


if __name__ == "__main__":
    main()
