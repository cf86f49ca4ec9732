"""Writes heartbeats to a database while it fails over, and tells afterwards what was lost and for how long it was away.

Each heartbeat is a transaction of its own. What counts is what the client knows: a write is lost when its commit was
acknowledged and the new primary does not hold it. A write whose acknowledgement never came is in doubt, not lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

TABLE = "gold_escrow_heartbeat"
CREATE = f"CREATE TABLE IF NOT EXISTS public.{TABLE} (number bigint PRIMARY KEY, written_at timestamptz NOT NULL)"
_INSERT = f"INSERT INTO public.{TABLE} (number, written_at) VALUES (%s, clock_timestamp())"  # noqa: S608 - a constant
_HELD = f"SELECT number FROM public.{TABLE}"  # noqa: S608
_REMOVE_ONE = f"DELETE FROM public.{TABLE} WHERE number = %s"  # noqa: S608


@dataclass(frozen=True)
class Beat:
    """One acknowledged heartbeat: when it was begun and acknowledged, by this machine's monotonic clock, in seconds."""

    number: int
    begun: float
    acknowledged: float


@dataclass(frozen=True)
class Loss:
    """What a failover cost. ``unavailable_seconds`` is None when writing never went on.

    ``lost`` were acknowledged before the failure and are gone, ``in_doubt_kept`` were not acknowledged and are there.
    ``lost_seconds`` go from the last kept write to the failure, 0 when nothing was lost.
    """

    acknowledged: int
    lost: list[int]
    in_doubt: int
    in_doubt_kept: int
    unavailable_seconds: float | None
    lost_seconds: float
    longest_commit_before_seconds: float


@dataclass
class Writer:
    """Writes heartbeats every ``interval_seconds`` with a connection of ``connect``, and a new one after each error."""

    connect: Callable[[], psycopg.Connection[Any]]
    interval_seconds: float
    acknowledged: list[Beat] = field(default_factory=list)
    in_doubt: list[int] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _failure: BaseException | None = None

    def __enter__(self) -> Writer:
        """Begin to write."""
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End; a write that is on its way is waited for. Raises what the writer did not expect."""
        self._end.set()
        if self._thread is not None:
            self._thread.join(60)
        if self._failure is not None and kind is None:
            raise self._failure

    def wait_for_more(self, number: int, seconds: float) -> bool:
        """Wait until ``number`` more writes were acknowledged; tell whether that happened within ``seconds``."""
        wanted, deadline = len(self.acknowledged) + number, time.monotonic() + seconds
        while time.monotonic() < deadline and self._failure is None:
            if len(self.acknowledged) >= wanted:
                return True
            time.sleep(0.005)
        return False

    def _run(self) -> None:
        try:
            self._write_all()
        except BaseException as error:
            self._failure = error

    def _write_all(self) -> None:
        import psycopg

        number, connection = 0, None
        while not self._end.is_set():
            begun = time.monotonic()
            try:
                if connection is None:
                    connection = self.connect()
                number += 1
                self.in_doubt.append(number)
                connection.execute(_INSERT, (number,))
                self.acknowledged.append(Beat(number, begun, time.monotonic()))
                self.in_doubt.remove(number)
            except psycopg.Error:  # the server is away, restarts, or is read-only: that is what is measured
                if connection is not None:
                    connection.close()
                    connection = None
            self._end.wait(max(0.0, begun + self.interval_seconds - time.monotonic()))
        if connection is not None:
            connection.close()


def held(connection: psycopg.Connection[Any]) -> set[int]:
    """Return the numbers of the heartbeats that a server holds."""
    return {number for (number,) in connection.execute(_HELD)}


def compare(acknowledged: Sequence[Beat], in_doubt: Sequence[int], kept: set[int], failed_at: float) -> Loss:
    """Compare what the client knows with what the new primary holds.

    ``failed_at`` is when the old primary had ended, by the same monotonic clock: a write that was begun by then went
    to it, a later one to the new primary. The time without service lies between their acknowledgements.
    """
    lost = [beat.number for beat in acknowledged if beat.number not in kept]
    before = [beat for beat in acknowledged if beat.begun <= failed_at]
    after = [beat for beat in acknowledged if beat.begun > failed_at]
    away = after[0].acknowledged - (before[-1].acknowledged if before else failed_at) if after else None
    lost_seconds = 0.0
    if lost:
        kept_before = [beat.acknowledged for beat in before if beat.number in kept and beat.number < lost[0]]
        lost_seconds = failed_at - (kept_before[-1] if kept_before else before[0].begun if before else failed_at)
    longest = max((beat.acknowledged - beat.begun for beat in before), default=0.0)
    return Loss(
        len(acknowledged), lost, len(in_doubt), len(kept & set(in_doubt)), away, max(0.0, lost_seconds), longest
    )


def negative_control(
    connection: psycopg.Connection[Any], acknowledged: Sequence[Beat], in_doubt: Sequence[int], failed_at: float
) -> bool:
    """Remove one acknowledged heartbeat, compare, and put it back: tell whether exactly that one was found missing."""
    import psycopg

    before = compare(acknowledged, in_doubt, held(connection), failed_at)
    kept = [beat.number for beat in acknowledged if beat.number not in before.lost]
    if not kept:
        return False
    victim = kept[len(kept) // 2]
    found: list[int] = []
    with connection.transaction():
        connection.execute(_REMOVE_ONE, (victim,))
        found = compare(acknowledged, in_doubt, held(connection), failed_at).lost
        raise psycopg.Rollback
    return sorted(set(found) - set(before.lost)) == [victim]
