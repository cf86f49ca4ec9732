"""Test timeouts that Airflow cannot switch off.

pytest-timeout waits for SIGALRM, which Airflow sets for each task with a timeout of its own and then stops: a test that
has run a task would wait for ever. These hooks of pytest-timeout use a thread and another signal instead.
"""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest
from pytest_timeout import timeout_sigalrm, timeout_timer

_SECONDS_TO_FAIL = 60


def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    """Fail the test when its time is up; end the process, and so the run, where code beyond Python does not let go."""
    signal.signal(signal.SIGUSR2, lambda *_: timeout_sigalrm(item, settings))
    timers = [
        threading.Timer(settings.timeout, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR2)),
        threading.Timer(settings.timeout + _SECONDS_TO_FAIL, timeout_timer, (item, settings)),
    ]

    def cancel() -> None:
        for timer in timers:
            timer.cancel()

    item.cancel_timeout = cancel  # type: ignore[attr-defined]  # pytest-timeout calls it when the test has ended
    for timer in timers:
        timer.daemon = True
        timer.start()
    return True
