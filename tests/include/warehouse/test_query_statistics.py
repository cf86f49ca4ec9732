"""A week's work is the difference of two readings, worked out by hand; resets and evictions are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.warehouse import query_statistics
from include.warehouse.query_statistics import LOST, Entry, Period, Reading

NOW = datetime(2026, 10, 11, 4, tzinfo=UTC)
WEEK = timedelta(days=7)


def _entry(query_id: int, calls: int, seconds: float, **more: Any) -> Entry:
    plain: dict[str, Any] = {
        "role_id": 10, "top_level": True, "text": f"SELECT {query_id}", "rows_returned": calls, "blocks_hit": 4 * calls,
        "blocks_read": calls, "read_seconds": None, "temporary_blocks": 0, "entry_since": None,
    }  # fmt: skip
    return Entry(**(plain | {"query_id": query_id, "calls": calls, "seconds": seconds} | more))


def _record(
    run_id: str, weeks_ago: float, *entries: Entry, since: datetime | None = None, evictions: int | None = 0
) -> None:
    reading = Reading("1/escrow", NOW - weeks_ago * WEEK, since, evictions, entries)
    query_statistics.record(run_id, reading, keep_days=100)


def _work(period: Period) -> dict[int, tuple[int, float]]:
    return {work.query_id: (work.calls, round(work.seconds, 6)) for work in period.work}


def _periods(run_id: str = "now") -> tuple[Period, Period | None]:
    return query_statistics.periods(run_id, baseline_days=5)


def test_the_first_reading_counts_from_the_beginning(warehouse: psycopg.Connection) -> None:
    _record("now", 0, _entry(1, 10, 0.5), _entry(2, 4, 2.0))
    week, before = _periods()
    assert before is None
    assert (week.began_at, week.ended_at, week.entries, week.vanished, week.evictions) == (None, NOW, 2, 0, 0)
    assert _work(week) == {2: (4, 2.0), 1: (10, 0.5)}
    assert list(_work(week)) == [2, 1], "the most time first"
    assert week.work[1].mean_milliseconds == 50
    assert (week.work[1].text, week.work[1].blocks_hit, week.work[1].read_seconds) == ("SELECT 1", 40, None)


def test_evictions_before_the_first_reading_count(warehouse: psycopg.Connection) -> None:
    _record("now", 0, _entry(1, 10, 0.5), since=NOW - WEEK, evictions=3)
    assert _periods()[0].evictions == 3


def test_a_lost_text_is_replaced_by_the_next_known_one(warehouse: psycopg.Connection) -> None:
    def text() -> str:
        return _periods()[0].work[0].text

    _record("now", 0, _entry(1, 10, 0.5, text=LOST))
    assert text() == LOST
    _record("now", 0, _entry(1, 10, 0.5, text=LOST), _entry(1, 10, 0.5, text=" SELECT 1", role_id=11))
    assert text() == " SELECT 1"
    _record("now", 0, _entry(1, 10, 0.5, text=LOST))
    assert text() == " SELECT 1", "what is known stays"


def test_a_week_is_the_difference(warehouse: psycopg.Connection) -> None:
    _record("w2", 2, _entry(1, 10, 1.0))
    _record("w1", 1, _entry(1, 30, 2.0, read_seconds=0.5), _entry(2, 5, 1.0), evictions=3)
    _record("now", 0, _entry(1, 70, 10.0, read_seconds=2.0), _entry(2, 5, 1.0), _entry(3, 1, 0.25), evictions=7)
    week, before = _periods()
    assert _work(week) == {1: (40, 8.0), 3: (1, 0.25)}, "what was not executed is not there"
    assert (week.began_at, week.evictions, week.vanished, week.was_reset) == (NOW - WEEK, 4, 0, False)
    assert week.work[0].mean_milliseconds == 200
    assert week.work[0].read_seconds == 1.5
    assert before is not None
    assert _work(before) == {1: (20, 1.0), 2: (5, 1.0)}
    assert before.began_at == NOW - 2 * WEEK


def test_roles_and_levels_are_summed(warehouse: psycopg.Connection) -> None:
    entries = [(10, True, 5), (11, True, 7), (11, False, 100)]
    _record("w1", 1, *[_entry(1, calls, 1.0, role_id=role, top_level=top) for role, top, calls in entries])
    _record("now", 0, *[_entry(1, 2 * calls, 2.0, role_id=role, top_level=top) for role, top, calls in entries])
    assert _work(_periods()[0]) == {1: (112, 3.0)}


def test_entries_that_began_anew(warehouse: psycopg.Connection) -> None:
    """Evicted and seen again: the counter went back (1), or the server says since when it counts (2); 3 went on."""
    later, earlier = NOW - timedelta(days=1), NOW - 3 * WEEK
    _record(
        "w1", 1, _entry(1, 100, 9.0), _entry(2, 10, 1.0, entry_since=earlier), _entry(3, 10, 1.0, entry_since=earlier)
    )
    _record(
        "now", 0, _entry(1, 40, 4.0), _entry(2, 30, 3.0, entry_since=later), _entry(3, 30, 3.0, entry_since=earlier),
        evictions=1,
    )  # fmt: skip
    week, _ = _periods()
    assert _work(week) == {1: (40, 4.0), 2: (30, 3.0), 3: (20, 2.0)}
    assert week.evictions == 1


def test_entries_that_vanished_are_counted(warehouse: psycopg.Connection) -> None:
    _record("w1", 1, _entry(1, 1, 1.0), _entry(2, 1, 1.0), _entry(2, 1, 1.0, role_id=11), evictions=None)
    _record("now", 0, _entry(2, 2, 2.0), evictions=None)
    week, _ = _periods()
    assert (week.vanished, week.evictions, week.entries) == (2, None, 1)


def test_a_reset_is_told(warehouse: psycopg.Connection) -> None:
    reset = NOW - timedelta(days=2)
    _record("w1", 1, _entry(1, 10, 1.0), since=NOW - 5 * WEEK, evictions=9)
    _record("now", 0, _entry(1, 50, 5.0), since=reset, evictions=2)
    week, _ = _periods()
    assert _work(week) == {1: (50, 5.0)}, "all of it is from after the reset"
    assert (week.was_reset, week.statistics_since, week.evictions) == (True, reset, 2)


def test_what_a_week_begins_with(warehouse: psycopg.Connection) -> None:
    for run_id, weeks in (("w4", 4), ("w1", 1), ("tuesday", 5 / 7), ("yesterday", 1 / 7)):
        _record(run_id, weeks, _entry(1, round(100 - 10 * weeks), 1.0))
    other = Reading("2/escrow", NOW - 0.8 * WEEK, None, 0, [_entry(1, 1, 1.0)])
    query_statistics.record("other server", other, keep_days=100)
    _record("now", 0, _entry(1, 100, 2.0))
    week, before = _periods()
    assert week.began_at == NOW - timedelta(days=5), "the newest that is at least five days old, of the same server"
    assert before is not None
    assert before.began_at == NOW - 4 * WEEK


def test_a_repeated_run_replaces_its_reading_and_old_ones_go(warehouse: psycopg.Connection) -> None:
    _record("ancient", 15, _entry(9, 1, 1.0))
    other = Reading("1/escrow/2", NOW - 15 * WEEK, None, 0, [_entry(8, 1, 1.0)])
    query_statistics.record("of the primary before", other, keep_days=100)
    _record("w1", 1, _entry(1, 10, 1.0))
    for calls in (20, 30):
        _record("now", 0, _entry(1, calls, 3.0))
    assert _work(_periods()[0]) == {1: (20, 2.0)}
    assert warehouse.execute("SELECT run_id FROM ops.statement_snapshot ORDER BY 1").fetchall() == [("now",), ("w1",)]
    texts = warehouse.execute("SELECT query_id FROM ops.statement_text").fetchall()
    assert texts == [(1,)], "texts of queries that no reading has any more are forgotten"


def test_a_failed_recording_leaves_the_earlier_one(warehouse: psycopg.Connection) -> None:
    _record("now", 0, _entry(1, 10, 1.0))
    with pytest.raises(psycopg.errors.UniqueViolation):
        _record("now", 0, _entry(1, 20, 1.0), _entry(1, 30, 1.0))
    assert _work(_periods()[0]) == {1: (10, 1.0)}
