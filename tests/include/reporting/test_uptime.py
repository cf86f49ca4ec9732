"""Uptime by time: a day worked out by hand, a second-by-second simulation of random days, bad and unfinished days."""

from __future__ import annotations

import json
import random
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from include.outcome import Completeness
from include.reporting import uptime
from include.settings import settings
from include.warehouse import metrics
from include.window import Window, day_window

DAY = date(2026, 9, 10)
WINDOW = day_window(DAY, "UTC")
COMPONENTS = ("frontend", "api", "database", "cache", "chain")


def observe(warehouse: psycopg.Connection[Any], component: str, at: datetime, outcome: str) -> None:
    warehouse.execute(
        "INSERT INTO ops.observation (signal, resource, observed_at, outcome) VALUES ('probe', %s, %s, %s)",
        (component, at, outcome),
    )


def observe_every_minute(
    warehouse: psycopg.Connection[Any], component: str, begin: datetime, end: datetime, outcome: str = "ok"
) -> None:
    """From ``begin`` to before ``end``."""
    warehouse.execute(
        "INSERT INTO ops.observation (signal, resource, observed_at, outcome)"
        " SELECT 'probe', %s, at, %s FROM generate_series(%s, %s - interval '1 ms', interval '1 minute') AS at",
        (component, outcome, begin, end),
    )


def maintain(warehouse: psycopg.Connection[Any], component: str, begin: datetime, end: datetime) -> None:
    warehouse.execute(
        "INSERT INTO ops.maintenance_window (component, starts_at, ends_at, reason, created_by)"
        " VALUES (%s, %s, %s, 'test', 'test')",
        (component, begin, end),
    )


def rows_of(warehouse: psycopg.Connection[Any], day: date = DAY) -> dict[str, tuple[Any, ...]]:
    """Component -> up, down, maintenance, unknown seconds, outages."""
    found = warehouse.execute(
        "SELECT component, up_seconds, down_seconds, maintenance_seconds, unknown_seconds, outages"
        " FROM ops.daily_uptime WHERE day = %s",
        (day,),
    )
    return {row[0]: row[1:] for row in found}


def at(hour: int, minute: int = 0, second: float = 0) -> datetime:
    return WINDOW.start + timedelta(hours=hour, minutes=minute, seconds=second)


def state_of(day: date = DAY) -> metrics.SubjectState:
    return metrics.subject_states([day])[day]["uptime"]


