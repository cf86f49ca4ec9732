"""The kinds of backup sources: where the newest backup is found and how it is brought back.

An ``Origin`` finds backups; a ``Session`` restores one of them within a scratch place, in steps that the verification
records as stages.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from include.maintenance.backups import archived_wal, backup_checks, backup_control, cluster_recovery
from include.maintenance.backups.backup_checks import Result, failed, not_applicable, passed
from include.maintenance.backups.backup_control import Control
from include.outcome import ConfigurationError
from include.platform import backup_restore, backup_tool, backups
from include.platform.backup_restore import Part, Restored
from include.platform.backups import Backup
from include.platform.scratch_place import ScratchPlace
from include.platform.scratch_server import ScratchServer, new_server
from include.sections import BackupSource
from include.warehouse.drills import StageOutcome

_RESTORED_PER_BYTE = 10
"""Bytes of a restored database per byte of a compressed dump whose size was not recorded: pgbench tables give 10."""
_MARGIN = 1.2
_SEGMENT_BYTES = 16 << 20  # PostgreSQL's default, where only packed segments are there
_PACKED_WAL = re.compile(r"[0-9A-F]{24}\.(gz|zst|lz4|bz2)")
_RECENT = 10  # backups whose recorded time is read
_SERVER_BYTES = 200 << 20  # an empty cluster with its WAL

Step = tuple[str, Callable[[], Result]]


class Session(Protocol):
    """One backup on its way into a scratch place."""

    restored: Restored

    def before(self) -> list[Step]:
        """Stages before the restoration; it is not tried when one of them fails."""

    def restore(self) -> Result:
        """Bring everything back, ready for use, and set ``restored``."""

    def restore_in_steps(self) -> tuple[Result, list[Step]]:
        """Do the same, but leave what can follow while the tables are read already to the steps that are returned."""

    def file_controls(self) -> list[Control]:
        """Damaged copies of the backup that must be refused; called while the restoration runs."""

    def last_controls(self) -> list[Control]:
        """Controls that damage the restored cluster itself; called when nothing else is left to check."""


class Origin(Protocol):
    """Where the backups of a source are."""

    def newest(self) -> tuple[Backup, list[datetime]]:
        """Return the newest backup and the times of all of them, the newest first. Raises MaintenanceFailed."""

    def bytes_needed(self, backup: Backup) -> tuple[int | None, str]:
        """Return how much space the restoration takes, and how that is known; None when it is not."""

    def open(self, backup: Backup, place: ScratchPlace, jobs: int, *, durable: bool = False) -> Session:
        """Begin to restore a backup in a place; ``durable`` as ``ScratchServer.start`` takes it."""


def origin_of(rule: BackupSource) -> Origin:
    """Return the origin of a source's backups."""
    return _Tool(rule) if rule.format == "command" else _Folder(rule)


# --------------------------------------------------------------------------------------------- files in a folder
class _Folder:
    """Backups that lie in the folder of the connection ``backups``."""

    def __init__(self, rule: BackupSource) -> None:
        self.rule = rule

    def newest(self) -> tuple[Backup, list[datetime]]:
        listed = backups.all_of(self.rule)  # the newest first
        found = backups.newest(self.rule, listed)
        others = [one for one in listed if one[0] != found.name]
        # The time of a file is when its writing ended: where it counts, the recorded one is taken.
        recent = [backups.taken_at(name, changed) for name, _, changed, _ in others[:_RECENT]]
        return found, [found.taken_at, *recent, *(changed for _, _, changed, _ in others[_RECENT:])]

    def bytes_needed(self, backup: Backup) -> tuple[int | None, str]:
        fetched = 0 if backups.folder().is_local else backup.bytes
        if self.rule.format == "base":
            wal = _wal_bytes(self.rule, backup) if self.rule.wal else 0
            # Of compressed tar files the size of the database is the better guess.
            size = max(backup.bytes, backup.facts.database["bytes"] if backup.facts else 0)
            return int((size + wal) * _MARGIN) + fetched, "size of the backup and its WAL"
        control = backup.bytes
        if backup.facts is not None:
            size = int(backup.facts.database["bytes"] * _MARGIN)
            return size + _SERVER_BYTES + control + fetched, "size of the database when it was backed up"
        return backup.bytes * _RESTORED_PER_BYTE + _SERVER_BYTES + control + fetched, "size of the dump"

    def open(self, backup: Backup, place: ScratchPlace, jobs: int, *, durable: bool = False) -> Session:
        if self.rule.format == "base":
            return _BaseSession(self.rule, backup, place, durable)
        return _DumpSession(backup, place, jobs, durable)


