"""The vocabulary that every room shares: outcomes of checks, classes of incidents, errors that people act on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

from include.masking import mask_sentence


class Outcome(StrEnum):
    """Result of one check. ``UNKNOWN`` means that the check could not be made; it never counts as ``OK``."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not_applicable"


_SEVERITY = {
    Outcome.NOT_APPLICABLE: 0,
    Outcome.OK: 1,
    Outcome.UNKNOWN: 2,
    Outcome.WARNING: 3,
    Outcome.CRITICAL: 4,
}


def worst(outcomes: list[Outcome]) -> Outcome:
    """Return the outcome that a reader must see first.

    A known problem outranks an unknown, and an unknown outranks ok. No outcomes at all are ``UNKNOWN``:
    nothing was checked.
    """
    return max(outcomes, key=_SEVERITY.__getitem__, default=Outcome.UNKNOWN)


class IncidentClass(StrEnum):
    """Incident classes of the guide, "Incident Classification": P0 critical, P1 high, P2 medium, P3 low."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"


class Completeness(StrEnum):
    """How much of a subject's source was there on a day."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    MISSING = "missing"


class ConfigurationError(Exception):
    """Something that a person must correct; trying again does not help. The message names the thing and the remedy."""


class SourceUnavailable(Exception):
    """A system could not be reached just now; trying again may help. The message names the system."""


class MaintenanceFailed(Exception):
    """A maintenance act did not have its effect, or its effect could not be proven. The message says what and why."""


@contextmanager
def failure_told(record: Callable[[str], object], *ignored: type[Exception]) -> Iterator[None]:
    """Give what is raised within to ``record``, in the words of ``recordable``, and let it pass on.

    Also what is no ``Exception``: Airflow's time limit of a task, and an interruption. The error itself is still raised
    when the warehouse is away, or when recording raises one of ``ignored``.
    """
    try:
        yield
    except GeneratorExit:
        raise
    except BaseException as error:
        with suppress(SourceUnavailable, *ignored):
            record(recordable(error))
        raise


def recordable(error: BaseException) -> str:
    """Return what of an error may stand in the warehouse, as one sentence.

    Messages of errors that are not ours may quote rows or addresses: the log has them, the warehouse does not. Secrets
    that stand in one of ours after all are masked. What is no ``Exception`` did not go wrong by itself: Airflow's time
    limit of the task ended it, or somebody from outside.
    """
    if isinstance(error, (ConfigurationError, MaintenanceFailed, SourceUnavailable)):
        return mask_sentence(str(error))
    name = type(error).__name__
    if isinstance(error, Exception):
        return f"{name}; the task's log has its details"
    if name == "AirflowTaskTimeout":
        return "the time limit of the task was reached before it was done; the task's log tells what it was doing"
    return f"it was ended from outside before it was done ({name})"
