"""A known problem outranks the unknown, and the unknown is never ok."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.outcome import Outcome, worst

O = Outcome  # noqa: E741


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], O.UNKNOWN),
        ([O.OK], O.OK),
        ([O.OK, O.UNKNOWN], O.UNKNOWN),
        ([O.UNKNOWN, O.WARNING], O.WARNING),
        ([O.WARNING, O.CRITICAL, O.OK], O.CRITICAL),
        ([O.NOT_APPLICABLE, O.OK], O.OK),
        ([O.NOT_APPLICABLE], O.NOT_APPLICABLE),
    ],
)
def test_the_worst_outcome_is_shown(outcomes: list[Outcome], expected: Outcome) -> None:
    assert worst(outcomes) is expected


@given(st.lists(st.sampled_from(Outcome)))
def test_ok_means_that_everything_was_checked(outcomes: list[Outcome]) -> None:
    found = worst(outcomes)
    assert found is worst(list(reversed(outcomes)))
    if found is O.OK:
        assert set(outcomes) <= {O.OK, O.NOT_APPLICABLE}
    if O.CRITICAL in outcomes:
        assert found is O.CRITICAL
