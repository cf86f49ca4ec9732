"""Proves what was done to a log file, at once or, after an attempt that was killed, by the next one of the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from include.outcome import MaintenanceFailed
from include.platform import log_files
from include.platform.log_files import Measure
from include.warehouse import actions


def rotation(action: actions.Action, target: Path, before: dict[str, Any], told: str) -> actions.Action:
    """Prove that ``target`` is the very file that was the live log, with all that it held."""
    after = target.stat()
    if after.st_ino != before["inode"] or after.st_size < before["bytes"]:
        raise MaintenanceFailed(f"{target.name} is not the file that {action.resource} was, or it became shorter")
    measured = log_files.measure(target)
    proof = {
        "inode_before": before["inode"],
        "inode_after": after.st_ino,
        "bytes_before": before["bytes"],
        "bytes_after": measured.bytes,
        "lines": measured.lines,
        "writer_reopened": target.with_name(action.resource).exists(),
    }
    return actions.prove(action, proof, {"to": target.name, "writer": told})


def compression(action: actions.Action, target: Path, before: dict[str, Any], after: Measure) -> actions.Action:
    """Prove that the compressed file alone is there and holds every line of the original."""
    if after.facts() != before:
        raise MaintenanceFailed(f"{target.name} does not hold what {action.resource} held")
    proof = {
        "lines_before": before["lines"],
        "lines_after": after.lines,
        "sha256_before": before["sha256"],
        "sha256_after": after.sha256,
        "bytes_before": before["bytes"],
        "bytes_after": target.stat().st_size,
    }
    return actions.prove(action, proof, {"to": target.name})


def deletion(action: actions.Action, path: Path) -> actions.Action:
    """Prove that a file is gone."""
    if path.exists():
        raise MaintenanceFailed(f"{path.name} is still there after its deletion")
    return actions.prove(action, {"exists_after": False}, {"bytes_freed": action.plan["bytes"]})


def finish_what_was_left(run_id: str, folder: Path) -> list[actions.Action]:
    """Prove what an earlier attempt of this run had done when it ended; what it had not done is done anew."""
    finished = []
    for action in actions.left_by(run_id):
        if action.kind not in ("rotate_logs", "delete_logs"):
            continue
        with log_files.errors_named(folder / action.resource):
            if proven := _finish(action, folder):
                finished.append(proven)
    return finished


def _finish(action: actions.Action, folder: Path) -> actions.Action | None:
    path = folder / action.resource
    if action.kind == "delete_logs":
        return None if path.exists() else deletion(actions.applying(_planned(action)), path)
    if "content" in action.plan:  # a compression
        target = path.with_name(action.plan["to"])
        if path.exists() or not target.exists():
            return None
        after = log_files.measure(target)
        return compression(actions.applying(_planned(action)), target, action.plan["content"], after)
    renamed = [file for file in folder.iterdir() if file.is_file() and file.stat().st_ino == action.plan["inode"]]
    if not renamed or renamed[0] == path:
        return None
    told = "notices the new name by itself, or was told before the attempt ended"
    return rotation(actions.applying(_planned(action)), renamed[0], action.plan, told)


def _planned(action: actions.Action) -> actions.Action:
    """The same act, planned again; it keeps the plan from before the change."""
    return actions.plan(action.kind, action.resource, action.run_id, dry_run=False, plan=action.plan)
