"""Base backups with their WAL, and other tools' backups, are verified like dumps."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.maintenance.backups import (
    backup_control,
    backup_sources,
    full_restoration,
)
from include.maintenance.backups.backup_control import Control
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import backup_facts, backup_restore, backups, postgres_binaries
from include.platform.backup_facts import TableFacts
from include.platform.scratch_place import scratch_place
from include.platform.scratch_server import ScratchServer, new_server
from include.settings import settings
from include.warehouse import drills
from include.warehouse.drills import Drill, DrillOutcome, StageOutcome
from tests.include.maintenance.backups.backup_platform import TABLES, configure, stages, verified
from tests.old_postgres import flush_statistics

BASE: dict[str, Any] = {"name": "base", "format": "base", "files": "base-*"}
ROLES = ("escrow_owner", "operations_reader", "operations_maintainer")


def _create_escrow(server: ScratchServer) -> None:
    """Create the roles, and a database with the tables and their rows."""
    with server.connect() as superuser:
        for role in ROLES:
            superuser.execute(f"CREATE ROLE {role}".encode())
        superuser.execute("CREATE DATABASE escrow")
    with server.connect("escrow") as owner:
        owner.execute(TABLES)


def _primary(major: int, archive: Path | None = None) -> Iterator[ScratchServer]:
    """A small server of its own: the run's cluster has every other test's databases, too many for a base backup."""
    with scratch_place("tests of base backups") as place:
        server = new_server(place, "primary", major)
        server.initialise()
        given = {"wal_level": "replica", "max_wal_senders": "4", "fsync": "off"}
        if archive is not None:
            given |= {"archive_mode": "on", "archive_command": f'cp "%p" "{archive}/%f"'}
        server.start(given, durable=True)
        _create_escrow(server)
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
    drill, said = verified(source, run_id)
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
    assert "checksum mismatch" in control["data file"], "and not that it may not be read"
    assert "checksum mismatch" in control["manifest"] or "parse" in control["manifest"], control["manifest"]
    assert _damaged(backup, "manifest") == ["checksums"]
    assert _damaged(backup, "data file") == ["checksums"]
    assert _damaged(backup, "wal") == ["checksums"]
    assert _damaged(backup, "missing file") == ["checksums"]


def test_rows_that_came_and_went_while_it_was_taken_are_no_damage(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, primary: ScratchServer, tmp_path: Path
) -> None:
    """More rows at the end of the backup than before it and after it: as a table that is pruned meanwhile has."""
    configure(environment, tmp_path, BASE)
    folder = tmp_path / "backups"
    with primary.connect("escrow") as owner:
        owner.execute("CREATE TABLE sessions AS SELECT n FROM generate_series(1, 1000) AS n")
        flush_statistics(owner)
        try:
            backups.record_facts(_url(primary), "base-1")
            owner.execute("INSERT INTO sessions SELECT n FROM generate_series(1001, 1005) AS n")
            program = [str(primary.binaries / "pg_basebackup"), f"--pgdata={folder / 'base-1'}", "--checkpoint=fast"]
            subprocess.run(program, env=primary.environment, check=True, capture_output=True)
            owner.execute("DELETE FROM sessions WHERE n <= 100")
            backups.record_facts(_url(primary), "base-1")
        finally:
            owner.execute("DROP TABLE sessions")
    record = folder / "base-1.facts.json"
    facts = backup_facts.from_json(record.read_text(), record.name)
    assert facts.bounds("public.sessions") == (900, 1005, True)
    assert facts.bounds("public.people") == (300, 300, True)
    assert _verify()[1] == ""
    record.write_text(backup_facts.to_json(replace(facts, statistics=None)))
    configure(environment, tmp_path, BASE | {"facts_required": False}, recovery_point_hours=1e6)
    drill, said = _verify(run_id="uncounted")
    assert drill.outcome is DrillOutcome.COULD_NOT_RUN, "rows that differ are no pass, whatever is required"
    assert "do not tell how much: public.sessions has 1005 rows instead of 905 to 1000" in said
    more = facts.tables | {"public.sessions": TableFacts(900), "public.people": TableFacts(301)}
    before = (facts.tables_before or {}) | {"public.people": TableFacts(301)}
    record.write_text(backup_facts.to_json(replace(facts, tables=more, tables_before=before)))
    drill, said = _verify(run_id="lost for certain")
    assert drill.outcome is DrillOutcome.FAILED
    assert "public.people has 300 rows instead of 301" in said


def test_rows_that_break_a_constraint_come_back_and_are_found(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, primary: ScratchServer, tmp_path: Path
) -> None:
    """A copy of a cluster says that its constraints were validated, whatever its rows are."""
    if primary.major != 18:
        pytest.skip("one version is enough: the statements are tested on both")
    configure(environment, tmp_path, BASE)
    with primary.connect("escrow") as owner:
        owner.execute("SET session_replication_role = replica; INSERT INTO letters (person_id, body) VALUES (999, '')")
        try:
            backups.take(_url(primary), tmp_path / "backups", "base-1", "base")
        finally:
            owner.execute("DELETE FROM letters WHERE person_id = 999")
    drill, said = _verify()
    assert "constraints: restored rows break constraints: letters_person_id_fkey of public.letters (1 rows)" in said
    assert [name for name, one in stages(drill).items() if one.outcome is StageOutcome.FAILED] == ["constraints"]


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
        configure(environment, tmp_path, {"name": "nightly", "format": "custom", "files": "*.dump"})
        backups.take(_url(primary), tmp_path / "backups", "a.dump")
        assert _verify("nightly")[1] == "", "where there is no such tablespace"
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
    record = tmp_path / "backups" / "base-1.facts.json"
    facts = backup_facts.from_json(record.read_text(), record.name)
    record.write_text(backup_facts.to_json(replace(facts, snapshot_at=facts.snapshot_at - timedelta(hours=2))))
    with server.connect("escrow") as owner:
        for _ in range(2):
            owner.execute("SELECT pg_switch_wal()")
            owner.execute("CREATE TABLE IF NOT EXISTS later AS SELECT 1 AS n")
        owner.execute("INSERT INTO visits VALUES ('2026-10-04', 9)")  # into the smallest table
        owner.execute("INSERT INTO people (name, joined_at) VALUES ('late', '2026-10-02')")
        last_commit = owner.execute("SELECT clock_timestamp()").fetchone()
        last = _switched(owner, archive)
    shutil.copytree(archive, tmp_path / "backups" / "wal")
    origin = backup_sources.origin_of(backups.source_of("base"))
    room = origin.bytes_needed(origin.newest()[0])
    with (tmp_path / "backups" / "wal" / "000000010000000000000000").open("wb") as earlier:
        earlier.truncate(16 << 20)
    assert origin.bytes_needed(origin.newest()[0]) == room, "WAL from before the backup is not copied"
    drill, said = _verify()
    assert said == "", "rows and a table that came after the backup are no damage"
    found = stages(drill)
    assert found["wal"].detail["last"] == last
    assert found["row_counts"].detail == {"tables": 3, "rows": 2302, "exact": False}
    assert found["query"].outcome is StageOutcome.PASSED, "the row that came after the backup is there"
    assert found["negative_control"].detail["missing row"].endswith("noticed")
    assert found["recovery_point"].detail["basis"] == "last transaction of the archived WAL that was replayed"
    assert last_commit is not None
    assert drill.rpo_seconds == pytest.approx((drill.started_at - last_commit[0]).total_seconds(), abs=0.5)
    for part in ("GLOBALS", "CONFIGURATION"):
        environment.setenv(f"OPERATIONS__RESTORATION__{part}", "")
    settings.cache_clear()
    restoration = full_restoration.rehearse("base", "r1", drill.started_at)
    assert restoration["outcome"] == "passed"
    assert restoration["rpo_seconds"] == pytest.approx(drill.rpo_seconds, abs=60)
    took = stages(drills.find("full_restoration", "base", "r1"))
    parts = ("fetch", "wal", "restore", "analyze", "globals", "configuration")
    assert restoration["rto_seconds"] == pytest.approx(sum(took[name].seconds or 0 for name in parts), abs=0.0015)
    assert (took["wal"].seconds or 0) > 0.002, "the time of fetching the WAL can be told from none"
    gap = sorted(name.name for name in archive.iterdir() if len(name.name) == 24)[-2]
    (tmp_path / "backups" / "wal" / gap).unlink()
    assert f"wal: the WAL archive has gaps: {gap} missing" in _verify(run_id="r2")[1]
    shutil.rmtree(tmp_path / "backups" / "wal")
    assert "wal: the WAL archive has nothing from" in _verify(run_id="r3")[1]


def test_a_backup_that_ends_within_many_savepoints_is_no_pass(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory,
    archiving: tuple[ScratchServer, Path], tmp_path: Path,
) -> None:  # fmt: skip
    """No standby can be read while a transaction with more than 64 of them is open, so PostgreSQL does not pause."""
    server, archive = archiving
    configure(environment, tmp_path, BASE | {"wal": "wal/*"}, query="SELECT true")
    with server.connect("escrow", autocommit=False) as writer, server.connect("escrow") as owner:
        for number in range(70):
            writer.execute(f"SAVEPOINT s{number}".encode())
            writer.execute("INSERT INTO visits VALUES ('2026-10-05', 1)")
        backups.take(_url(server), tmp_path / "backups", "base-2", "base")
        writer.rollback()
        _switched(owner, archive)
    shutil.copytree(archive, tmp_path / "backups" / "wal")
    drill, said = _verify()
    assert drill.outcome is DrillOutcome.COULD_NOT_RUN
    assert "restore: the cluster could not be read where its backup ends" in said


def _switched(owner: psycopg.Connection, archive: Path) -> str:
    """End the current WAL segment and wait until it is archived; return its name."""
    row = owner.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
    assert row is not None
    while not (archive / row[0]).exists():
        owner.execute("SELECT pg_sleep(0.05)")
    return str(row[0])


def test_what_an_unusual_server_had_is_no_damage(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, primary: ScratchServer, tmp_path: Path
) -> None:
    """A name that as a pattern means another one, no schema public, an index that was invalid there already."""
    if primary.major != 18:
        pytest.skip("one version is enough: the statements are the same")
    configure(environment, tmp_path, BASE, query="SELECT count(*) = 2 FROM app.twins")
    with primary.connect() as superuser:
        superuser.execute('CREATE DATABASE "Escrow""2"')
    try:
        with primary.connect('Escrow"2') as owner:
            owner.execute("DROP SCHEMA public; CREATE SCHEMA app; CREATE TABLE app.twins AS VALUES (1), (1)")
            with pytest.raises(psycopg.errors.UniqueViolation):
                owner.execute("CREATE UNIQUE INDEX CONCURRENTLY twins_once ON app.twins (column1)")
        url = f"postgresql://postgres@/Escrow%222?host={primary.sockets}&port=5432"
        backups.take(url, tmp_path / "backups", "base-1", "base")
        drill, said = _verify()
        assert said == ""
        assert stages(drill)["amcheck"].detail == {"databases": ["escrow", 'Escrow"2', "postgres"]}
        assert stages(drill)["constraints"].detail["invalid_indexes"] == []
        record = tmp_path / "backups" / "base-1.facts.json"
        facts = backup_facts.from_json(record.read_text(), record.name)
        valid = ("index", "app.twins_once", "CREATE UNIQUE INDEX twins_once ON app.twins USING btree (column1)")
        record.write_text(backup_facts.to_json(replace(facts, catalog=sorted([*facts.catalog, valid]))))
        assert "constraints: indexes are invalid: app.twins_once" in _verify(run_id="r2")[1], "it was valid before"
    finally:
        with primary.connect() as superuser:
            superuser.execute('DROP DATABASE "Escrow""2"')


@pytest.mark.parametrize("packer", ["gzip", "bzip2", "zstd", "lz4"])
def test_a_cut_file_of_wal_is_not_unpacked_short(environment: pytest.MonkeyPatch, tmp_path: Path, packer: str) -> None:
    if shutil.which(packer) is None:
        pytest.skip(f"{packer} is not installed here")
    ending = {"gzip": "gz", "bzip2": "bz2", "zstd": "zst", "lz4": "lz4"}[packer]
    content = random.Random(7).randbytes(3 << 20)
    packed = subprocess.run([packer, "-c"], input=content, capture_output=True, check=True).stdout
    archived = tmp_path / "backups" / f"000000010000000000000001.{ending}"
    archived.write_bytes(packed)
    listed = [(archived.name, str(archived), len(packed))]
    backup_restore.copy_wal(listed, tmp_path / "whole")
    assert [(one.name, one.read_bytes()) for one in (tmp_path / "whole").iterdir()] == [(archived.stem, content)]
    archived.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(MaintenanceFailed, match=f"^{archived.name} is damaged and cannot be unpacked$"):
        backup_restore.copy_wal(listed, tmp_path / "cut")


@pytest.mark.parametrize("checksums", [True, False])
def test_pages_of_a_cluster_that_another_tool_restored(checksums: bool) -> None:
    whole = Control("missing row", True, "one row deleted; noticed")
    with scratch_place("test") as place:
        server = new_server(place, "restored", postgres_binaries.newest()[0])
        server.initialise(checksums=checksums)
        if not checksums:
            control = backup_control.page_control(server)
            assert control == Control("page", None, "the cluster has no page checksums (pg_checksums --enable)")
            said = backup_control.verdict([whole, control])
            assert said.outcome is StageOutcome.UNKNOWN, "a deleted row is no damaged copy"
            assert said.reason == f"no damaged copy could be made to try the checks with: {control.how}"
            return
        assert backup_control.page_control(server).refused
        with pytest.raises(MaintenanceFailed, match="restored cluster has damaged pages: .*checksum verification fail"):
            backup_control.page_control(server)  # the flipped byte of the first control is still there


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
        _create_escrow(server)
        space = server.folder / "space"
        space.mkdir(mode=0o700)
        place.own(space)
        with server.connect("escrow") as superuser:
            superuser.execute(f"CREATE TABLESPACE elsewhere LOCATION '{space}'".encode())
            superuser.execute("CREATE TABLE far TABLESPACE elsewhere AS SELECT n FROM generate_series(1, 50) AS n")

        def pgbackrest(*arguments: str) -> None:
            done = subprocess.run([*words, *on_primary, *arguments], capture_output=True, text=True, **place.identity)
            assert done.returncode == 0, f"{done.stdout}{done.stderr}"

        pgbackrest("stanza-create")
        backups.record_facts(_url(server), "next")  # the backup has no name yet
        with server.connect("escrow") as owner:
            owner.execute("INSERT INTO visits VALUES ('2026-10-04', 9)")
        pgbackrest("--start-fast", "--type=full", "--compress-type=none", "backup")
        rule = {
            "name": "pgbackrest",
            "format": "command",
            "list_command": [*words, "--output=json", "info"],
            "newest": r'"label":"(?P<backup>[^"]+)".*?"stop":(?P<finished>\d+)',
            "verify_command": [*(word for word in words if not word.startswith("--lock-path")), "verify"],
            "restore_command": [
                *words,
                "--set={backup}",
                "--pg1-path={target}",
                "--type=none",
                "--tablespace-map-all={target}-tablespaces",
                "restore",
            ],
            "wal_command": [*words, "--pg1-path={data}", "archive-get", "{wal}", "{target}"],
        }
        configure(environment, tmp_path, rule, query="SELECT count(*) = 301 FROM people")
        label = backup_sources.origin_of(backups.source_of("pgbackrest")).newest()[0].name
        with server.connect("escrow") as owner:
            owner.execute("INSERT INTO visits VALUES ('2026-10-05', 9)")
        backups.record_facts(_url(server), label, before="next")
        with server.connect("escrow") as owner:
            owner.execute("INSERT INTO people (name, joined_at) VALUES ('late', '2026-10-06')")
            owner.execute("SELECT pg_switch_wal()")
        words.remove(f"--lock-path={home}/lock")
        pgbackrest("check")  # returns when its segment is archived
        drill, said = _verify("pgbackrest")
        found = stages(drill)
        assert said == "", [stage for stage in found.values() if stage.outcome is StageOutcome.FAILED]
        assert found["row_counts"].detail["rows"] == 2353, "with the row that came between the facts and the backup"
        assert found["checksums"].outcome is StageOutcome.PASSED
        control = found["negative_control"].detail
        assert set(control) == {"missing row", "page"}
        assert control["page"].endswith("refused")
        unmapped = [word for word in rule["restore_command"] if "tablespace" not in word]
        configure(environment, tmp_path, rule | {"restore_command": unmapped})
        said = _verify("pgbackrest", "r2")[1]
        assert "restore: the restore_command of pgbackrest ended with status" in said, (
            "it would write into the primary's"
        )
