"""The rows of ops.report: written once, changed only with their content, read for the board."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest

from include import connections
from include.warehouse import reports, session
from include.warehouse.reports import KINDS, Report


def report(day: int = 3, kind: str = KINDS[0], **changes: object) -> Report:
    start = datetime(2026, 10, day, tzinfo=UTC)
    found = Report(
        kind=kind,
        period_key=f"2026-10-{day:02d}",
        window_start=start,
        window_end=start + timedelta(days=1),
        title="Title",
        verdict="ok",
        headline="Fine.",
        completeness=Decimal("0.75"),
        missing=["revenue"],
        figures=[{"name": "revenue", "value": None}],
        markdown="text",
        html="<p>text</p>",
        input_hash="hash",
        own_inputs={"users": "a"},
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def store(*found: Report) -> list[bool]:
    changed = []
    for each in found:
        with session.transaction() as connection:
            reports.lock(connection)
            changed.append(reports.store(connection, each))
    return changed


def test_a_report_is_read_as_it_was_stored(warehouse: psycopg.Connection) -> None:
    assert store(report()) == [True]
    [found] = reports.of_day(warehouse, "2026-10-03")
    assert {name: getattr(found, name) for name in vars(report())} == vars(report())
    assert found.delivered_at is None
    assert reports.of_day(warehouse, "2026-10-04") == []


def test_times_move_with_the_content_alone(warehouse: psycopg.Connection) -> None:
    store(report())
    [first] = reports.of_day(warehouse, "2026-10-03")
    reports.mark_delivered(warehouse, first)
    assert store(report(own_inputs={"users": "b"})) == [False]
    [same] = reports.of_day(warehouse, "2026-10-03")
    assert (same.own_inputs, same.rendered_at) == ({"users": "b"}, first.rendered_at)
    assert same.delivered_at is not None
    assert store(report(html="<p>other</p>")) == [True]
    [changed] = reports.of_day(warehouse, "2026-10-03")
    assert changed.rendered_at > first.rendered_at
    assert (changed.first_rendered_at, changed.delivered_at) == (first.first_rendered_at, None)
    # The delivery of the content before it does not count for the new one.
    reports.mark_delivered(warehouse, same)
    assert [each.html for each in reports.undelivered(warehouse, changed.window_end)] == ["<p>other</p>"]
    assert reports.undelivered(warehouse, changed.window_end - timedelta(seconds=1)) == []


def test_latest_is_the_newest_day_in_the_order_of_kinds(warehouse: psycopg.Connection) -> None:
    assert reports.latest(warehouse) == []
    store(report(5, KINDS[1]), report(5, KINDS[0]), report(4, KINDS[0]))
    assert [(each.period_key, each.kind) for each in reports.latest(warehouse)] == [
        ("2026-10-05", KINDS[0]),
        ("2026-10-05", KINDS[1]),
    ]


def test_the_reader_may_read_and_not_write(warehouse: psycopg.Connection) -> None:
    store(report())
    with connections.postgres("warehouse_reader") as reader:
        assert len(reports.latest(reader)) == 1
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reports.store(reader, report())


def test_renderers_wait_for_each_other_and_readers_do_not(warehouse: psycopg.Connection) -> None:
    store(report())
    with connections.postgres("warehouse") as first, connections.postgres("warehouse") as second:
        reports.lock(first)
        second.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            reports.lock(second)
        assert len(reports.latest(warehouse)) == 1
