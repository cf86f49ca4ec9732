"""A file in a local folder has the rights that the umask gives, but nobody's beyond its group."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from include.platform import folders


@pytest.mark.parametrize(("umask", "rights"), [(0o022, 0o640), (0o077, 0o600), (0o002, 0o640), (0o000, 0o640)])
def test_an_operators_umask_is_kept(environment: pytest.MonkeyPatch, tmp_path: Path, umask: int, rights: int) -> None:
    (tmp_path / "file").write_bytes(b"rows")
    folder = folders.open_folder("archive")
    before = os.umask(umask)
    try:
        folder.put(tmp_path / "file", "2026/rows.parquet")
    finally:
        os.umask(before)
    written = Path(folder.place("2026/rows.parquet"))
    assert written.read_bytes() == b"rows"
    assert stat.S_IMODE(written.stat().st_mode) == rights
