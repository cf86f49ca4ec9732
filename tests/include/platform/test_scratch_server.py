"""Scratch servers of any installed version: alone, private, and gone at the end whatever happens."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import postgres_binaries, scratch_server
from include.platform.scratch_place import MARKER, PREFIX, scratch_place, sweep, sweep_temporary
from include.platform.scratch_server import new_server
from include.settings import DEFAULT_FILE, settings

ROOT = Path(__file__).parents[3]


def _installed(major: int) -> int:
    try:
        postgres_binaries.find(major)
    except ConfigurationError as error:
        pytest.skip(str(error))
    return major


def _processes(folder: Path) -> list[str]:
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if str(link.readlink()).startswith(str(folder)):
                found.append(link.parent.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("major", [15, 18])
def test_a_server_of_a_version_is_private_and_gone_at_the_end(major: int) -> None:
    with scratch_server.scratch_server(_installed(major), "test") as server:
        place = server.place.folder
        with server.connect() as connection:
            assert connection.info.server_version // 10000 == major
            row = connection.execute("SELECT current_setting('listen_addresses'), inet_server_addr()").fetchone()
            assert row == ("", None), "it listens on no network"
        assert stat.S_IMODE(server.sockets.stat().st_mode) == 0o700
        owner = server.data.stat().st_uid
        assert owner == (pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid())
        assert server.run("psql", "-Atc", "SELECT 1").stdout == "1\n"
        marker = json.loads((place / MARKER).read_text())
        assert marker["pid"] == os.getpid()
        assert _processes(place)
    assert not place.exists()
    assert _processes(place) == []


def test_it_is_gone_after_an_error_too() -> None:
    places = []

    def fail() -> None:
        with scratch_server.scratch_server(18, "test") as server:
            places.append(server.place.folder)
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        fail()
    [place] = places
    assert not place.exists()
    assert _processes(place) == []


_CHILD = """
import sys, time
from include.platform.scratch_server import scratch_server
with scratch_server(18, "killed") as server:
    print(server.place.folder, flush=True)
    time.sleep(60)
