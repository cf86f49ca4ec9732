"""Writes reports to the reports folder: a local folder or object storage, through the connection of the configuration.

The files are <folder>/<period key>/<kind>.md and .html. A file is written only when its content differs, and appears
whole or not at all. In a local folder everybody may read it, as far as the umask allows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from include.platform import folders
from include.settings import settings
from include.warehouse.reports import Report

_RIGHTS = 0o644
"""Reports are made to be read, by people and web servers of other accounts too."""


def deliver(reports: Sequence[Report]) -> list[str]:
    """Write the Markdown and HTML of ``reports`` and return the paths whose content was written, within the folder.

    Raises ConfigurationError (the folder is not defined or may not be written) or SourceUnavailable (it cannot be
    reached or has no room) in one sentence without secrets. What was written before stays.
    """
    if not reports:
        return []
    folder = folders.open_folder(settings().reports.folder)
    written = []
    with tempfile.TemporaryDirectory(prefix="gold-escrow-report-") as temporary:
        file = Path(temporary) / "report"
        for report in reports:
            for ending, text in (("md", report.markdown), ("html", report.html)):
                path = f"{report.period_key}/{report.kind}.{ending}"
                if folder.read(path) == text.encode():
                    continue
                file.write_bytes(text.encode())
                folder.put(file, path, rights=_RIGHTS)
                written.append(path)
    return written
