"""The watch: probes every component at once and writes what it met as observations of the signal ``probe``."""

from __future__ import annotations

import logging
import queue
import threading
import time
from datetime import UTC, datetime
from typing import Any

from include.outcome import ConfigurationError, Outcome
from include.platform.probes import PROBES, Probe
from include.settings import settings
from include.warehouse import observations
from include.warehouse.observations import Observation

SIGNAL = "probe"
"""The signal of the watch's observations; uptime is computed from them."""

_GRACE_SECONDS = 5.0  # beyond the probes' own limits, for a machine under load

logger = logging.getLogger(__name__)


def watch(run_id: str, components: list[str] | None = None) -> dict[str, str]:
    """Probe ``components`` (all configured ones by default) at once, record the outcomes and return them.

    A failure counts once a second attempt, watch.confirm_failure_after_seconds later, has failed too. The observation
    carries the time of the first attempt and the outcome and response time of the last one. A component whose probe
    could not be made is ``unknown``, with the reason in its evidence. Raises ConfigurationError for a component that
    has no probe and, as SourceUnavailable, when the warehouse cannot take the observations.
    """
    wanted = list(dict.fromkeys(settings().platform.components if components is None else components))
    if strangers := [name for name in wanted if name not in PROBES]:
        raise ConfigurationError(f"there is no probe of {', '.join(strangers)}; there are {', '.join(PROBES)}")
    seen = _observe_all(wanted, run_id)
    observations.record(seen)
    for one in seen:
        level = logging.INFO if one.outcome is Outcome.OK else logging.WARNING
        logger.log(level, "%s is %s: %s", one.resource, one.outcome.value, one.evidence.get("reason", "it answered"))
    return {one.resource: one.outcome.value for one in seen}


def _observe_all(components: list[str], run_id: str) -> list[Observation]:
    """Observe each component in a thread of its own; one that hangs beyond every limit does not hold the others up."""
    begun = datetime.now(UTC)
    done: queue.SimpleQueue[Observation] = queue.SimpleQueue()
    for name in components:
        threading.Thread(
            target=lambda name=name: done.put(_observe(name, run_id)), name=f"probe {name}", daemon=True
        ).start()
    limits = settings().watch
    deadline = (
        time.monotonic() + 2 * limits.probe_timeout_seconds + limits.confirm_failure_after_seconds + _GRACE_SECONDS
    )
    seen: dict[str, Observation] = {}
    while len(seen) < len(components):
        try:
            one = done.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        seen[one.resource] = one
    hung = Probe(Outcome.CRITICAL, None, {"reason": "it gave no answer and the probe did not end either"})
    return [seen.get(name) or _observation(name, begun, [hung], run_id) for name in components]


def _observe(component: str, run_id: str) -> Observation:
    begun = datetime.now(UTC)
    attempts = [_probe(component)]
    if attempts[0].outcome is Outcome.CRITICAL:
        time.sleep(settings().watch.confirm_failure_after_seconds)
        attempts.append(_probe(component))
    return _observation(component, begun, attempts, run_id)


def _probe(component: str) -> Probe:
    try:
        return PROBES[component]()
    except Exception as error:  # a fault of our own says nothing about the component
        logger.exception("the probe of %s failed", component)
        return Probe(Outcome.UNKNOWN, None, {"reason": f"the probe itself failed ({type(error).__name__})"})


def _observation(component: str, begun: datetime, attempts: list[Probe], run_id: str) -> Observation:
    last = attempts[-1]
    evidence: dict[str, Any] = {**last.evidence, "attempts": len(attempts), "run_id": run_id}
    if len(attempts) > 1:
        evidence["first_attempt"] = attempts[0].evidence
    unit = None if last.seconds is None else "seconds"
    return Observation(SIGNAL, component, begun, last.outcome, last.seconds, unit, evidence)