def test_a_day_worked_out_by_hand(warehouse: psycopg.Connection[Any]) -> None:
    for component in COMPONENTS:
        observe_every_minute(warehouse, component, at(0) - timedelta(minutes=5), at(24))
    # frontend: down from 10:00:00 until the observation of 10:03:00, and for the last observation of the day.
    warehouse.execute(
        "UPDATE ops.observation SET outcome = 'critical' WHERE resource = 'frontend'"
        " AND (observed_at BETWEEN %s AND %s OR observed_at = %s)",
        (at(10), at(10, 2), at(23, 59)),
    )
    # api: down across midnight: 3 minutes before the day and 2 in it, which began the day before; then a gap of the
    # watch from 04:00 to 05:00, of which the observation of 03:59 holds 90 s: 3600 - 90 = 3510 s unknown.
    warehouse.execute(
        "UPDATE ops.observation SET outcome = 'critical' WHERE resource = 'api' AND observed_at BETWEEN %s AND %s",
        (at(0) - timedelta(minutes=3), at(0, 1)),
    )
    warehouse.execute(
        "DELETE FROM ops.observation WHERE resource = 'api' AND observed_at >= %s AND observed_at < %s", (at(4), at(5))
    )
    # database: critical 12:00 to 12:10, of which maintenance takes 12:04 to 12:08 (two windows that overlap);
    # so two intervals of downtime, 4 and 2 minutes.
    warehouse.execute(
        "UPDATE ops.observation SET outcome = 'critical' WHERE resource = 'database' AND observed_at BETWEEN %s AND %s",
        (at(12), at(12, 9)),
    )
    maintain(warehouse, "database", at(12, 4), at(12, 7))
    maintain(warehouse, "database", at(12, 6), at(12, 8))
    # cache: unknown outcomes for 5 minutes, a warning that counts as up. chain: everything under maintenance 20-21 h.
    warehouse.execute(
        "UPDATE ops.observation SET outcome = CASE WHEN observed_at < %s THEN 'unknown' ELSE 'warning' END"
        " WHERE resource = 'cache' AND observed_at BETWEEN %s AND %s",
        (at(8, 5), at(8), at(8, 30)),
    )
    maintain(warehouse, "*", at(20), at(21))

    assert uptime.compute(WINDOW, "test") is True
    rows = rows_of(warehouse)
    # 86,400 s less one hour of maintenance for everybody: 82,800 s.
    assert rows["frontend"] == (82800 - 180 - 60, 180 + 60, 3600, 0, 2)
    assert rows["api"] == (82800 - 120 - 3510, 120, 3600, 3510, 0)
    assert rows["database"] == (82800 - 600, 360, 3600 + 240, 0, 2)
    assert rows["cache"] == (82800 - 300, 0, 3600, 300, 0)
    assert rows["chain"] == (82800, 0, 3600, 0, 0)
    # overall: frontend, api and database together; none of their troubles overlap. Of its down intervals those of
    # 10:00, 12:00, 12:08 and 23:59 began in the day.
    down = 180 + 60 + 120 + 360
    assert rows["overall"] == (82800 - down - 3510 - 240, down, 3600 + 240, 3510, 4)
    assert all(sum(row[:4]) == 86400 for row in rows.values())

    state = state_of()
    assert state.state is Completeness.PARTIAL
    assert state.completeness == Decimal("0.95937")  # 1 - 3510 / 86400 = 0.959375, rounded down
    assert "3510 seconds" in state.reason
    assert state.detail["observations"]["frontend"] == 1440  # the one of 23:59 was replaced at 00:00


def test_an_observation_from_before_the_window_holds_into_it(warehouse: psycopg.Connection[Any]) -> None:
    observe(warehouse, "api", at(0) - timedelta(seconds=150), "critical")  # ends exactly where the window begins
    observe(warehouse, "frontend", at(0) - timedelta(seconds=149.5), "critical")  # holds half a second into it
    observe(warehouse, "database", at(0), "critical")  # begins with the window: an outage of this day
    observe(warehouse, "cache", at(23, 59), "critical")  # holds to the end of the window, not beyond
    observe(warehouse, "chain", at(24), "critical")  # another day's
    uptime.compute(WINDOW, "test")
    rows = rows_of(warehouse)
    assert rows["api"] == (0, 0, 0, 86400, 0)
    assert rows["frontend"] == (0, Decimal("0.5"), 0, Decimal("86399.5"), 0)
    assert rows["database"] == (0, 150, 0, 86250, 1)
    assert rows["cache"] == (0, 60, 0, 86340, 1)
    assert rows["chain"] == (0, 0, 0, 86400, 0)
    assert rows["overall"] == (0, 150, 0, 86250, 0)  # down since before the window


def test_overlapping_maintenance_counts_once_and_ends_with_the_window(warehouse: psycopg.Connection[Any]) -> None:
    for component in COMPONENTS:
        observe_every_minute(warehouse, component, at(0), at(24), "critical")
    maintain(warehouse, "*", at(0) - timedelta(days=2), at(1))
    maintain(warehouse, "api", at(0, 30), at(2))
    maintain(warehouse, "api", at(23), at(24) + timedelta(days=3))
    uptime.compute(WINDOW, "test")
    rows = rows_of(warehouse)
    assert rows["api"] == (0, 21 * 3600, 3 * 3600, 0, 1)
    assert rows["chain"] == (0, 23 * 3600, 3600, 0, 1)
    assert rows["overall"] == (0, 23 * 3600, 3600, 0, 1), "the others are down while the API is under maintenance"


