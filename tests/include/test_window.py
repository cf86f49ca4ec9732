"""Windows tile the calendar of any time zone without a gap, and their keys lead back to them."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from include.outcome import ConfigurationError
from include.window import (
    Grain,
    Window,
    day_window,
    demand_begun,
    demand_over,
    last_finished_day,
    month_window,
    parse_day,
    week_window,
    window_of_key,
)

DAYS = st.dates(min_value=date(1990, 1, 1), max_value=date(2036, 12, 1))
ZONES = st.sampled_from(sorted(available_timezones() - {"localtime", "Factory"}))
WINDOW = {Grain.DAY: day_window, Grain.WEEK: week_window, Grain.MONTH: month_window}


@given(DAYS, ZONES, st.sampled_from(Grain))
@example(date(2011, 12, 30), "Pacific/Apia", Grain.DAY)
@example(date(2018, 11, 4), "America/Sao_Paulo", Grain.DAY)
def test_consecutive_windows_tile_without_a_gap(day: date, zone: str, grain: Grain) -> None:
    window = WINDOW[grain](day, zone)
    following = WINDOW[grain](window.days[-1] + timedelta(days=1), zone)
    assert window.end == following.start
    assert window.start <= window.end, "a day that a zone skipped, as Samoa did on 30 December 2011, is empty"
    assert window.start.tzinfo is UTC
    assert day in window.days


@given(DAYS, ZONES, st.sampled_from([Grain.WEEK, Grain.MONTH]))
def test_weeks_and_months_are_exactly_their_days(day: date, zone: str, grain: Grain) -> None:
    window = WINDOW[grain](day, zone)
    days = [day_window(one, zone) for one in window.days]
    assert days[0].start == window.start
    assert days[-1].end == window.end
    assert sum(one.seconds for one in days) == window.seconds
    assert len(days) == 7 or grain is Grain.MONTH
    assert all(WINDOW[grain](one, zone) == window for one in window.days)


@given(DAYS, ZONES)
def test_keys_lead_back_to_their_window(day: date, zone: str) -> None:
    assert window_of_key(Grain.DAY, day_window(day, zone).key, zone) == day_window(day, zone)
    assert window_of_key(Grain.MONTH, month_window(day, zone).key, zone) == month_window(day, zone)
    week = week_window(day, zone)
    as_airflow_writes_it = f"{week.first_day} (W{week.first_day.isocalendar().week:02d})"
    assert window_of_key(Grain.WEEK, as_airflow_writes_it, zone) == week


@given(st.datetimes(min_value=datetime(1990, 1, 2), max_value=datetime(2036, 1, 1), timezones=st.just(UTC)), ZONES)  # noqa: DTZ001
def test_the_last_finished_day_is_over_and_the_next_is_not(now: datetime, zone: str) -> None:
    day = last_finished_day(now, zone)
    assert day_window(day, zone).is_over(now)
    assert not day_window(day + timedelta(days=1), zone).is_over(now)


@given(st.datetimes(min_value=datetime(1990, 1, 2), max_value=datetime(2036, 1, 1), timezones=st.just(UTC)), ZONES)  # noqa: DTZ001
def test_a_day_is_refused_before_it_begins_or_ends(now: datetime, zone: str) -> None:
    last = last_finished_day(now, zone)
    done, present, coming = (day_window(last + timedelta(days=n), zone) for n in range(3))
    assert (demand_begun(done, now), demand_begun(present, now), demand_over(done, now)) == (done, present, done)
    rest = f"in {zone}; the last finished day is {last}: pass that or an earlier one"
    with pytest.raises(ConfigurationError) as early:
        demand_over(present, now)
    assert str(early.value) == f"the day {present.key} is not over {rest}"
    with pytest.raises(ConfigurationError) as earlier:
        demand_begun(coming, now)
    assert str(earlier.value) == f"the day {coming.key} has not begun {rest}"


@pytest.mark.parametrize(
    ("day", "hours"),
    [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 10, 26), 24)],
)
def test_days_of_a_clock_change_have_23_or_25_hours(day: date, hours: int) -> None:
    assert day_window(day, "Europe/Berlin").seconds == hours * 3600


def test_values_worked_out_by_hand() -> None:
    assert day_window(date(2026, 10, 3), "Asia/Kolkata") == Window(
        Grain.DAY,
        date(2026, 10, 3),
        datetime(2026, 10, 2, 18, 30, tzinfo=UTC),
        datetime(2026, 10, 3, 18, 30, tzinfo=UTC),
        "Asia/Kolkata",
    )
    new_year = week_window(date(2027, 1, 3), "UTC")
    assert (new_year.key, new_year.first_day) == ("2026-W53", date(2026, 12, 28))
    february = month_window(date(2028, 2, 15), "UTC")
    assert (february.key, len(february.days)) == ("2028-02", 29)
    assert last_finished_day(datetime(2026, 10, 3, 22, tzinfo=UTC), "Europe/Berlin") == date(2026, 10, 3)
    assert last_finished_day(datetime(2026, 10, 3, 21, 59, tzinfo=UTC), "Europe/Berlin") == date(2026, 10, 2)
    assert ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    "text", ["", "2026-10", "2026-13-01", "2026-02-30", "20261003", "03.10.2026", " 2026-10-03", "\uff12026-10-03"]
)
def test_what_is_not_a_day_is_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match="write it as YYYY-MM-DD") as caught:
        parse_day(text)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("grain", "key"),
    [(Grain.DAY, "2026-10"), (Grain.WEEK, "2026-W40"), (Grain.MONTH, "2026-10-03"), (Grain.MONTH, "2026-00")],
)
def test_a_key_of_another_form_is_named(grain: Grain, key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"write it as YYYY-MM"):
        window_of_key(grain, key, "UTC")
