"""A known problem outranks the unknown, the unknown is never ok, and what is recorded of an error holds no secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.outcome import (
    ConfigurationError,
    MaintenanceFailed,
    Outcome,
    SourceUnavailable,
    failure_told,
    recordable,
    worst,
)

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


@pytest.mark.parametrize("kind", [ConfigurationError, MaintenanceFailed, SourceUnavailable])
def test_our_sentences_are_recorded_without_secrets(kind: type[Exception]) -> None:
    told: list[str] = []
    with pytest.raises(kind), failure_told(told.append):
        raise kind("the archive sftp://backup:hunter2@nas/x of public.api_tokens: it said password=hunter2 and went")
    assert told == ["the archive sftp://backup:***@nas/x of public.api_tokens: it said password=*** and went"]


def test_of_other_errors_only_the_kind_is_recorded() -> None:
    assert recordable(ValueError("hunter2")) == "ValueError; the task's log has its details"
    assert recordable(KeyboardInterrupt()) == "it was ended from outside before it was done (KeyboardInterrupt)"
