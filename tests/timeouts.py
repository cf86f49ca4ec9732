"""Test timeouts that Airflow cannot switch off.

pytest-timeout waits for SIGALRM, which Airflow sets for each task with a timeout of its own and then stops: a test that
has run a task would wait for ever. The hook of pytest-timeout uses a thread and another signal instead.

pytest-timeout also lets go of a test that has failed; what it leaves to be cleaned up gets the same time anew.
"""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest
from pytest_timeout import timeout_sigalrm, timeout_timer

_SECONDS_TO_FAIL = 60
_SETTINGS = pytest.StashKey[Any]()


def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    """Fail the test when its time is up; end the process, and so the run, where code beyond Python does not let go."""
    item.stash[_SETTINGS] = settings
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


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Give what cleans up after a test the same time once more."""
    if (settings := item.stash.get(_SETTINGS, None)) is not None:
        item.cancel_timeout()  # type: ignore[attr-defined]
        pytest_timeout_set_timer(item, settings)
