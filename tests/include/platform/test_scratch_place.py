"""What killed tasks leave in the folder for temporary files is swept, whichever task it was."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from include.platform import scratch_place

_PRUNE = """
import sys, time, psycopg
from include.maintenance.pruning import prune
with psycopg.connect(sys.argv[1]) as platform, prune._scratch_folder(platform, "public.messages") as folder:
    (folder / "rows.csv").write_text("a row of the platform")
    print(folder, flush=True)
    time.sleep(300)
"""


@pytest.fixture(autouse=True)
def own_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def _unused_for(folder: Path, hours: float) -> None:
    at = time.time() - hours * 3600
    for path in (*folder.iterdir(), folder):
        os.utime(path, (at, at))


def test_the_folder_of_a_killed_prune_is_swept_after_a_day(warehouse: psycopg.Connection, tmp_path: Path) -> None:
    dsn = f"{warehouse.info.dsn} password={warehouse.info.password}"
    prune = subprocess.Popen(
        [sys.executable, "-c", _PRUNE, dsn],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert prune.stdout
    folder = Path(prune.stdout.readline().strip())
    prune.send_signal(signal.SIGKILL)
    prune.communicate()
    assert (folder.parent, (folder / "rows.csv").exists()) == (tmp_path, True)
    _unused_for(folder, 23)
    assert scratch_place.sweep_temporary() == [], "a prune that lives is done within the hour"
    _unused_for(folder, 25)
    assert scratch_place.sweep_temporary() == [folder.name]
    assert not folder.exists()


def test_every_kind_of_folder_for_temporary_files_is_swept(tmp_path: Path) -> None:
    kinds = ("archive-0123456789abcdef", "restore", "verify", "logs", "report")
    names = [f"gold-escrow-{kind}-x" for kind in kinds]
    for name in (*names, "gold-escrow-log-catalogue-0", "gold-escrow-other-x"):
        (tmp_path / name).mkdir()
        _unused_for(tmp_path / name, 25)
    assert scratch_place.sweep_temporary() == sorted(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gold-escrow-log-catalogue-0", "gold-escrow-other-x"]
