"""Log files of a test's own making, and what became of them."""

from __future__ import annotations

import gzip
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import zstandard

from include.platform import log_writers

NOW = datetime(2026, 10, 4, 3, 0, tzinfo=UTC)


def access(*times: str) -> str:
    """Lines of an access log at these times."""
    return "".join(f'10.0.0.1 - - [{time} +0000] "GET / HTTP/1.1" 200 5 "-" "-" 0.001\n' for time in times)


def old(path: Path, text: str, days: float) -> Path:
    """A file that was written to last so many days before NOW, compressed when its name says so."""
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif path.suffix == ".zst":
        path.write_bytes(zstandard.compress(text.encode()))
    else:
        path.write_text(text)
    seconds = (NOW - timedelta(days=days)).timestamp()
    os.utime(path, (seconds, seconds))
    return path


def known(warehouse: psycopg.Connection, *days: str, state: str = "complete") -> None:
    """Let the warehouse have the figures of these days."""
    for day in days:
        warehouse.execute(
            "INSERT INTO ops.daily_subject (day, subject, state, completeness, content_hash)"
            " VALUES (%s, 'traffic', %s, 1, '')",
            (day, state),
        )


def acts(warehouse: psycopg.Connection) -> dict[tuple[str, str], list[Any]]:
    """State, reason, plan and proof of every act."""
    found = warehouse.execute("SELECT kind, resource, state, reason, plan, proof FROM ops.maintenance_action")
    return {(kind, resource): rest for kind, resource, *rest in found}


def names(logs: Path) -> list[str]:
    """The log files of a folder."""
    return sorted(path.name for path in logs.iterdir() if path.name != "SHA256SUMS")


def text_of(path: Path) -> str:
    """What a file holds, decompressed."""
    if path.suffix == ".zst":
        with zstandard.open(path, "rt", newline="") as content:
            return str(content.read())
    return gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()


def all_lines(logs: Path) -> list[str]:
    """Every line of every log in a folder."""
    return [line for name in names(logs) if name.startswith("access.log") for line in text_of(logs / name).splitlines()]


def connect(environment: pytest.MonkeyPatch, logs: Path, **extra: Any) -> None:
    """Let the connection platform_logs lead to a folder, with more in its extra."""
    value = json.dumps({"conn_type": "fs", "extra": {"path": str(logs), **extra}})
    environment.setenv("AIRFLOW_CONN_PLATFORM_LOGS", value)


def belong_to_another_user(environment: pytest.MonkeyPatch) -> None:
    """Let the kernel not tell who writes to the logs, as it does not of another user's files."""
    lease = log_writers._lease

    def refused(descriptor: int) -> bool | None:
        if os.geteuid() != 0:
            return None
        os.seteuid(50000)
        try:
            return lease(descriptor)
        finally:
            os.seteuid(0)

    environment.setattr(log_writers, "_lease", refused)
