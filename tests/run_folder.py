"""The folder of a test run, which the controlling process makes and removes at the end with every server within."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from demo.processes import Processes

SERVERS = "TESTS_SERVERS"


def server_folder(name: str) -> Path:
    """Make a folder for a server of a test's own; its processes are registered in ``processes.json`` there."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=json.loads(os.environ[SERVERS])["folder"]))
    folder.chmod(0o755)  # the server runs as another user
    return folder


def sweep(*folders: Path) -> int:
    """End the servers that a test could not end, since its process was; returns how many there were."""
    return sum(Processes(register).sweep() for folder in folders for register in folder.rglob("processes.json"))
