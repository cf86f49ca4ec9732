"""What every DAG gets from dagkit: its declaration, and the window of a run."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import timezone

from include import dagkit
from include.outcome import ConfigurationError
from include.settings import settings
from include.window import Grain
from tests.catalogue import dags


def context(**changes: Any) -> dict[str, Any]:
    """What a task sees in a run that is due in the morning of 9 October."""
    run = SimpleNamespace(
        dag_id="daily_metrics",
        run_id="run",
        partition_key=changes.get("partition_key"),
        run_after=changes.get("run_after", datetime(2026, 10, 9, 5, tzinfo=UTC)),
        run_type=changes.get("run_type", "manual"),
        logical_date=changes.get("logical_date"),
    )
    return {"dag_run": run, "params": {"day": None}, "partition_key": None} | changes


@pytest.mark.parametrize(
    ("given", "grain", "key"),
    [
        ({}, Grain.DAY, "2026-10-08"),
        ({"partition_key": "2026-10-03"}, Grain.DAY, "2026-10-03"),
        ({"partition_key": "2026-10-03", "run_type": "backfill"}, Grain.DAY, "2026-10-03"),
        ({"params": {"day": "2026-10-03"}, "partition_key": "2026-10-03"}, Grain.DAY, "2026-10-03"),
        ({"params": {"day": "2026-10-02"}, "partition_key": "2026-09-28 (W40)"}, Grain.WEEK, "2026-W40"),
        ({"partition_key": "2026-09-28 (W40)"}, Grain.WEEK, "2026-W40"),
        ({"params": {"day": "2026-10-04"}}, Grain.WEEK, "2026-W40"),
        ({}, Grain.WEEK, "2026-W41"),
        ({"params": {"day": "2026-10-03"}, "run_type": "backfill"}, Grain.DAY, "2026-10-03"),
        # As Airflow's form fills it in.
        ({"logical_date": datetime(2026, 10, 9, 4, 59, tzinfo=UTC)}, Grain.DAY, "2026-10-08"),
        ({"logical_date": datetime(2026, 10, 7, tzinfo=UTC)}, Grain.WEEK, "2026-W41"),
        ({"logical_date": datetime(2026, 10, 3, tzinfo=UTC), "params": {"day": "2026-10-01"}}, Grain.DAY, "2026-10-01"),
        ({"logical_date": datetime(2026, 10, 3, tzinfo=UTC), "run_type": "scheduled"}, Grain.DAY, "2026-10-08"),
        ({"partition_key": "2026-10"}, Grain.MONTH, "2026-10"),
        ({"params": {"day": "2026-02-28"}}, Grain.MONTH, "2026-02"),
    ],
)
def test_the_window_of_a_run(given: dict[str, Any], grain: Grain, key: str) -> None:
    assert dagkit.window_of(context(**given), grain).key == key


def test_a_day_and_a_key_that_differ_are_refused() -> None:
    given = context(params={"day": "2026-10-01"}, partition_key="2026-10-03")
    with pytest.raises(
        ConfigurationError, match="day names 2026-10-01 and the partition key 2026-10-03; start the run"
    ):
        dagkit.window_of(given)


@pytest.mark.parametrize("run_type", ["backfill", "asset_triggered"])
def test_a_run_whose_key_was_cleared_computes_no_other_day(run_type: str) -> None:
    with pytest.raises(ConfigurationError, match="key of this run was cleared.*trigger the DAG with the parameter day"):
        dagkit.window_of(context(run_type=run_type))


@pytest.mark.parametrize(
    ("logical_date", "grain"),
    [
        (datetime(2026, 10, 3, tzinfo=UTC), Grain.DAY),
        (datetime(2026, 10, 8, 23, 59, tzinfo=UTC), Grain.DAY),
        (datetime(2026, 10, 5, 12, tzinfo=UTC), Grain.WEEK),  # the last finished day is Sunday's
    ],
)
def test_a_logical_date_of_another_day_is_refused(logical_date: datetime, grain: Grain) -> None:
    said = "chooses no day; trigger the DAG with the parameter day"
    with pytest.raises(ConfigurationError, match=f"logical date 2026-10-0.*would be about 2026-.*{said}"):
        dagkit.window_of(context(logical_date=logical_date), grain)


@pytest.mark.airflow
@pytest.mark.parametrize(
    ("zone", "midnight_before", "days"),
    [
        ("UTC", "2026-10-02T00:00+00:00", ["2026-10-02", "2026-10-03", "2026-10-04"]),
        # The day of the change begins at 01:00 ...
        ("Africa/Cairo", "2026-04-23T00:00+02:00", ["2026-04-23", "2026-04-24", "2026-04-25"]),
        ("America/Santiago", "2026-09-05T00:00-04:00", ["2026-09-05", "2026-09-06", "2026-09-07"]),
        # ... and here has two midnights.
        ("America/Havana", "2026-10-31T00:00-04:00", ["2026-10-31", "2026-11-01", "2026-11-02"]),
    ],
)
def test_each_day_is_computed_once_it_is_over_also_where_clocks_change_at_midnight(
    environment: pytest.MonkeyPatch, zone: str, midnight_before: str, days: list[str]
) -> None:
    """By the ticks and the keys of Airflow's own timetable, as the scheduler reads it."""
    from airflow.serialization.decoders import decode_timetable
    from airflow.serialization.encoders import encode_timetable

    environment.setenv("OPERATIONS__PLATFORM__TIMEZONE", zone)
    settings.cache_clear()
    schedule: Any = decode_timetable(json.loads(json.dumps(encode_timetable(dagkit.finished_days("daily_metrics")))))
    tick, found = timezone.coerce_datetime(datetime.fromisoformat(midnight_before)), []
    for _ in days:
        tick = schedule._get_next(tick)
        _, key = schedule._get_partition_info(tick)
        found.append(dagkit.window_of(context(run_type="scheduled", run_after=tick, partition_key=key)).key)
    assert found == days
    settings.cache_clear()