def test_maintenance_of_one_component_does_not_hide_that_another_is_down(warehouse: psycopg.Connection[Any]) -> None:
    """The frontend is under maintenance from 10:00 to 14:00, and the database crashes from 11:00 to 13:00."""
    for component in COMPONENTS:
        observe_every_minute(warehouse, component, at(0), at(24))
    warehouse.execute(
        "UPDATE ops.observation SET outcome = 'critical' WHERE resource = 'frontend' AND observed_at BETWEEN %s AND %s",
        (at(10, 30), at(13, 30)),
    )
    warehouse.execute(
        "UPDATE ops.observation SET outcome = 'critical' WHERE resource = 'database'"
        " AND observed_at >= %s AND observed_at < %s",
        (at(11), at(13)),
    )
    maintain(warehouse, "frontend", at(10), at(14))
    uptime.compute(WINDOW, "test")
    rows = rows_of(warehouse)
    assert rows["frontend"] == (20 * 3600, 0, 4 * 3600, 0, 0)
    assert rows["database"] == (22 * 3600, 2 * 3600, 0, 0, 1)
    assert rows["overall"] == (20 * 3600, 2 * 3600, 2 * 3600, 0, 1)


def test_a_day_without_observations_is_missing_and_not_zero(warehouse: psycopg.Connection[Any]) -> None:
    maintain(warehouse, "*", at(1), at(2))
    uptime.compute(WINDOW, "test")
    assert rows_of(warehouse) == {}
    state = state_of()
    assert (state.state, state.completeness) == (Completeness.MISSING, Decimal(0))
    assert state.reason == "the watch observed no component in 2026-09-10"


def test_a_whole_day_is_complete_and_a_rerun_changes_nothing(warehouse: psycopg.Connection[Any]) -> None:
    for component in COMPONENTS:
        observe_every_minute(warehouse, component, at(0), at(24))
    assert uptime.compute(WINDOW, "first") is True
    before = warehouse.execute("SELECT * FROM ops.daily_uptime ORDER BY component").fetchall()
    assert uptime.compute(WINDOW, "second") is False
    assert warehouse.execute("SELECT * FROM ops.daily_uptime ORDER BY component").fetchall() == before
    assert (state_of().state, state_of().completeness, state_of().reason) == (Completeness.COMPLETE, Decimal(1), "")


def test_days_of_a_daylight_saving_change_have_their_own_length(warehouse: psycopg.Connection[Any]) -> None:
    for day, seconds in ((date(2026, 3, 29), 23 * 3600), (date(2025, 10, 26), 25 * 3600)):
        window = day_window(day, "Europe/Berlin")
        for component in COMPONENTS:
            observe_every_minute(warehouse, component, window.start, window.end)
        uptime.compute(window, "test")
        assert rows_of(warehouse, day)["overall"] == (seconds, 0, 0, 0, 0)


def test_a_day_that_is_not_over_is_partial_and_its_rest_unknown(warehouse: psycopg.Connection[Any]) -> None:
    now = datetime.now(UTC)
    window = day_window(now.date(), "UTC")
    for component in COMPONENTS:
        observe_every_minute(warehouse, component, window.start, now)
    uptime.compute(window, "test")
    row = rows_of(warehouse, now.date())["overall"]
    assert sum(row[:4]) == 86400
    assert abs(float(row[0]) - (now - window.start).total_seconds()) < 5
    state = state_of(now.date())
    assert (state.state, "was not over" in state.reason) == (Completeness.PARTIAL, True)
    uptime.compute(day_window(now.date() + timedelta(days=2), "UTC"), "test")
    assert "had not begun" in state_of(now.date() + timedelta(days=2)).reason


def test_more_observations_cost_no_more_each(warehouse: psycopg.Connection[Any]) -> None:
    def best_seconds(hours: int) -> float:
        warehouse.execute("TRUNCATE ops.observation")
        for component in COMPONENTS:
            observe_every_minute(warehouse, component, at(0), at(hours))
        warehouse.execute("ANALYZE ops.observation")
        seconds = []
        for _ in range(5):  # the best of them: others use the machine too
            begun = time.perf_counter()
            uptime.compute(WINDOW, "timed")
            seconds.append(time.perf_counter() - begun)
        return min(seconds)

    best_seconds(1)  # what a first run reads anew
    assert best_seconds(24) < 12 * best_seconds(2)  # each one compared with each would take 144 times


