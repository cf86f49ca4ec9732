"""A warehouse that forgot how far an archive was never makes its file go while rows are nowhere else."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from include.maintenance.pruning import manifests, moving, prune, rows
from include.outcome import MaintenanceFailed, SourceUnavailable
from include.platform import folders
from include.warehouse import archives
from tests.include.maintenance.pruning.audit_log_rows import (
    CUT_OFF,
    NOW,
    archived,
    files,
    in_table,
    rule,
    states,
)

# What a warehouse knows that was set back to the moment before, or that failed over to a standby that was behind.
FORGET = (
    "UPDATE ops.archive SET state = 'written', deleted_at = NULL, chain_number = NULL, manifest_sha256 = NULL"
    " WHERE state = 'verified'"
)


def _end_after_a_deletion(environment: pytest.MonkeyPatch, owner: object, step: str) -> None:
    """A first attempt that ends there; the second archive is verified by then or not."""

    def lost(*_: object, **__: object) -> None:
        raise SourceUnavailable("lost")

    with environment.context() as patch:
        patch.setattr(owner, step, lost)
        with pytest.raises(SourceUnavailable):
            prune.prune(rule(), "r1", dry_run=False, now=NOW)


@pytest.mark.parametrize("partly", [False, True])
def test_a_forgotten_archive_whose_rows_are_gone_is_finished(
    filled: psycopg.Connection,
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    partly: bool,
) -> None:
    before, delete = in_table(filled), rows.delete_stretches
    calls: list[int] = []

    def once(*arguments: object, **named: object) -> int:
        calls.append(1)
        if len(calls) > 1:
            raise SourceUnavailable("lost")
        return delete(*arguments, **named)  # type: ignore[arg-type]

    if partly:
        with environment.context() as patch:
            patch.setattr(rows, "delete_stretches", once)
            with pytest.raises(SourceUnavailable):
                prune.prune(rule(batch_rows=2), "r1", dry_run=False, now=NOW)
    else:
        _end_after_a_deletion(environment, archives, "record_deleted")
    assert 20 <= sum(in_table(filled).values()) < 30
    warehouse.execute(FORGET)
    assert prune.prune(rule(), "r2", dry_run=False, now=NOW)["state"] == "proven"
    assert in_table(filled) + archived(filled, warehouse) == before
    assert set(states(warehouse)) == {"deleted"}
    recorded = warehouse.execute("SELECT location FROM ops.archive ORDER BY 1").fetchall()
    assert files(tmp_path) == [location for (location,) in recorded]
    assert manifests.verify_chain("public.audit_logs")["rows"] == 23


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_forgotten_archive_without_its_file_stops_everything(
    filled: psycopg.Connection,
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    damage: str,
) -> None:
    before = in_table(filled)
    _end_after_a_deletion(environment, archives, "record_deleted")
    warehouse.execute(FORGET)
    location = files(tmp_path)[0]
    path = tmp_path / "archive" / location
    content = path.read_bytes()
    path.write_bytes(b"") if damage == "damaged" else path.unlink()
    with pytest.raises(MaintenanceFailed, match=f"archive file {location} is missing or damaged .* from a copy"):
        prune.prune(rule(), "r2", dry_run=False, now=NOW)
    [(state, reason)] = warehouse.execute("SELECT state, reason FROM ops.maintenance_action WHERE run_id = 'r2'")
    assert state == "failed"
    assert location in reason
    path.write_bytes(content)
    assert prune.prune(rule(), "r2", dry_run=False, now=NOW)["state"] == "proven"
    assert in_table(filled) + archived(filled, warehouse) == before


def test_a_forgotten_archive_whose_rows_are_all_there_is_taken_back_also_without_its_file(
    filled: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = in_table(filled)
    _end_after_a_deletion(environment, rows, "delete_stretches")
    warehouse.execute(FORGET)
    for location in files(tmp_path):
        (tmp_path / "archive" / location).unlink()
    with pytest.raises(MaintenanceFailed, match="if the rows are in the table remove .*manifest.json, and run again"):
        prune.prune(rule(), "r2", dry_run=False, now=NOW)
    for manifest in (tmp_path / "archive").rglob("*.manifest.json"):
        manifest.unlink()
    assert prune.prune(rule(), "r2", dry_run=False, now=NOW)["rows"] == 23
    assert in_table(filled) + archived(filled, warehouse) == before


@pytest.mark.parametrize("state", ["verified", "written"])
def test_an_archive_stays_that_has_replaced_another_and_was_forgotten(
    filled: psycopg.Connection,
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    state: str,
) -> None:
    put: Callable[..., None] = folders.Folder.put
    before, withdraw, changes = in_table(filled), moving.withdraw, iter(["bob"])

    def change(store: folders.Folder, path: Path, location: str) -> None:
        put(store, path, location)
        for actor in changes:  # a row that changes once it is archived: the archive is written anew without it
            filled.execute("UPDATE public.audit_logs SET actor = %s WHERE audit_log_id = 30", (actor,))

    def last(*arguments: object) -> None:
        withdraw(*arguments)  # type: ignore[arg-type]
        raise SourceUnavailable("lost")

    with environment.context() as patch:
        patch.setattr(folders.Folder, "put", change)
        patch.setattr(moving, "withdraw", last)
        with pytest.raises(SourceUnavailable):
            prune.prune(rule(archive_rows=100), "r1", dry_run=False, now=NOW)
    assert sorted(states(warehouse)) == ["deleted", "withdrawn"]
    warehouse.execute("UPDATE ops.archive SET state = 'verified', deleted_at = NULL")
    if state == "written":
        warehouse.execute(
            "UPDATE ops.archive SET state = 'written', chain_number = NULL, manifest_sha256 = NULL"
            " WHERE replaces IS NOT NULL"
        )
    assert prune.prune(rule(), "r2", dry_run=False, now=NOW)["state"] == "proven"
    kept = in_table(filled) + archived(filled, warehouse)
    assert sum(kept.values()) == 30
    assert sum((before - kept).values()) == 1, "only the row that was changed"
    assert sorted(states(warehouse)) == ["deleted", "deleted", "withdrawn"]
    assert manifests.verify_chain("public.audit_logs")["rows"] == 23


def test_the_warehouse_writes_to_its_disk_whatever_its_own_setting_is(
    filled: psycopg.Connection, warehouse: psycopg.Connection
) -> None:
    warehouse.execute(f"ALTER DATABASE {warehouse.info.dbname} SET synchronous_commit = off".encode())
    with prune._attempt(rule(), CUT_OFF) as work:
        assert work.warehouse.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_a_record_that_is_in_another_state_is_noticed(
    filled: psycopg.Connection, warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = in_table(filled)
    step = archives.record_verified

    def forgotten(*arguments: object) -> None:
        warehouse.execute("DELETE FROM ops.archive")
        step(*arguments)  # type: ignore[arg-type]

    with environment.context() as patch:
        patch.setattr(archives, "record_verified", forgotten)
        with pytest.raises(MaintenanceFailed, match="is not in a state that 'record_verified' could change"):
            prune.prune(rule(), "r1", dry_run=False, now=NOW)
    assert in_table(filled) == before, "no row is deleted of an archive that the warehouse does not know"