def test_a_day_that_is_none_is_named() -> None:
    with pytest.raises(ConfigurationError, match="'2026-02-30' is not a day of the calendar"):
        dagkit.window_of(context(params={"day": "2026-02-30"}))


def test_announcing_days_names_each_as_a_partition() -> None:
    added: list[str] = []
    events = {dagkit.DAILY_METRICS: SimpleNamespace(add_partitions=added.extend)}
    dagkit.announce({"outlet_events": events}, dagkit.DAILY_METRICS, {date(2026, 10, 2), date(2026, 10, 1)})
    assert added == ["2026-10-01", "2026-10-02"]


def test_an_asset_without_a_day_is_not_reported() -> None:
    task = SimpleNamespace(outlets=[dagkit.DAILY_METRICS, dagkit.WEEKS_TO_ROLL_UP])
    dagkit.announce({"outlet_events": {}, "task": task}, dagkit.WEEKS_TO_ROLL_UP, set())
    assert task.outlets == [dagkit.DAILY_METRICS]


@pytest.mark.airflow
@pytest.mark.parametrize(
    ("hour", "days"),
    [
        (0, ["2026-10-01", "2026-10-02", "2026-10-03"]),
        # Midnight in New York, and in Madrid: why docs/operate.md wants the UI in UTC.
        (4, ["2026-10-02", "2026-10-03"]),
        (-2, ["2026-10-01", "2026-10-02"]),
    ],
)
def test_the_dates_of_a_backfill_are_its_days_when_they_are_those_of_utc(hour: int, days: list[str]) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    stored = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dags()["daily_metrics"]))
    first, last = (timezone.parse(f"2026-10-0{day}") + timedelta(hours=hour) for day in (1, 3))
    assert [info.partition_key for info in stored.iter_dagrun_infos_between(first, last)] == days


@pytest.mark.airflow
@pytest.mark.parametrize(("minutes", "is_due"), [(10, False), (2, True)])
def test_a_new_deployment_waits_for_the_next_tick_unless_one_is_just_due(
    environment: pytest.MonkeyPatch, minutes: int, is_due: bool
) -> None:
    """As the scheduler reads the schedule, which comes to it as JSON."""
    from airflow.serialization.decoders import decode_timetable
    from airflow.serialization.encoders import encode_timetable
    from airflow.timetables.base import TimeRestriction

    latest = datetime.now(UTC) - timedelta(minutes=minutes)
    environment.setenv("OPERATIONS__SCHEDULES__MONTHLY_MAINTENANCE", f"{latest:%M %H %d} * *")
    settings.cache_clear()
    schedule = decode_timetable(json.loads(json.dumps(encode_timetable(dagkit.every("monthly_maintenance")))))
    first = schedule.next_dagrun_info(
        last_automated_data_interval=None, restriction=TimeRestriction(None, None, catchup=False)
    )
    assert first is not None
    assert (first.run_after < datetime.now(UTC)) == is_due
    assert is_due or first.run_after > datetime.now(UTC) + timedelta(days=20)
