"""Backups are taken whole with the facts of their own snapshot, found again, and their record cannot change unseen."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

import psycopg
import pytest

from demo.databases import Databases
from include.maintenance import __main__ as command
from include.maintenance.backup_commands import default_name
from include.outcome import ConfigurationError, MaintenanceFailed, SourceUnavailable
from include.platform import backup_facts, backup_tool, backups, estate_backup, postgres_binaries
from include.platform.backup_facts import FileFacts, TableFacts
from include.platform.folders import open_folder
from include.platform.scratch_place import scratch_place
from include.platform.scratch_server import new_server
from include.sections import BackupSource
from include.settings import DEFAULT_FILE, settings
from tests.include.maintenance.backups.backup_platform import ROWS, configure, filled_database

RULE = BackupSource(name="nightly", format="custom", files="*.dump", every_hours=24)


@pytest.fixture
def escrow(any_databases: Databases) -> Iterator[str]:
    with filled_database(any_databases) as url:
        yield url


def test_the_facts_are_those_of_the_dump_while_others_write(
    environment: pytest.MonkeyPatch, escrow: str, tmp_path: Path
) -> None:
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(escrow, autocommit=True) as writer:
            while not stop.is_set():
                writer.execute("INSERT INTO people (name, joined_at) VALUES ('late', now())")

    writing = threading.Thread(target=write)
    writing.start()
    try:
        dump = backups.take(escrow, tmp_path / "backups", "a.dump")
    finally:
        stop.set()
        writing.join()
    facts = backups.read_facts("a.dump")
    assert facts is not None
    rows = {table: one.rows for table, one in facts.tables.items()}
    with psycopg.connect(escrow) as reader:
        now = reader.execute("SELECT count(*) FROM people").fetchone()
    assert now is not None
    assert 300 <= rows["public.people"] < now[0], "rows that came later are not in it"
    assert {**rows, "public.people": 300} == ROWS
    program = postgres_binaries.find_at_least(facts.major) / "pg_restore"
    said = subprocess.run([program, "-t", "people", "-a", "-f", "-", dump], capture_output=True, text=True, check=True)
    lines = said.stdout.split("FROM stdin;\n")[1].split("\n\\.")[0].splitlines()
    assert len(lines) == rows["public.people"], "counted from the dump itself"
    assert facts.exact
    assert facts.files["a.dump"].bytes == dump.stat().st_size
    assert facts.snapshot_at <= facts.finished_at <= datetime.now(UTC)
    assert [path.name for path in sorted(dump.parent.iterdir())] == ["a.dump", "a.dump.facts.json"]


@pytest.mark.parametrize("kind", ["custom", "directory"])
def test_a_backup_is_nobody_elses_to_read(
    environment: pytest.MonkeyPatch, escrow: str, tmp_path: Path, kind: Literal["custom", "directory"]
) -> None:
    folder = tmp_path / "backups"
    dump = backups.take(escrow, folder, "a.dump", kind)
    backups.record_facts(escrow, "of_another_tool")
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    assert len(found) > 2
    assert found == {path: 0o700 if path.is_dir() else 0o600 for path in found}
    assert dump.is_dir() == (kind == "directory")


@pytest.mark.parametrize("kind", ["custom", "directory"])
def test_nobody_else_can_put_a_link_where_it_is_written(
    environment: pytest.MonkeyPatch, escrow: str, tmp_path: Path, kind: Literal["custom", "directory"]
) -> None:
    folder = tmp_path / "backups"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"untouched")
    (folder / ".a.dump.partial").symlink_to(elsewhere)
    (folder / ".a.dump.abcdefgh.partial").mkdir()
    (folder / ".a.dump.abcdefgh.partial" / "a.dump").write_bytes(b"left by a killed one")
    (folder / ".a.dump.b.abcdefgh.partial").mkdir()
    seen: list[tuple[str, int]] = []
    read_snapshot = backup_facts.read_snapshot

    def look(connection: psycopg.Connection) -> backup_facts.SnapshotFacts:
        seen.extend((path.name, stat.S_IMODE(path.stat().st_mode)) for path in folder.iterdir())
        return read_snapshot(connection)

    environment.setattr(backup_facts, "read_snapshot", look)
    backups.take(escrow, folder, "a.dump", kind)
    [(private, mode)] = [one for one in seen if one[0] != ".a.dump.b.abcdefgh.partial"]
    assert fnmatch(private, ".a.dump.????????.partial")
    assert mode == 0o700
    assert elsewhere.read_bytes() == b"untouched"
    left = sorted(path.name for path in folder.iterdir())
    assert left == [".a.dump.b.abcdefgh.partial", "a.dump", "a.dump.facts.json"], "that of another backup stays"


def test_a_failed_backup_leaves_the_former_one(environment: pytest.MonkeyPatch, escrow: str, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    before = backups.take(escrow, folder, "a.dump").read_bytes()
    with pytest.raises(SourceUnavailable, match="the database nowhere cannot be reached") as caught:
        backups.take(escrow.rsplit("/", 1)[0] + "/nowhere", folder, "a.dump")
    assert "escrow_owner:" not in str(caught.value)
    with psycopg.connect(escrow, autocommit=True) as owner:
        owner.execute("ALTER TABLE letters ENABLE ROW LEVEL SECURITY; ALTER TABLE letters FORCE ROW LEVEL SECURITY")
    with pytest.raises((ConfigurationError, MaintenanceFailed), match="a.dump cannot be counted|pg_dump of"):
        backups.take(escrow, folder, "a.dump")
    assert (folder / "a.dump").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["a.dump", "a.dump.facts.json"]


def test_what_the_database_says_is_told(environment: pytest.MonkeyPatch, databases: Databases, tmp_path: Path) -> None:
    name = f"escrow_{uuid.uuid4().hex[:12]}"
    databases.create(name, "escrow_owner")
    url = databases.url(name, "escrow_owner")
    try:
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute("CREATE TABLE many AS SELECT n FROM generate_series(1, 300000) AS n")
            owner.execute(f"ALTER DATABASE {name} SET statement_timeout = '5ms'".encode())
        said = f"the database {name} says: canceling statement due to statement timeout"
        with pytest.raises(SourceUnavailable, match=f"^the backup a.dump cannot be taken: {said}$"):
            backups.take(url, tmp_path / "backups", "a.dump")
        with pytest.raises(SourceUnavailable, match=f"^the facts of a cannot be recorded: {said}$"):
            backups.record_facts(url, "a")
    finally:
        databases.drop(name)
    gone = f"^the facts of a cannot be recorded: the database {name} cannot be reached$"
    with pytest.raises(SourceUnavailable, match=gone):
        backups.record_facts(url, "a")


def test_facts_of_a_backup_that_gets_its_name_last(
    environment: pytest.MonkeyPatch, databases: Databases, tmp_path: Path
) -> None:
    name = f"escrow_{uuid.uuid4().hex[:12]}"
    databases.create(name, "escrow_owner")
    url = databases.url(name, "escrow_owner")
    try:
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute("CREATE TABLE a AS SELECT 1 AS n")
            with pytest.raises(ConfigurationError, match="no facts were recorded under the name next; run backup-f"):
                backups.record_facts(url, "20261004F", before="next")
            backups.record_facts(url, "next")
            owner.execute("INSERT INTO a VALUES (2), (3)")
        environment.setenv("AIRFLOW_CONN_PLATFORM_OWNER", url)
        assert command.main(["backup-facts", "20261004F", "platform_owner", "--before", "next"]) == 0
    finally:
        databases.drop(name)
    facts = backups.read_facts("20261004F")
    assert facts is not None
    assert facts.tables_before == {"public.a": TableFacts(1)}
    assert facts.tables == {"public.a": TableFacts(3)}
    assert backups.read_facts("next") is None, "the next backup begins anew"


def test_what_a_failed_night_left_is_no_fact_of_the_next_backup(
    environment: pytest.MonkeyPatch, databases: Databases
) -> None:
    with filled_database(databases) as url, psycopg.connect(url, autocommit=True) as owner:
        environment.setenv("AIRFLOW_CONN_PLATFORM_OWNER", url)
        assert command.main(["backup-facts", "next", "platform_owner", "--begin"]) == 0  # the backup fails then
        owner.execute("DELETE FROM visits; DROP TABLE scribbles")
        assert command.main(["backup-facts", "next", "platform_owner", "--begin"]) == 0
        begun = backups.read_facts("next")
        assert command.main(["backup-facts", "20261004F", "platform_owner", "--before", "next"]) == 0
    facts = backups.read_facts("20261004F")
    assert begun is not None
    assert facts is not None
    assert facts.snapshot_at == begun.snapshot_at
    assert facts.tables_before is not None
    assert facts.tables_before["public.visits_2026"] == TableFacts(0)
    assert facts.changed_meanwhile == []
    with pytest.raises(SystemExit):
        command.main(["backup-facts", "a", "platform_owner", "--begin", "--before", "next"])


def _certify(folder: Path, name: str, issuer: str | None = None) -> None:
    """Make name.crt and name.key, signed by another certificate or by itself."""
    by: list[str | Path] = ["-CA", folder / f"{issuer}.crt", "-CAkey", folder / f"{issuer}.key"] if issuer else []
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt",
            *by,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    (folder / f"{name}.key").chmod(0o600)


def test_the_roles_are_read_by_the_tls_that_the_connection_asks_for(tmp_path: Path) -> None:
    """The server takes only a client with a certificate, and only to one database."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed here")
    try:
        postgres_binaries.find(15)
    except ConfigurationError as error:
        pytest.skip(str(error))
    for name, issuer in (("authority", None), ("localhost", "authority"), ("postgres", "authority")):
        _certify(tmp_path, name, issuer)
    process = os.getpid()
    address = f"127.77.{process // 250 % 250}.{1 + process % 250}"  # its port must be the usual one
    with scratch_place("test") as place:
        server = new_server(place, "primary", 15)  # programs from PyPI know no TLS
        server.initialise()
        for name in ("localhost.crt", "localhost.key", "authority.crt"):
            shutil.copy2(tmp_path / name, server.data / name)
        tls = {"ssl": "on", "ssl_cert_file": "localhost.crt", "ssl_key_file": "localhost.key"}
        server.start(tls | {"ssl_ca_file": "authority.crt", "listen_addresses": address})
        with server.connect() as superuser:
            superuser.execute("CREATE ROLE clerk")
            superuser.execute("CREATE DATABASE escrow")
            (server.folder / "hba.conf").write_text("local all all trust\nhostssl escrow all 127.0.0.0/8 cert\n")
            superuser.execute("SELECT pg_reload_conf()")
        url = (
            f"postgresql://postgres@localhost/escrow?hostaddr={address}&sslmode=verify-full"
            f"&sslrootcert={tmp_path}/authority.crt&sslcert={tmp_path}/postgres.crt&sslkey={tmp_path}/postgres.key"
        )
        roles, _ = estate_backup.take(url, tmp_path / "backups", "20261004", DEFAULT_FILE)
        assert "CREATE ROLE clerk;" in roles.read_text()
    assert backups.environment(url)["PGSSLMODE"] == "verify-full"