def _wal_bytes(rule: BackupSource, backup: Backup) -> int:
    """Bytes, unpacked, of the archived WAL that a base backup needs; of all where the backup does not tell."""
    archived = backups.wal_files(rule.wal)
    segment = max((size for name, _, size in archived if re.fullmatch(r"[0-9A-F]{24}", name)), default=0)
    first = backups.first_wal(backup, segment)
    needed = [one for one in archived if first is None or archived_wal.is_needed(one[0], first)]
    unpacked = segment or _SEGMENT_BYTES
    return sum(max(size, unpacked) if _PACKED_WAL.fullmatch(name) else size for name, _, size in needed)


class _DumpSession:
    """A dump in pg_dump's custom or directory format."""

    restored: Restored

    def __init__(self, backup: Backup, place: ScratchPlace, jobs: int, durable: bool) -> None:
        self.backup, self.place, self.jobs, self.durable = backup, place, jobs, durable
        self.path = Path(backup.location)
        # While the backup is read for its checksums, its server is made: both take about a second.
        self.aside = ThreadPoolExecutor(1)
        self.prepared = self.aside.submit(self._prepare, backup.facts.major) if backup.facts else None
        place.at_the_end.append(self._end)

    def _end(self) -> None:
        self.aside.shutdown(wait=True)
        if self.prepared is not None and self.prepared.exception() is None:
            self.prepared.result()[0].kill()

    def before(self) -> list[Step]:
        return [
            ("fetch", self._fetch),
            ("checksums", lambda: backup_checks.checksums(self.path, self.backup.facts)),
            ("wal", lambda: not_applicable("a dump holds all that it needs")),
            ("server", self._server),
        ]

    def _fetch(self) -> Result:
        self.path = backups.fetch(self.backup, self.place.folder / "fetched")
        return passed(fetched=self.path.is_relative_to(self.place.folder))

    def _server(self) -> Result:
        begun = time.monotonic()
        facts = self.backup.facts
        major = facts.major if facts else backup_restore.dump_major(self.path)
        server, seconds = self.prepared.result() if self.prepared else self._prepare(major)
        waited = time.monotonic() - begun
        self.restored = backup_restore.prepare_for_dump(server, self.path, facts)
        seconds += time.monotonic() - begun - waited
        return replace(passed(major=major, remarks=self.restored.remarks), seconds=seconds)

    def _prepare(self, major: int) -> tuple[ScratchServer, float]:
        """Make and start an empty server; return it with the seconds that it took.

        It is made with the role that the platform's own was made with, where facts tell it: another server may have an
        ordinary role of the name that ours would have.
        """
        begun = time.monotonic()
        server = new_server(self.place, "restored", major)
        if self.backup.facts is not None and (known := self.backup.facts.superusers):
            server.superuser = known[0]
        server.initialise()
        server.start(durable=self.durable)
        return server, time.monotonic() - begun

    def restore(self) -> Result:
        return self._restore(Part.ALL)

    def restore_in_steps(self) -> tuple[Result, list[Step]]:
        done = self._restore(Part.ALL_BUT_FOREIGN_KEYS)
        return done, [("foreign_keys", lambda: self._restore(Part.FOREIGN_KEYS))]

    def _restore(self, part: Part) -> Result:
        known = self.backup.facts is not None
        backup_restore.restore_dump(self.restored, self.path, self.jobs, privileges=known, part=part)
        if self.restored.problems:
            return failed(f"the restoration reported errors: {self.restored.problems[0]}")
        return passed(jobs=self.jobs, privileges_restored=known)

    def file_controls(self) -> list[Control]:
        return backup_control.dump_controls(self.path, self.backup.facts, self.restored.server, self.place)

    def last_controls(self) -> list[Control]:
        return []


