"""Reads the named SQL statements that stand in a file beside a module."""

from __future__ import annotations

import re
from pathlib import Path


def statements(module_file: str) -> dict[str, str]:
    """Return the statements of the .sql file beside a module (``__file__``), by the names of their header lines.

    A header line reads ``-- statement: name``.
    """
    text = Path(module_file).with_suffix(".sql").read_text()
    return dict(re.findall(r"^-- statement: (\w+)\n(.*?)(?=^-- statement: |\Z)", text, re.S | re.M))