def simulate(
    window: Window,
    observations: list[tuple[str, int, str]],
    maintenance: list[tuple[str, int, int]],
    hold: int,
) -> dict[str, tuple[int, ...]]:
    """The definition, second by second; times are seconds from the start of the window."""
    length = int(window.seconds)
    states: dict[str, list[str]] = {}
    for component in COMPONENTS:
        line = ["unknown"] * (length + 1)  # index 0 is the second before the window
        mine = sorted((second, outcome) for name, second, outcome in observations if name == component)
        for (begin, outcome), (following, _) in pairwise([*mine, (10**9, "")]):
            what = {"ok": "up", "warning": "up", "critical": "down"}.get(outcome, "unknown")
            for second in range(max(-1, begin), min(following, begin + hold, length)):
                line[second + 1] = what
        for name, begin, end in maintenance:
            if name in (component, "*"):
                for second in range(max(-1, begin), min(end, length)):
                    line[second + 1] = "maintenance"
        states[component] = line
    facing = [states[name] for name in ("frontend", "api", "database")]
    states["overall"] = [
        next((one for one in ("down", "maintenance", "unknown") if one in moment), "up")
        for moment in zip(*facing, strict=True)
    ]
    return {
        name: (
            *(line[1:].count(state) for state in ("up", "down", "maintenance", "unknown")),
            sum(line[n] == "down" and line[n - 1] != "down" for n in range(1, len(line))),
        )
        for name, line in states.items()
    }


@hypothesis_settings(max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), density=st.integers(1, 400), windows=st.integers(0, 6))
def test_random_days_agree_with_a_simulation_second_by_second(
    warehouse: psycopg.Connection[Any], seed: int, density: int, windows: int
) -> None:
    warehouse.execute("TRUNCATE ops.observation, ops.maintenance_window, ops.daily_subject, ops.daily_uptime")
    dice = random.Random(seed)
    span = range(-400, 86800)
    observations = [
        (name, second, dice.choice(["ok", "ok", "warning", "critical", "critical", "unknown", "not_applicable"]))
        for name in COMPONENTS
        for second in dice.sample(span, density)
    ]
    observations += [("api", 0, "critical")] if ("api", 0) not in {one[:2] for one in observations} else []
    maintenance = []
    for _ in range(windows):
        begin = dice.choice(span)
        maintenance.append((dice.choice([*COMPONENTS, "*"]), begin, begin + dice.randint(1, 20000)))
    with warehouse.cursor() as cursor:
        with cursor.copy("COPY ops.observation (signal, resource, observed_at, outcome) FROM STDIN") as copy:
            for name, second, outcome in observations:
                copy.write_row(("probe", name, at(0, 0, second), outcome))
        cursor.executemany(
            "INSERT INTO ops.maintenance_window (component, starts_at, ends_at, reason, created_by)"
            " VALUES (%s, %s, %s, 'test', 'test')",
            [(name, at(0, 0, begin), at(0, 0, end)) for name, begin, end in maintenance],
        )
    uptime.compute(WINDOW, "test")
    assert rows_of(warehouse) == simulate(WINDOW, observations, maintenance, 150)


def test_times_finer_than_a_millisecond_still_add_up(warehouse: psycopg.Connection[Any]) -> None:
    dice = random.Random(5)
    for number in range(200):
        moment = at(0, 0, number * 30) + timedelta(microseconds=dice.randint(0, 999_999))
        observe(warehouse, "api", moment, dice.choice(["ok", "critical", "unknown"]))
    maintain(warehouse, "api", at(0, 10, 0.0004567), at(0, 11, 0.7654321))
    uptime.compute(WINDOW, "test")
    assert all(sum(row[:4]) == 86400 for row in rows_of(warehouse).values())


@pytest.mark.parametrize("component", ["frontend", "chain"])
def test_only_user_facing_components_bring_the_platform_down(
    warehouse: psycopg.Connection[Any], component: str
) -> None:
    for name in COMPONENTS:
        observe_every_minute(warehouse, name, at(0), at(24), "critical" if name == component else "ok")
    uptime.compute(WINDOW, "test")
    assert rows_of(warehouse)["overall"][1] == (86400 if component == "frontend" else 0)


