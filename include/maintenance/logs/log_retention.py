"""Deletes rotated logs that are too old or too many: once their days are in the warehouse, never on a legal hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from include.maintenance.logs import log_proofs
from include.maintenance.logs.log_closing import Closing
from include.platform import folders, log_checksums, log_files
from include.platform.log_files import RotatedLog
from include.platform.log_lines import Kind
from include.settings import settings
from include.warehouse import actions, legal_holds, session
from include.warehouse.legal_holds import LegalHold

AIRFLOW_LOGS = "airflow_logs"
HELD_AS = ("platform_logs", *(f"{kind.value}_logs" for kind in Kind), AIRFLOW_LOGS)
"""What a row of ops.legal_hold names as its ``source_table``: all logs of the platform, those of a kind, Airflow's."""


@dataclass(frozen=True)
class Due:
    """A rotated file that is to be deleted, and which limit says so."""

    file: RotatedLog
    limit: str


@dataclass(frozen=True)
class Keep:
    """What keeps a file: days whose figures are not in the warehouse, and days on a legal hold."""

    in_warehouse: set[date]
    holds: tuple[LegalHold, ...]
    zone: ZoneInfo

    @classmethod
    def load(cls) -> Keep:
        """Read what the warehouse knows."""
        with session.transaction() as connection:
            found = connection.execute(
                "SELECT day FROM ops.daily_subject WHERE subject = 'traffic' AND state IN ('complete', 'partial')"
            )
            days = {day for (day,) in found}
            held = tuple(hold for name in HELD_AS for hold in legal_holds.active(connection, name))
        return cls(days, held, ZoneInfo(settings().platform.timezone))

    def reason(self, kind: Kind | None, days: list[date]) -> str:
        """Why a file with lines of these days must stay; empty when it need not.

        A hold's conditions on keys and columns cannot be told of a whole file: its times alone decide, or, where no
        days are known, its being in force. A file of no kind (None) holds no day that the warehouse waits for.
        """
        held_as = ("platform_logs", f"{kind.value}_logs" if kind else "")
        for hold in self.holds:
            if hold.source_table in held_as and (not days or self._holds(hold, days)):
                return f"kept: legal hold {hold.legal_hold_id} ({hold.reason})"
        if missing := [day for day in days if day not in self.in_warehouse]:
            more = f" (nor {len(missing) - 1} more)" if len(missing) > 1 else ""
            return f"kept: day {missing[0]} is not in the warehouse yet{more}"
        return ""

    def _holds(self, hold: LegalHold, days: list[date]) -> bool:
        first, last = (datetime.combine(day, time(), self.zone) for day in (min(days), max(days)))
        begins_in_time = hold.time_until is None or first < hold.time_until
        return begins_in_time and (hold.time_from is None or last + timedelta(days=1) > hold.time_from)


def due(rotated: list[RotatedLog], today: date) -> list[Due]:
    """Return the files beyond the limits of age, number and size, the oldest of each log first."""
    limits = settings().maintenance.logs
    found: list[Due] = []
    for log in sorted({file.log for file in rotated}):
        files = sorted((file for file in rotated if file.log == log), key=lambda f: (f.day, f.number), reverse=True)
        size, of_log = 0, []
        for place, file in enumerate(files, 1):
            size += file.path.stat().st_size
            if (today - file.day).days > limits.keep_days:
                of_log.append(Due(file, f"older than {limits.keep_days} days"))
            elif limits.keep_files is not None and place > limits.keep_files:
                of_log.append(Due(file, f"beyond the newest {limits.keep_files} files"))
            elif limits.keep_bytes is not None and size > limits.keep_bytes:
                of_log.append(Due(file, f"beyond {limits.keep_bytes} bytes"))
        found += reversed(of_log)
    return found


def delete(due_file: Due, keep: Keep, run_id: str, dry_run: bool, closing: Closing) -> actions.Action:
    """Delete a file, or record why it is kept. Raises MaintenanceFailed for a file that is damaged or written to."""
    file, path = due_file.file, due_file.file.path
    size = path.stat().st_size
    action = actions.plan(
        "delete_logs", path.name, run_id, dry_run=dry_run, plan={"bytes": size, "limit": due_file.limit}
    )
    if action.done:
        return action
    with actions.failures_recorded(action), log_files.errors_named(path):
        days = log_files.days_in(path, file.kind, keep.zone)
        measured = log_files.measure(path)
        plan = action.plan | {"days": [str(day) for day in days], "content": measured.facts()}
        action = actions.plan("delete_logs", path.name, run_id, dry_run=dry_run, plan=plan)
        if reason := keep.reason(file.kind, days):
            return actions.nothing_to_do(action, reason)
        if measured.bytes and not days:
            return actions.nothing_to_do(action, "kept: no line of it carries a time that can be read")
        if reason := closing.reason_to_keep(file):
            return actions.nothing_to_do(action, reason)
        if dry_run:
            return action
        action = actions.applying(action)
        log_checksums.forget(path.parent, path.name)
        path.unlink()
        folders.to_disk(path.parent)
        return log_proofs.deletion(action, path)
