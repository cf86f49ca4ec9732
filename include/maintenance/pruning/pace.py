"""How fast rows are deleted: batches small enough for short transactions, pauses while replicas or autovacuum need it.

The aim is the half of LONGEST_MILLISECONDS: GitLab's batch optimizer, too, smooths durations (with the factor 0.4) and
grows by at most 1.2 from one batch to the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.outcome import ConfigurationError
from include.warehouse.statements import statements

if TYPE_CHECKING:
    import psycopg

    from include.maintenance_sections import Prune

LONGEST_MILLISECONDS = 50.0
"""What no transaction should take."""

_STATEMENTS = statements(__file__)
_SMOOTHING, _LARGEST_GROWTH, _LARGEST_SHRINKING = 0.4, 1.2, 0.25
_SECONDS_BETWEEN_LOOKS = 0.25
_SECONDS_OF_A_PAUSE = 0.5


class PausedTooLong(Exception):
    """Something kept deletion waiting for longer than it waits; nothing is wrong, and the next run does the rest."""


@dataclass
class Batches:
    """The size of the next batch, in rows, and what the batches so far took."""

    largest: int
    size: int = 0
    milliseconds_per_row: float = 0.0
    transactions: int = 0
    longest_milliseconds: float = 0.0

    def __post_init__(self) -> None:
        """Begin with the largest."""
        self.size = self.size or self.largest

    @contextmanager
    def measured(self, count: Callable[[], int]) -> Iterator[None]:
        """Measure one transaction; ``count`` tells afterwards how many rows it was about."""
        started = time.perf_counter()
        yield
        took = (time.perf_counter() - started) * 1000
        self.transactions += 1
        self.longest_milliseconds = max(self.longest_milliseconds, took)
        self._adapt(took, max(1, count()))

    def _adapt(self, milliseconds: float, rows: int) -> None:
        each = milliseconds / rows
        before = self.milliseconds_per_row or each
        self.milliseconds_per_row = _SMOOTHING * each + (1 - _SMOOTHING) * before
        wanted = LONGEST_MILLISECONDS / 2 / max(self.milliseconds_per_row, 1e-6)
        bounded = min(max(wanted, self.size * _LARGEST_SHRINKING), self.size * _LARGEST_GROWTH + 1)
        self.size = max(1, min(self.largest, int(bounded)))


@dataclass
class Throttle:
    """Pauses the deletion; what it saw is kept for the proof."""

    connection: psycopg.Connection[Any]
    table_oid: int
    table_name: str
    rule: Prune
    seconds: dict[str, float] = field(default_factory=lambda: {"replicas": 0.0, "autovacuum": 0.0})
    largest_lag_seconds: float = 0.0
    replicas: str = "none"
    looked_at: float = float("-inf")

    def check(self) -> None:
        """Raise ConfigurationError when there are replicas that the role may not see: they could not be spared."""
        self._replicas()

    def wait(self) -> None:
        """Return when nothing speaks against the next batch.

        Raises PausedTooLong after ``longest_pause_seconds``; what was done stays. Raises ConfigurationError as
        ``check`` does: the first replica may come at any moment.
        """
        if time.monotonic() - self.looked_at < _SECONDS_BETWEEN_LOOKS:
            return
        began = time.monotonic()
        while reason := self._reason():
            if time.monotonic() - began > self.rule.longest_pause_seconds:
                raise PausedTooLong(
                    f"pruning of {self.table_name} has waited for {reason} longer than "
                    f"{self.rule.longest_pause_seconds:g} s"
                )
            pause = time.monotonic()
            time.sleep(min(_SECONDS_OF_A_PAUSE, self.rule.longest_pause_seconds))
            kind = "autovacuum" if reason.startswith("autovacuum") else "replicas"
            self.seconds[kind] += time.monotonic() - pause
        self.looked_at = time.monotonic()

    def _reason(self) -> str:
        seconds, size = self._replicas()
        if seconds > self.rule.largest_replica_lag_seconds or size > self.rule.largest_replica_lag_bytes:
            return f"replicas that are {seconds:.0f} s and {size} bytes behind"
        away = self.connection.execute(_STATEMENTS["away"]).fetchone()
        if away and away[1] > self.rule.largest_replica_lag_bytes:
            return f"the replica of the slot {away[0]}, which is away and {away[1]} bytes behind,"
        found = self.connection.execute(_STATEMENTS["autovacuum"], {"oid": self.table_oid}).fetchone()
        return "autovacuum, which works at the table" if found and found[0] else ""

    def _replicas(self) -> tuple[float, int]:
        """Return how far the replicas that are connected are behind, in seconds and bytes."""
        row = self.connection.execute(_STATEMENTS["replicas"]).fetchone()
        assert row is not None
        replicas, unseen, seconds, size, role = row
        if unseen:
            raise ConfigurationError(
                f"the role {role} may not see how far {unseen} of the {replicas} replicas of the database of "
                f"{self.table_name} are behind, so that pruning could not spare them; GRANT pg_read_all_stats TO {role}"
            )
        self.replicas = str(replicas) if replicas else "none"
        self.largest_lag_seconds = max(self.largest_lag_seconds, seconds)
        return seconds, size

    def facts(self) -> dict[str, Any]:
        """What the proof says of it."""
        return {
            "replicas": self.replicas,
            "largest_replica_lag_seconds": round(self.largest_lag_seconds, 3),
            "paused_seconds_for_replicas": round(self.seconds["replicas"], 1),
            "paused_seconds_for_autovacuum": round(self.seconds["autovacuum"], 1),
        }
