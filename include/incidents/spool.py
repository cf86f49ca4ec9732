"""Keeps signals in a file while the warehouse is down: one fsynced JSON line each, moved into the warehouse once.

Files beside the spool, all named after it: ``.lock`` is held while a line is added or the spool is put aside,
``.drain-lock`` while a drain works, ``.waiting-*`` are spools put aside, ``.broken`` keeps the lines that no drain
could use, each with its reason.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from include.outcome import IncidentClass
from include.platform.folders import to_disk
from include.warehouse.signals import Signal

_MODE = 0o660
_PATIENCE_SECONDS = 2.0  # how long adding a line waits for others before it writes a file of its own


@dataclass(frozen=True)
class BrokenLine:
    """A line that holds no signal: the file and line number it stood at, why, and the line itself."""

    file: str
    number: int
    reason: str
    line: str


def to_line(signal: Signal) -> bytes:
    """Return a signal as one line of the spool."""
    facts = {
        "idempotency_key": signal.idempotency_key,
        "kind": signal.kind,
        "occurred_at": signal.occurred_at.isoformat(),
        "fingerprint": signal.fingerprint,
        "class": signal.incident_class.value,
        "title": signal.title,
        "detail": signal.detail,
    }
    return json.dumps(facts, ensure_ascii=False).encode() + b"\n"


def from_line(line: str) -> Signal:
    """Read one line of the spool. Raises ValueError with the reason when it holds no signal."""
    try:
        facts = json.loads(line)
    except ValueError:
        raise ValueError("it is not JSON; it may have been torn by a full disk or a power cut") from None
    if not isinstance(facts, dict):
        raise ValueError("it is not a JSON object")
    for name in ("idempotency_key", "kind", "occurred_at", "fingerprint", "class", "title"):
        if not isinstance(facts.get(name), str) or not facts[name] or "\x00" in facts[name]:
            raise ValueError(f"its {name} is missing or not a text")
    if facts["class"] not in IncidentClass.__members__:
        raise ValueError(f"its class {facts['class']!r} is none of P0, P1, P2 and P3")
    try:
        occurred_at = datetime.fromisoformat(facts["occurred_at"])
    except ValueError:
        raise ValueError(f"its occurred_at {facts['occurred_at']!r} is not a time") from None
    if occurred_at.tzinfo is None:
        raise ValueError(f"its occurred_at {facts['occurred_at']!r} has no time zone")
    detail = facts.get("detail", {})
    if not isinstance(detail, dict):
        raise ValueError("its detail is not an object")
    return Signal(
        facts["idempotency_key"], facts["kind"], occurred_at, facts["fingerprint"],
        IncidentClass(facts["class"]), facts["title"], detail,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------- adding a line
def append(spool: Path, signal: Signal) -> None:
    """Add a signal to the spool and return once it is on the disk. Raises OSError when it cannot be kept.

    When others hold the spool for longer than two seconds, or it cannot be written, the line goes to a file of its
    own beside it, which the next drain takes as well.
    """
    line = to_line(signal)
    spool.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _lock(spool.with_name(f"{spool.name}.lock"), patience=_PATIENCE_SECONDS) as held:
            if held:
                _append_line(spool, line)
                return
    except OSError:
        pass
    _write_alone(spool, line)


def _append_line(spool: Path, line: bytes) -> None:
    descriptor = os.open(spool, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
    try:
        before = os.fstat(descriptor).st_size
        if before and os.pread(descriptor, 1, before - 1) != b"\n":
            line = b"\n" + line  # an earlier writer was cut off: its half line must not swallow this one
        if os.write(descriptor, line) != len(line):
            os.ftruncate(descriptor, before)
            raise OSError("the disk is full")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if before == 0:
        to_disk(spool.parent)


def _write_alone(spool: Path, line: bytes) -> None:
    partial = spool.with_name(f"{spool.name}.writing-{uuid.uuid4().hex}")
    try:
        with open(partial, "xb") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(_waiting_name(spool))
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    to_disk(spool.parent)


def _waiting_name(spool: Path) -> Path:
    # Sorts by time, so that signals are taken in the order they were written in.
    return spool.with_name(f"{spool.name}.waiting-{time.time_ns():020d}-{uuid.uuid4().hex[:8]}")


# ---------------------------------------------------------------------------------------------------- draining
def drain(spool: Path, insert: Callable[[Sequence[Signal]], tuple[int, list[tuple[int, str]]]]) -> dict[str, int]:
    """Hand every spooled signal to ``insert`` and remove the files that it has committed.

    ``insert`` writes signals in one transaction and returns how many were new and, by position, those that the
    warehouse refused with its reason. Ended at any point, the next drain goes on: a file is removed only after the
    commit, and a signal that was written already is not written again. Two drains do not work at once; the second
    returns zeros. Returns ``recorded``, ``known_already``, ``broken`` and ``files``.
    """
    counts = {"recorded": 0, "known_already": 0, "broken": 0, "files": 0}
    if not spool.parent.is_dir():
        return counts
    with _lock(spool.with_name(f"{spool.name}.drain-lock"), patience=0) as held:
        if not held:
            return counts
        _put_aside(spool)
        for file in sorted(spool.parent.glob(f"{spool.name}.waiting-*")):
            signals, broken = _read(file)
            recorded, refused = insert([signal for _, _, signal in signals]) if signals else (0, [])
            for position, reason in refused:
                number, line, _ = signals[position]
                broken.append(BrokenLine(file.name, number, reason, line))
            _keep_broken(spool, broken)
            file.unlink()
            to_disk(spool.parent)
            counts["files"] += 1
            counts["recorded"] += recorded
            counts["known_already"] += len(signals) - recorded - len(refused)
            counts["broken"] += len(broken)
    return counts


def _put_aside(spool: Path) -> None:
    with _lock(spool.with_name(f"{spool.name}.lock"), patience=_PATIENCE_SECONDS) as held:
        if held and spool.exists():
            spool.rename(_waiting_name(spool))
            to_disk(spool.parent)


def _read(file: Path) -> tuple[list[tuple[int, str, Signal]], list[BrokenLine]]:
    signals: list[tuple[int, str, Signal]] = []
    broken: list[BrokenLine] = []
    for number, raw in enumerate(file.read_bytes().split(b"\n"), start=1):
        line = raw.decode("utf-8", "backslashreplace")
        if not line.strip():
            continue
        try:
            signals.append((number, line, from_line(line)))
        except ValueError as reason:
            broken.append(BrokenLine(file.name, number, str(reason), line))
    return signals, broken


def _keep_broken(spool: Path, broken: list[BrokenLine]) -> None:
    if not broken:
        return
    kept = spool.with_name(f"{spool.name}.broken")
    known = {(entry.get("file"), entry.get("number")) for entry in _entries(kept)}  # of a drain that was cut off
    new = [line.__dict__ for line in broken if (line.file, line.number) not in known]
    with open(kept, "ab") as file:
        file.write("".join(json.dumps(entry) + "\n" for entry in new).encode())
        file.flush()
        os.fsync(file.fileno())
    to_disk(kept.parent)


def _entries(kept: Path) -> Iterator[dict[str, Any]]:
    if kept.exists():
        for line in kept.read_text(errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                yield entry


@contextmanager
def _lock(path: Path, *, patience: float) -> Iterator[bool]:
    """Hold a file's lock; gives False when others kept it for ``patience`` seconds. It ends with the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    try:
        yield _locked_within(descriptor, patience)
    finally:
        os.close(descriptor)


def _locked_within(descriptor: int, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True
