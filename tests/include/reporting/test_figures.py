"""Figures, their texts and their comparisons, worked out by hand."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest

from include.outcome import Completeness, Outcome
from include.platform.probes import PROBES
from include.reporting import formats
from include.reporting.figures import DEFINITIONS, UPTIMES, Day, Subject, comparison_days, figure
from include.reporting.formats import Unit
from include.warehouse.metrics import SUBJECT_TABLES

DAY = date(2026, 10, 3)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1247, Unit.COUNT, "1,247"),
        (0, Unit.COUNT, "0"),
        (Decimal("8983.5"), Unit.COUNT, "8,983.5"),
        (Decimal("0.9995"), Unit.SHARE, "99.95%"),
        (Decimal(1), Unit.SHARE, "100%"),
        (Decimal(0), Unit.SHARE, "0%"),
        (Decimal("0.003"), Unit.SHARE, "0.3%"),
        (Decimal("0.99998843"), Unit.SHARE, "99.999%"),  # one second of a day down is not 100 %
        (Decimal("0.000001"), Unit.SHARE, "0.0001%"),  # one error in a million requests is not 0 %
        (Decimal("1.2"), Unit.SECONDS, "1.2s"),
        (Decimal("1.25"), Unit.SECONDS, "1.2s"),  # half to even
        (Decimal("1.35"), Unit.SECONDS, "1.4s"),
        (Decimal("12.34"), Unit.SECONDS, "12.3s"),
        (Decimal("0.2449"), Unit.SECONDS, "0.24s"),
        (Decimal("0.0451"), Unit.SECONDS, "0.045s"),
        (Decimal(0), Unit.SECONDS, "0.0s"),
        (Decimal("2.3"), Unit.HOURS, "2.3 hours"),
        (Decimal("0.0514"), Unit.HOURS, "0.051 hours"),
        (Decimal("2300000.40"), Unit.US_DOLLARS, "$2.3M"),
        (Decimal("999999.99"), Unit.US_DOLLARS, "$999,999.99"),
        (Decimal("999960000"), Unit.US_DOLLARS, "$1.0B"),
        (Decimal("-1250000"), Unit.US_DOLLARS, "-$1.2M"),
        (Decimal("-100.25"), Unit.US_DOLLARS, "-$100.25"),
        (Decimal("0.00"), Unit.US_DOLLARS, "$0.00"),
        (Decimal("0.004"), Unit.US_DOLLARS, "$0.004"),  # less than a cent is not nothing
        (Decimal("-0.0000001"), Unit.US_DOLLARS, "-$0.0000001"),
        (Decimal("1.005"), Unit.US_DOLLARS, "$1.00"),  # half to even
        (Decimal("1.015"), Unit.US_DOLLARS, "$1.02"),
        (Decimal("12345678901234567.89"), Unit.US_DOLLARS, "$12,345.7T"),
        (512, Unit.BYTES, "512 bytes"),
        (999_999, Unit.BYTES, "1.0 MB"),
        (Decimal("4.2000"), Unit.RATING, "4.20 of 5"),
        (Decimal("0"), Unit.DURATION, "0 s"),
        (Decimal("0.25"), Unit.DURATION, "0.2 s"),
        (Decimal("59.6"), Unit.DURATION, "1 min"),
        (Decimal("750"), Unit.DURATION, "12 min 30 s"),
        (Decimal("86382.72"), Unit.DURATION, "23 h 59 min 43 s"),
    ],
)
def test_texts(value: Decimal | int, unit: Unit, text: str) -> None:
    assert formats.write(value, unit) == text


@pytest.mark.parametrize(
    ("value", "median", "unit", "text"),
    [
        ("0.0030", "0.0028", Unit.SHARE, "+0.02 pp"),
        ("0.9995", "0.99953", Unit.SHARE, "-0.003 pp"),
        ("0.5", "0.5", Unit.SHARE, "no change"),
        ("1247", "1220", Unit.COUNT, "+2.2%"),
        ("3", "4.5", Unit.COUNT, "-1.5"),
        ("100000", "100001", Unit.COUNT, "-0.001%"),
        ("5", "0", Unit.COUNT, "+5"),
        ("2300000", "2000000", Unit.US_DOLLARS, "+15.0%"),
        ("5", "0", Unit.US_DOLLARS, "+$5.00"),
        ("5", "-5", Unit.US_DOLLARS, "+$10.00"),
        ("0.005", "0", Unit.US_DOLLARS, "+$0.005"),
        ("1.2", "1.1", Unit.SECONDS, "+9.1%"),
        ("10800", "0", Unit.DURATION, "+3 h"),
        ("4.1", "4.25", Unit.RATING, "-0.15"),
    ],
)
def test_changes(value: str, median: str, unit: Unit, text: str) -> None:
    assert formats.change(Decimal(value), Decimal(median), unit) == text


@pytest.mark.parametrize(
    ("value", "most", "unit", "texts"),
    [
        ("2.1", "2", Unit.SECONDS, ("2.1s", "2.0s")),
        ("2.03", "2", Unit.SECONDS, ("2.03s", "2.0s")),
        ("1.9996", "2", Unit.SECONDS, ("1.9996s", "2.0s")),
        ("2", "2", Unit.SECONDS, ("2.0s", "2.0s")),
        ("2.041", "2.04", Unit.SECONDS, ("2.041s", "2.04s")),  # a limit is never rounded
        ("0.251", "0.25", Unit.SECONDS, ("0.251s", "0.25s")),
        ("0.99898148", "0.999", Unit.SHARE, ("99.898%", "99.9%")),
        ("0.05005", "0.05", Unit.SHARE, ("5.005%", "5%")),
        ("0.9999999", "0.05", Unit.SHARE, ("99.99999%", "5%")),
    ],
)
def test_a_value_reads_as_above_or_below_its_limit(value: str, most: str, unit: Unit, texts: tuple[str, str]) -> None:
    assert formats.beside(Decimal(value), Decimal(most), unit) == texts


def test_every_component_that_can_be_probed_has_its_uptime() -> None:
    assert set(UPTIMES) == {f"uptime_{name}" for name in ("overall", *PROBES)}


def test_every_figure_belongs_to_a_subject_of_the_metrics() -> None:
    assert {definition.subject for definition in DEFINITIONS.values()} == set(SUBJECT_TABLES)
    assert len(DEFINITIONS) == 48


def day(when: date, active_users: int | None, state: str = "complete", share: str = "1", reason: str = "") -> Day:
    subject = Subject("users", Completeness(state), Decimal(share), reason, "hash")
    return Day(when, {"active_users": active_users}, {"users": subject})


def test_the_comparison_is_the_median_of_the_same_weekday_of_the_configured_weeks() -> None:
    assert comparison_days(DAY, 4) == [date(2026, 9, 26), date(2026, 9, 19), date(2026, 9, 12), date(2026, 9, 5)]
    values = {7: 100, 14: 400, 21: 200, 28: 300, 35: 9000, 1: 5000}
    history = {DAY - timedelta(days=n): day(DAY - timedelta(days=n), value) for n, value in values.items()}
    found = figure("active_users", "Active Users", day(DAY, 300), history, 4)
    assert (found.comparison, found.comparison_days, found.change) == (Decimal(250), 4, Decimal(50))
    assert found.comparison_text == "same weekday: 250, +20.0%"
    odd = figure("active_users", "Active Users", day(DAY, 300), history, 3)
    assert (odd.comparison, odd.comparison_days) == (Decimal(200), 3)


def test_days_that_are_not_complete_enough_are_not_compared_with() -> None:
    history = {
        DAY - timedelta(days=7): day(DAY - timedelta(days=7), 100, "partial", "0.98999"),
        DAY - timedelta(days=14): day(DAY - timedelta(days=14), 200, "partial", "0.99"),
        DAY - timedelta(days=21): day(DAY - timedelta(days=21), 0, "missing", "0"),
        DAY - timedelta(days=28): day(DAY - timedelta(days=28), None),
    }
    found = figure("active_users", "Active Users", day(DAY, 300), history, 4)
    assert (found.comparison, found.comparison_days, found.comparison_text) == (None, 1, "no comparison yet")


def test_a_missing_subject_hides_even_a_value_that_stands_there() -> None:
    found = figure("active_users", "Active Users", day(DAY, 0, "missing", "0", "the database is down"), {}, 4)
    assert (found.value, found.text, found.outcome) == (None, "not available", Outcome.UNKNOWN)
    assert found.reason == "the database is down"
    assert found.is_missing
    nothing = figure("active_users", "Active Users", Day(DAY, {}, {}), {}, 4)
    assert nothing.reason == "the metrics of this day were not computed"


def test_json_holds_exact_decimals() -> None:
    subject = Subject("transactions", Completeness.COMPLETE, Decimal(1), "", "hash")
    found = figure(
        "value_created",
        "Total Value",
        Day(DAY, {"value_created": Decimal("12345678901234567890.10")}, {"transactions": subject}),
        {},
        4,
    ).as_json()
    assert found["value"] == "12345678901234567890.1"
    assert found["unit"] == "US dollars"
    assert (found["comparison"], found["outcome"]) == (None, "not_applicable")
