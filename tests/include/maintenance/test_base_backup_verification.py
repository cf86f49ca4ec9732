"""Base backups with their WAL, and other tools' backups, are verified like dumps."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.maintenance import backup_checks, backup_sources, backup_verification
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import backups, postgres_binaries
from include.platform.scratch_place import scratch_place
from include.platform.scratch_server import ScratchServer, new_server
from include.warehouse import drills
from include.warehouse.drills import Drill, DrillOutcome, StageOutcome
from tests.include.maintenance import backup_platform
from tests.include.maintenance.backup_platform import configure, stages

BASE: dict[str, Any] = {"name": "base", "format": "base", "files": "base-*"}
ROLES = ("escrow_owner", "operations_reader", "operations_maintainer")


def _primary(major: int, archive: Path | None = None) -> Iterator[ScratchServer]:
    """A small server of its own: the run's cluster has every other test's databases, too many for a base backup."""
    with scratch_place("tests of base backups") as place:
        server = new_server(place, "primary", major)
        server.initialise()
        settings = {"wal_level": "replica", "max_wal_senders": "4", "fsync": "off"}
        if archive is not None:
            settings |= {"archive_mode": "on", "archive_command": f'cp "%p" "{archive}/%f"'}
        server.start(settings, durable=True)
        with server.connect() as superuser:
            for role in ROLES:
                superuser.execute(f"CREATE ROLE {role}".encode())
            superuser.execute("CREATE DATABASE escrow")
        with server.connect("escrow") as owner:
            owner.execute(backup_platform.TABLES)
        yield server


@pytest.fixture(scope="module", params=[18, 15])
def primary(request: pytest.FixtureRequest) -> Iterator[ScratchServer]:
    try:
        postgres_binaries.find(request.param)
    except ConfigurationError as error:
        pytest.skip(str(error))
    yield from _primary(request.param)


@pytest.fixture(scope="module")
def archiving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScratchServer, Path]]:
    archive = tmp_path_factory.mktemp("wal")
    for folder in (archive, *list(archive.parents)[:2]):
        folder.chmod(0o777)  # the server writes as another user when the tests run as root
    for server in _primary(postgres_binaries.newest()[0], archive):
        yield server, archive


def _url(server: ScratchServer) -> str:
    return f"postgresql://postgres@/escrow?host={server.sockets}&port=5432"


def _verify(source: str = "base", run_id: str = "r1") -> tuple[Drill, str]:
    said = ""
    try:
        backup_verification.verify(source, run_id)
    except (MaintenanceFailed, ConfigurationError) as error:
        said = str(error)
    drill = drills.find("backup_verification", source, run_id)
    assert drill is not None
    assert (drill.outcome is DrillOutcome.PASSED) == (said == "")
    return drill, said


def test_a_whole_base_backup_passes_and_every_damage_is_found(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, primary: ScratchServer, tmp_path: Path
) -> None:
    configure(environment, tmp_path, BASE)
    backup = backups.take(_url(primary), tmp_path / "backups", "base-1", "base")
    drill, said = _verify()
    assert said == ""
    found = stages(drill)
    assert found["row_counts"].detail == {"tables": 4, "rows": 2302, "exact": False}, "without the unlogged row"
    assert found["restore"].detail["database"] == "escrow"
    control = found["negative_control"].detail
    assert set(control) == {"manifest", "data file", "missing row"}
    assert "pg_verifybackup" in control["data file"]
    assert _damaged(backup, "manifest") == ["checksums"]
    assert _damaged(backup, "data file") == ["checksums"]
    assert _damaged(backup, "wal") == ["checksums"]
    assert _damaged(backup, "missing file") == ["checksums"]


def _damaged(backup: Path, what: str) -> list[str]:
    """Verify with one thing damaged, and put it back. Returns the stages that failed."""
    largest = max((backup / "base").glob("*/*"), key=lambda path: path.stat().st_size)
    wal = next(path for path in (backup / "pg_wal").iterdir() if path.is_file())
    victim = {"manifest": backup / "backup_manifest", "data file": largest, "wal": wal, "missing file": largest}[what]
    before = victim.read_bytes()
    if what in ("wal", "missing file"):
        victim.unlink()
    else:
        middle = len(before) // 2
        victim.write_bytes(before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :])
    drill, said = _verify(run_id=what)
    victim.write_bytes(before)
    assert "checksums: " in said
    return [name for name, stage in stages(drill).items() if stage.outcome is StageOutcome.FAILED]


def test_tar_files_tablespaces_and_a_role_that_is_not_there(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, primary: ScratchServer, tmp_path: Path
) -> None:
    if primary.major != 18:
        pytest.skip("one version is enough: the files are the same")
    configure(environment, tmp_path, BASE)
    space = primary.folder / "space"
    space.mkdir(mode=0o700)
    primary.place.own(space)
    with primary.connect("escrow") as superuser:
        superuser.execute(f"CREATE TABLESPACE elsewhere LOCATION '{space}'".encode())
        superuser.execute("CREATE TABLE far TABLESPACE elsewhere AS SELECT n FROM generate_series(1, 50) AS n")
    try:
        backup = backups.take(_url(primary), tmp_path / "backups", "base-1", "base", tar=True)
        assert len(list(backup.glob("*.tar.gz"))) == 3
        drill, said = _verify()
        assert said == ""
        assert stages(drill)["row_counts"].detail["rows"] == 2302 + 50
        (tmp_path / "backups" / "base-1.facts.json").unlink()
        configure(environment, tmp_path, BASE | {"superuser": "nobody_knows", "facts_required": False})
        assert "the restored cluster has no role nobody_knows" in _verify(run_id="r2")[1]
    finally:
        with primary.connect("escrow") as superuser:
            superuser.execute("DROP TABLE far")
            superuser.execute("DROP TABLESPACE elsewhere")


def test_archived_wal_is_replayed_to_its_end_and_a_gap_is_found(
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
    archiving: tuple[ScratchServer, Path],
    tmp_path: Path,
) -> None:
    server, archive = archiving
    configure(environment, tmp_path, BASE | {"wal": "wal/*"}, query="SELECT count(*) = 301 FROM people")
    backups.take(_url(server), tmp_path / "backups", "base-1", "base")
    with server.connect("escrow") as owner:
        for _ in range(2):
            owner.execute("SELECT pg_switch_wal()")
            owner.execute("CREATE TABLE IF NOT EXISTS later AS SELECT 1 AS n")
        owner.execute("INSERT INTO people (name, joined_at) VALUES ('late', '2026-10-02')")
        last = owner.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        assert last is not None
        while not (archive / last[0]).exists():
            owner.execute("SELECT pg_sleep(0.05)")
    shutil.copytree(archive, tmp_path / "backups" / "wal")
    drill, said = _verify()
    found = stages(drill)
    assert found["wal"].outcome is StageOutcome.PASSED
    assert found["wal"].detail["last"] == last[0]
    assert found["query"].outcome is StageOutcome.PASSED, "the row that came after the backup is there"
    assert "public.people has 301 rows instead of 300" in said
    gap = sorted(name.name for name in archive.iterdir() if len(name.name) == 24)[-2]
    (tmp_path / "backups" / "wal" / gap).unlink()
    assert f"wal: the WAL archive has gaps: {gap} missing" in _verify(run_id="r2")[1]
    shutil.rmtree(tmp_path / "backups" / "wal")
    assert "wal: the WAL archive has nothing from" in _verify(run_id="r3")[1]


def test_wal_names_are_counted_across_a_log_file() -> None:
    names = [f"0000000100000001000000{number:02X}" for number in (0xFD, 0xFE, 0xFF)]
    names += ["000000010000000200000000.zst", "00000001000000010000000A", "00000002.history", "x.partial"]
    first = "0000000100000001000000FD"
    assert backup_checks.wal_continuity(names, first, 16 << 20)[1] == []
    names.remove("0000000100000001000000FE")
    assert backup_checks.wal_continuity(names, first, 16 << 20)[1] == ["0000000100000001000000FE"]


# -------------------------------------------------------------------------------------------------- other tools
def test_any_tool_that_gives_a_dump(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, primary: ScratchServer, tmp_path: Path
) -> None:
    if primary.major != 18:
        pytest.skip("one version is enough: the tool does not know it")
    store = tmp_path / "store"
    backups.take(_url(primary), store, "one.dump")
    (store / "one.dump.facts.json").rename(tmp_path / "backups" / "one.dump.facts.json")
    rule = {
        "name": "tool",
        "format": "command",
        "list_command": ["find", str(store), "-name", "*.dump", "-printf", "%f %T@\n"],
        "newest": r"(?P<backup>\S+) (?P<finished>[\d.]+)",
        "verify_command": ["sh", "-c", 'test "$TOOL_KEY" = swordfish || { echo "key $TOOL_KEY is wrong"; exit 3; }'],
        "restore_command": ["cp", f"{store}/{{backup}}", "{target}"],
        "restores": "dump",
        "secrets": "backup_tool",
    }
    configure(environment, tmp_path, rule)
    environment.setenv("AIRFLOW_CONN_BACKUP_TOOL", '{"conn_type": "generic", "extra": {"TOOL_KEY": "swordfish"}}')
    drill, said = _verify("tool")
    assert said == ""
    assert stages(drill)["age"].detail["taken_at_from"] == "the tool"
    assert set(stages(drill)["negative_control"].detail) == {"flipped byte", "cut short", "missing row"}
    environment.setenv("AIRFLOW_CONN_BACKUP_TOOL", '{"conn_type": "generic", "extra": {"TOOL_KEY": "hush-hush"}}')
    assert _verify("tool", "r2")[1].endswith("the verify_command of tool ended with status 3: key *** is wrong")
    configure(environment, tmp_path, rule | {"restore_command": ["no-such-program"], "verify_command": ["true"]})
    drill, said = _verify("tool", "r3")
    assert "the restore_command of the backup source tool cannot be started: no-such-program" in said
    assert drill.outcome is DrillOutcome.COULD_NOT_RUN
    configure(environment, tmp_path, rule | {"list_command": ["true"]})
    assert "there is no backup of tool: its list_command names none" in _verify("tool", "r4")[1]


def test_pgbackrest(
    warehouse: psycopg.Connection,
    environment: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
) -> None:
    program = shutil.which("pgbackrest")
    if program is None:
        pytest.skip("pgbackrest is not installed here; install the package pgbackrest")
    try:
        postgres_binaries.find(15)
    except ConfigurationError as error:
        pytest.skip(str(error))  # Debian's pgbackrest does not know newer versions
    with scratch_place("tests of pgbackrest") as place:
        home = place.folder / "pgbackrest"
        home.mkdir()
        server = new_server(place, "primary", 15)
        words = [
            program, "--stanza=main", f"--repo1-path={home}/repo", f"--log-path={home}/log", f"--lock-path={home}/lock",
            "--log-level-console=error", "--no-config",
        ]  # fmt: skip
        on_primary = [f"--pg1-path={server.data}", f"--pg1-socket-path={server.sockets}", "--pg1-user=postgres"]
        (home / "log").mkdir()
        place.own(home)
        server.initialise()
        archive = " ".join([*words, f"--pg1-path={server.data}", "archive-push", "%p"])
        server.start(
            {"wal_level": "replica", "max_wal_senders": "4", "archive_mode": "on", "archive_command": archive},
            durable=True,
        )
        with server.connect() as superuser:
            for role in ROLES:
                superuser.execute(f"CREATE ROLE {role}".encode())
            superuser.execute("CREATE DATABASE escrow")
        with server.connect("escrow") as owner:
            owner.execute(backup_platform.TABLES)

        def pgbackrest(*arguments: str) -> None:
            done = subprocess.run([*words, *on_primary, *arguments], capture_output=True, text=True, **place.identity)
            assert done.returncode == 0, f"{done.stdout}{done.stderr}"

        pgbackrest("stanza-create")
        pgbackrest("--start-fast", "--type=full", "--compress-type=none", "backup")
        rule = {
            "name": "pgbackrest",
            "format": "command",
            "list_command": [*words, "--output=json", "info"],
            "newest": r'"label":"(?P<backup>[^"]+)".*?"stop":(?P<finished>\d+)',
            "verify_command": [*(word for word in words if not word.startswith("--lock-path")), "verify"],
            "restore_command": [*words, "--set={backup}", "--pg1-path={target}", "--type=none", "restore"],
            "wal_command": [*words, "--pg1-path={data}", "archive-get", "{wal}", "{target}"],
        }
        configure(environment, tmp_path, rule)
        label = backup_sources.origin_of(backups.source_of("pgbackrest")).newest()[0].name
        backups.record_facts(_url(server), label)
        drill, said = _verify("pgbackrest")
        found = stages(drill)
        assert said == "", [stage for stage in found.values() if stage.outcome is StageOutcome.FAILED]
        assert found["row_counts"].detail["rows"] == 2302
        assert found["checksums"].outcome is StageOutcome.PASSED
        control = found["negative_control"].detail
        assert set(control) == {"missing row", "page"}
        assert control["page"].endswith("refused")
