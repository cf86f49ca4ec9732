"""What one attempt of a prune works with and what it did, and the rows of one archive on their way."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.maintenance.pruning import rows
from include.maintenance.pruning.pace import Batches, Throttle
from include.maintenance.pruning.rows import Batch, Place, Stretch
from include.maintenance.pruning.sources import Source
from include.outcome import MaintenanceFailed
from include.platform.folders import Folder
from include.warehouse import legal_holds

if TYPE_CHECKING:
    import psycopg

    from include.maintenance_sections import Prune
    from include.warehouse.legal_holds import LegalHold


class Waits(MaintenanceFailed):
    """A detached partition waits for a person: the act fails for it, after all others had their turn."""


@dataclass
class Counts:
    """What an attempt did, for the proof."""

    deleted: int = 0
    stayed: int = 0
    vanished: int = 0


@dataclass
class Work:
    """What one attempt works with. ``platform`` deletes and looks for what is left, ``reader`` reads at the same time.

    ``reading``, ``deleting`` and ``looking`` measure the transactions of each. ``ends_at`` is the moment of the
    monotonic clock from which no further archive is begun, ``ended_early`` tells that something was left for the next
    attempt then. ``rows_expected`` is how many rows are planned to be deleted one by one, maybe by an estimate.
    ``failures`` keep the act from being proven, and nothing else from its turn; ``gone`` are partitions that are no
    more, of archives that were settled.
    """

    rule: Prune
    platform: psycopg.Connection[Any]
    reader: psycopg.Connection[Any]
    warehouse: psycopg.Connection[Any]
    source: Source
    store: Folder
    folder: Path
    throttle: Throttle
    reading: Batches
    deleting: Batches
    looking: Batches = field(default_factory=lambda: Batches(1))
    ends_at: float = math.inf
    rows_expected: int = field(default=0, init=False)
    ended_early: bool = field(default=False, init=False)
    failures: list[str] = field(default_factory=list, init=False)
    gone: list[str] = field(default_factory=list, init=False)
    counts: Counts = field(default_factory=Counts)
    chain: threading.Lock = field(default_factory=threading.Lock)
    _seen: dict[int, LegalHold] = field(default_factory=dict, init=False)
    _seeing: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def batches(self) -> tuple[Batches, ...]:
        """All transactions at the table."""
        return self.reading, self.deleting, self.looking

    def out_of_time(self) -> bool:
        """Whether what is to come must wait for the next attempt; asked only where something is to come."""
        self.ended_early = self.ended_early or time.monotonic() >= self.ends_at
        return self.ended_early

    def holds(self) -> tuple[LegalHold, ...]:
        """The legal holds in force now or at an earlier moment of this attempt, by their number.

        Rows that a hold kept out of an archive are not in it, also when the hold has ended meanwhile: they wait for the
        next attempt. Raises as ``session.errors_named`` does.
        """
        found = legal_holds.active(self.warehouse, self.source.name)
        with self._seeing:  # the reading thread asks too
            self._seen |= {hold.legal_hold_id: hold for hold in found}
            return tuple(hold for _, hold in sorted(self._seen.items()))


@dataclass
class Chunk:
    """Rows of one archive. ``settled_before`` is the transaction that says which rows are unchanged, or None.

    ``last`` is the place of the last row, None as long as there is none; ``stretches`` come with ``cut``.
    """

    source: Source
    settled_before: str | None
    batches: list[Batch] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    rows: int = 0
    last: Place | None = None

    def takes(self, batch: Batch) -> bool:
        """Whether the batch's values travelled in the same form as those before it."""
        return not self.batches or self.batches[0].numbers == batch.numbers

    def add(self, batch: Batch) -> None:
        """Take one more batch."""
        self.batches.append(batch)
        self.rows += batch.rows
        [self.last] = batch.places(self.source, [batch.rows - 1])

    def cut(self, most_rows: int) -> None:
        """Make the stretches, of at most so many rows each; the batches are not needed for them afterwards."""
        self.stretches = [one for batch in self.batches for one in rows.stretches(self.source, batch, most_rows)]