"""


def _child() -> tuple[subprocess.Popen[str], Path]:
    """A process with a scratch server, and its place."""
    child = subprocess.Popen([sys.executable, "-c", _CHILD], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    return child, Path(child.stdout.readline().strip())


def test_the_place_of_a_killed_drill_goes_by_itself() -> None:
    child, place = _child()
    copy = place / "copy of production"
    copy.touch()
    child.send_signal(signal.SIGKILL)
    child.communicate()
    deadline = time.monotonic() + 60
    while place.exists():
        assert time.monotonic() < deadline, "nothing is left to clean up"
        time.sleep(0.05)
    assert _processes(place) == []


def _kill_the_janitor(place: Path) -> None:
    for told in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if told.read_bytes().rstrip(b"\0").endswith(str(place).encode()) and b"remove_left" in told.read_bytes():
                os.kill(int(told.parent.name), signal.SIGKILL)


def test_what_a_killed_drill_left_is_swept_and_nothing_else() -> None:
    child, place = _child()
    _kill_the_janitor(place)
    sockets = place / "sockets-server"
    assert place.name not in sweep(), "its drill lives"
    assert place.exists()
    child.send_signal(signal.SIGKILL)
    child.communicate()
    deadline = time.monotonic() + 20
    while _processes(place):
        assert time.monotonic() < deadline, "the guard ends the server"
        time.sleep(0.02)
    assert sockets.exists()
    strange = Path(tempfile.mkdtemp(prefix=PREFIX))
    other = Path(tempfile.mkdtemp(prefix=PREFIX))
    (strange / "precious").touch()
    (other / MARKER).write_text('{"made_by": "somebody else"}')
    try:
        with scratch_place("the next drill") as mine:
            assert not place.exists()
            assert mine.folder.exists()
        assert (strange / "precious").exists(), "without a marker it is not ours"
        assert other.exists()
    finally:
        (strange / "precious").unlink()
        (other / MARKER).unlink()
        strange.rmdir()
        other.rmdir()


def test_a_removal_that_was_interrupted_is_taken_up(tmp_path: Path) -> None:
    place = tmp_path / f"{PREFIX}left"
    place.mkdir()
    (place / MARKER).write_text(json.dumps({"made_by": PREFIX}))
    (place / "rest").mkdir()
    with (place / MARKER).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert sweep(tmp_path) == []
    assert sweep(tmp_path) == [place.name]
    assert list(tmp_path.iterdir()) == []


def test_temporary_folders_of_killed_tasks_are_swept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    long_ago = time.time() - 25 * 3600
    names = ("restore-old", "restore-new", "restore-open", "restore-written", "scratch-x", "elsewhere-x")
    for name in (f"gold-escrow-{one}" for one in names):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.csv").write_text("a row")
        for path in (tmp_path / name / "rows.csv", tmp_path / name):
            os.utime(path, (long_ago, long_ago))
    os.utime(tmp_path / "gold-escrow-restore-new")
    os.utime(tmp_path / "gold-escrow-restore-written" / "rows.csv")
    (tmp_path / "gold-escrow-restore-link").symlink_to(tmp_path / "gold-escrow-elsewhere-x")
    with (tmp_path / "gold-escrow-restore-open" / "rows.csv").open():
        assert sweep_temporary() == ["gold-escrow-restore-old"]
    assert sweep_temporary() == ["gold-escrow-restore-open"]
    assert (tmp_path / "gold-escrow-elsewhere-x" / "rows.csv").exists()


class _Parent(type(Path())):  # type: ignore[misc]
    """A scratch folder in which a drill ends between the look and the sweep."""

    def glob(self, *given: Any, **more: Any) -> Iterator[Path]:
        found = list(super().glob(*given, **more))
        shutil.rmtree(self / f"{PREFIX}1ending")
        return iter(found)


def test_a_drill_that_ends_meanwhile_stops_no_sweep(tmp_path: Path) -> None:
    for name in ("1ending", "2left"):
        (tmp_path / f"{PREFIX}{name}").mkdir()
        (tmp_path / f"{PREFIX}{name}" / MARKER).write_text(json.dumps({"made_by": PREFIX}))
    assert sweep(_Parent(tmp_path)) == [f"{PREFIX}2left"]


def test_programs_speak_english_whatever_the_worker_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their words are read: in German there are no limits in what pg_controldata says."""
    for name in ("LANG", "LC_ALL", "LC_MESSAGES", "LANGUAGE"):
        monkeypatch.setenv(name, "de_DE.UTF-8")
    with scratch_server.scratch_server(18, "test") as server:
        said = server.run("psql", "-Atc", "SHOW lc_messages", "-c", r"\! printenv LANG LC_ALL LC_MESSAGES LANGUAGE")
        assert said.stdout.splitlines() == ["", "C.UTF-8"], "the server has no language of its own"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_programs_have_none_of_the_rights_of_root(tmp_path: Path) -> None:
    """What runs in the server may put links where the worker writes, and a program may start others."""
    outside = tmp_path / "of_root"
    outside.write_text("untouched")
    with scratch_server.scratch_server(18, "test") as server:
        said = server.run("psql", "-At", "-c", r"\! id -u", "-c", r"\! id -G")
        assert said.stdout.split() == ["65534", "65534"]
        server.stop()
        for name in ("server.conf", "hba.conf", "ident.conf", "server.log"):
            (server.folder / name).unlink(missing_ok=True)
            (server.folder / name).symlink_to(outside)
        server.start()
    assert outside.read_text() == "untouched"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_it_works_for_a_user_without_rights() -> None:
    import concurrent.futures.thread  # noqa: F401 - what the child needs is imported while it may be read

    with scratch_server.scratch_server(18, "imports all that the child needs"):
        pass
    settings()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            with scratch_server.scratch_server(18, "as nobody") as server, server.connect() as connection:
                row = connection.execute("SELECT 40 + 2").fetchone()
            os.write(writing, f"{row} {server.place.folder.exists()}".encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as answer:
        assert answer.read() == "(42,) False"
    assert os.waitpid(child, 0)[1] == 0


def test_a_long_scratch_folder_has_its_sockets_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    for folder in (deep, *deep.parents[:3]):
        folder.chmod(0o755)
    with scratch_place("test", deep) as place:
        server = new_server(place, "server", 18)
        server.initialise()
        server.start()
        assert len(str(server.sockets)) < 100
        server.connect().close()
    assert not server.sockets.exists()
    assert list(deep.iterdir()) == []


def test_a_cluster_brings_what_it_needs_to_start_and_no_more() -> None:
    """Its limits hold; libraries that are absent, or would act by themselves, are left out and named."""
    with scratch_place("test") as place:
        server = new_server(place, "server", 18)
        server.initialise()
        (server.data / "postgresql.conf").write_text(
            "shared_preload_libraries = 'pg_stat_statements, no_such_library, pg_cron'\nport = 1\nfsync = nonsense\n"
        )
        (server.data / "postgresql.auto.conf").write_text("primary_conninfo = 'host=production'\n")
        server.start({"max_connections": "23"})
        with server.connect() as connection:
            row = connection.execute(
                "SELECT current_setting('max_connections'), current_setting('primary_conninfo'),"
                " current_setting('fsync')"
            ).fetchone()
            assert row == ("23", "", "off")
        assert set(server.removed_settings) == {"postgresql.conf"}, (
            "nonsense is said, and does not keep it from starting"
        )
        server.stop()
        (server.data / "postgresql.conf").write_text(
            "shared_preload_libraries = 'pg_stat_statements, no_such, pg_cron'\n"
        )
        server.removed_settings.clear()
        server.start()
        with server.connect() as connection:
            assert connection.execute("SHOW shared_preload_libraries").fetchone() == ("pg_stat_statements",)
            assert connection.execute("SHOW io_method").fetchone() == ("sync",), "only 18 and later know it"
        assert server.removed_settings == {
            "shared_preload_libraries: no_such": "there is no no_such.so here",
            "shared_preload_libraries: pg_cron": "it would act by itself",
        }


def test_servers_that_cannot_start_say_why() -> None:
    with scratch_place("test") as place:
        server = new_server(place, "server", 18)
        server.initialise()
        with pytest.raises(MaintenanceFailed, match="did not start: .*no_such_setting"):
            server.start({"no_such_setting": "1"})
        for _ in range(3):
            server.start()
            assert server._process is not None
            children = scratch_server._children(server._process.pid)
            with server.connect() as connection:
                connection.execute("SELECT pg_backend_pid()")
                server.kill()
            assert children
            assert not server.running
            assert not any(scratch_server._is_running(one) for one in children)
        server.start()
        with server.connect() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,), "after SIGKILL it recovers"


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    monkeypatch.undo()
    settings.cache_clear()


