"""Runs the real logrotate with the operators' configuration, and proves on the disk what it did.

Its exit status proves nothing: it is 0 for a log that it sees for the first time and only notes, and for a
configuration that it ignores. So every file of every log is looked at before and after: inode, size, content.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from include.maintenance.logs import log_retention
from include.maintenance.logs.log_retention import Keep
from include.outcome import ConfigurationError, MaintenanceFailed
from include.platform import folders, log_checksums, log_files, log_lines, regular_files
from include.platform.compression import compression_of
from include.settings import settings
from include.warehouse import actions

STATE = ".logrotate-state"
"""logrotate's notes on when each log was rotated last; beside the logs, so that every worker finds them."""

_MOST_SECONDS = 1800


@dataclass
class Intent:
    """What logrotate says that it would do."""

    considered: list[Path] = field(default_factory=list)
    rotates: list[Path] = field(default_factory=list)
    renames: dict[Path, Path] = field(default_factory=dict)
    removes: list[Path] = field(default_factory=list)
    truncates: list[Path] = field(default_factory=list)
    folders: set[Path] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    first_seen: int = 0


def rotate(configuration: Path, folder: Path, keep: Keep, run_id: str, dry_run: bool) -> actions.Action:
    """Rotate with logrotate's ``configuration``; ``folder`` holds its state file.

    Raises ConfigurationError (no logrotate, a faulty configuration, copytruncate, names of which the lines would not be
    counted) or MaintenanceFailed (it would delete what must stay, or did not do what it said).
    """
    action = actions.plan(
        "rotate_logs", "logrotate", run_id, dry_run=dry_run, plan={"configuration": configuration.name}
    )
    if action.done:
        return action
    with actions.failures_recorded(action), log_files.errors_named(configuration):
        program = _program()
        intent = _intent(program, configuration, folder / STATE)
        _refuse_names(intent)
        _refuse_loss(intent, keep)
        with _held(intent) as held:
            plan = _plan(configuration, intent, held)
            action = actions.plan("rotate_logs", "logrotate", run_id, dry_run=dry_run, plan=plan)
            if dry_run:
                return action
            while (now := keep.with_holds_of_now()) != keep:  # again: all files were read to their ends
                keep = now
                _refuse_loss(intent, keep)
            action = actions.applying(action)
            ended = _run([program, "--state", str(folder / STATE), str(configuration)])
            return _prove(action, intent, held, ended)


def _program() -> str:
    if found := shutil.which("logrotate") or shutil.which("logrotate", path="/usr/sbin:/sbin:/usr/local/sbin"):
        return found
    raise ConfigurationError(
        "maintenance.logs.logrotate_configuration is set but logrotate is not installed; install it, or leave the "
        "setting empty to have the logs rotated without it"
    )


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_MOST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise MaintenanceFailed(f"logrotate did not end in {_MOST_SECONDS // 60} minutes and was stopped") from None


# ----------------------------------------------------------------------------------------------------- plan
def _intent(program: str, configuration: Path, state: Path) -> Intent:
    """Ask logrotate for its plan; in debug mode it changes nothing, not even its state file."""
    if not configuration.is_file():
        raise ConfigurationError(
            f"the file {configuration} of maintenance.logs.logrotate_configuration does not exist; correct its path"
        )
    said = _run([program, "--debug", "--state", str(state), str(configuration)])
    intent = read_intent(said.stderr)
    if intent.errors or said.returncode:
        why = intent.errors[0] if intent.errors else f"it ended with {said.returncode}"
        raise ConfigurationError(f"logrotate refuses {configuration.name}: {why}")
    known = state.read_text() if state.exists() else ""
    intent.first_seen = sum(f'"{log}"' not in known for log in intent.considered)
    return intent


def read_intent(text: str) -> Intent:
    """Read what ``logrotate --debug`` prints."""
    intent, old_folder = Intent(), Path()
    for line in text.splitlines():
        if line.startswith("rotating pattern: "):
            old_folder = Path()
        elif match := re.match(r"olddir is ([^,]+),", line):
            old_folder = Path(match[1])
        elif match := re.match(r"considering log (.+)$", line):
            intent.considered.append(log := Path(match[1]))
            intent.folders |= {log.parent, log.parent / old_folder}  # a relative one lies in the log's own folder
        elif line.strip().startswith("log needs rotating") and intent.considered:
            intent.rotates.append(intent.considered[-1])
        elif match := re.match(r"removing old log (.+)$", line):
            intent.removes.append(Path(match[1]))
        elif match := re.match(r"renaming (.+) to .+ \(rotatecount (\d+), logstart (\d+), i (\d+)\)", line):
            if int(match[4]) == int(match[2]) + int(match[3]) - 1:  # what gets a number beyond the last is removed
                intent.removes.append(Path(match[1]))
        elif live := next((one for one in intent.rotates if line.startswith(f"renaming {one} to ")), None):
            intent.renames[live] = Path(line.removeprefix(f"renaming {live} to "))
        elif match := re.match(r"truncating (.+)$", line):
            intent.truncates.append(Path(match[1]))
        elif match := re.match(r"error: (.+)$", line):
            intent.errors.append(match[1].rstrip("."))
    return intent


