"""The rules that judge a daily report against the guide's thresholds (config: targets, alerts).

- uptime, overall or of any component, below targets.uptime: warning; when one day's downtime is more than the whole
  downtime that the target allows in 30 days (0.1 % of 30 days, 43.2 minutes): critical;
- no time of an uptime known, or more than 1 % of the day unknown, of a component besides what is unknown overall:
  unknown, for downtime may hide in it;
- error rate above targets.error_rate: warning; above alerts.error_rate: critical;
- average response time above targets.response_seconds: warning;
- 95th percentile above alerts.response_seconds: warning (the guide's own good day has 2.8 s, above the target);
- a P0 or P1 incident open in the day: critical;
- a support ticket whose response target passed unanswered: warning;
- a subject that is missing, or of which less than 99 % was there: unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from include.outcome import Completeness, Outcome, worst
from include.reporting import formats
from include.reporting.figures import ENOUGH, UPTIMES, Figure, Subject
from include.reporting.formats import Number
from include.settings import Settings

BUDGET_DAYS = 30
"""Days whose allowed downtime makes a single day critical (the error budget of a month)."""

_DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Limits:
    """The thresholds of the configuration as exact numbers."""

    uptime: Decimal
    error_rate: Decimal
    error_rate_critical: Decimal
    response_seconds: Decimal
    response_p95_seconds: Decimal

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Read them from the configuration."""
        return cls(
            Decimal(str(settings.targets.uptime)),
            Decimal(str(settings.targets.error_rate)),
            Decimal(str(settings.alerts.error_rate)),
            Decimal(str(settings.targets.response_seconds)),
            Decimal(str(settings.alerts.response_seconds)),
        )


@dataclass(frozen=True)
class Times:
    """What some figures are judged by, in seconds: the day, and in it the time a component was down or unknown.

    What is unknown overall has a figure of its own.
    """

    day: Decimal
    down: Decimal = Decimal(0)
    unknown: Decimal = Decimal(0)
    unknown_overall: Decimal = Decimal(0)


Judgement = tuple[Outcome, str]
_OK: Judgement = (Outcome.OK, "")


def judge(figure: Figure, limits: Limits, times: Times) -> Figure:
    """Return the figure with its outcome; one without a threshold stays ``not_applicable``.

    ``times`` tells of the component whose uptime the figure is. The text of a figure beyond its limit shows that it is.
    """
    if figure.value is None or figure.name not in _RULES:
        return figure
    return _RULES[figure.name](figure, figure.value, limits, times) or figure.judged(*_OK)


# Each rule returns the figure with what is wrong with it, or None when it is as it should be.
def _uptime(figure: Figure, value: Number, limits: Limits, times: Times) -> Figure | None:
    if times.down > BUDGET_DAYS * (1 - limits.uptime) * _DAY_SECONDS:
        return figure.judged(
            Outcome.CRITICAL,
            f"{figure.label} {figure.text}: down for {formats.duration(times.down)}, longer than the target of"
            f" {formats.limit(limits.uptime)} allows in {BUDGET_DAYS} days",
        )
    if value < limits.uptime:
        return _beyond(figure, value, Outcome.WARNING, "below the target", limits.uptime)
    if times.unknown - times.unknown_overall > (1 - ENOUGH) * times.day:
        reason = f"{figure.label} is not known for {formats.duration(times.unknown)}"
        return figure.judged(Outcome.UNKNOWN, reason)
    return None


def _beyond(figure: Figure, value: Number, outcome: Outcome, where: str, most: Decimal) -> Figure:
    """Say of a share or of seconds that they are above or below a limit, in numbers that show it."""
    text, limit = formats.beside(value, most, figure.unit)
    return replace(figure.judged(outcome, f"{figure.label} {text} is {where} of {limit}"), text=text)


def _unknown_time(figure: Figure, value: Number, _: Limits, times: Times) -> Figure | None:
    if value > (1 - ENOUGH) * times.day:
        return figure.judged(Outcome.UNKNOWN, f"the state of the platform is not known for {figure.text}")
    return None


def _error_rate(figure: Figure, value: Number, limits: Limits, _: Times) -> Figure | None:
    if value > limits.error_rate_critical:
        return _beyond(figure, value, Outcome.CRITICAL, "above the alert limit", limits.error_rate_critical)
    if value > limits.error_rate:
        return _beyond(figure, value, Outcome.WARNING, "above the target", limits.error_rate)
    return None


def _response_average(figure: Figure, value: Number, limits: Limits, _: Times) -> Figure | None:
    if value > limits.response_seconds:
        return _beyond(figure, value, Outcome.WARNING, "above the target", limits.response_seconds)
    return None


def _response_p95(figure: Figure, value: Number, limits: Limits, _: Times) -> Figure | None:
    if value > limits.response_p95_seconds:
        return _beyond(figure, value, Outcome.WARNING, "above the alert limit", limits.response_p95_seconds)
    return None


def _breached(figure: Figure, value: Number, _: Limits, __: Times) -> Figure | None:
    if value > 0:
        tickets = "support ticket was" if value == 1 else "support tickets were"
        return figure.judged(Outcome.WARNING, f"{figure.text} {tickets} not answered within the target")
    return None


_RULES: dict[str, Callable[[Figure, Number, Limits, Times], Figure | None]] = {
    **dict.fromkeys(UPTIMES, _uptime),
    "unknown_seconds": _unknown_time,
    "error_rate": _error_rate,
    "response_average_seconds": _response_average,
    "response_p95_seconds": _response_p95,
    "tickets_breached": _breached,
}


def judge_subject(subject: Subject) -> Judgement:
    """Judge whether a subject's figures can be relied on."""
    if subject.is_enough:
        return _OK
    share = f" ({formats.percent(subject.completeness)})" if subject.state is Completeness.PARTIAL else ""
    because = f": {subject.reason}" if subject.reason else ""
    return Outcome.UNKNOWN, f"the figures of {subject.subject} are {subject.state}{share}{because}"


def verdict(judgements: Sequence[Judgement]) -> tuple[Outcome, str]:
    """Return the worst outcome and the one sentence that says why, from judgements in order of importance.

    ``not_applicable`` does not count. Without any judgement the verdict is unknown.
    """
    counted = [(outcome, reason) for outcome, reason in judgements if outcome is not Outcome.NOT_APPLICABLE]
    result = worst([outcome for outcome, _ in counted])
    if result is Outcome.OK:
        return result, "All figures are within their targets."
    reasons = list(dict.fromkeys(reason for outcome, reason in counted if outcome is not Outcome.OK))
    if not reasons:
        return result, "Nothing could be judged."
    first = next(reason for outcome, reason in counted if outcome is result)
    more = len(reasons) - 1
    others = f" ({more} more below)" if more else ""
    return result, f"{first[0].upper()}{first[1:].rstrip('.')}{others}."
