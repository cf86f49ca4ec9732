"""A file in a local folder has the rights that the umask gives, but no more than its kind; links are followed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from include.outcome import ConfigurationError
from include.platform import folders
from include.settings import ROOT


@pytest.mark.parametrize(
    ("umask", "given", "rights"),
    [(0o022, {}, 0o640), (0o077, {}, 0o600), (0o002, {}, 0o640), (0o000, {}, 0o640), (0o022, {"rights": 0o644}, 0o644),
     (0o027, {"rights": 0o644}, 0o640), (0o000, {"rights": 0o644}, 0o644)],
)  # fmt: skip
def test_an_operators_umask_is_kept(
    environment: pytest.MonkeyPatch, tmp_path: Path, umask: int, given: dict[str, int], rights: int
) -> None:
    (tmp_path / "file").write_bytes(b"rows")
    folder = folders.open_folder("archive")
    sync, before, modes = os.fsync, os.umask(umask), []

    def noted(descriptor: int) -> None:
        if stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
            modes.append(stat.S_IMODE(mode))
        sync(descriptor)

    environment.setattr(os, "fsync", noted)
    try:
        folder.put(tmp_path / "file", "2026/rows.parquet", **given)
    finally:
        os.umask(before)
    assert modes == [rights], "while it is written, too"
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


def test_what_a_killed_write_left_goes_with_the_file(environment: pytest.MonkeyPatch) -> None:
    folder = folders.open_folder("archive")
    path = Path(folder.place("2026/[1].json"))
    path.parent.mkdir(parents=True)
    killed = (
        "import os, sys; from pathlib import Path; from include.platform import folders; "
        "os.fsync = lambda _: os._exit(9); folders.write_privately(Path(sys.argv[1]), b'half')"
    )
    assert subprocess.run([sys.executable, "-c", killed, str(path)], cwd=ROOT, check=False).returncode == 9
    [left] = path.parent.iterdir()
    assert left.read_bytes() == b"half"
    folder.remove("2026/[1].json")
    assert list(path.parent.iterdir()) == []


def test_a_link_is_told_of_as_what_it_leads_to(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "disk" / "base-1").mkdir(parents=True)
    (tmp_path / "disk" / "old.dump").write_bytes(b"12345")
    os.utime(tmp_path / "disk" / "old.dump", (1_000_000_000, 1_000_000_000))
    for link, target in {"nightly.dump": "old.dump", "base-1": "base-1", "lost.dump": "gone.dump"}.items():
        (tmp_path / "backups" / link).symlink_to(tmp_path / "disk" / target)
    folder = folders.open_folder("backups")
    found = folder.glob("*")
    dump, base = found[folder.place("nightly.dump")], found[folder.place("base-1")]
    assert (dump["type"], dump["size"], dump["mtime"]) == ("file", 5, 1_000_000_000)
    assert base["type"] == "directory"
    assert len(found) == 2, "one that leads nowhere is left out"


def test_a_folder_that_is_not_there_is_named(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "backups").rmdir()
    folder = folders.open_folder("backups")
    assert folder.glob("*") == {}
    with pytest.raises(
        ConfigurationError, match="a.facts.json could not be written: the folder of the connection back"
    ):
        folder.write("a.facts.json", b"")
