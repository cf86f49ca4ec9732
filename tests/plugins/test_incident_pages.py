"""What the board says of an incident that somebody has taken, and where it leads to."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
from fastapi.testclient import TestClient
from markupsafe import escape
from psycopg.types.json import Jsonb

from tests.plugins import rows
from tests.plugins.conftest import NOW, text_of
from tests.plugins.test_pages import quiet

pytestmark = pytest.mark.airflow


def test_one_that_was_seen_again_since_somebody_took_it_says_so(
    browser: TestClient, warehouse: psycopg.Connection
) -> None:
    quiet(warehouse)
    taken = NOW - timedelta(hours=13)
    rows.incident(warehouse, "INC-2026-001", "P1", "acknowledged", "platform_watch: task probe_components failed",
                  "platform_watch", taken - timedelta(minutes=5), 1, acknowledged=taken)  # fmt: skip
    assert "seen again" not in text_of(browser.get("").text)
    warehouse.execute(
        "INSERT INTO ops.signal (idempotency_key, kind, occurred_at, received_at, fingerprint, class, title)"
        " SELECT at::text, 'dag_failed', at + interval '5 hours', at, fingerprint, class,"  # a worker's clock is ahead
        " 'platform_watch: failed at ' || to_char(at, 'MI')"
        " FROM ops.incident, unnest(%s::timestamptz[]) AS at",
        ([NOW - timedelta(minutes=ago) for ago in (12, 1)],),
    )
    warehouse.execute("UPDATE ops.incident SET occurrences = 2, last_seen_at = %s", (NOW - timedelta(minutes=12),))
    said = (
        "Somebody took it 13 h ago. It was seen again since, last 12 min ago: platform_watch: failed at 00."
        " Affected: platform_watch."
    )
    assert said in text_of(browser.get("incidents/INC-2026-001").text)
    overview = text_of(browser.get("").text)
    assert said in overview
    assert "2 \u00d7 12 min ago" in overview
    assert "2 \u00d7 12 min ago" in text_of(browser.get("incidents").text)


@pytest.mark.parametrize(
    ("address", "linked"),
    [
        ("https://airflow.example/dags/d/runs/manual__2026-10-03T12%3A00/tasks/t/mapped/3?try_number=1&a=b", True),
        ("http://localhost:8080/dags/d", True),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ('https://x/" onclick=alert(1)', False),
        ("https://x/ y", False),
        ("ftp://x/y", False),
        ("see https://x/", False),
    ],
)
def test_a_log_is_linked_when_its_address_can_only_be_opened(
    browser: TestClient, warehouse: psycopg.Connection, address: str, linked: bool
) -> None:
    rows.incident(warehouse, "INC-2026-001", "P1", "detected", "t", "a", NOW - timedelta(minutes=5), 1)
    warehouse.execute(
        "INSERT INTO ops.incident_timeline (incident_id, entry, at, actor, kind, message, detail)"
        " VALUES ('INC-2026-001', 2, %s, 'x', 'seen_again', 'm', %s)",
        (NOW, Jsonb({"log_url": address, "other": address})),
    )
    page = browser.get("incidents/INC-2026-001").text
    escaped = str(escape(address))
    link = f'<a href="{escaped}" target="_blank" rel="noopener noreferrer">{escaped}</a>'
    assert page.count(escaped) == (3 if linked else 2)
    assert page.count(link) == (1 if linked else 0)
    assert f"<td>{escaped}</td>" in page, "what is no address of a log is text"