class _BaseSession:
    """A base backup of pg_basebackup, with the WAL in it or in an archive."""

    restored: Restored
    server: ScratchServer

    def __init__(self, rule: BackupSource, backup: Backup, place: ScratchPlace, durable: bool) -> None:
        self.rule, self.backup, self.place, self.durable = rule, backup, place, durable
        self.wal: Path | None = None
        self.controls: list[Control] = []

    def before(self) -> list[Step]:
        return [("fetch", self._fetch), ("wal", self._wal), ("checksums", self._checksums)]

    def _fetch(self) -> Result:
        self.path = backups.fetch(self.backup, self.place.folder / "fetched")
        if (self.path / "PG_VERSION").is_file() and not (self.path / "pg_notify").is_dir():
            return failed(
                f"{self.backup.name} lacks the empty folders without which PostgreSQL does not start (pg_notify), as "
                "plain files in object storage do; take it as tar files (--tar)"
            )
        self.server = backup_restore.copy_cluster(self.path, self.place)
        return passed(major=self.server.major)

    def _wal(self) -> Result:
        """Copy the archived WAL that the backup needs, and look for gaps in it."""
        if not self.rule.wal:
            return not_applicable("no WAL archive is configured for this source; pg_verifybackup checks the WAL in it")
        first = backup_restore.first_wal(self.server)
        size = backup_restore.wal_segment_bytes(self.server)
        archived = backups.wal_files(self.rule.wal)
        histories = archived_wal.read_histories(archived, self.place.folder / "histories")
        read, missing = archived_wal.continuity([name for name, *_ in archived], first, size, histories)
        if missing:
            return failed(f"the WAL archive has gaps: {backup_checks.some(missing)} missing", missing=missing[:50])
        if not read:
            return failed(f"the WAL archive has nothing from {first} on, where the backup begins")
        self.wal = self.place.folder / "wal"
        backup_restore.copy_wal([one for one in archived if archived_wal.is_needed(one[0], first)], self.wal)
        self.place.own(self.wal)
        return passed(first=first, last=read[-1], segments=len(read))

    def _checksums(self) -> Result:
        recorded = backup_checks.checksums(self.path, self.backup.facts)
        if recorded.outcome is StageOutcome.FAILED:
            return recorded
        verified = backup_checks.verify_base(self.server, self.server.data, wal=self.wal)
        if verified.outcome is StageOutcome.PASSED:
            # Before the start: the server changes the files that the damaged copy shares with it.
            self.controls = backup_control.cluster_controls(self.server, self.place, self.wal)
        return verified

    def restore(self) -> Result:
        begun = time.monotonic()
        given = backup_restore.make_startable(self.server, self.wal)
        self.restored, result = cluster_recovery.start(self.server, self.backup, self.rule, given, durable=self.durable)
        return _without_reading(result, begun)

    def restore_in_steps(self) -> tuple[Result, list[Step]]:
        return self.restore(), []

    def file_controls(self) -> list[Control]:
        return self.controls

    def last_controls(self) -> list[Control]:
        return []


