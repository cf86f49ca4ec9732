"""Facts as JSON, worked out by hand."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from include.warehouse.facts import json_text


def test_times_days_and_decimals() -> None:
    value = {"at": datetime(2026, 11, 1, 2, tzinfo=UTC), "day": date(2026, 11, 1), "rows": Decimal("12.0"), "ö": None}
    assert json_text(value) == '{"at": "2026-11-01T02:00:00+00:00", "day": "2026-11-01", "rows": 12, "ö": null}'


def test_a_fraction_stays_exact_unless_a_number_is_asked_for() -> None:
    assert json_text({"share": Decimal("0.10")}) == '{"share": "0.10"}'
    assert json_text({"share": Decimal("0.10")}, fraction=float) == '{"share": 0.1}'


def test_what_is_no_fact_is_refused() -> None:
    with pytest.raises(TypeError, match="set is not a fact"):
        json_text({"names": {"a"}})
