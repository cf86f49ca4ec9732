"""A backup writes nothing outside of the place that it is restored to, and one that may not be read is no bad one."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path
from urllib.parse import quote

import pytest

from include.maintenance.backups import backup_amcheck, backup_control
from include.maintenance.backups.backup_checks import passed
from include.maintenance.backups.drill_stages import errors_named
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import backup_restore, backups, estate_backup
from include.platform.backup_facts import from_json
from include.platform.backup_restore import Restored
from include.platform.scratch_place import scratch_place
from include.platform.scratch_server import new_server
from include.settings import DEFAULT_FILE
from tests.old_postgres import skip_where_absent


def _tar(path: Path, *members: tuple[str, bytes, bytes | str]) -> None:
    """Write a tar file of members: a name, a type, and the content or where a link leads."""
    with tarfile.open(path, "w:gz") as file:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o777
            if isinstance(content, str):
                member.linkname = content
                file.addfile(member)
            else:
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("link", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_no_link_in_a_tar_file_leads_to_a_file_of_the_worker(tmp_path: Path, link: bytes) -> None:
    outside = tmp_path / "of_the_worker"
    outside.write_bytes(b"untouched")
    backup = tmp_path / "base-1"
    backup.mkdir()
    _tar(
        backup / "base.tar.gz",
        ("PG_VERSION", tarfile.REGTYPE, b"18\n"),
        ("base", tarfile.DIRTYPE, b""),
        ("pg_tblspc", tarfile.DIRTYPE, b""),
        ("base/1", link, str(outside)),
        ("base/1", tarfile.REGTYPE, b"overwritten"),
        ("base/2", link, str(outside)),
    )
    _tar(backup / "16400.tar.gz", ("PG_18/5/7", tarfile.REGTYPE, b"a row"))
    with scratch_place("test") as place:
        server = backup_restore.copy_cluster(backup, place)
        assert outside.read_bytes() == b"untouched"
        assert (server.data / "base/1").read_bytes() == b"overwritten"
        assert not (server.data / "base/2").exists()
        space = server.data / "pg_tblspc" / "16400"
        assert space.resolve().is_relative_to(place.folder.resolve())
        assert (space / "PG_18/5/7").read_bytes() == b"a row"
        modes = [stat.S_IMODE((server.data / name).stat().st_mode) for name in ("", "base")]
        assert modes == [0o700, 0o700], "what PostgreSQL wants, whatever the tar file says"


@pytest.mark.parametrize("name", ["../beside", "/tmp/anywhere", "base/../../../beside"])
def test_a_name_in_a_tar_file_that_leads_out_of_the_cluster_is_damage(tmp_path: Path, name: str) -> None:
    (tmp_path / "base-1").mkdir()
    _tar(tmp_path / "base-1" / "base.tar.gz", (name, tarfile.REGTYPE, b"out"))
    with (
        scratch_place("test") as place,
        pytest.raises(MaintenanceFailed, match=f"{name} would lie outside the cluster"),
    ):
        backup_restore.copy_cluster(tmp_path / "base-1", place)


def test_no_link_in_a_plain_backup_is_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "of_the_worker"
    outside.write_bytes(b"untouched" * 1000)
    backup = tmp_path / "base-1"
    (backup / "base" / "5").mkdir(parents=True)
    (backup / "pg_tblspc").mkdir()
    (backup / "PG_VERSION").write_text("18\n")
    (backup / "base" / "5" / "1259").write_bytes(b"a row")
    (backup / "base" / "5" / "9999").symlink_to(outside)
    (backup / "tablespace_map").symlink_to(outside)
    with scratch_place("test") as place:
        server = backup_restore.copy_cluster(backup, place)
        backup_restore.make_startable(server)
        assert outside.read_bytes() == b"untouched" * 1000
        assert (server.data / "tablespace_map").read_text() == ""
        assert backup_control.largest_file(server.data).name == "1259", "no byte of another file is inverted"


def _plain(folder: Path) -> Path:
    """A plain base backup without what lies elsewhere."""
    (folder / "pg_tblspc").mkdir(parents=True)
    (folder / "PG_VERSION").write_text("18\n")
    return folder


@pytest.mark.parametrize("link", ["pg_tblspc/16400", "pg_wal", "pg_tblspc"])
def test_a_link_leads_to_nothing_but_a_tablespace_or_wal_of_the_backups_owner(tmp_path: Path, link: str) -> None:
    backup, keys = _plain(tmp_path / "base-1"), tmp_path / "keys"
    keys.mkdir()
    (keys / "id_rsa").write_text("secret")
    (keys / "16400").symlink_to(tmp_path)
    if link == "pg_tblspc":
        (backup / link).rmdir()
    (backup / link).symlink_to(keys)
    with scratch_place("test") as place:
        said = f"{link} of the backup base-1 is a link to {keys}, which is no such folder of PostgreSQL that belongs"
        with pytest.raises(ConfigurationError, match=said):
            backup_restore.copy_cluster(backup, place)
        assert not list(place.folder.rglob("id_rsa"))
    assert (keys / "16400").is_symlink(), "nor is anything removed there"


@pytest.mark.parametrize("owner", ["the same", "another"])
def test_tablespaces_and_wal_of_the_backups_owner_are_copied(tmp_path: Path, owner: str) -> None:
    backup, space, wal = _plain(tmp_path / "base-1"), tmp_path / "fast", tmp_path / "wal"
    (space / "PG_18_202506291" / "5").mkdir(parents=True)
    (space / "PG_18_202506291" / "5" / "16401").write_bytes(b"a row")
    (space / "lost+found").mkdir()
    (wal / "archive_status").mkdir(parents=True)
    (wal / "000000010000000000000002").write_bytes(b"a record")
    (backup / "inside" / "any name").mkdir(parents=True)
    (backup / "pg_tblspc" / "16400").symlink_to(space)
    (backup / "pg_tblspc" / "16500").symlink_to("../inside")
    (backup / "pg_wal").symlink_to(wal)
    if owner == "another":
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        os.chown(space, 65534, 65534)
    with scratch_place("test") as place:
        if owner == "another":
            with pytest.raises(ConfigurationError, match=f"pg_tblspc/16400 of the backup base-1 is a link to {space}"):
                backup_restore.copy_cluster(backup, place)
            return
        server = backup_restore.copy_cluster(backup, place)
        copy = server.data / "pg_tblspc" / "16400"
        assert (copy / "PG_18_202506291/5/16401").read_bytes() == b"a row"
        assert [path.name for path in copy.iterdir()] == ["PG_18_202506291"]
        assert (server.data / "pg_wal" / "000000010000000000000002").read_bytes() == b"a record"
        assert (server.data / "pg_tblspc" / "16500" / "any name").is_dir()


@pytest.mark.parametrize("refused", ["base/5/1259", "base/5", "pg_wal", "", "base.tar.gz", "base.tar.lz4"])
def test_a_file_that_the_worker_may_not_read_says_nothing_of_the_backup(tmp_path: Path, refused: str) -> None:
    backup = tmp_path / "base-1"
    (backup / "base" / "5").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (backup / "pg_wal").symlink_to(tmp_path / "elsewhere")
    (backup / "PG_VERSION").write_text("18\n")
    (backup / "base" / "5" / "1259").write_bytes(b"a row")
    if ".tar" in refused:
        _tar(backup / "base.tar.gz", ("PG_VERSION", tarfile.REGTYPE, b"18\n"))
    if refused.endswith("lz4"):
        if shutil.which("lz4") is None:
            pytest.skip("lz4 is not installed here")
        plain = gzip.decompress((backup / "base.tar.gz").read_bytes())
        (backup / "base.tar.gz").unlink()
        packed = subprocess.run(["lz4", "-c"], input=plain, capture_output=True, check=True).stdout
        (backup / refused).write_bytes(packed)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    (backup / refused).chmod(0)
    named = (backup / refused).resolve()
    with scratch_place("test") as place:
        place.own(place.folder)
        if os.geteuid() == 0:
            os.seteuid(65534)  # who is root may read everything
        try:
            with pytest.raises(ConfigurationError, match=f"^{named} cannot be read by the account of the worker; "):
                errors_named(lambda: passed(major=backup_restore.copy_cluster(backup, place).major), place)
        finally:
            os.seteuid(os.getuid())
    (backup / refused).chmod(0o755)
    with scratch_place("test") as place:
        assert backup_restore.copy_cluster(backup, place).major == 18, "it is sound"


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("major", [18, 15])
def test_the_name_of_a_database_leads_no_program_elsewhere(tmp_path: Path, major: int) -> None:
    if major == 15:
        skip_where_absent()
    name = "host=127.0.0.1 port=1 dbname=it's"
    with scratch_place("test") as place:
        server = new_server(place, "production", major)
        server.initialise()
        with server.start().connect() as superuser:
            superuser.execute(f'CREATE DATABASE "{name}"'.encode())
        with server.connect(name) as owner:
            owner.execute("CREATE TABLE people AS SELECT n FROM generate_series(1, 3) AS n")
        url = f"postgresql://postgres@/{quote(name)}?host={server.sockets}&port=5432"
        dump = backups.take(url, tmp_path, "a.dump", "directory", jobs=2)
        roles, _ = estate_backup.take(url, tmp_path, "20261001", DEFAULT_FILE)
        assert "ALTER ROLE postgres" in roles.read_text()
        with server.connect() as superuser:
            superuser.execute(f'DROP DATABASE "{name}"'.encode())
        facts = from_json((tmp_path / "a.dump.facts.json").read_text(), "a.dump.facts.json")
        restored = backup_restore.prepare_for_dump(server, dump, facts)
        backup_restore.restore_dump(restored, dump, 2, privileges=True)
        assert (restored.database, restored.problems) == (name, [])
        with server.connect(name) as reader:
            assert reader.execute("SELECT count(*) FROM people").fetchone() == (3,)
        assert backup_amcheck.check(restored, 2).reason == ""
        with_all = Restored(server, name, ["postgres", name])
        assert backup_amcheck.check(with_all, 2).detail["databases"] == ["postgres", name]
