"""A partition is dropped with whole archives only, and not once a hold has come, at whatever moment."""

from pathlib import Path

import psycopg
import pytest

from include.maintenance.pruning import holds, partitions, prune
from include.outcome import MaintenanceFailed, SourceUnavailable
from include.platform import folders
from tests.include.maintenance.pruning.audit_log_rows import NOW, archived, in_table
from tests.include.maintenance.pruning.test_partitions import (  # noqa: F401 - fixture
    ACROSS,
    _fail_at,
    _tables,
    partitioned,
)


@pytest.mark.parametrize("moment", ["its manifests are read", "its rows are looked at"])
def test_a_hold_that_comes_just_before_the_drop_keeps_its_rows(
    partitioned: psycopg.Connection,  # noqa: F811
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
    moment: str,
) -> None:
    before, coming = in_table(partitioned), iter(["case 8"])
    read, is_so = folders.Folder.read, partitions._is_so

    def place() -> None:
        for case in coming:
            holds.place("public.audit_logs", case, "ann", key_from="5", key_to="6")

    def reads(store: folders.Folder, location: str) -> bytes | None:
        place()
        return read(store, location)

    def looks(work, *arguments):  # type: ignore[no-untyped-def]
        found = is_so(work, *arguments)
        if work.platform.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS:
            place()
        return found

    if moment == "its manifests are read":
        environment.setattr(folders.Folder, "read", reads)
    else:
        holds.place("public.audit_logs", "of no row here", "ann", key_from="9000")
        environment.setattr(partitions, "_is_so", looks)
    assert prune.prune(ACROSS, "r1", dry_run=False, now=NOW)["rows"] == 78
    assert _tables(partitioned) == ["audit_july", "audit_may"]
    assert partitioned.execute("SELECT audit_log_id FROM public.audit_may ORDER BY 1").fetchall() == [(5,), (6,)]
    assert in_table(partitioned) + archived(partitioned, warehouse) == before


@pytest.mark.parametrize("which", [0, 1])
def test_a_manifest_that_was_cut_off_keeps_its_partition_and_no_other(
    partitioned: psycopg.Connection,  # noqa: F811
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    which: int,
) -> None:
    """The last one of a partition also tells where its archiving goes on."""
    before = in_table(partitioned)
    _fail_at("_drop", SourceUnavailable("lost"), environment)
    cut = sorted((tmp_path / "archive").rglob("*.manifest.json"))[which]
    whole = cut.read_bytes()
    cut.write_bytes(whole[:100])
    with pytest.raises(
        MaintenanceFailed, match=r"is not the one .* from a copy and run again, the partition public\.audit_may waits"
    ):
        prune.prune(ACROSS, "r2", dry_run=False, now=NOW)
    assert _tables(partitioned) == ["audit_july", "audit_may"]
    cut.write_bytes(whole)
    assert prune.prune(ACROSS, "r3", dry_run=False, now=NOW)["rows"] == 40
    assert _tables(partitioned) == ["audit_july"]
    assert in_table(partitioned) + archived(partitioned, warehouse) == before