def test_the_newest_is_found_by_its_recorded_time(
    environment: pytest.MonkeyPatch, databases: Databases, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    facts = backup_facts.Facts(
        "old.dump",
        "custom",
        180000,
        datetime(2026, 10, 1, tzinfo=UTC),
        datetime(2026, 10, 1, tzinfo=UTC),
        {},
        [],
        {},
        [],
    )
    (folder / "old.dump").write_bytes(b"copied later than it was taken")
    (folder / f"old.dump{backup_facts.SUFFIX}").write_text(backup_facts.to_json(facts))
    (folder / ".new.dump.partial").write_bytes(b"not whole")
    found = backups.newest(RULE)
    assert (found.name, found.taken_at, found.taken_at_from) == ("old.dump", facts.snapshot_at, "recorded facts")
    (folder / "new.dump").write_bytes(b"123")
    found = backups.newest(RULE)
    assert (found.name, found.bytes, found.taken_at_from, found.facts) == ("new.dump", 3, "time of its file", None)
    assert datetime.now(UTC) - found.taken_at < timedelta(minutes=5)
    (folder / f"new.dump{backup_facts.SUFFIX}").write_text(backup_facts.to_json(facts))
    with pytest.raises(MaintenanceFailed, match="those of another backup, old.dump"):
        backups.newest(RULE)


def test_backups_in_object_storage_are_fetched(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import fsspec

    environment.setenv("AIRFLOW_CONN_BACKUPS", '{"conn_type": "fs", "extra": {"url": "memory://safe"}}')
    fsspec.filesystem("memory").pipe_file("/safe/a.dump", b"1234")
    found = backups.newest(RULE)
    assert (found.name, found.bytes) == ("a.dump", 4)
    assert backups.fetch(found, tmp_path / "fetched").read_bytes() == b"1234"
    fsspec.filesystem("memory").rm("/safe", recursive=True)


def test_a_backup_behind_a_link_has_its_own_age_and_size(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    disk, folder = tmp_path / "disk", tmp_path / "backups"
    (disk / "base.dump" / "base").mkdir(parents=True)
    (disk / "base.dump" / "PG_VERSION").write_bytes(b"18\n")
    (disk / "base.dump" / "base" / "1259").write_bytes(bytes(7000))
    (disk / "base.dump" / "16400").symlink_to(disk / "nowhere")  # as that of a tablespace on another machine
    (disk / "old.dump").write_bytes(b"12345")
    at = {"base.dump": datetime(2026, 10, 2, tzinfo=UTC), "old.dump": datetime(2026, 10, 1, tzinfo=UTC)}
    for name, changed in at.items():
        os.utime(disk / name, (changed.timestamp(), changed.timestamp()))
        (folder / name).symlink_to(disk / name)
    assert [(name, changed, size) for name, _, changed, size in backups.all_of(RULE)] == [
        ("base.dump", at["base.dump"], 7003),
        ("old.dump", at["old.dump"], 5),
    ]


def test_a_storage_that_fails_amid_a_list_is_named(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "backups" / "a.dump").mkdir()
    files = type(open_folder("backups").system)
    find = files.find

    def failing(self: object, path: str, *arguments: object, **named: object) -> object:
        if str(path).endswith("a.dump"):
            raise RuntimeError("key=TOPSECRET was refused")
        return find(self, path, *arguments, **named)

    environment.setattr(files, "find", failing)
    with pytest.raises(SourceUnavailable, match=r"^a.dump could not be read: .* backups failed \(RuntimeError\)$"):
        backups.all_of(RULE)


# ------------------------------------------------------------------------------------------------------ the facts
def _facts() -> backup_facts.Facts:
    at = datetime(2026, 10, 4, 1, 2, 3, tzinfo=UTC)
    return backup_facts.Facts(
        "é.dump", "base", 150007, at, at + timedelta(hours=1), {"datname": "escrow"}, ["postgres"],
        {"public.a": TableFacts(7, "2026-10-04T00:00:00.000000Z")}, [("table", "public.a", "owner x")],
        {"é.dump": FileFacts(3, "00")}, {"public.a": TableFacts(6)},
    )  # fmt: skip


def test_facts_are_read_as_they_were_written() -> None:
    facts = _facts()
    assert backup_facts.from_json(backup_facts.to_json(facts), "x") == facts
    assert (facts.major, facts.exact) == (15, False)
    assert replace(facts, tables_before=None).exact


def test_a_changed_record_is_noticed() -> None:
    text = backup_facts.to_json(_facts())
    for changed in (text.replace('"rows": 7', '"rows": 8'), text[:-20], "[]", "{}", ""):
        with pytest.raises(MaintenanceFailed, match="the recorded facts x are damaged"):
            backup_facts.from_json(changed, "x")


def test_files_that_differ_are_named(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    (backup / "sub").mkdir(parents=True)
    for name in ("same", "changed", "cut", "sub/gone"):
        (backup / name).write_bytes(b"content")
    recorded = backup_facts.hash_files(backup)
    assert recorded["same"] == FileFacts(7, "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73")
    assert backup_facts.file_differences(backup, recorded) == []
    (backup / "changed").write_bytes(b"Content")
    (backup / "cut").write_bytes(b"cont")
    (backup / "sub/gone").unlink()
    assert backup_facts.file_differences(backup, recorded) == [
        "the content of changed has changed since it was written",
        "cut has 4 bytes instead of 7",
        "sub/gone is missing",
    ]


# --------------------------------------------------------------------------------------------- tools and commands
def test_words_of_a_command_are_filled_and_never_split() -> None:
    assert backup_tool.fill("--set={backup}", {"backup": "a b; rm"}) == "--set=a b; rm"
    assert backup_tool.fill("{other} {backup}", {"backup": "{other}"}) == "{other} {other}"


def test_what_a_tool_says_of_its_backups(environment: pytest.MonkeyPatch) -> None:
    rule = BackupSource(
        name="tool", format="command", every_hours=24, restore_command=["true"],
        list_command=["printf", "one 2026-10-03T00:00:00+02:00\ntwo 1790000000\n"],
        newest=r"(?P<backup>\w+) (?P<finished>\S+)",
    )  # fmt: skip
    found = backup_tool.BackupTool(rule).backups()
    assert found == [
        ("one", datetime(2026, 10, 2, 22, tzinfo=UTC)),
        ("two", datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)),
    ]
    wrong = rule.model_copy(update={"list_command": ["printf", "one yesterday"]})
    with pytest.raises(ConfigurationError, match="the time 'yesterday', which is neither seconds"):
        backup_tool.BackupTool(wrong).backups()
    with pytest.raises(ConfigurationError, match="backup_tool"):
        backup_tool.BackupTool(rule.model_copy(update={"secrets": "backup_tool"}))


def _is_running(stat: Path) -> bool:
    try:
        return stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"  # nobody may reap it here
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_tool_that_hangs_is_ended_with_all_that_it_started(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rule = BackupSource(
        name="tool", format="command", every_hours=24, restore_command=["true"], newest="(?P<backup>.)(?P<finished>.)",
        list_command=["sh", "-c", f"sleep 600 & echo $! > {tmp_path}/started; wait"],
    )  # fmt: skip
    environment.setattr(backup_tool, "_LIST_SECONDS", 1.5)
    with pytest.raises(
        SourceUnavailable, match="^the list_command of the backup source tool did not end within 0.025 m"
    ):
        backup_tool.BackupTool(rule).backups()
    stat = Path("/proc") / (tmp_path / "started").read_text().strip() / "stat"
    until = time.monotonic() + 10  # a process that was killed ends when it gets a processor
    while _is_running(stat):
        assert time.monotonic() < until, stat.read_text()
        time.sleep(0.01)
    assert backup_tool._long() == 4 * 3600
    for minutes, seconds in ((1, 3600), (300, 5 * 3600)):
        environment.setenv("OPERATIONS__BACKUPS__RECOVERY_TIME_MINUTES", str(minutes))
        settings.cache_clear()
        assert backup_tool._long() == seconds
    settings.cache_clear()


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"format": "custom"}, "files is missing"),
        ({"format": "command", "newest": "x"}, "list_command, restore_command is missing"),
        ({"format": "command", "list_command": ["a"], "restore_command": ["a"], "newest": "("}, "newest must be"),
        ({"format": "tape", "files": "x"}, "sources.0.format"),
    ],
)
def test_a_wrong_source_is_named(
    environment: pytest.MonkeyPatch, tmp_path: Path, source: dict[str, str], problem: str
) -> None:
    configure(environment, tmp_path, {"name": "x", **source})
    with pytest.raises(ConfigurationError, match=problem):
        settings()
    configure(environment, tmp_path, *[{"name": "x", "format": "custom", "files": "x"}] * 2)
    with pytest.raises(ConfigurationError, match="the source x is there more than once"):
        settings()


