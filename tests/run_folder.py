"""The folder of a test run, which the controlling process makes and removes at the end with every server within."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from demo import memory_folder
from demo.processes import Processes

SERVERS = "TESTS_SERVERS"

_ENOUGH_BYTES = 6 << 30


def make() -> Path:
    """Make the folder, in memory where there is plenty: a database of a test's own takes a fifth of a second on a disk.

    Nothing in it is needed when the machine has crashed. TMPDIR, when it is set, says where it is to be.
    """
    folder = Path(tempfile.mkdtemp(prefix="escrow-tests-", dir=memory_folder.roomy(_ENOUGH_BYTES)))
    folder.chmod(0o755)  # servers run as another user
    return folder


def server_folder(name: str) -> Path:
    """Make a folder for a server of a test's own; its processes are registered in ``processes.json`` there."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=json.loads(os.environ[SERVERS])["folder"]))
    folder.chmod(0o755)  # the server runs as another user
    return folder


def sweep(*folders: Path) -> int:
    """End the servers that a test could not end, since its process was; returns how many there were."""
    return sum(Processes(register).sweep() for folder in folders for register in folder.rglob("processes.json"))
