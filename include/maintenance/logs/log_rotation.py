"""Rotates the platform's logs, compresses the rotated files and deletes the old ones. Guide, "Log Rotation".

A live log is renamed, its writer goes on in the renamed file until it opens a new one, so no line is lost. Copying a
log and then truncating it (logrotate's copytruncate) is deliberately not offered: lines that are written between the
two are gone, and no proof could tell. A configured logrotate rotates and compresses instead (``logrotate.py``).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from include.maintenance.logs import log_compression, log_proofs, log_retention, logrotate
from include.maintenance.logs.log_closing import Closing
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import folders, log_files, log_writers, regular_files
from include.platform.log_files import LiveLog, RotatedLog
from include.settings import settings
from include.warehouse import actions, session

ALL_LOGS = "all logs"
"""The resource of the act that stands for a whole run."""

_KIND = "rotate_logs"


@dataclass(frozen=True)
class _Renamed:
    """A log that was renamed, with its act, which is still to be proven."""

    action: actions.Action
    log: LiveLog
    target: Path


def rotate(run_id: str, dry_run: bool, now: datetime | None = None) -> list[dict[str, Any]]:
    """Rotate, delete and compress what is due at ``now`` (aware, by default the present); one act per file.

    Returns the acts' summaries, the last of them that of the act on all logs, which also tells why a run could not
    even begin. One file that fails does not keep the others from their turn; in the end ConfigurationError (all
    failures are for a person to correct, such as a clock that is wrong) or MaintenanceFailed is raised.
    """
    with session.kept_open():
        whole = actions.plan(_KIND, ALL_LOGS, run_id, dry_run=dry_run, plan={})
        with nullcontext() if whole.done else actions.failures_recorded(whole):
            done = _rotate(run_id, dry_run, now or session.present())
        return [*done, _closed(whole, done).summary()]


def _rotate(run_id: str, dry_run: bool, now: datetime) -> list[dict[str, Any]]:
    zone = ZoneInfo(settings().platform.timezone)
    today = now.astimezone(zone).date()
    folder = log_files.local_folder()
    work = _Work(run_id, dry_run, today)
    with log_files.locked(folder):
        if not dry_run:
            log_files.remove_partials(folder)
        for left in log_proofs.left_by(run_id):
            work.attempt(lambda left=left: log_proofs.finish(left, folder))  # type: ignore[misc]
        keep = log_retention.Keep.load(today)
        configuration = settings().maintenance.logs.logrotate_configuration
        if configuration is None:
            work.attempt(lambda: work.rotate(folder))
        else:
            work.attempt(lambda: work.rotate_by_logrotate(configuration, folder, keep))
        _, rotated, links = log_files.find(folder, settings().traffic)
        work.attempt(lambda: log_compression.check(folder, rotated, links, run_id, dry_run))
        closing = Closing(rotated, now, zone, untold=work.untold)
        keep = log_retention.Keep.load(today)  # again: a hold may have been placed while the checksums were read
        for due in log_retention.due(rotated, today):
            work.attempt(lambda due=due: log_retention.delete(due, keep, run_id, dry_run, closing))  # type: ignore[misc]
        work.attempt(lambda: log_retention.check(run_id, keep))
        if configuration is None:
            for file in rotated:
                if not file.compressed and file.path.exists():
                    work.attempt(lambda file=file: log_compression.compress(file, run_id, dry_run, closing))  # type: ignore[misc]
        if not work.untried:
            work.attempt(lambda: closing.check(run_id))
    return work.result()


def _closed(whole: actions.Action, done: list[dict[str, Any]]) -> actions.Action:
    """Record what became of the run as a whole; its errors were recorded when they were raised."""
    if whole.done or whole.dry_run:
        return whole
    states = Counter(one["state"] for one in done if "state" in one)
    if not states["proven"]:
        return actions.nothing_to_do(whole, f"{sum(states.values())} logs were looked at and nothing was to do")
    return actions.prove(actions.applying(whole), {"acts": dict(states)}, {"acts": states["proven"]})


class _Work:
    """What a run does and did; errors of single files are kept until the end."""

    def __init__(self, run_id: str, dry_run: bool, today: date) -> None:
        self.run_id, self.dry_run, self.today = run_id, dry_run, today
        self.done: list[dict[str, Any]] = []
        self.errors: list[Exception] = []
        self.untold = True  # a writer that is to be told of rotations was not: until it is known otherwise
        self.untried = False  # whether it could be told is not seen in a dry run

    def attempt(self, act: Callable[[], actions.Action | dict[str, Any] | None]) -> None:
        try:
            if (found := act()) is not None:
                self.done.append(found if isinstance(found, dict) else found.summary())
        except (ConfigurationError, MaintenanceFailed) as error:
            self.errors.append(error)

    def rotate(self, folder: Path) -> None:
        """Rename every log that is due, tell the writer once, and prove each."""
        live, rotated, _ = log_files.find(folder, settings().traffic)
        hook = log_writers.hook()
        self.untold = False
        renamed: list[_Renamed] = []
        for log in live:
            self.attempt(lambda log=log: self._rename(log, renamed))  # type: ignore[misc]
        if self.dry_run:
            self.untried = hook is not None
            return
        told = "notices the new name by itself"
        # A writer that an attempt which was killed did not tell any more is told now: telling it twice does no harm.
        held = [file for file in rotated if _held(file)] if hook else []
        if hook and (renamed or held):
            try:
                told = hook.tell()
            except (ConfigurationError, MaintenanceFailed) as error:
                told, self.untold = "", True
                self.errors.append(error)
                for each in renamed:
                    actions.fail(each.action, str(error))
        for each in renamed if told else []:
            self.attempt(lambda each=each: self._prove(each, told, patient=hook is not None))  # type: ignore[misc]
        _wait_until_released(held if told else [])

    def rotate_by_logrotate(self, configuration: Path, folder: Path, keep: log_retention.Keep) -> actions.Action:
        """Let the real logrotate do it; it tells the writers itself, and fails when it cannot."""
        action = logrotate.rotate(configuration, folder, keep, self.run_id, self.dry_run)
        self.untold = False
        return action

    def _rename(self, log: LiveLog, renamed: list[_Renamed]) -> actions.Action | None:
        action = _planned(log, self.run_id, self.dry_run, self.today)
        if action.state != "planned" or self.dry_run:
            return action
        with actions.failures_recorded(action), log_files.errors_named(log.path):
            action = actions.applying(action)
            target = _free_name(log.path.with_name(f"{log.path.name}-{self.today - timedelta(days=1):%Y%m%d}"))
            if log.path.lstat().st_ino != action.plan["inode"]:
                raise MaintenanceFailed(f"{log.path.name} was rotated by something else meanwhile")
            log.path.rename(target)  # safe: nobody else makes such names while the folder is locked
            folders.to_disk(log.path.parent)
        renamed.append(_Renamed(action, log, target))
        return None

    def _prove(self, renamed: _Renamed, told: str, *, patient: bool) -> actions.Action:
        with actions.failures_recorded(renamed.action), log_files.errors_named(renamed.log.path):
            seconds = settings().maintenance.logs.reopen_wait_seconds if patient else 0.0
            evidence = log_writers.evidence(renamed.log.path, renamed.target, seconds)
            return log_proofs.rotation(renamed.action, renamed.target, renamed.action.plan, told, evidence)

    def result(self) -> list[dict[str, Any]]:
        if not self.errors:
            return self.done
        failed = len(self.errors)
        more = f" ({failed - 1} more of {failed + len(self.done)} acts failed too)" if failed > 1 else ""
        only_people = all(isinstance(error, ConfigurationError) for error in self.errors)
        raise (ConfigurationError if only_people else MaintenanceFailed)(f"{self.errors[0]}{more}")


def _wait_until_released(files: list[RotatedLog]) -> None:
    """Give a writer that was told of earlier rotations as long as of today's; compression tells what came of it."""
    deadline = time.monotonic() + settings().maintenance.logs.reopen_wait_seconds
    for file in files:
        with suppress(OSError):
            seconds = max(0.0, deadline - time.monotonic())
            log_writers.evidence(file.path.with_name(file.log), file.path, seconds)