# ----------------------------------------------------------------------------------------------- another tool
class _Tool:
    """Backups of any tool that is driven by command lines."""

    def __init__(self, rule: BackupSource) -> None:
        self.rule = rule
        self.tool = backup_tool.BackupTool(rule)

    def newest(self) -> tuple[Backup, list[datetime]]:
        found = self.tool.backups()
        name, finished = found[0]
        return Backup(name, name, 0, finished, "the tool", backups.read_facts(name)), [at for _, at in found]

    def bytes_needed(self, backup: Backup) -> tuple[int | None, str]:
        if backup.facts is None:
            return None, "the size of the backup was not recorded"
        return int(
            backup.facts.database["bytes"] * _MARGIN
        ) + _SERVER_BYTES, "size of the database when it was backed up"

    def open(self, backup: Backup, place: ScratchPlace, jobs: int, *, durable: bool = False) -> Session:
        return _ToolSession(self.rule, self.tool, backup, place, jobs, durable)


class _ToolSession:
    """A backup that another tool restores, to a cluster or to a dump."""

    restored: Restored

    def __init__(
        self, rule: BackupSource, tool: backup_tool.BackupTool, backup: Backup, place: ScratchPlace, jobs: int,
        durable: bool,
    ) -> None:  # fmt: skip
        self.rule, self.tool, self.backup, self.place, self.jobs = rule, tool, backup, place, jobs
        self.durable = durable
        self.dump: _DumpSession | None = None

    def before(self) -> list[Step]:
        if self.rule.restores == "cluster":
            return [("checksums", self._verify)]
        self.dump = _DumpSession(self.backup, self.place, self.jobs, self.durable)
        later = [step for step in self.dump.before() if step[0] not in ("fetch", "checksums")]
        return [("checksums", self._verify), ("fetch", self._fetch_dump), *later]

    def _verify(self) -> Result:
        if not self.rule.verify_command:
            return backup_checks.unknown("no verify_command is configured for this source")
        self.tool.verify(self.backup.name)
        return passed()

    def _fetch_dump(self) -> Result:
        assert self.dump is not None
        self.dump.path = self.place.folder / "dump"
        self.tool.restore(self.backup.name, self.dump.path)
        return passed()

    def restore(self) -> Result:
        if self.dump is not None:
            done = self.dump.restore()
            self.restored = self.dump.restored
            return done
        begun = time.monotonic()
        target = self.place.folder / "tool-copy" / "data"
        target.mkdir(mode=0o700, parents=True)
        self.tool.restore(self.backup.name, target)
        self._check_links(target)
        server = backup_restore.adopt_cluster(target, self.place)
        self.place.own(target.parent)  # what the tool has put beside it: tablespaces
        given = backup_restore.make_startable(server, wal_command=self.rule.wal_command)
        server.secrets = self.tool.environment
        self.restored, result = cluster_recovery.start(server, self.backup, self.rule, given, durable=self.durable)
        return _without_reading(result, begun)

    def _check_links(self, data: Path) -> None:
        """Raise ConfigurationError when a part of the restored cluster lies outside of the scratch place."""
        within = self.place.folder.resolve()
        for link in [data / "pg_wal", *(data / "pg_tblspc").glob("*")]:
            if link.is_symlink() and not link.resolve().is_relative_to(within):
                raise ConfigurationError(
                    f"the restore_command of {self.rule.name} restored {link.relative_to(data)} to {link.resolve()}, "
                    "outside of the scratch folder; remove what it wrote there, and let it map tablespaces to "
                    "{target}-tablespaces as docs/deploy.md shows"
                )

    def restore_in_steps(self) -> tuple[Result, list[Step]]:
        if self.dump is None:
            return self.restore(), []
        done = self.dump.restore_in_steps()
        self.restored = self.dump.restored
        return done

    def file_controls(self) -> list[Control]:
        return self.dump.file_controls() if self.dump is not None else []

    def last_controls(self) -> list[Control]:
        if self.dump is not None:
            return []
        self.restored.server.stop()
        return [backup_control.page_control(self.restored.server)]


def _without_reading(result: Result, begun: float) -> Result:
    """Leave what the look at the end of the backup took out of a restoration's time: only a drill takes it."""
    looked = result.detail.get("compared_seconds", 0.0)
    return replace(result, seconds=time.monotonic() - begun - looked) if looked else result
