"""How much room the restoration of a backup takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.maintenance.backups import backup_sources
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import backup_facts, backups
from include.platform.scratch_place import scratch_place
from tests.include.maintenance.backups.backup_platform import configure

BASE: dict[str, Any] = {"name": "base", "format": "base", "files": "base-*"}


def test_the_room_for_compressed_tar_files_is_that_of_the_database(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configure(environment, tmp_path, BASE)
    now = datetime.now(UTC)
    facts = backup_facts.Facts("base-1", "base", 180000, now, now, {"bytes": 1000}, [], {}, [])
    origin = backup_sources.origin_of(backups.source_of("base"))
    for size, known, needed in ((100, facts, 1200), (2000, facts, 2400), (100, None, 120)):
        backup = backups.Backup("base-1", "base-1", size, now, "recorded facts", known)
        assert origin.bytes_needed(backup)[0] == needed


def test_the_room_for_wal_is_that_of_the_segments_that_are_needed(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configure(environment, tmp_path, BASE | {"wal": "wal/*"})
    folder = tmp_path / "backups"
    for place in (folder / "base-1", folder / "wal"):
        place.mkdir()
    sizes = {"0000000100000001000000FC": 900, "0000000100000001000000FD": 900, "0000000100000001000000FE.gz": 1,
             "000000010000000200000000.gz": 2, "00000002.history": 40}  # fmt: skip
    for name, size in sizes.items():
        (folder / "wal" / name).write_bytes(bytes(size))
    origin = backup_sources.origin_of(backups.source_of("base"))

    def room(start: str) -> int | None:
        """For a backup of no bytes."""
        said = f'{{ "Files": [],\n"WAL-Ranges": [\n{{ "Timeline": 1, "Start-LSN": "{start}", "End-LSN": "9/0" }}\n]}}'
        (folder / "base-1" / "backup_manifest").write_text(said if start else "")
        return origin.bytes_needed(replace(origin.newest()[0], bytes=0))[0]

    offset = 0xFD * 900 + 28
    assert room(f"1/{offset:X}") == int((3 * 900 + 40) * 1.2), "packed segments as they will be unpacked"
    assert room("2/0") == int((900 + 40) * 1.2)
    assert room("") == int((4 * 900 + 40) * 1.2), "all of it"
    for name in list(sizes)[:2]:
        (folder / "wal" / name).unlink()
    assert room(f"1/{offset:X}") == int((2 * (16 << 20) + 40) * 1.2), "of the usual size"


def test_a_tool_that_restores_a_tablespace_elsewhere_is_stopped(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its server would write into what may be a standby's own, and nobody would remove a copy of production."""
    rule: dict[str, Any] = {
        "name": "tool", "format": "command", "newest": "(?P<backup>.)(?P<finished>.)", "list_command": ["true"],
        "restore_command": ["sh", "-c", 'mkdir "$1/pg_tblspc" && ln -s "$2" "$1/pg_tblspc/16401"', "sh", "{target}"],
    }  # fmt: skip
    now = datetime.now(UTC)
    backup = backups.Backup("one", "one", 1, now, "the tool", None)

    def restored(to: str) -> None:
        configure(environment, tmp_path, rule | {"restore_command": [*rule["restore_command"], to]})
        with scratch_place("test") as place:
            backup_sources.origin_of(backups.source_of("tool")).open(backup, place, 1).restore()

    with pytest.raises(
        ConfigurationError, match=f"restored pg_tblspc/16401 to {tmp_path}, outside of the scratch fold"
    ):
        restored(str(tmp_path))
    with pytest.raises(MaintenanceFailed, match="no cluster of PostgreSQL"):  # which comes after the links
        restored("{target}-tablespaces/elsewhere")