def watched_but_for_an_hour(warehouse: psycopg.Connection[Any]) -> None:
    """A whole day of every component, except from 22:30 to 23:30, in an announced maintenance from 22:00 to 24:00."""
    for component in COMPONENTS:
        observe_every_minute(warehouse, component, at(0), at(22, 30))
        observe_every_minute(warehouse, component, at(23, 30), at(24))
    maintain(warehouse, "*", at(22), at(24))


def test_a_corrected_maintenance_window_counts_though_it_leaves_more_unknown(
    warehouse: psycopg.Connection[Any],
) -> None:
    watched_but_for_an_hour(warehouse)
    uptime.compute(WINDOW, "first")
    assert rows_of(warehouse)["overall"] == (79200, 0, 7200, 0, 0)
    assert (state_of().state, state_of().completeness) == (Completeness.COMPLETE, Decimal(1))
    warehouse.execute("UPDATE ops.maintenance_window SET ends_at = %s", (at(23),))
    assert uptime.compute(WINDOW, "corrected") is True
    # 22:00 to 23:00 in maintenance, nothing known until 23:30.
    assert rows_of(warehouse)["overall"] == (79200 + 1800, 0, 3600, 1800, 0)
    assert (state_of().state, state_of().completeness) == (Completeness.PARTIAL, Decimal("0.97916"))
    assert uptime.compute(WINDOW, "again") is False
    warehouse.execute("DELETE FROM ops.maintenance_window")
    assert uptime.compute(WINDOW, "none at all") is True
    # The observations of 22:29 hold for 150 s: 90 of them after 22:30.
    assert rows_of(warehouse)["overall"] == (86400 - 3600 + 90, 0, 0, 3600 - 90, 0)


@pytest.mark.parametrize("expired", ["observed_at < '2026-09-10 12:00+00'", "resource = 'cache'", "true"])
def test_known_figures_stay_once_observations_have_expired(warehouse: psycopg.Connection[Any], expired: str) -> None:
    watched_but_for_an_hour(warehouse)
    uptime.compute(WINDOW, "first")
    before = rows_of(warehouse), state_of()
    warehouse.execute("UPDATE ops.maintenance_window SET ends_at = %s", (at(23),))
    warehouse.execute(f"DELETE FROM ops.observation WHERE {expired}")
    assert uptime.compute(WINDOW, "later") is False
    assert (rows_of(warehouse), state_of()) == before
    assert warehouse.execute("SELECT changed FROM ops.metric_write WHERE run_id = 'later'").fetchall() == [(False,)]


@pytest.mark.parametrize("before", [True, False])
def test_a_correction_compares_the_same_components(
    warehouse: psycopg.Connection[Any], environment: pytest.MonkeyPatch, before: bool
) -> None:
    """Of a component that the platform had no more, or not yet, a later run knows nothing."""
    watched_but_for_an_hour(warehouse)
    for with_all in (before, not before):
        environment.setenv("OPERATIONS__PLATFORM__COMPONENTS", json.dumps(COMPONENTS[: 5 if with_all else 4]))
        settings.cache_clear()
        assert uptime.compute(WINDOW, f"{with_all}") is (with_all is before)
        warehouse.execute("UPDATE ops.maintenance_window SET ends_at = %s", (at(23),))
    settings.cache_clear()


def test_known_figures_stay_where_the_configuration_judges_observations_in_another_way(
    warehouse: psycopg.Connection[Any], environment: pytest.MonkeyPatch
) -> None:
    watched_but_for_an_hour(warehouse)
    warehouse.execute("DELETE FROM ops.maintenance_window")
    uptime.compute(WINDOW, "first")
    before = rows_of(warehouse), state_of()
    environment.setenv(
        "OPERATIONS__WATCH__OBSERVATION_HOLDS_SECONDS", "61"
    )  # less is known of the hour's first minutes
    settings.cache_clear()
    assert uptime.compute(WINDOW, "later") is False
    assert (rows_of(warehouse), state_of()) == before
    settings.cache_clear()
