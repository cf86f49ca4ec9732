"""Without recorded facts a source may do without what needs them, and without nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance.backups import backup_checks
from include.platform import backups, postgres_binaries
from include.platform.backup_facts import SUFFIX
from include.platform.scratch_place import scratch_place
from include.platform.scratch_server import ScratchServer, new_server
from include.sections import BackupSource
from include.warehouse.drills import Drill, DrillOutcome, StageOutcome
from tests.include.maintenance.backups.backup_platform import TABLES, configure, filled_database, stages, verified
from tests.old_postgres import flush_statistics

NEED_FACTS = {"catalog", "row_counts", "newest_rows"}


def _tool(store: Path, **more: Any) -> dict[str, Any]:
    return {
        "name": "tool",
        "format": "command",
        "list_command": ["find", str(store), "-maxdepth", "1", "-name", "backup-*", "-printf", "%f %T@\n"],
        "newest": r"(?P<backup>\S+) (?P<finished>[\d.]+)",
        "restore_command": ["cp", f"{store}/{{backup}}", "{target}"],
        "restores": "dump",
        "facts_required": False,
    } | more


def _verify(run_id: str, source: str = "tool") -> tuple[Drill, str]:
    return verified(source, run_id)


def _unknown(drill: Drill) -> set[str]:
    return {name for name, stage in stages(drill).items() if stage.outcome is StageOutcome.UNKNOWN}


@pytest.fixture(scope="module")
def bare() -> Iterator[ScratchServer]:
    """A small server without page checksums."""
    with scratch_place("tests without facts") as place:
        server = new_server(place, "primary", postgres_binaries.newest()[0])
        server.initialise(checksums=False)
        server.start({"wal_level": "replica", "max_wal_senders": "4", "fsync": "off"}, durable=True)
        with server.connect() as superuser:
            for role in ("operations_reader", "operations_maintainer"):
                superuser.execute(f"CREATE ROLE {role}".encode())
            superuser.execute("CREATE DATABASE escrow")
        with server.connect("escrow") as owner:
            owner.execute(TABLES)
            flush_statistics(owner)  # that the live server has rows in an unlogged table is no fault of a copy
        yield server


def test_the_checksums_of_a_tool_do_not_come_from_the_facts(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, databases: Databases, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with filled_database(databases) as url:
        environment.setenv("AIRFLOW_CONN_PLATFORM_DB", url)
        backups.take(url, store, "backup-1.dump").rename(store / "backup-1")
        (store / f"backup-1.dump{SUFFIX}").unlink()
        configure(environment, tmp_path, _tool(store), recovery_point_hours=1e6)
        drill, said = _verify("r1")
        assert drill.outcome is DrillOutcome.COULD_NOT_RUN
        assert said.endswith("checksums: no verify_command is configured for this source"), "and nothing else is"
        assert _unknown(drill) - NEED_FACTS == {"checksums"}
        configure(environment, tmp_path, _tool(store, verify_command=["true"]), recovery_point_hours=1e6)
        drill, said = _verify("r2")
        assert (drill.outcome, said) == (DrillOutcome.PASSED, "")
        assert {"row_counts", "newest_rows"} <= _unknown(drill) <= NEED_FACTS
        assert stages(drill)["negative_control"].outcome is StageOutcome.PASSED, "pg_restore refused the copies"


def test_a_cluster_without_page_checksums_has_no_negative_control(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, bare: ScratchServer, tmp_path: Path
) -> None:
    url, store = f"postgresql://postgres@/escrow?host={bare.sockets}&port=5432", tmp_path / "store"
    backups.take(url, store, "backup-1", "base")
    (store / f"backup-1{SUFFIX}").unlink()
    copied = ["sh", "-c", f"cp -a {store}/{{backup}}/. {{target}}"]
    rule = _tool(store, restores="cluster", restore_command=copied, verify_command=["true"])
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB", url)
    configure(environment, tmp_path, rule, recovery_point_hours=1e6)
    drill, said = _verify("r1")
    assert drill.outcome is DrillOutcome.COULD_NOT_RUN
    assert _unknown(drill) - NEED_FACTS == {"negative_control"}
    assert said.endswith("the cluster has no page checksums (pg_checksums --enable)")


def test_the_checksums_of_a_base_backup_stand_in_its_manifest(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, bare: ScratchServer, tmp_path: Path
) -> None:
    url = f"postgresql://postgres@/escrow?host={bare.sockets}&port=5432"
    environment.setenv("AIRFLOW_CONN_PLATFORM_DB", url)
    backup = backups.take(url, tmp_path / "backups", "backup-1", "base")
    (tmp_path / "backups" / f"backup-1{SUFFIX}").unlink()
    rule = {"name": "base", "format": "base", "files": "backup-*", "facts_required": False}
    configure(environment, tmp_path, rule, recovery_point_hours=1e6)
    drill, said = _verify("r1", "base")
    assert (drill.outcome, said) == (DrillOutcome.PASSED, "")
    (backup / "backup_manifest").unlink()
    drill, said = _verify("r2", "base")
    assert drill.outcome is DrillOutcome.COULD_NOT_RUN
    assert "checksums: the base backup has no manifest; take it without --no-manifest" in said
    assert "negative_control: no damaged copy could be made" in said


def test_what_may_be_unknown_without_facts() -> None:
    wanted = ("checksums", "catalog", "row_counts", "newest_rows")
    commands = {"list_command": ["true"], "newest": "(?P<backup>x)(?P<finished>y)", "restore_command": ["true"]}
    expected: list[tuple[dict[str, Any], tuple[str, ...]]] = [
        ({"format": "custom", "files": "*"}, wanted),
        ({"format": "directory", "files": "*"}, wanted),
        ({"format": "base", "files": "*"}, wanted[1:]),
        ({"format": "command", **commands}, wanted[1:]),
    ]
    for given, accepted in expected:
        rule = BackupSource.model_validate({"name": "one", "every_hours": 24, "facts_required": False, **given})
        assert backup_checks.acceptable(rule, None) == accepted
        required = rule.model_copy(update={"facts_required": True})
        assert backup_checks.acceptable(required, None) == ()