def _refuse_loss(intent: Intent, keep: Keep) -> None:
    if intent.truncates:
        raise ConfigurationError(
            f"the logrotate configuration has copytruncate for {intent.truncates[0].name}, which loses the lines "
            "written between the copy and the truncation; remove it and let postrotate make the writer reopen its log"
        )
    patterns = log_lines.patterns(settings().traffic)
    for path in intent.removes:  # whatever its number, date format and folder
        kind = next((kind for kind, pattern in patterns.items() if fnmatch.fnmatchcase(path.name, pattern)), None)
        if path.exists():
            days = log_files.days_in(path, kind, keep.zone) if kind else []
            if reason := keep.reason(path, kind, days):
                raise MaintenanceFailed(
                    f"logrotate would delete {path.name}, which must be {reason}; {_remedy(reason)}. "
                    "Nothing was rotated"
                )


def _refuse_names(intent: Intent) -> None:
    """Traffic is counted from the files that its patterns match: lines that go elsewhere would be missing."""
    for log, target in intent.renames.items():
        for kind, pattern in log_lines.patterns(settings().traffic).items():
            if fnmatch.fnmatchcase(log.name, pattern) and not fnmatch.fnmatchcase(target.name, pattern):
                raise ConfigurationError(
                    f"logrotate would name {log.name} {target.name}, which traffic.{kind}_logs ('{pattern}') does not "
                    "match, so that its lines would not be counted; take extension out of the logrotate configuration, "
                    f"or let the pattern match both (as '{log.stem}*{log.suffix}*' does). Nothing was rotated"
                )


def _remedy(reason: str) -> str:
    """What helps: a file that is never counted would be in the way again however long it is kept."""
    return log_retention.UNCOUNTED.get(reason, "raise its rotate or maxage").removeprefix("# ")


@contextmanager
def _held(intent: Intent) -> Iterator[dict[Path, IO[bytes]]]:
    """Open every file of the logs, so that what a removed file held can still be read afterwards."""
    with ExitStack() as stack:
        held: dict[Path, IO[bytes]] = {
            path: stack.enter_context(regular_files.open_to_read(path)) for path in _files(intent)
        }
        yield held


def _files(intent: Intent) -> list[Path]:
    """The logs and what was made of them, by their names: as logrotate makes them, also with ``extension``."""
    names = {log.name for log in [*intent.considered, *intent.renames.values()]}
    before_extension = [
        re.compile(rf"{re.escape(log.stem)}[-._]?\d[-._T\d]*{re.escape(log.suffix)}(\..+)?")
        for log in intent.considered
        if log.suffix
    ]
    return [
        path
        for path in _all_files(intent)
        if any(path.name == name or path.name.startswith((f"{name}-", f"{name}.")) for name in names)
        or any(pattern.fullmatch(path.name) for pattern in before_extension)
    ]


def _all_files(intent: Intent) -> list[Path]:
    return sorted(
        path
        for folder in intent.folders
        if folder.is_dir()
        for path in folder.iterdir()
        if regular_files.is_regular(path)
    )


def _plan(configuration: Path, intent: Intent, held: dict[Path, IO[bytes]]) -> dict[str, Any]:
    files: dict[str, dict[str, Any]] = {}
    for path, handle in held.items():
        status = path.stat()
        files[str(path)] = {"inode": status.st_ino, "bytes": status.st_size}
        if not compression_of(handle):
            measured = log_files.measure(path, status.st_size)
            files[str(path)] |= {"bytes": measured.bytes, "lines": measured.lines, "sha256": measured.sha256}
    return {
        "configuration": configuration.name,
        "rotates": [str(path) for path in intent.rotates],
        "removes": [str(path) for path in intent.removes if path.exists()],
        "logs": len(intent.considered),
        "logs_seen_for_the_first_time": intent.first_seen,
        "files": files,
    }


