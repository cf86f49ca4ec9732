"""Writers are told by signal, command or address, and whether they went on to the new log is the kernel's word."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import log_writers
from include.platform.log_writers import Evidence, Hook
from tests.include.platform.web_server import web_server


def connect(environment: pytest.MonkeyPatch, **extra: Any) -> None:
    environment.setenv("AIRFLOW_CONN_PLATFORM_LOGS", json.dumps({"conn_type": "fs", "extra": {"path": "/", **extra}}))


def test_how_a_writer_is_told(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    connect(environment)
    assert log_writers.hook() is None
    connect(environment, reopen_command=f"touch '{tmp_path}/a b'")
    hook = log_writers.hook()
    assert hook is not None
    assert hook.tell() == "touch was run"
    assert (tmp_path / "a b").exists(), "split as a shell would, but without one"
    connect(environment, reopen_command=["touch", f"{tmp_path}/$HOME"])
    hook = log_writers.hook()
    assert hook is not None
    hook.tell()
    assert (tmp_path / "$HOME").exists()
    with web_server() as server:
        connect(environment, reopen_url=f"{server.url}/reopen?token=secret")
        hook = log_writers.hook()
        assert hook is not None
        assert hook.tell() == "the reopen_url answered 200"
        assert server.requests[0][:2] == ("POST", "/reopen?token=secret")
        server.statuses = [500]
        with pytest.raises(MaintenanceFailed, match="answered 500; the log itself is rotated") as raised:
            hook.tell()
    assert "secret" not in str(raised.value)
    with pytest.raises(MaintenanceFailed, match="did not answer"):
        hook.tell()


def test_an_answer_is_not_read(environment: pytest.MonkeyPatch) -> None:
    with web_server() as server:
        server.body, server.delay_between_bytes = b"x" * 10_000, 1
        assert Hook(url=server.url).tell() == "the reopen_url answered 200"


def test_only_a_process_that_has_a_log_open_is_signalled(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    logs, pid_file = tmp_path / "logs", tmp_path / "writer.pid"
    (logs / "of_a_site").mkdir(parents=True)
    (logs / "of_a_site" / "access.log").write_text("one\n")
    (tmp_path / "other").write_text("")
    (tmp_path / "to_it").symlink_to(logs)
    wait = "import sys, time; f = open(sys.argv[1], 'a'); print('open', flush=True); time.sleep(60)"
    for name, is_writer in (("other", False), ("logs/of_a_site/access.log", True)):
        with subprocess.Popen([sys.executable, "-c", wait, str(tmp_path / name)], stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                process.stdout.readline()
                pid_file.write_text(f"{process.pid}\nand more\n")
                connect(environment, path=str(tmp_path / "to_it"), pid_file=str(pid_file), reopen_signal="SIGTERM")
                hook = log_writers.hook()
                assert hook is not None
                if is_writer:
                    assert hook.tell() == f"SIGTERM sent to process {process.pid}"
                    assert process.wait(10) == -signal.SIGTERM
                else:
                    with pytest.raises(ConfigurationError, match=f"the process {process.pid} of the pid_file has no"):
                        hook.tell()
                    assert process.poll() is None
            finally:
                process.kill()


def test_a_link_is_no_pid_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "real").write_text(f"{os.getpid()}\n")
    (tmp_path / "pid").symlink_to(tmp_path / "real")
    connect(environment, pid_file=str(tmp_path / "pid"))
    with pytest.raises(ConfigurationError, match="does not hold a process id; correct its path"):
        log_writers.hook()


@pytest.mark.parametrize(
    ("hook", "error", "message"),
    [
        (Hook(command=("/no/such/program",)), ConfigurationError, "/no/such/program cannot be run"),
        (Hook(command=("/etc/passwd/program",)), ConfigurationError, "/etc/passwd/program cannot be run"),
        (Hook(command=("{folder}/program",)), ConfigurationError, "/program cannot be run; the log itself is rotated"),
        (Hook(command=("false",)), MaintenanceFailed, r"false \(reopen_command\) ended with 1"),
        (Hook(process=(2**22 + 1, signal.SIGUSR1)), MaintenanceFailed, "does not run"),
    ],
)
def test_a_writer_that_cannot_be_told(hook: Hook, error: type[Exception], message: str, tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"\x7fno program")
    (tmp_path / "program").chmod(0o755)
    hook = replace(hook, command=tuple(word.format(folder=tmp_path) for word in hook.command))
    with pytest.raises(error, match=message):
        hook.tell()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"pid_file": "/no/such/file"}, "does not hold a process id"),
        *(({"pid_file": f"{{pid_file}}{number}"}, "does not hold a process id") for number in (0, -1, -7, 10**30)),
        ({"pid_file": "{pid_file}1"}, "pid1 .* names process 1, which is never signalled; use reopen_command or reop"),
        ({"pid_file": "{pid_file}", "reopen_signal": "SIGNOT"}, "is SIGNOT; write SIGUSR1, say"),
        ({"reopen_command": "nginx -s 'reopen"}, "opens a quote that it does not close"),
        ({"pid_file": "a", "reopen_url": "b"}, "names pid_file and reopen_url; name one of them"),
    ],
)
def test_what_a_person_must_correct(
    environment: pytest.MonkeyPatch, tmp_path: Path, extra: dict[str, str], message: str
) -> None:
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")
    for number in (1, 0, -1, -7, 10**30):  # the first process, all of a group, of the user, of the machine
        (tmp_path / f"pid{number}").write_text(f"{number}\n")
    connect(environment, **{key: value.format(pid_file=tmp_path / "pid") for key, value in extra.items()})
    with pytest.raises(ConfigurationError, match=message):
        log_writers.hook()


def test_the_kernel_knows_who_writes(tmp_path: Path) -> None:
    path, live = tmp_path / "rotated", tmp_path / "live"
    path.write_text("one\n")
    assert log_writers.held_for_writing(path) is False
    with path.open("r"):
        assert log_writers.held_for_writing(path) is False, "a reader does no harm"
    writer = subprocess.Popen(
        [sys.executable, "-c", f"import time; f = open({str(path)!r}, 'a'); print('open', flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE,
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    assert log_writers.held_for_writing(path) is True
    assert log_writers.holders(path) == [writer.pid]
    assert log_writers.evidence(live, path, 0.1) is Evidence.HELD
    threading.Timer(0.2, writer.kill).start()
    started = time.monotonic()
    assert log_writers.evidence(live, path, 10) is Evidence.CLOSED
    assert time.monotonic() - started < 5, "it does not wait longer than the writer"
    writer.wait()
    writer.stdout.close()


def test_a_writer_waits_while_a_file_is_kept_from_it(tmp_path: Path) -> None:
    path = tmp_path / "rotated"
    path.write_text("one\n")
    opened: list[float] = []

    def append() -> None:
        with path.open("a"):
            opened.append(time.monotonic())

    thread = threading.Thread(target=append)
    with log_writers.kept_from_writers(path) as kept:
        assert kept is True
        thread.start()
        time.sleep(0.3)
        assert opened == []
    thread.join(5)
    assert len(opened) == 1


def test_where_the_kernel_does_not_tell_a_new_log_is_evidence(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    environment.setattr(log_writers, "_lease", lambda _descriptor: None)
    path, live = tmp_path / "rotated", tmp_path / "live"
    path.write_text("one\n")
    assert log_writers.evidence(live, path, 0.1) is Evidence.UNKNOWN
    live.write_text("")
    assert log_writers.evidence(live, path, 0.1) is Evidence.NEW_LOG


def mounted_as(environment: pytest.MonkeyPatch, folder: Path, kind: str) -> None:
    """Have the folder's files lie on a file system of another type, which cannot be mounted here."""
    with (folder / "any").open("w") as file:
        told = Path(f"/proc/self/fdinfo/{file.fileno()}").read_text()
    mount = told.split("mnt_id:")[1].split()[0]
    mounts = folder / "mountinfo"
    mounts.write_text(
        "999999 1 999999:1 / / rw,relatime shared:1 - nfs4 server:/other rw\n"
        f"{mount} 999999 0:99 / /a\\040-\\040b rw shared:2 master:1 - {kind} server:/logs rw\n"
    )
    environment.setattr(log_writers, "_MOUNTS", mounts)


