"""Rotates the platform's logs, compresses the rotated files and deletes the old ones. Guide, "Log Rotation".

Nothing is copied and truncated: a live log is renamed and its writer goes on in the renamed file until it opens a new
one, so no line is lost. A rotated file is compressed when it is older than one day and nobody writes to it any more,
and its original goes only after the compressed one was read back and found equal. A file is deleted when it is past
its retention and the figures of every day that it holds are in the warehouse.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from include.maintenance import log_proofs
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import log_files
from include.platform.log_files import LiveLog, RotatedLog
from include.settings import settings
from include.warehouse import actions, session

_STILL_WRITTEN_SECONDS = 3600  # a writer that did not reopen its log shows within this time


def rotate(run_id: str, dry_run: bool, now: datetime | None = None) -> list[dict[str, Any]]:
    """Rotate, delete and compress what is due at ``now`` (aware, by default the present); one act per file.

    Returns the acts' summaries. One file that fails does not keep the others from their turn; in the end
    ConfigurationError (all failures are for a person to correct) or MaintenanceFailed is raised.
    """
    now = now or datetime.now(UTC)
    zone = ZoneInfo(settings().platform.timezone)
    today = now.astimezone(zone).date()
    folder = log_files.local_folder()
    writer = log_files.writer()
    done: list[dict[str, Any]] = []
    errors: list[Exception] = []

    def attempt(act: Callable[[], actions.Action]) -> None:
        try:
            done.append(act().summary())
        except (ConfigurationError, MaintenanceFailed) as error:
            errors.append(error)

    with log_files.locked(folder):
        done += [action.summary() for action in log_proofs.finish_what_was_left(run_id, folder)]
        live, rotated = log_files.find(folder, settings().traffic)
        for log in live:
            attempt(lambda log=log: _rotate(log, run_id, dry_run, today, writer))  # type: ignore[misc]
        days = _days_in_the_warehouse()
        keep_days = settings().maintenance.logs_keep_days
        for file in rotated:
            if (today - file.day).days > keep_days:
                attempt(lambda file=file: _delete(file, run_id, dry_run, days, zone))  # type: ignore[misc]
        for file in rotated:
            if not file.compressed and (today - file.day).days > 1 and file.path.exists():
                attempt(lambda file=file: _compress(file, run_id, dry_run, now))  # type: ignore[misc]
    if errors:
        _raise(errors, len(done))
    return done


def _raise(errors: list[Exception], done: int) -> None:
    more = f" ({len(errors) - 1} more of {len(errors) + done} acts failed too)" if len(errors) > 1 else ""
    only_people = all(isinstance(error, ConfigurationError) for error in errors)
    raise (ConfigurationError if only_people else MaintenanceFailed)(f"{errors[0]}{more}")


def _days_in_the_warehouse() -> set[date]:
    with session.transaction() as connection:
        found = connection.execute(
            "SELECT day FROM ops.daily_subject WHERE subject = 'traffic' AND state IN ('complete', 'partial')"
        )
        return {day for (day,) in found}


# ------------------------------------------------------------------------------------------------- rotation
def _rotate(log: LiveLog, run_id: str, dry_run: bool, today: date, writer: tuple[int, Any] | None) -> actions.Action:
    path, closes = log.path, today - timedelta(days=1)
    name = f"{path.name}-{closes:%Y%m%d}"
    status = path.stat() if path.exists() else None
    plan: dict[str, Any] = {"to": _free_name(path.with_name(name)).name, "closes": closes}
    if status is not None:
        plan |= {"inode": status.st_ino, "bytes": status.st_size}
    action = actions.plan("rotate_logs", path.name, run_id, dry_run=dry_run, plan=plan)
    if action.done:
        return action
    limit = settings().maintenance.rotate_logs_larger_than_bytes
    if status is None:
        return actions.nothing_to_do(action, f"there is no file {path.name}")
    if earlier := _rotated_today(path, name):
        return actions.nothing_to_do(action, f"it was rotated today already, to {earlier}")
    if status.st_size <= limit:
        return actions.nothing_to_do(action, f"it has {status.st_size} bytes and is rotated above {limit}")
    if dry_run:
        return action
    with actions.failures_recorded(action), log_files.errors_named(path):
        action = actions.applying(action)
        target = path.with_name(plan["to"])
        path.rename(target)  # safe: nobody else makes such names while the folder is locked
        log_files.to_disk(path.parent)
        told = _tell(writer)
        return log_proofs.rotation(action, target, plan, told)


def _rotated_today(path: Path, name: str) -> str | None:
    """The name that the log got today already, or None. Also true of an attempt that ended after the renaming."""
    for action in actions.begun("rotate_logs", path.name):
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


def _tell(writer: tuple[int, Any] | None) -> str:
    if writer is None:
        return "notices the new name by itself"
    try:
        os.kill(*writer)
    except ProcessLookupError:
        raise MaintenanceFailed(
            f"the process {writer[0]} of the pid_file does not run; the log itself is rotated"
        ) from None
    except PermissionError:
        raise ConfigurationError(
            f"the process {writer[0]} of the pid_file may not be signalled by this user; the log itself is rotated"
        ) from None
    return f"{writer[1].name} sent to process {writer[0]}"


# ------------------------------------------------------------------------------------------------- deletion
def _delete(file: RotatedLog, run_id: str, dry_run: bool, in_warehouse: set[date], zone: ZoneInfo) -> actions.Action:
    path = file.path
    size = path.stat().st_size
    action = actions.plan("delete_logs", path.name, run_id, dry_run=dry_run, plan={"bytes": size})
    if action.done:
        return action
    with actions.failures_recorded(action), log_files.errors_named(path):
        days = log_files.days_in(path, file.kind, zone)
        measured = log_files.measure(path)
        plan = {"bytes": size, "days": [str(day) for day in days], "content": measured.facts()}
        action = actions.plan("delete_logs", path.name, run_id, dry_run=dry_run, plan=plan)
        if measured.bytes and not days:
            return actions.nothing_to_do(action, "kept: no line of it carries a time that can be read")
        if missing := [str(day) for day in days if day not in in_warehouse]:
            more = f" (nor {len(missing) - 1} more)" if len(missing) > 1 else ""
            return actions.nothing_to_do(action, f"kept: day {missing[0]} is not in the warehouse yet{more}")
        if dry_run:
            return action
        action = actions.applying(action)
        path.unlink()
        log_files.to_disk(path.parent)
        return log_proofs.deletion(action, path)


# ---------------------------------------------------------------------------------------------- compression
def _compress(file: RotatedLog, run_id: str, dry_run: bool, now: datetime) -> actions.Action:
    path = file.path
    target = path.with_name(f"{path.name}.zst")
    plan = {"to": target.name, "bytes": path.stat().st_size}
    action = actions.plan("rotate_logs", path.name, run_id, dry_run=dry_run, plan=plan)
    if action.done or dry_run:
        return action
    with actions.failures_recorded(action), log_files.errors_named(path):
        status = path.stat()
        if now.timestamp() - status.st_mtime < _STILL_WRITTEN_SECONDS:
            raise MaintenanceFailed(
                f"{path.name} is still written to: its writer did not open the new log; make it reopen"
            )
        content = log_files.measure(path)
        action = actions.plan("rotate_logs", path.name, run_id, dry_run=False, plan=plan | {"content": content.facts()})
        action = actions.applying(action)
        if not target.exists():  # else an earlier attempt ended before it removed the original
            _compress_to(path, target, content)
        packed = log_files.measure(target)
        if packed != content:
            raise MaintenanceFailed(
                f"{target.name} exists and holds something else than {path.name}; remove one of them"
            )
        if (after := path.stat()).st_size != status.st_size or after.st_mtime_ns != status.st_mtime_ns:
            target.unlink()
            raise MaintenanceFailed(f"{path.name} was written to while it was compressed; its writer did not reopen it")
        path.unlink()
        log_files.to_disk(path.parent)
        return log_proofs.compression(action, target, content.facts(), packed)


def _compress_to(path: Path, target: Path, content: log_files.Measure) -> None:
    partial = target.with_name(f".{target.name}.partial")  # hidden: readers of the logs do not see it
    try:
        log_files.compress(path, partial)
        if log_files.measure(partial) != content:
            raise MaintenanceFailed(
                f"{path.name} does not read back equal from its compressed copy; it is kept as it is"
            )
        partial.rename(target)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
