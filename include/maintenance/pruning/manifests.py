"""Manifests of archives: one JSON object beside each file, chained table by table.

A manifest says what the file holds and how it was checked, and names the manifest before it by its SHA-256, which the
warehouse keeps too. A file that was changed, exchanged or removed, or a manifest that is missing, breaks the chain.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include import connections
from include.maintenance.pruning import archive_files
from include.maintenance.pruning.archive_files import ArchiveDamaged, Written
from include.outcome import ConfigurationError
from include.platform import folders
from include.platform.folders import Folder
from include.settings import settings
from include.warehouse import archives
from include.warehouse.archives import Archive


@dataclass(frozen=True)
class Keys:
    """The lowest and the highest key of an archive's rows, by time and key, as texts."""

    column: str
    first: str
    last: str


def put(
    folder: Folder, archive: Archive, written: Written, keys: Keys, previous: tuple[int, str | None], scratch: Path
) -> tuple[int, str]:
    """Write an archive's manifest beside its file; return its number in the chain and its SHA-256."""
    number = previous[0] + 1
    manifest = {
        "format": written.format,
        "archive": archive.archive_id,
        "number": number,
        "previous_manifest_sha256": previous[1],
        "replaces": archive.replaces,
        "source_table": archive.source_table,
        "relation": archive.relation,
        "file": archive.location.rpartition("/")[2],
        "file_sha256": archive.file_sha256,
        "file_bytes": scratch.with_suffix(".parquet").stat().st_size,
        "rows": archive.row_count,
        "content_hash": archive.content_hash,
        "content_hash_is": archive_files.HASHES[written.format],
        "first_time": archive.first_created_at.isoformat(),
        "last_time": archive.last_created_at.isoformat(),
        "key_column": keys.column,
        "first_key": keys.first,
        "last_key": keys.last,
        "columns": written.columns,
        "written_at": datetime.now(UTC).isoformat(),
    }
    content = (json.dumps(manifest, ensure_ascii=False, indent=2) + "\n").encode()
    path = scratch.with_suffix(".manifest.json")
    path.write_bytes(content)
    folder.put(path, archive.manifest)
    return number, hashlib.sha256(content).hexdigest()


def verify_chain(source_table: str) -> dict[str, Any]:
    """Check every manifest and file of a table's archives, from the first to the last.

    Returns the numbers of manifests, files and rows. Raises ArchiveDamaged with what is wrong first, and
    ConfigurationError for a table that has no archives and is not pruned.
    """
    with connections.postgres("warehouse", autocommit=True) as warehouse:
        chain = archives.chain(warehouse, source_table)
    if not chain and source_table not in {rule.table for rule in settings().maintenance.prune}:
        raise ConfigurationError(f"ops.archive has no archive of {source_table} and it is not pruned; correct its name")
    folder = folders.open_folder(archive_files.CONNECTION)
    before: str | None = None
    files = rows = 0
    with tempfile.TemporaryDirectory(prefix="gold-escrow-verify-") as scratch:
        for number, archive in enumerate(chain, start=1):
            _check_manifest(folder, archive, number, before)
            before = archive.manifest_sha256
            if archive.state in ("verified", "deleted"):
                archive_files.fetch_content(folder, archive, Path(scratch) / "archive.parquet")
                files, rows = files + 1, rows + archive.row_count
    return {"source_table": source_table, "manifests": len(chain), "files": files, "rows": rows}


def recorded(folder: Folder, archive: Archive) -> dict[str, Any]:
    """Read an archive's manifest. Raises ArchiveDamaged unless it is there and the recorded one, byte for byte."""
    content = folder.read(archive.manifest)
    if content is None:
        raise ArchiveDamaged(f"the manifest {archive.manifest} is missing")
    if hashlib.sha256(content).hexdigest() != archive.manifest_sha256:
        raise ArchiveDamaged(f"the manifest {archive.manifest} is not the one that was recorded")
    return dict(json.loads(content))


def _check_manifest(folder: Folder, archive: Archive, number: int, before: str | None) -> None:
    manifest = recorded(folder, archive)
    if archive.chain_number != number:
        raise ArchiveDamaged(f"the manifest {archive.manifest} should have the number {number} in the chain")
    expected = {
        "number": number,
        "previous_manifest_sha256": before,
        "file_sha256": archive.file_sha256,
        "rows": archive.row_count,
        "content_hash": archive.content_hash,
    }
    if wrong := [name for name, value in expected.items() if manifest.get(name) != value]:
        raise ArchiveDamaged(f"the manifest {archive.manifest} says something else than the record about {wrong[0]}")