def _held(file: RotatedLog) -> bool:
    """Whether somebody may still have a rotated file open for writing: also where that cannot be told."""
    try:
        return not file.compressed and log_writers.held_for_writing(file.path) is not False
    except OSError:  # its compression names it
        return True


def _planned(log: LiveLog, run_id: str, dry_run: bool, today: date) -> actions.Action:
    """Plan the rotation of a log; the act is ``planned``, or done, or has nothing to do."""
    path, closes = log.path, today - timedelta(days=1)
    name = f"{path.name}-{closes:%Y%m%d}"
    status = path.lstat() if regular_files.is_regular(path) else None
    plan: dict[str, Any] = {"to": _free_name(path.with_name(name)).name, "closes": closes}
    if status is not None:
        plan |= {"inode": status.st_ino, "bytes": status.st_size}
    action = actions.plan(_KIND, path.name, run_id, dry_run=dry_run, plan=plan)
    if action.done:
        return action
    limits = settings().maintenance.logs
    if path.is_symlink():
        return actions.nothing_to_do(
            action,
            f"{path.name} is a link and is left alone, neither read nor rotated; put the file itself in its place "
            "unless it is a log of this folder too",
        )
    if status is None:
        return actions.nothing_to_do(action, f"there is no file {path.name}")
    again = limits.rotate_again_larger_than_bytes
    if status.st_size <= again and (earlier := _rotated_today(path, name)):
        return actions.nothing_to_do(action, f"it was rotated today already, to {earlier}")
    if status.st_size <= limits.rotate_larger_than_bytes:
        return actions.nothing_to_do(
            action, f"it has {status.st_size} bytes and is rotated above {limits.rotate_larger_than_bytes}"
        )
    return action


def _rotated_today(path: Path, name: str) -> str | None:
    """The name that the log got today already, or None. Also true of an attempt that ended after the renaming."""
    for action in actions.begun(_KIND, path.name):
        to = str((action.applied or action.plan).get("to", ""))
        if to == name or to.startswith(f"{name}."):
            taken = [path.with_name(to + suffix) for suffix in log_files.COMPRESSIONS]
            if any(file.exists() for file in taken):
                return to
    return None


def _free_name(wanted: Path) -> Path:
    """The wanted name, or with the first number that makes it one that no file has, compressed or not."""
    number, name = 0, wanted.name
    while any(wanted.with_name(name + suffix).exists() for suffix in log_files.COMPRESSIONS):
        number += 1
        name = f"{wanted.name}.{number}"
    return wanted.with_name(name)
