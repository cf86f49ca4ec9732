"""How much room the restoration of a backup takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.maintenance.backups import backup_sources
from include.platform import backup_facts, backups
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
