"""A file in a local folder has the rights that the umask gives, but nobody's beyond its group."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from include.outcome import ConfigurationError
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


@pytest.mark.parametrize("local", [True, False])
def test_what_is_written_is_found_and_read(environment: pytest.MonkeyPatch, tmp_path: Path, local: bool) -> None:
    if not local:
        environment.setenv("AIRFLOW_CONN_BACKUPS", '{"conn_type": "fs", "extra": {"url": "memory://of_a_test"}}')
    folder = folders.open_folder("backups")
    for content in (b"old", b"newer"):
        folder.write("a.facts.json", content)
    found = folder.glob("*.json")
    assert [(path, facts["size"]) for path, facts in found.items()] == [(folder.place("a.facts.json"), 5)]
    assert folder.read("a.facts.json") == b"newer"
    folder.remove("a.facts.json")
    assert (folder.glob("*"), folder.read("a.facts.json")) == ({}, None)


def test_a_folder_that_is_not_there_is_named(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "backups").rmdir()
    folder = folders.open_folder("backups")
    assert folder.glob("*") == {}
    with pytest.raises(
        ConfigurationError, match="a.facts.json could not be written: the folder of the connection back"
    ):
        folder.write("a.facts.json", b"")
