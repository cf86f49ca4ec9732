"""Compresses rotated logs that nobody writes to any more, keeps their checksums and checks them every night.

The original goes only after the compressed file was read back from the disk and found equal, and only while the
kernel keeps writers off it, where it can. Every compressed file's SHA-256 stands in SHA256SUMS beside the logs, so a
file that is damaged later is found and named.
"""

from __future__ import annotations

import os
import re
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

from include.maintenance.logs import log_proofs
from include.maintenance.logs.log_closing import Closing
from include.outcome import MaintenanceFailed, Outcome
from include.platform import folders, log_checksums, log_files, log_writers, regular_files
from include.platform.log_files import RotatedLog
from include.warehouse import actions, findings
from include.warehouse.findings import Finding

_CHECK = "rotated_log_checksums"


def compress(file: RotatedLog, run_id: str, dry_run: bool, closing: Closing) -> actions.Action | None:
    """Compress a rotated file and prove it.

    A file that is surely closed is compressed at once. One that is still written to, or of which that cannot be told,
    is left until it is older than a day (None); after that, a writer that still has not gone on to the new log is a
    MaintenanceFailed, and one of which nothing is known keeps the file as it is.
    """
    path = file.path
    target = path.with_name(f"{path.name}.zst")
    with log_files.errors_named(path):
        held = log_writers.held_for_writing(path)
        status = path.lstat()
    if held is not False and not closing.is_overdue(file):
        return None
    plan = {"to": target.name, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}
    action = actions.plan("rotate_logs", path.name, run_id, dry_run=dry_run, plan=plan)
    if action.done or dry_run:
        return action
    with actions.failures_recorded(action), log_files.errors_named(path):
        if reason := closing.reason_to_keep(file):
            return actions.nothing_to_do(action, reason)
        action = actions.applying(action)
        if os.path.lexists(target):  # an earlier attempt ended before it removed the original
            if not log_files.same_content(target, path, status.st_size):
                raise MaintenanceFailed(
                    f"{target.name} exists and holds something else than {path.name}; remove one of them"
                )
            lines, size, checksum = log_files.count_lines(path), status.st_size, log_files.regular_file_sha256(target)
            log_checksums.note(path.parent, target.name, checksum)
        else:
            lines, size, checksum = _compress_to(path, target)
        _remove_original(path, plan, target)
        return log_proofs.compression(action, target, lines, size, checksum)


def _compress_to(path: Path, target: Path) -> tuple[int, int, str]:
    partial = regular_files.partial_of(target)
    try:
        lines, size, checksum = log_files.compress(path, partial)
        if log_files.regular_file_sha256(partial) != checksum or not log_files.same_content(partial, path, size):
            raise MaintenanceFailed(
                f"{path.name} does not read back equal from its compressed copy; it is kept as it is"
            )
        log_checksums.note(path.parent, target.name, checksum)
        partial.rename(target)
        folders.to_disk(path.parent)
        return lines, size, checksum
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


def _remove_original(path: Path, before: dict[str, Any], target: Path) -> None:
    with log_writers.kept_from_writers(path) as kept:
        after = path.lstat()
        unchanged = (after.st_size, after.st_mtime_ns) == (before["bytes"], before["modified_ns"])
        if kept is not False and unchanged:
            path.unlink()
            folders.to_disk(path.parent)
            return
    target.unlink()
    log_checksums.forget(path.parent, target.name)
    raise MaintenanceFailed(f"{path.name} was written to while it was compressed; its writer did not reopen it")


# ------------------------------------------------------------------------------------------------ checksums
def check(folder: Path, rotated: list[RotatedLog], links: list[str], run_id: str, dry_run: bool) -> dict[str, Any]:
    """Compare every compressed log with its noted checksum; record and return what was found, also the ``links``.

    A file without one (another tool compressed it) is read to its end and then noted, unless it is a dry run.
    """
    with (
        findings.unknown_recorded(run_id, _CHECK, "platform_logs"),
        log_files.errors_named(folder / log_checksums.NAME),
    ):
        noted = log_checksums.read(folder)
        found = [_of_link(name, noted.get(name)) for name in links]
        names = {file.path.name for file in rotated if file.compressed}
        size = 0
        for name in sorted(names):
            with log_files.errors_named(folder / name):
                size += (folder / name).lstat().st_size
                found += _of_file(folder / name, noted.get(name), dry_run)
        for name in sorted(set(noted) - names - set(links)):
            if (folder / name.removesuffix(".zst")).exists():
                continue  # an attempt that was killed noted it first: the original is still there
            evidence = {"sha256_expected": noted[name]}
            summary = f"{name} is gone, although this collection did not delete it; bring it back from a backup"
            found.append(Finding(name, Outcome.CRITICAL, summary, evidence, _accept(name)))
        if not found:
            summary = f"all {len(names)} compressed logs are as they were written"
            found = [Finding("platform_logs", Outcome.OK, summary, {"files": len(names), "size_bytes": size})]
        return findings.replace(run_id, _CHECK, found)


def _of_file(path: Path, expected: str | None, dry_run: bool) -> list[Finding]:
    checksum = log_files.regular_file_sha256(path)
    if expected is None:
        try:
            log_files.measure(path)
        except MaintenanceFailed as error:
            return [Finding(path.name, Outcome.CRITICAL, str(error), {"sha256_found": checksum})]
        if not dry_run:
            log_checksums.note(path.parent, path.name, checksum)
    elif checksum != expected:
        evidence = {"sha256_expected": expected, "sha256_found": checksum}
        summary = f"{path.name} is not what was written: its checksum changed; bring it back from a backup"
        return [Finding(path.name, Outcome.CRITICAL, summary, evidence, _accept(path.name))]
    return []


def _of_link(name: str, expected: str | None) -> Finding:
    summary = f"{name} is a link and is left out: it is neither read, compressed nor deleted; put the file in its place"
    outcome = Outcome.WARNING if expected is None else Outcome.CRITICAL
    evidence = {} if expected is None else {"sha256_expected": expected}
    return Finding(name, outcome, summary, evidence)


def _accept(name: str) -> str:
    """The command that takes a loss for accepted; the next check then notes what is there.

    Whoever may write to the folder may write any name: the shell and sed must take it for no more than a name, and
    what a terminal would obey stands in no command.
    """
    if not name.isprintable():
        return f"# remove the line of this file from {log_checksums.NAME} with an editor"
    literally = re.sub(r"[][\\.*^$/]", r"\\\g<0>", name)
    return f"sed -i {shlex.quote(f'/^[0-9a-f]* [ *]{literally}$/d')} {log_checksums.NAME}"