def _configure(patch: pytest.MonkeyPatch, tmp_path: Path, **changes: object) -> None:
    content = yaml.safe_load(DEFAULT_FILE.read_text())
    content["backups"] |= changes
    (tmp_path / "operations.yaml").write_text(yaml.safe_dump(content))
    patch.setenv("OPERATIONS_CONFIG", str(tmp_path / "operations.yaml"))
    settings.cache_clear()


def test_programs_are_found_by_version(configured: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no programs of PostgreSQL 9 are installed here; install"):
        postgres_binaries.find(9)
    newest, folder = postgres_binaries.newest()
    assert postgres_binaries.version_of(folder) == newest
    assert postgres_binaries.find_at_least(13)
    with pytest.raises(ConfigurationError, match="no programs of PostgreSQL 29 or newer"):
        postgres_binaries.find_at_least(29)
    _configure(configured, tmp_path, postgres_binaries={newest: str(folder)})
    assert postgres_binaries.find(newest) == folder
    _configure(configured, tmp_path, postgres_binaries={14: str(folder), 16: str(tmp_path)})
    with pytest.raises(ConfigurationError, match=f"for PostgreSQL 14, but it is of version {newest}"):
        postgres_binaries.find(14)
    with pytest.raises(ConfigurationError, match="for PostgreSQL 16, but it holds no complete server"):
        postgres_binaries.find(16)


def test_a_scratch_folder_that_cannot_be_used(configured: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _configure(configured, tmp_path, scratch_folder=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match="nowhere.* set backups.scratch_folder"), scratch_place("test"):
        pass


def test_it_takes_no_port() -> None:
    """Two servers run side by side, each with a socket folder of its own."""
    with scratch_place("test") as place:
        servers = [new_server(place, name, 18) for name in ("one", "two")]
        for server in servers:
            server.initialise()
            server.start()
        for server in servers:
            with server.connect() as connection:
                assert connection.execute("SHOW data_directory").fetchone() == (str(server.data),)
