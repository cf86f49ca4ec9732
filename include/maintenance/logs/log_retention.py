"""Deletes rotated logs that are too old or too many: once their days are in the warehouse, never on a legal hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from include.maintenance.logs import log_proofs
from include.maintenance.logs.log_closing import Closing
from include.maintenance.pruning.holds import HELD_AS
from include.outcome import Outcome
from include.platform import folders, log_checksums, log_files
from include.platform.log_files import RotatedLog
from include.platform.log_lines import Kind
from include.settings import settings
from include.warehouse import actions, findings, legal_holds, session
from include.warehouse.findings import Finding
from include.warehouse.legal_holds import LegalHold

if TYPE_CHECKING:
    import psycopg

_CHECK = "rotated_log_retention"
_NO_TIME = "kept: no line of it carries a time that can be read"
_TO_COME = "kept: its lines are all of days that are still to come"
UNCOUNTED = {
    _NO_TIME: "# compare its lines with the formats that are read (docs/source-contract.md); then move the file away",
    _TO_COME: "# set the clock of the machine that wrote it; then move the file away",
}
"""Why a file stays of which no line is ever counted, and what is to be done."""


@dataclass(frozen=True)
class Due:
    """A rotated file that is to be deleted, and which limit says so."""

    file: RotatedLog
    limit: str


@dataclass(frozen=True)
class Keep:
    """What keeps a file: days whose figures are not in the warehouse, and days on a legal hold.

    ``today`` is the day of the run in the platform's time zone.
    """

    in_warehouse: set[date]
    holds: tuple[LegalHold, ...]
    zone: ZoneInfo
    today: date

    @classmethod
    def load(cls, today: date | None = None) -> Keep:
        """Read what the warehouse knows; ``today`` is the present day by default."""
        with session.transaction() as connection:
            found = connection.execute(
                "SELECT day FROM ops.daily_subject WHERE subject = 'traffic' AND state IN ('complete', 'partial')"
            )
            days = {day for (day,) in found}
            held = _holds(connection)
        zone = ZoneInfo(settings().platform.timezone)
        return cls(days, held, zone, today or datetime.now(zone).date())

    def with_holds_of_now(self) -> Keep:
        """The same with the holds in force at this moment: more may have been placed while files were read."""
        with session.transaction() as connection:
            return replace(self, holds=_holds(connection))

    def reason(self, path: Path, kind: Kind | None, days: list[date]) -> str:
        """Why a file with lines of these days must stay; empty when it need not.

        A file of no kind (None) holds no day that the warehouse waits for. Raises MaintenanceFailed for a damaged file.
        """
        if hold := self._hold_on(path, kind):
            return f"kept: legal hold {hold.legal_hold_id} ({hold.reason})"
        if missing := self.waited_for(days):
            return _waits_for(missing)
        if days and min(days) > self.tomorrow:
            return _TO_COME
        # Lines that tell times and cannot be read: their format was changed, and nothing of them was counted.
        return _NO_TIME if kind and not days and log_files.days_named_in(path, kind, self.zone) else ""

    def waited_for(self, days: list[date]) -> list[date]:
        """Return those of the days whose figures must be in the warehouse first and are not.

        A file does not wait for days that are still to come: a clock was wrong when some of its lines were written.
        """
        return [day for day in days if day not in self.in_warehouse and day <= self.tomorrow]

    @property
    def tomorrow(self) -> date:
        """The last day that a line may be of: clocks differ by a little."""
        return self.today + timedelta(days=1)

    def _hold_on(self, path: Path, kind: Kind | None) -> LegalHold | None:
        """Return the hold that a file is on, None without one.

        A hold's conditions on keys and columns cannot be told of a whole file: the times that stand in it decide, also
        those of broken lines, or, where no times are known, that the hold is in force.
        """
        held_as = ("platform_logs", f"{kind.value}_logs" if kind else "")
        holds = [hold for hold in self.holds if hold.source_table in held_as]
        days = log_files.days_named_in(path, kind, self.zone) if kind and holds else []
        return next((hold for hold in holds if not days or self._holds(hold, days)), None)

    def _holds(self, hold: LegalHold, days: list[date]) -> bool:
        # Of days of year 1 and 9999, which clients may send, there is no instant in every zone.
        first_held, not_held = (at and at.astimezone(self.zone) for at in (hold.time_from, hold.time_until))
        begins_in_time = not_held is None or (min(days), time()) < (not_held.date(), not_held.time())
        return begins_in_time and (first_held is None or max(days) >= first_held.date())


def _holds(connection: psycopg.Connection[Any]) -> tuple[LegalHold, ...]:
    return legal_holds.active(connection, *HELD_AS)


def _waits_for(missing: list[date]) -> str:
    more = f" (nor {len(missing) - 1} more)" if len(missing) > 1 else ""
    return f"kept: day {missing[0]} is not in the warehouse yet{more}"


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
        plan = action.plan | {
            "days": [str(day) for day in days],
            "waits_for": [str(day) for day in keep.waited_for(days)],
            "content": measured.facts(),
        }
        action = actions.plan("delete_logs", path.name, run_id, dry_run=dry_run, plan=plan)
        if reason := keep.reason(path, file.kind, days):
            return actions.nothing_to_do(action, reason)
        if measured.bytes and not days:
            return actions.nothing_to_do(action, _NO_TIME)
        if reason := closing.reason_to_keep(file):
            return actions.nothing_to_do(action, reason)
        if dry_run:
            return action
        while (now := keep.with_holds_of_now()) != keep:  # again: the file was read to its end, which may take long
            keep = now
            if reason := keep.reason(path, file.kind, days):
                return actions.nothing_to_do(action, reason)
        action = actions.applying(action)
        log_checksums.forget(path.parent, path.name)
        path.unlink()
        folders.to_disk(path.parent)
        return log_proofs.deletion(action, path)


# ------------------------------------------------------------------------------------------------ what stays
def check(run_id: str, keep: Keep) -> dict[str, Any]:
    """Record the files beyond a limit that stay for want of days which should have been computed by now.

    It is told from the acts of the run, so that a later attempt tells the same.
    """
    with findings.unknown_recorded(run_id, _CHECK, "platform_logs"):
        folder, acts = log_files.local_folder(), actions.of_run(run_id, ("delete_logs",))
        there = [act for act in acts if (folder / act.resource).exists()]
        found = [one for act in there if (one := _finding(act, keep.today)) is not None]
        if not found:
            summary = "no rotated log is kept beyond its limit for want of its days in the warehouse"
            found = [Finding("platform_logs", Outcome.OK, summary, {"files": len(acts)})]
        return findings.replace(run_id, _CHECK, found)


def _finding(act: actions.Action, today: date) -> Finding | None:
    """What is to be told of an act that kept a file. Yesterday's figures may be about to come; a hold is on purpose."""
    if act.state == "failed":
        return Finding(act.resource, Outcome.UNKNOWN, f"{act.resource} could not be deleted: {act.reason}")
    missing = [date.fromisoformat(day) for day in act.plan.get("waits_for", [])]
    if missing and act.reason == _waits_for(missing) and missing[0] < today - timedelta(days=1):
        remedy = (
            f"# look at its lines of {missing[0]} first: where a clock was wrong, move the file away instead\n"
            f"airflow backfill create --dag-id daily_metrics --from-date {missing[0]} --to-date {missing[0]}"
            " --reprocess-behavior completed"
        )
    elif not (remedy := UNCOUNTED.get(act.reason, "")):
        return None
    summary = f"{act.resource} is {act.plan['limit']} and {act.reason}"
    evidence = {"size_bytes": act.plan["bytes"], "days_missing": len(missing)}
    return Finding(act.resource, Outcome.WARNING, summary, evidence, remedy)