def test_the_commands_take_and_verify(
    warehouse: psycopg.Connection, environment: pytest.MonkeyPatch, databases: Databases, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    configure(environment, tmp_path, {"name": "nightly", "format": "custom", "files": "escrow-*.dump"})
    with filled_database(databases) as url:
        environment.setenv("AIRFLOW_CONN_PLATFORM_OWNER", url)
        assert command.main(["backup", "nightly", "platform_owner", "escrow-1.dump"]) == 0
        assert capsys.readouterr().out == '{"backup": "escrow-1.dump", "source": "nightly"}\n'
        assert command.main(["verify-backup", "nightly"]) == 0
        assert '"outcome": "passed"' in capsys.readouterr().out
        assert command.main(["backup", "nightly", "platform_owner", "../escrow-1.dump"]) == 1
        assert "../escrow-1.dump is no name of a backup" in capsys.readouterr().err
        assert command.main(["backup-estate", "platform_owner"]) == 0
        roles, configuration = (tmp_path / "backups" / name for name in json.loads(capsys.readouterr().out)["files"])
        assert "CREATE ROLE" in roles.read_text()
        assert configuration.read_bytes() == Path(os.environ["OPERATIONS_CONFIG"]).read_bytes()
        assert fnmatch(roles.name, "globals-*.sql"), "what restoration.globals looks for"
        assert fnmatch(configuration.name, "operations-*.yaml")
        assert command.main(["backup", "hourly", "platform_owner"]) == 1
        assert "failed: there is no backup source hourly" in capsys.readouterr().err
        (tmp_path / "backups" / "escrow-1.dump").write_bytes(b"")
        assert command.main(["verify-backup", "nightly"]) == 1
        assert "failed: the backup verification of nightly failed: checksums:" in capsys.readouterr().err
        environment.setenv("AIRFLOW_CONN_PLATFORM_DB", url)
        backups.record_facts(url, "other")
        with psycopg.connect(url, autocommit=True) as owner:
            owner.execute("DELETE FROM visits")
        assert command.main(["backup-facts", "other", "platform_owner"]) == 0
        facts = backups.read_facts("other")
        assert facts is not None
        assert facts.tables_before is not None
        assert (facts.tables_before["public.visits_2026"].rows, facts.tables["public.visits_2026"].rows) == (2, 0)


def test_a_folder_that_can_only_be_read_is_named(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        environment.setenv("AIRFLOW_CONN_BACKUPS", json.dumps({"conn_type": "fs", "extra": {"path": folder}}))
        assert open_folder("backups").root == folder
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 0)  # who is root may write everywhere
        try:
            assert command.main(["backup-estate", "platform_owner"]) == 1
        finally:
            if os.getresuid()[2] == 0:
                os.setresuid(0, 0, 0)
    assert "the folder of the connection backups can only be read here; run this where" in capsys.readouterr().err


def test_the_default_name_fits_the_pattern() -> None:
    now = datetime(2026, 10, 4, 1, 2, 3, tzinfo=UTC)
    assert default_name(RULE.model_copy(update={"files": "escrow-*.dump"}), now) == "escrow-20261004-010203.dump"
    for pattern in ("a.dump", "*-*.dump", "a?.dump"):
        with pytest.raises(ConfigurationError, match="does not give a name"):
            default_name(RULE.model_copy(update={"files": pattern}), now)
