"""Rows that the platform's database gets after their day was computed reach, by the next run, those who follow."""

from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from demo.databases import Databases
from include.reporting import subject, transactions
from include.window import day_window
from tests.conftest import Platform
from tests.dags.test_runs import _reported as reported_by
from tests.dags.test_runs import run

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("airflow_database")]

DAY = date(2026, 10, 7)


def test_rows_that_come_late_bring_their_day_to_those_who_follow(
    platform: Platform, databases: Databases, environment: pytest.MonkeyPatch
) -> None:
    environment.setattr(subject, "last_finished_day", lambda *_: DAY)
    earlier = DAY - timedelta(days=1)
    transactions.compute(day_window(earlier, "UTC"), "first")
    with psycopg.connect(databases.url(platform.escrow, "escrow_owner"), autocommit=True) as escrow:
        escrow.execute(
            "INSERT INTO fees (transaction_id, kind, charged_at, amount_usd)"
            " SELECT transaction_id, kind, %s, amount_usd FROM fees WHERE kind <> 'refund' LIMIT 1",
            (datetime(2026, 10, 6, 23, 40, tzinfo=UTC),),
        )
    reported = reported_by(run("daily_metrics", day=f"{DAY}"))
    assert reported == {("daily_metrics", f"{earlier}"), ("daily_metrics", f"{DAY}")}
