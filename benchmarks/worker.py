"""A task's process as a worker makes it: forked from one that has loaded what plugins/preload.py loads."""

from __future__ import annotations

import gc
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module


@contextmanager
def loaded() -> Iterator[None]:
    """Load what a worker loads before it forks tasks, and freeze it as the LocalExecutor does: it stays shared."""
    from plugins import preload

    with warnings.catch_warnings(action="ignore"):
        preload.load()
        for name in preload.OWN_MODULES:  # also where some of them are in use here already
            import_module(name)
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def seconds_of_a_task(act: Callable[[], object]) -> float:
    """Return the seconds of a process that is forked from this one to do something. Raises RuntimeError if it fails."""
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    seconds = time.perf_counter() - started
    if status:
        raise RuntimeError(f"the forked process ended with {os.waitstatus_to_exitcode(status)}")
    return seconds