@pytest.mark.parametrize(("kind", "held"), [("nfs4", None), ("cifs", None), ("ext4", True), ("btrfs", True)])
def test_a_network_file_system_does_not_know_who_writes(
    tmp_path: Path, environment: pytest.MonkeyPatch, kind: str, held: bool | None
) -> None:
    """It refuses every lease that the server did not promise it, as the kernel does while somebody writes."""
    mounted_as(environment, tmp_path, kind)
    path = tmp_path / "rotated"
    with path.open("w"):
        assert log_writers.held_for_writing(path) is held


@pytest.mark.parametrize(
    "kind",
    ["fuse.sshfs", "fuse.gcsfuse", "fuse", "virtiofs", "9p", "ocfs2", "gfs2", "vboxsf", "nfs4", "ceph", "new_kind"],
)
def test_a_lease_is_not_believed_where_another_machine_may_write(
    tmp_path: Path, environment: pytest.MonkeyPatch, kind: str
) -> None:
    """This machine's kernel grants it there although it does not know who else has the file open."""
    mounted_as(environment, tmp_path, kind)
    path, live = tmp_path / "rotated", tmp_path / "live"
    path.write_text("one\n")
    assert log_writers.held_for_writing(path) is None
    with log_writers.kept_from_writers(path) as kept:
        assert kept is None
    assert log_writers.evidence(live, path, 0.1) is Evidence.UNKNOWN, "it is no closed log"
    environment.setattr(log_writers, "_MOUNTS", tmp_path / "none")
    assert log_writers.held_for_writing(path) is None, "nor where the file system is not known"


def test_a_lease_is_believed_on_the_file_systems_of_this_machine(
    tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    for folder in (tmp_path, Path("/dev/shm")):
        path = folder / f"rotated-{os.getpid()}"
        path.write_text("one\n")
        assert log_writers.held_for_writing(path) is False
        path.unlink()
    for kind in ("xfs", "overlay", "zfs"):
        mounted_as(environment, tmp_path, kind)
        assert log_writers.held_for_writing(tmp_path / "any") is False
