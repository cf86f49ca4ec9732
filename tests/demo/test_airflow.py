"""How the demo's Airflow is set up and asked for runs; what Airflow answers is made up here, the rest runs for real."""

from __future__ import annotations

import json
import time
from datetime import date
from pathlib import Path

import httpx
import pytest

from demo import airflow as module
from demo.airflow import Airflow
from demo.processes import Processes, StartError

DAY = date(2026, 10, 3)


def _airflow(folder: Path, database_url: str = "postgresql://airflow@127.0.0.1/airflow") -> Airflow:
    processes = Processes(folder / "processes.json")
    return Airflow(processes, folder / "airflow", database_url=database_url, connections={}, preferred_port=None)


def _answering(airflow: Airflow, statuses: list[int]) -> list[dict[str, str]]:
    """Let the backfills be answered with one status after the other; returns the list that takes what was asked."""
    asked: list[dict[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "token"})
        asked.append(json.loads(request.content))
        return httpx.Response(statuses.pop(0), json={})

    airflow._client = httpx.Client(base_url=airflow.url, transport=httpx.MockTransport(answer))
    return asked


def test_the_end_of_an_earlier_backfill_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    airflow = _airflow(tmp_path)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    asked = _answering(airflow, [409, 409, 200])
    airflow.backfill("daily_metrics", DAY, DAY)
    assert [one["from_date"] for one in asked] == ["2026-10-03T00:00:00Z"] * 3, "asked until it was taken"
    _answering(airflow, [409])
    with pytest.raises(StartError, match="an earlier backfill of daily_metrics has not ended after -1 s"):
        airflow.backfill("daily_metrics", DAY, DAY, seconds=-1)
    _answering(airflow, [404])
    with pytest.raises(httpx.HTTPStatusError):
        airflow.backfill("daily_metrics", DAY, DAY)


@pytest.mark.parametrize(
    ("scheme", "connection"),
    [("postgresql", "postgresql"), ("postgresql+psycopg2", "postgresql"), ("postgres", "postgres")],
)
def test_the_database_may_be_given_as_airflow_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, connection: str
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_AIRFLOW_DB", raising=False)
    given = _airflow(tmp_path, f"{scheme}://airflow@127.0.0.1/airflow").environment
    assert given["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == "postgresql+psycopg2://airflow@127.0.0.1/airflow"
    assert given["AIRFLOW_CONN_AIRFLOW_DB"] == f"{connection}://airflow@127.0.0.1/airflow"


def test_a_connection_to_it_that_is_given_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_DB", "postgresql+psycopg2://cleaner@127.0.0.1/airflow")
    assert _airflow(tmp_path).environment["AIRFLOW_CONN_AIRFLOW_DB"] == "postgresql://cleaner@127.0.0.1/airflow"
    assert module._without_driver('{"conn_type": "postgres"}') == '{"conn_type": "postgres"}'
