"""Negative controls of a backup verification: damaged copies that the same checks must refuse.

Nothing but copies within the scratch place is damaged. A control that is not refused shows that the verification would
not have noticed such damage, and fails the drill.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from include.maintenance.backups import backup_checks
from include.maintenance.backups.backup_checks import Result, failed, passed, unknown
from include.outcome import MaintenanceFailed
from include.platform import backup_facts
from include.platform.backup_facts import Facts
from include.platform.backup_restore import Restored, first_problem
from include.platform.scratch_place import ScratchPlace
from include.platform.scratch_server import ScratchServer
from include.warehouse.drills import StageOutcome

_CUT_TO = 0.1  # of a file that is cut short: an early end is noticed soon
_SMALLEST_CUT = 1 << 16
_MISSING_ROW = "missing row"


@dataclass(frozen=True)
class Control:
    """One damaged copy: what was done to it and whether a check refused it. ``refused`` is None when none could try."""

    name: str
    refused: bool | None
    how: str


def verdict(controls: list[Control]) -> Result:
    """Return the stage of all controls: every one must be refused, and one must be a damaged copy.

    A deleted row alone does not show that damaged files are noticed.
    """
    detail = {control.name: control.how for control in controls}
    if slipped := [control for control in controls if control.refused is False]:
        return failed(f"a damaged copy passed the checks ({slipped[0].name}: {slipped[0].how})", **detail)
    copies = [control for control in controls if control.name != _MISSING_ROW]
    if not any(control.refused for control in copies):
        why = "".join(f": {control.how}" for control in copies[:1])
        return unknown(f"no damaged copy could be made to try the checks with{why}", **detail)
    return passed(**detail)


def flip_byte(path: Path) -> int:
    """Invert one byte in the middle of a file; return its place. Raises ValueError for an empty file."""
    place = path.stat().st_size // 2
    with path.open("rb+") as file:
        file.seek(place)
        was = file.read(1)
        if not was:
            raise ValueError(f"{path.name} is empty")
        file.seek(place)
        file.write(bytes([was[0] ^ 0xFF]))
    return place


# ----------------------------------------------------------------------------------------------------- dumps
def dump_controls(dump: Path, facts: Facts | None, server: ScratchServer, place: ScratchPlace) -> list[Control]:
    """Flip a byte of a copy of a dump, and cut another short; the checksums or pg_restore must refuse them."""
    folder = place.folder / "controls"
    folder.mkdir()
    flipped, victim = _copy_of_dump(dump, folder / "flipped")
    at = flip_byte(victim)
    what = f"byte {at} of {victim.name} inverted"
    recorded = {name: one for name, one in (facts.files if facts else {}).items() if name == victim.name}
    if recorded:
        refused = bool(backup_facts.file_differences(flipped, recorded))
        flip = Control("flipped byte", refused, f"{what}; {'refused' if refused else 'accepted'} by its checksum")
    else:
        flip = _read_by_pg_restore("flipped byte", what, flipped, server)
    shutil.rmtree(folder / "flipped")
    cut, victim = _copy_of_dump(dump, folder / "cut", share=_CUT_TO)
    return [flip, _read_by_pg_restore("cut short", f"{victim.name} cut to {victim.stat().st_size} bytes", cut, server)]


def _read_by_pg_restore(name: str, what: str, dump: Path, server: ScratchServer) -> Control:
    done = server.run("pg_restore", "--file=/dev/null", dump)
    refused = done.returncode != 0
    return Control(name, refused, f"{what}; {'refused' if refused else 'accepted'} by pg_restore")


def _copy_of_dump(dump: Path, target: Path, share: float = 1.0) -> tuple[Path, Path]:
    """Copy a dump (of a directory only the largest file, the others are linked) and return it with the copied file."""
    target.mkdir()
    copy = target / dump.name
    source, victim = dump, copy
    if dump.is_dir():
        copy.mkdir()
        files = [path for path in dump.iterdir() if path.is_file()]
        data = [path for path in files if path.name != "toc.dat"] or files
        source = max(data, key=lambda path: path.stat().st_size)
        victim = copy / source.name
        for path in files:
            if path != source:
                (copy / path.name).symlink_to(path)
    size = source.stat().st_size
    if share < 1:
        kept = max(int(size * share), min(_SMALLEST_CUT, size // 2))
        with source.open("rb") as original, victim.open("wb") as cut:
            cut.write(original.read(kept))
    else:
        shutil.copyfile(source, victim)
    return copy, victim


# -------------------------------------------------------------------------------------------------- clusters
def cluster_controls(server: ScratchServer, place: ScratchPlace, wal: Path | None) -> list[Control]:
    """Flip a byte of a data file, and of the manifest, of a copied cluster that has not been started.

    pg_verifybackup must refuse both. The copy shares all other files with the cluster by hard links.
    """
    if not (server.data / "backup_manifest").exists():
        return [Control("flipped byte", None, "the base backup has no manifest to check a copy against")]
    manifest = place.folder / "flipped_manifest"
    shutil.copyfile(server.data / "backup_manifest", manifest)
    place.own(manifest)  # one that the program cannot read would seem to be refused
    controls = [_tried("manifest", manifest, server, server.data, wal, manifest)]
    copy = place.folder / "flipped_cluster"
    shutil.copytree(server.data, copy, symlinks=True, copy_function=os.link)
    victim = largest_file(copy)
    source = victim.with_name(victim.name + ".source")
    victim.rename(source)
    shutil.copyfile(source, victim)
    source.unlink()
    place.own(copy)
    controls.append(_tried("data file", victim, server, copy, wal, None))
    shutil.rmtree(copy)
    return controls


def _tried(
    name: str, victim: Path, server: ScratchServer, data: Path, wal: Path | None, manifest: Path | None
) -> Control:
    at = flip_byte(victim)
    found = backup_checks.verify_base(server, data, wal=wal, manifest=manifest)
    return Control(name, found.outcome is StageOutcome.FAILED, f"byte {at} of {victim.name} inverted; {found.reason}")


def page_control(server: ScratchServer) -> Control:
    """Flip a byte of the largest table file of the stopped scratch server; pg_checksums must refuse it.

    Raises MaintenanceFailed when pages are damaged before that.
    """
    said = server.run("pg_checksums", "--check", "-D", server.data)
    if said.returncode != 0:
        if "checksum verification failed" in said.stderr:
            raise MaintenanceFailed(f"the restored cluster has damaged pages: {first_problem(said.stderr)}")
        none = "not enabled" in said.stderr
        why = "the cluster has no page checksums (pg_checksums --enable)" if none else "its pages cannot be checked"
        return Control("page", None, why)
    victim = largest_file(server.data)
    at = flip_byte(victim)
    said = server.run("pg_checksums", "--check", "-D", server.data, f"--filenode={victim.name.split('.')[0]}")
    refused = said.returncode != 0
    return Control("page", refused, f"byte {at} of {victim.name} inverted; {'refused' if refused else 'accepted'}")


def largest_file(data: Path) -> Path:
    """Return the largest file of a table or index of a cluster."""
    found = (data / "base").glob("*/*")
    files = [path for path in found if path.name.split(".")[0].isdecimal() and not path.is_symlink()]
    return max(files, key=lambda path: (path.stat().st_size, path.name))


# ---------------------------------------------------------------------------------------------------- any format
def row_control(restored: Restored, facts: Facts | None) -> Control:
    """Delete one row of the restored database, without keeping that; the comparison of row counts must notice."""
    from psycopg import sql

    name = _MISSING_ROW
    if facts is None:
        return Control(name, None, "no row counts were recorded to compare with")
    with restored.server.connect(restored.database, autocommit=False) as connection:
        tables = {table.name: table for table in backup_facts.tables_of(connection)}
        fitting = [
            (low, table)
            for table, (low, high, certain) in ((table, facts.bounds(table)) for table in facts.tables)
            if 0 < low == high and certain and table in tables and table != backup_facts.LARGE_OBJECTS
        ]
        if not fitting:
            return Control(name, None, "no table has rows that were not changed while the backup was taken")
        table = tables[min(fitting)[1]]
        connection.execute("SET LOCAL session_replication_role = replica")  # no triggers, no foreign keys
        identifier = sql.Identifier(table.schema, table.relation)
        # A table without a key in a publication cannot be deleted from otherwise.
        connection.execute(sql.SQL("ALTER TABLE ONLY {} REPLICA IDENTITY FULL").format(identifier))
        connection.execute(
            sql.SQL("DELETE FROM ONLY {0} WHERE ctid = (SELECT ctid FROM ONLY {0} LIMIT 1)").format(identifier)
        )
        counts = facts.tables | backup_facts.count(connection, [table], facts.snapshot_at)
        noticed, _ = backup_checks.count_differences(facts, counts)
        connection.rollback()
    return Control(name, bool(noticed), f"one row of {table.name} deleted; {'noticed' if noticed else 'not noticed'}")
