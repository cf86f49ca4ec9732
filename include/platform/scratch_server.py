"""Scratch PostgreSQL servers for drills: empty or restored ones of any installed major version, always removed.

A server lives in a ``ScratchPlace``, which is removed with all that is in it. It listens on no network, only in a
socket folder that nobody else may enter, and trusts who comes that way. It reads none of the configuration that a
backup brings along, so a restored server archives nothing, replicates nothing and runs no scheduled jobs.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import postgres_binaries
from include.platform.programs import last_line
from include.platform.scratch_place import ScratchPlace, scratch_place

if TYPE_CHECKING:
    import psycopg

SUPERUSER = "postgres"
"""Superuser of every scratch server that is made empty."""

DRILL_SETTINGS: dict[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
}
"""Settings of a server that is thrown away: a crash of the machine ends the drill anyway, nothing is made durable."""

_DRILL_SETTINGS_SINCE: dict[int, dict[str, str]] = {
    18: {"io_method": "sync"},  # what is read was written a moment ago: workers that fetch it only cost processors
}
"""More of them, by the major version that first knows the setting."""

_ALWAYS: dict[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "archive_mode": "off",  # a restored server must not write into the platform's archive
    "max_logical_replication_workers": "0",  # nor take part in its logical replication
    "max_connections": "40",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "ssl": "off",
    "huge_pages": "off",
    "dynamic_shared_memory_type": "mmap",  # within its folder: a killed server leaves nothing elsewhere
}
_OF_SESSIONS = {
    "timezone": "UTC", "role": "none", "default_transaction_read_only": "off", "statement_timeout": "0",
    "lock_timeout": "0", "idle_in_transaction_session_timeout": "0", "session_preload_libraries": "",
    "local_preload_libraries": "",
}  # fmt: skip
"""For our own connections, whatever a restored database sets for all of its own (ALTER DATABASE … SET)."""

_FROM_CONTROL_FILE = ("max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_xacts",
                      "max_locks_per_xact")  # fmt: skip
_SETTING_OF = {"max_prepared_xacts": "max_prepared_transactions", "max_locks_per_xact": "max_locks_per_transaction"}
_ACT_BY_THEMSELVES = {"pg_cron", "pg_net", "pg_partman_bgw", "pglogical", "repmgr", "bdr"}
"""Libraries that would run jobs or contact other servers from a restored database; they are left out on purpose."""

_ENDING_SECONDS = 30.0  # a process that was killed ends when it gets a processor
_OPTIONS = " ".join(f"-c {name}={value}" for name, value in _OF_SESSIONS.items())
_READ_WHAT_WE_MAY = {"pg_restore"}
"""A dump lies where it was written, readable by us alone. These run nothing that they read and start no shell."""


@dataclass
class ScratchServer:
    """One server of a place. It is made by ``new_server``; ``data`` may be filled before it is started."""

    name: str
    major: int
    place: ScratchPlace
    binaries: Path
    folder: Path
    sockets: Path
    superuser: str = SUPERUSER
    removed_settings: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    _process: subprocess.Popen[bytes] | None = None
    _guard: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "server.log"

    @property
    def running(self) -> bool:
        """Whether the server's process has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead PostgreSQL's programs to this server; it needs no password."""
        return {
            "PGHOST": str(self.sockets), "PGPORT": "5432", "PGUSER": self.superuser, "PGDATABASE": "postgres",
            "PGOPTIONS": _OPTIONS,
        }  # fmt: skip

    def conninfo(self) -> str:
        """Return the connection string that another scratch server's ``primary_conninfo`` takes."""
        from psycopg.conninfo import make_conninfo

        return make_conninfo(host=str(self.sockets), port=5432, user=self.superuser, dbname="postgres")

    def connect(self, database: str = "postgres", *, autocommit: bool = True) -> psycopg.Connection[Any]:
        """Open a connection in UTC as the scratch server's superuser. Raises psycopg.OperationalError."""
        import psycopg

        return psycopg.connect(
            host=str(self.sockets), port=5432, user=self.superuser, dbname=database, autocommit=autocommit,
            connect_timeout=10, options=_OPTIONS,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------ its life
    def initialise(self, *, checksums: bool = True) -> None:
        """Make an empty cluster. Raises MaintenanceFailed with what initdb said."""
        self.place.own(self.folder)
        done = self.run(
            "initdb", "-D", self.data, "-U", self.superuser, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8",
            "--no-sync", *(["--data-checksums"] if checksums else ["--no-data-checksums"] if self.major >= 18 else []),
            environment={"TZ": "UTC"},  # else it compares every time zone there is with the machine's
        )  # fmt: skip
        if done.returncode != 0:
            raise MaintenanceFailed(f"an empty scratch server could not be made: {last_line(done.stderr)}")

    def start(
        self, given: Mapping[str, str] | None = None, *, durable: bool = False, ready_within_seconds: float = 60.0
    ) -> ScratchServer:
        """Start the server and wait until it accepts connections.

        It reads none of the configuration files that a backup brings: ``DRILL_SETTINGS`` hold (none of them when
        ``durable``), then what the restored cluster cannot start without, then ``given``. What was left out of the
        latter two stands in ``removed_settings`` with the reason. Raises MaintenanceFailed with the server's reason.
        """
        self.place.own(self.folder)
        needed = self._settings_of_cluster() | dict(given or {})
        wanted = (_ALWAYS if durable else _ALWAYS | self._drill_settings()) | self._without_absent_libraries(needed)
        self._write_configuration(wanted)
        self.place.own(self.folder)
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # came with the copy, or was left by ``kill``
        if self.log.is_symlink():  # as in ``write``
            self.log.unlink()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.data, "-c", f"config_file={self.folder / 'server.conf'}"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=self.folder,
                start_new_session=True, env=_plain_environment() | self.secrets, **self.place.identity,
            )  # fmt: skip
        self._guard = self.place.guard(self._process.pid)
        self._wait_until_ready(ready_within_seconds)
        return self

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: ``smart``, ``fast`` or ``immediate`` as pg_ctl means them."""
        self._end({"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])

    def kill(self) -> None:
        """End all of the server's processes at once with SIGKILL, as a failing machine does; return when they are gone.

        One that is still ending holds the shared memory, and the server cannot be started again.
        """
        children: list[int] = []
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGSTOP)  # it begins no further one meanwhile
            children = _children(self._process.pid)
            for number in [self._process.pid, *children]:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(number, signal.SIGKILL)
        self._end(signal.SIGKILL)
        until = time.monotonic() + _ENDING_SECONDS
        while any(map(_is_running, children)) and time.monotonic() < until:
            time.sleep(0.01)

    def run(
        self, program: str, *arguments: str | Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's programs of this major version; never raises for its exit status.

        It finds this server without arguments; ``environment`` is added. It runs as the server's account, without the
        rights of a worker that is root; only pg_restore may read what we may read.
        """
        return subprocess.run(
            [str(self.binaries / program), *map(str, arguments)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False, cwd=self.folder,
            env=_plain_environment() | self.environment | dict(environment or {}),
            **({} if program in _READ_WHAT_WE_MAY else self.place.identity),
        )  # fmt: skip

    def write(self, name: str, text: str) -> Path:
        """Write a file of the server's folder, never through a link: what runs in the server may have put one there."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        with path.open("x") as file:
            file.write(text)
        return path

    def last_error(self) -> str:
        """The last FATAL, PANIC or ERROR line of the server's log, or its last line."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        for word in ("PANIC:", "FATAL:", "ERROR:"):
            for number, line in reversed(list(enumerate(lines))):
                if word in line and "the database system is" not in line:
                    if line.endswith("contains errors") and number:  # what they are stands before
                        line = lines[number - 1]
                        return line[line.index("LOG:") :] if "LOG:" in line else line
                    return line[line.index(word) :]
        return lines[-1] if lines else "it said nothing"

    # ------------------------------------------------------------------------------------------------- details
    def _drill_settings(self) -> dict[str, str]:
        """Settings of a server that is thrown away, those of its version among them."""
        found = dict(DRILL_SETTINGS)
        for major, more in _DRILL_SETTINGS_SINCE.items():
            if self.major >= major:
                found |= more
        return found

    def _settings_of_cluster(self) -> dict[str, str]:
        """What a restored cluster cannot start without: limits of its control file, libraries of its configuration."""
        told = self.run("pg_controldata", "-D", self.data)
        limits = dict(re.findall(r"^(\w+) setting: +(\d+)$", told.stdout, re.M))
        found = {_SETTING_OF.get(name, name): limits[name] for name in _FROM_CONTROL_FILE if name in limits}
        for name, value in _ALWAYS.items():
            if name in found:
                found[name] = str(max(int(value), int(found[name])))
        if self.recovers:
            found["wal_level"] = "replica"  # a standby needs as many senders as its primary; minimal allows none
        else:
            found.pop("max_wal_senders", None)
        if (self.data / "postgresql.conf").exists():
            said = self.run("postgres", "-D", self.data, "-C", "shared_preload_libraries")
            if said.returncode == 0 and said.stdout.strip():
                found["shared_preload_libraries"] = said.stdout.strip()
            elif said.returncode != 0:
                self.removed_settings["postgresql.conf"] = f"it cannot be read: {last_line(said.stderr)}"
        return found

    @property
    def recovers(self) -> bool:
        """Whether the server will replay WAL from an archive or another server."""
        return (self.data / "recovery.signal").exists() or (self.data / "standby.signal").exists()

    def _without_absent_libraries(self, values: dict[str, str]) -> dict[str, str]:
        wanted = [name.strip(" \"'") for name in values.get("shared_preload_libraries", "").split(",")]
        if not any(wanted):
            return values
        libraries = Path(self.run("pg_config", "--pkglibdir").stdout.strip())
        kept = []
        for name in filter(None, wanted):
            path = libraries / f"{name.removeprefix('$libdir/')}.so"
            if path.name.removesuffix(".so") in _ACT_BY_THEMSELVES:
                self.removed_settings[f"shared_preload_libraries: {name}"] = "it would act by itself"
            elif not path.exists():
                self.removed_settings[f"shared_preload_libraries: {name}"] = f"there is no {path.name} here"
            else:
                kept.append(name)
        return values | {"shared_preload_libraries": ",".join(kept)}

    def _write_configuration(self, values: Mapping[str, str]) -> None:
        """Write the only configuration that the server reads; that of the backup is kept aside."""
        written = {"unix_socket_directories": str(self.sockets), "port": "5432"} | dict(values)
        written |= {"hba_file": str(self.folder / "hba.conf"), "ident_file": str(self.folder / "ident.conf")}
        self.write("hba.conf", "local all all trust\nlocal replication all trust\n")
        self.write("ident.conf", "")
        quoted = {name: value.replace("'", "''") for name, value in written.items()}
        self.write("server.conf", "".join(f"{name} = '{value}'\n" for name, value in quoted.items()))
        automatic = self.data / "postgresql.auto.conf"
        if automatic.exists() and automatic.stat().st_size:
            automatic.replace(self.folder / "postgresql.auto.conf.of_backup")
            automatic.touch(mode=0o600)

    def _wait_until_ready(self, seconds: float) -> None:
        import psycopg

        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.running:
                reason = self.last_error()
                self._end(signal.SIGQUIT)
                raise MaintenanceFailed(f"the scratch server of PostgreSQL {self.major} did not start: {reason}")
            if (self.sockets / ".s.PGSQL.5432").exists():
                try:
                    self.connect("template1").close()
                    return
                except psycopg.OperationalError as error:
                    if f'role "{self.superuser}" does not exist' in str(error):
                        self._end(signal.SIGQUIT)
                        raise ConfigurationError(
                            f"the restored cluster has no role {self.superuser}; "
                            "name the role that it was made with as superuser of the backup source"
                        ) from None
            time.sleep(0.02)
        reason = self.last_error()
        self._end(signal.SIGQUIT)
        raise MaintenanceFailed(
            f"the scratch server of PostgreSQL {self.major} did not accept connections within {seconds:.0f} s: {reason}"
        )

    def _end(self, number: int) -> None:
        if self._guard is not None:
            self.place.dismiss(self._guard)
            self._guard = None
        if self._process is None:
            return
        for attempt in (number, signal.SIGQUIT, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, attempt)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(60)
                break
        self._process = None


@contextmanager
def scratch_server(major: int, purpose: str) -> Iterator[ScratchServer]:
    """Start an empty server of a major version in a place of its own; both are gone at the end.

    Raises ConfigurationError (no programs of that version) or MaintenanceFailed.
    """
    with scratch_place(purpose) as place:
        server = new_server(place, "server", major)
        server.initialise()
        try:
            yield server.start()
        finally:
            server.stop("immediate")


def new_server(place: ScratchPlace, name: str, major: int) -> ScratchServer:
    """Make room for a server in a place; its data folder is empty, to be filled by ``initialise`` or with a backup.

    The caller need not stop it: the place ends what is left. Raises ConfigurationError when no programs of that
    major version are found.
    """
    folder = place.folder / name
    folder.mkdir(mode=0o700)
    server = ScratchServer(
        name, major, place, place.usable(postgres_binaries.find(major)), folder, place.socket_folder(name)
    )
    server.data.mkdir(mode=0o700)
    place.own(folder)
    place.at_the_end.append(server.kill)
    return server


def _plain_environment() -> dict[str, str]:
    """The environment without variables that would lead PostgreSQL's programs elsewhere, and without secrets.

    They speak English whatever the worker's language is: their words are read.
    """
    kept = ("PATH", "HOME", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C.UTF-8"}


def _is_running(number: int) -> bool:
    """Whether a process is there that has not ended; one that nobody has waited for yet has."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found
