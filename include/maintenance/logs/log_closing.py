"""Tells whether a rotated log may go, by compression or deletion: only when nobody can still write to it.

The kernel's word is enough. Where it does not tell (another user's file, a network file system), a log that is merely
quiet proves nothing: its writer may have it open for months, and what it writes into a file without a name is lost.
Then the log must have been begun anew, be quiet, and no writer may have missed its call in this run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from include.outcome import ConfigurationError, MaintenanceFailed, Outcome
from include.platform import log_files, log_writers
from include.platform.log_files import RotatedLog
from include.warehouse import findings
from include.warehouse.findings import Finding

STILL_WRITTEN_SECONDS = 3600
"""Within this time it shows that a writer goes on in a rotated log."""

_CHECK = "rotated_log_writers"


@dataclass(frozen=True)
class Closing:
    """What a run knows of the writers: all rotated files, ``now`` (aware), whether a writer could not be told."""

    rotated: Sequence[RotatedLog]
    now: datetime
    zone: ZoneInfo
    untold: bool

    def reason_to_keep(self, file: RotatedLog) -> str:
        """Why a file must stay although nobody is seen to write to it; empty when it may go.

        Raises MaintenanceFailed when somebody writes to it, and the file system's errors.
        """
        held, path = log_writers.held_for_writing(file.path), file.path
        if held or (held is None and self._written_late(file)):
            by = ", ".join(f"process {each}" for each in log_writers.holders(path)) if held else ""
            raise MaintenanceFailed(
                f"{path.name} is still written to{f' by {by}' if by else ''}: its writer did not open the new log; "
                "make it reopen"
            )
        if held is False or file.compressed:  # no program appends lines to a compressed file
            return ""
        if self.untold:
            return "kept: its writer could not be told to open the new log, and whether it did so is not known"
        if not self._begun_anew(file):
            return f"kept: no new {file.log} was begun, and whether its writer left this file is not known"
        return ""

    def check(self, run_id: str) -> dict[str, Any]:
        """Record the rotated files that cannot go because it is not known who writes to them."""
        with findings.unknown_recorded(run_id, _CHECK, "platform_logs"):
            found = [one for file in self.rotated if (one := self._finding(file)) is not None]
            if not found:
                summary = "no rotated log waits for a writer of which nothing is known"
                found = [Finding("platform_logs", Outcome.OK, summary, {"files": len(self.rotated)})]
            return findings.replace(run_id, _CHECK, found)

    def _finding(self, file: RotatedLog) -> Finding | None:
        if file.compressed or not self.is_overdue(file) or not file.path.exists():
            return None
        try:
            with log_files.errors_named(file.path):
                reason, size = self.reason_to_keep(file), file.path.stat().st_size
        except (ConfigurationError, MaintenanceFailed):  # its own act has failed and says so
            return None
        summary = f"{file.path.name} is {reason}; let its program be told of rotations (docs/deploy.md, Log rotation)"
        return Finding(file.path.name, Outcome.UNKNOWN, summary, {"size_bytes": size}) if reason else None

    def is_overdue(self, file: RotatedLog) -> bool:
        """Whether a file was rotated before this day: its writer has had the time to go on to the new log."""
        return (self.now.astimezone(self.zone).date() - file.day).days > 1

    def _written_late(self, file: RotatedLog) -> bool:
        """Whether a file was written to just now, or after the day on which it was renamed."""
        written_at = datetime.fromtimestamp(file.path.stat().st_mtime, self.zone)
        quiet = (self.now - written_at).total_seconds() >= STILL_WRITTEN_SECONDS
        return not quiet or (not file.compressed and written_at.date() > file.day + timedelta(days=1))

    def _begun_anew(self, file: RotatedLog) -> bool:
        """Whether the log exists again, or did since: then another file was rotated from it on a later day."""
        live = file.path.with_name(file.log)
        return _is_another(live, file.path) or any(
            one.log == file.log and one.path.parent == file.path.parent and one.day > file.day for one in self.rotated
        )


def _is_another(live: Path, rotated: Path) -> bool:
    """Whether a live log exists that is not the rotated file under a second name."""
    return live.exists() and not live.samefile(rotated)
