"""The folder whose files lie in memory, for servers that are thrown away."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_MEMORY = Path("/dev/shm")


def roomy(bytes_needed: float) -> Path | None:
    """Return the folder when it has so much room, else None.

    None as well when TMPDIR is set: it says where such files are to be.
    """
    if "TMPDIR" in os.environ or not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < bytes_needed:
        return None
    return _MEMORY
