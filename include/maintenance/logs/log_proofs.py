"""Proves what was done to a log file, at once or, after an attempt that was killed, by the next one of the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from include.outcome import MaintenanceFailed
from include.platform import log_checksums, log_files, log_writers, regular_files
from include.platform.log_writers import Evidence
from include.warehouse import actions

_WAITS = {
    Evidence.CLOSED: "",
    Evidence.NEW_LOG: "its writers cannot be seen, so it is compressed the next time",
    Evidence.HELD: "its writer has not opened the new log yet, so it is compressed the next time",
    Evidence.UNKNOWN: "no new log was begun yet, and its writers cannot be seen, so it is compressed once one was",
}


def rotation(
    action: actions.Action, target: Path, before: dict[str, Any], told: str, evidence: Evidence
) -> actions.Action:
    """Prove that ``target`` is the very file that was the live log, with all that it held."""
    after = target.lstat()
    if after.st_ino != before["inode"] or after.st_size < before["bytes"]:
        raise MaintenanceFailed(f"{target.name} is not the file that {action.resource} was, or it became shorter")
    proof = {
        "inode_before": before["inode"],
        "inode_after": after.st_ino,
        "bytes_before": before["bytes"],
        "bytes_after": after.st_size,
        "writer_reopened": target.with_name(action.resource).exists(),
        "renamed_file": evidence.value,
    }
    if evidence is not Evidence.CLOSED:  # else they are counted at once, when it is compressed
        proof["lines"] = log_files.count_lines(target)
    return actions.prove(action, proof, {"to": target.name, "writer": told}, _WAITS[evidence])


def compression(action: actions.Action, target: Path, lines: int, size: int, checksum: str) -> actions.Action:
    """Prove that the compressed file alone is there; it was compared with the original before that was removed."""
    if target.with_name(action.resource).exists():
        raise MaintenanceFailed(f"{action.resource} is still there beside {target.name}")
    proof = {
        "lines": lines,
        "equal_byte_for_byte": True,
        "sha256_of_file": checksum,
        "bytes_before": size,
        "bytes_after": target.stat().st_size,
    }
    return actions.prove(action, proof, {"to": target.name})


def deletion(action: actions.Action, path: Path) -> actions.Action:
    """Prove that a file is gone."""
    if path.exists():
        raise MaintenanceFailed(f"{path.name} is still there after its deletion")
    return actions.prove(action, {"exists_after": False}, {"bytes_freed": action.plan["bytes"]})


def left_by(run_id: str) -> list[actions.Action]:
    """Return the acts on logs that an earlier attempt of this run had begun and not proven when it ended."""
    return [action for action in actions.left_by(run_id) if action.kind in ("rotate_logs", "delete_logs")]


def finish(action: actions.Action, folder: Path) -> actions.Action | None:
    """Prove what an earlier attempt had done; None when it had not done it, so that it is done anew.

    Raises ConfigurationError or MaintenanceFailed.
    """
    with actions.failures_recorded(action), log_files.errors_named(folder / action.resource):
        return _finish(action, folder)


def _finish(action: actions.Action, folder: Path) -> actions.Action | None:
    path = folder / action.resource
    if action.kind == "delete_logs":
        return None if path.exists() else deletion(actions.applying(_planned(action)), path)
    if "modified_ns" in action.plan:  # a compression
        target = path.with_name(action.plan["to"])
        if path.exists() or not regular_files.is_regular(target):
            return None
        checksum = log_files.regular_file_sha256(target)
        if log_checksums.read(folder).get(target.name) != checksum:  # it was noted once the content was found equal
            raise MaintenanceFailed(f"{target.name} is not the file that {action.resource} was compressed to")
        held = log_files.measure(target)
        return compression(actions.applying(_planned(action)), target, held.lines, held.bytes, checksum)
    if "inode" not in action.plan:  # an act of the real logrotate
        return None
    files = filter(regular_files.is_regular, folder.iterdir())
    renamed = [file for file in files if file.lstat().st_ino == action.plan["inode"]]
    if not renamed or renamed[0] == path:
        return None
    told = "is told by this attempt, or notices the new name by itself"
    evidence = log_writers.evidence(path, renamed[0], 0)
    return rotation(actions.applying(_planned(action)), renamed[0], action.plan, told, evidence)


def _planned(action: actions.Action) -> actions.Action:
    """The same act, planned again; it keeps the plan from before the change."""
    return actions.plan(action.kind, action.resource, action.run_id, dry_run=False, plan=action.plan)
