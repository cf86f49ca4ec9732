"""The folder of reports holds what the warehouse holds, whatever happened to it or came between."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from include.outcome import ConfigurationError, SourceUnavailable
from include.reporting import delivery, reports
from include.warehouse import reports as stored
from include.window import day_window
from tests.include.reporting.report_rows import ACTIVITY, DAY, HEALTH, WINDOW, insert_day, line, one, set_subject


def test_reports_are_stored_before_a_failed_delivery_and_delivered_later(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    insert_day(warehouse, DAY)
    place = tmp_path / "file in the way"
    place.write_text("x")
    environment.setenv("AIRFLOW_CONN_REPORTS", f'{{"conn_type": "fs", "extra": {{"path": "{place}/reports"}}}}')
    with pytest.raises((ConfigurationError, SourceUnavailable), match="the folder of the connection reports"):
        reports.render_day(WINDOW, "run")
    assert [each.delivered_at for each in stored.of_day(warehouse, WINDOW.key)] == [None, None]
    # The next day's run brings the folder up to date.
    good = tmp_path / "good"
    environment.setenv("AIRFLOW_CONN_REPORTS", f'{{"conn_type": "fs", "extra": {{"path": "{good}"}}}}')
    following = DAY + timedelta(days=1)
    insert_day(warehouse, following)
    reports.render_day(day_window(following, "UTC"), "run")
    assert sorted(str(each.relative_to(good)) for each in good.rglob("*.md")) == [
        "2026-10-03/daily_system_health.md",
        "2026-10-03/daily_user_activity.md",
        "2026-10-04/daily_system_health.md",
        "2026-10-04/daily_user_activity.md",
    ]
    assert all(each.delivered_at for each in stored.of_day(warehouse, WINDOW.key))


def test_a_day_that_was_computed_while_no_report_could_be_made_gets_its_report_with_the_last_day(
    warehouse: psycopg.Connection, tmp_path: Path
) -> None:
    """Airflow starts no run for the asset events of a paused DAG."""
    missed, too_old = DAY - timedelta(days=2), DAY - timedelta(days=28)
    for day in (too_old, missed, DAY - timedelta(days=1), DAY):
        insert_day(warehouse, day)
    reports.render_day(day_window(DAY - timedelta(days=1), "UTC"), "run", WINDOW.end)
    assert stored.of_day(warehouse, f"{missed}") == [], "a backfill starts a run for each of its days"
    expected = [HEALTH, ACTIVITY, f"{missed}/{HEALTH}", f"{missed}/{ACTIVITY}"]
    assert reports.render_day(WINDOW, "run", WINDOW.end + timedelta(hours=23)) == expected
    assert reports.render_day(WINDOW, "run", WINDOW.end) == []
    assert (tmp_path / "reports" / f"{missed}" / f"{HEALTH}.md").exists()
    assert stored.of_day(warehouse, f"{too_old}") == []


def test_a_file_that_was_lost_is_written_again(warehouse: psycopg.Connection, tmp_path: Path) -> None:
    insert_day(warehouse, DAY)
    reports.render_day(WINDOW, "run")
    path = tmp_path / "reports" / WINDOW.key / f"{HEALTH}.html"
    text = path.read_text()
    path.unlink()
    reports.render_day(WINDOW, "run")
    assert path.read_text() == text == one(warehouse, HEALTH).html


def test_the_file_is_of_the_newest_content_when_two_runs_deliver_at_once(
    warehouse: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_day(warehouse, DAY)
    deliver, about_to_write, corrected = delivery.deliver, threading.Event(), threading.Event()
    waits = (
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
        " WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"
    )

    def slowly(found: Sequence[stored.Report]) -> list[str]:
        """The first run stands still with what it has read until the second has delivered, or waits for its turn."""
        if threading.current_thread() is first:
            about_to_write.set()
            assert corrected.wait(60)
            while second.is_alive() and warehouse.execute(waits).fetchone() == (0,):
                time.sleep(0.02)
        return deliver(found)

    monkeypatch.setattr(delivery, "deliver", slowly)
    first, second = (threading.Thread(target=reports.render_day, args=(WINDOW, name)) for name in ("first", "second"))
    first.start()
    assert about_to_write.wait(60)
    warehouse.execute("UPDATE ops.daily_users SET new_users = 30 WHERE day = %s", (DAY,))
    set_subject(warehouse, DAY, "users", content_hash="corrected")
    second.start()
    corrected.set()
    for thread in (first, second):
        thread.join(60)
    newest = one(warehouse, ACTIVITY)
    assert line(newest, "New Users").startswith("- New Users: 30")
    assert newest.delivered_at is not None
    assert (tmp_path / "reports" / WINDOW.key / f"{ACTIVITY}.html").read_text() == newest.html
