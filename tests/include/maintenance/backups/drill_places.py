"""A scratch folder of the test's own: what a drill leaves behind is seen, and other tests' drills are not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from include.platform.scratch_place import PREFIX
from include.settings import settings


@contextmanager
def own_scratch_folder(environment: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let drills work in an empty folder; at the end it must be empty again."""
    with tempfile.TemporaryDirectory(prefix="drills-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the servers run as another user
        environment.setenv("OPERATIONS__BACKUPS__SCRATCH_FOLDER", name)
        settings.cache_clear()
        yield folder
        assert list(folder.glob(f"{PREFIX}*")) == [], "nothing is left behind"
    settings.cache_clear()
