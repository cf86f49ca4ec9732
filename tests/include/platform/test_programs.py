"""Programs end in time, with all that they started."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from include.platform import programs


def test_what_a_program_prints_and_how_it_ends_is_returned() -> None:
    done = programs.run(["sh", "-c", 'echo "$ONE"; echo two >&2; exit 3'], {"ONE": "1"}, 60, grace_seconds=1)
    assert (done.returncode, done.stdout, done.stderr) == (3, "1\n", "two\n")
    with pytest.raises(FileNotFoundError):
        programs.run(["/no/such/program"], {}, 60, grace_seconds=1)


def test_a_program_that_does_not_end_when_asked_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    deaf = f"trap '' TERM; sleep 600 & echo $! $$ > {tmp_path}/started; wait"
    begun = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        programs.run(["sh", "-c", deaf], dict(os.environ), 0.5, grace_seconds=0.4)
    assert 0.9 <= time.monotonic() - begun < 10, "asked after 0.5 s, killed 0.4 s later"
    started = {int(number) for number in (tmp_path / "started").read_text().split()}
    left = [one for one in psutil.process_iter() if one.pid in started]
    assert psutil.wait_procs(left, timeout=20)[1] == [], "gone as soon as the system has cleaned up"


def test_the_last_line_tells_why_a_program_failed() -> None:
    assert programs.last_line("first\nno such table\n \n") == "no such table"
    assert programs.last_line(" \n") == "it said nothing"