# ---------------------------------------------------------------------------------------------------- proof
def _prove(
    action: actions.Action, intent: Intent, held: dict[Path, IO[bytes]], ended: subprocess.CompletedProcess[str]
) -> actions.Action:
    """Prove from the disk that every log that was to be rotated was, and that no line of any file is missing."""
    plan = action.plan
    after = _by_inode(_files(intent))
    anywhere = _by_inode(_all_files(intent))  # whatever they are called now
    new = [path for inode, path in after.items() if inode not in {facts["inode"] for facts in plan["files"].values()}]
    errors = read_intent(ended.stderr).errors
    said = f" (it says: {errors[0]})" if errors else f" (it ended with {ended.returncode})"
    went: dict[str, str] = {}
    for name, facts in plan["files"].items():
        path, there = Path(name), anywhere.get(facts["inode"])
        if there is None:
            if name in plan["removes"]:
                log_checksums.forget(path.parent, path.name)
                continue
            went[name] = str(_copy_of(path, facts, new, held.get(path)))
        elif there.stat().st_size < facts["bytes"]:
            raise MaintenanceFailed(f"{there.name} became shorter while logrotate ran{said}")
        else:
            went[name] = str(there)
    for name in plan["rotates"]:
        if went.get(name) == name:
            raise MaintenanceFailed(
                f"logrotate did not rotate {Path(name).name}: it is still inode {plan['files'][name]['inode']}{said}"
            )
    if errors or ended.returncode:
        raise MaintenanceFailed(f"logrotate failed{said}; no line was lost")
    if not plan["rotates"]:
        first = plan["logs_seen_for_the_first_time"]
        only = (
            f"; it sees {first} of them for the first time and rotates those from their next turn on" if first else ""
        )
        return actions.prove(
            action,
            {"rotated": {}, "files": len(after)},
            {"program": "logrotate"},
            f"none of its {plan['logs']} logs needs rotating{only}",
        )
    lines = sum(plan["files"][name].get("lines", 0) for name in plan["rotates"] if name in plan["files"])
    proof = {
        "rotated": {Path(name).name: Path(went[name]).name for name in plan["rotates"] if name in went},
        "lines_before": lines,
        "files_before": len(plan["files"]),
        "files_after": len(after),
        "removed": [Path(name).name for name in plan["removes"] if name in plan["files"] and name not in went],
    }
    return actions.prove(action, proof, {"program": "logrotate", "exit_status": ended.returncode})


def _by_inode(paths: list[Path]) -> dict[int, Path]:
    found = {}
    for path in paths:
        with suppress(FileNotFoundError):  # another program's, which removed it just now
            found[path.stat().st_ino] = path
    return found


def _copy_of(path: Path, facts: dict[str, Any], new: list[Path], handle: IO[bytes] | None) -> Path:
    """Return the new file that holds all that a vanished one held; save what it does not hold.

    Raises MaintenanceFailed when lines are missing, naming the file that they were saved to.
    """
    if handle is not None and os.fstat(handle.fileno()).st_ino != facts["inode"]:
        handle = None  # an earlier attempt, which was killed, planned; the name belongs to another file by now
    for candidate in new:
        if "sha256" not in facts or log_files.measure(candidate, facts["bytes"]).sha256 != facts["sha256"]:
            continue
        content = log_files.measure(candidate)
        if handle is None or log_files.measure_open(handle) == content:
            return candidate
        if log_files.measure_open(handle, content.bytes) == content:
            saved, lines = _save(path, handle, content.bytes)
            raise MaintenanceFailed(
                f"{path.name} was compressed while it was still written to: {lines} lines that {candidate.name} does "
                f"not hold are saved in {saved.name}; add delaycompress to the logrotate configuration"
            )
    if handle is None:
        raise MaintenanceFailed(f"{path.name} is gone after logrotate, and no other file holds what it held")
    saved, lines = _save(path, handle, 0)
    raise MaintenanceFailed(
        f"{path.name} was gone after logrotate, and no other file held its {lines} lines; it is saved as {saved.name}"
    )


def _save(path: Path, handle: IO[bytes], start: int) -> tuple[Path, int]:
    """Save what an open file holds from a place on; return the new file and its lines."""
    number = 1
    while os.path.lexists(target := path.with_name(f"{path.name}.saved-{number}")):
        number += 1
    handle.seek(start)
    with regular_files.create(target) as saved:
        shutil.copyfileobj(handle, saved, 1 << 20)
        saved.flush()
        os.fchmod(saved.fileno(), os.fstat(handle.fileno()).st_mode & 0o777)
        os.fsync(saved.fileno())
    folders.to_disk(target.parent)
    return target, log_files.measure(target).lines
