"""A signal is never lost, never twice, and never holds a callback up."""

import json
import multiprocessing
import os
import socket
import stat
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.incidents import signals, spool
from include.outcome import SourceUnavailable
from include.settings import ROOT, settings
from tests.include.incidents.helpers import NOON, rows, signal

NOTHING = {"recorded": 0, "known_already": 0, "broken": 0, "files": 0}


@pytest.fixture
def spool_file(warehouse: psycopg.Connection) -> Path:
    return settings().incidents.spool


@pytest.fixture
def warehouse_down(warehouse: psycopg.Connection, environment: pytest.MonkeyPatch) -> Any:
    """Takes the warehouse away at once; the value is a function that brings it back."""
    there = os.environ["AIRFLOW_CONN_WAREHOUSE"]
    environment.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://x:y@127.0.0.1:1/warehouse")
    return lambda: environment.setenv("AIRFLOW_CONN_WAREHOUSE", there)


def _keys(connection: psycopg.Connection) -> list[str]:
    return [key for (key,) in rows(connection, "SELECT idempotency_key FROM ops.signal ORDER BY signal_id")]


def test_a_signal_that_fires_twice_is_one_row(warehouse: psycopg.Connection, spool_file: Path) -> None:
    assert signals.record(signal()) == "recorded"
    assert signals.record(replace(signal(), title="fired again")) == "recorded"
    assert rows(
        warehouse, "SELECT idempotency_key, kind, occurred_at, fingerprint, class, title, detail FROM ops.signal"
    ) == [
        (
            "airflow:daily_metrics:run-1:users:-1:1:task_failed",
            "task_failed",
            NOON.replace(minute=1),
            "airflow:daily_metrics",
            "P2",
            "daily_metrics: task users failed (1)",
            {"dag_id": "daily_metrics", "run_id": "run-1"},
        )
    ]
    assert not spool_file.exists()


def test_what_is_kept_is_masked_bounded_and_storable(warehouse: psycopg.Connection, spool_file: Path) -> None:
    error = "psycopg://ops:hunter2@db \x00" + "x" * 9_000
    odd = signal(
        idempotency_key="k" * 9_000,
        title="one\nline " + "t" * 900,
        detail={"error": error, "secret": "hunter2", "ratio": float("inf")},
        occurred_at=datetime(2026, 10, 3, 12),  # noqa: DTZ001 - a naive time is taken as UTC
    )
    assert signals.record(odd) == "recorded"
    ((key, title, detail, occurred_at),) = rows(
        warehouse, "SELECT idempotency_key, title, detail, occurred_at FROM ops.signal"
    )
    assert len(key) < 300
    assert title.startswith("one line t")
    assert len(title) == 300
    assert len(detail["error"]) == 2_000
    assert detail["secret"] == "***"
    assert "hunter2" not in json.dumps(detail)
    assert occurred_at == NOON


def test_down_then_spooled_then_drained_once(
    warehouse: psycopg.Connection, spool_file: Path, warehouse_down: Any
) -> None:
    assert [signals.record(signal(number)) for number in (1, 2, 2)] == ["spooled"] * 3
    assert len(spool_file.read_bytes().splitlines()) == 3
    assert stat.S_IMODE(spool_file.stat().st_mode) & 0o007 == 0, "error texts are nobody else's business"
    with pytest.raises(SourceUnavailable):
        signals.drain()
    warehouse_down()
    assert signals.drain() == {"recorded": 2, "known_already": 1, "broken": 0, "files": 1}
    assert signals.drain() == NOTHING
    assert _keys(warehouse) == [signal(1).idempotency_key, signal(2).idempotency_key]
    assert rows(warehouse, "SELECT bool_and(received_at > occurred_at) FROM ops.signal") == [(True,)]
    assert sorted(path.name for path in spool_file.parent.iterdir()) == [
        "signals.jsonl.drain-lock",
        "signals.jsonl.lock",
    ]


def test_an_undefined_connection_or_a_missing_table_spools(
    warehouse: psycopg.Connection, spool_file: Path, environment: pytest.MonkeyPatch
) -> None:
    warehouse.execute("ALTER TABLE ops.signal RENAME TO elsewhere")
    assert signals.record(signal(1)) == "spooled"
    environment.setenv("AIRFLOW_CONN_WAREHOUSE", "nonsense")
    assert signals.record(signal(2)) == "spooled"


def test_a_network_that_swallows_packets_does_not_hold_a_callback_up(
    spool_file: Path, environment: pytest.MonkeyPatch
) -> None:
    with socket.socket() as silent:  # accepts and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        environment.setenv("AIRFLOW_CONN_WAREHOUSE", f"postgresql://x:y@127.0.0.1:{silent.getsockname()[1]}/w")
        started = time.monotonic()
        assert signals.record(signal()) == "spooled"
        assert time.monotonic() - started < 6


def test_a_locked_table_does_not_hold_a_callback_up(warehouse: psycopg.Connection, spool_file: Path) -> None:
    with warehouse.transaction():
        warehouse.execute("LOCK TABLE ops.signal IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        assert signals.record(signal()) == "spooled"
        assert time.monotonic() - started < 6
    assert signals.drain() == {"recorded": 1, "known_already": 0, "broken": 0, "files": 1}


def test_nowhere_to_write_is_lost_and_said(
    tmp_path: Path, warehouse_down: Any, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a-file").touch()
    environment.setenv("OPERATIONS__INCIDENTS__SPOOL", str(tmp_path / "a-file" / "signals.jsonl"))
    settings.cache_clear()
    assert signals.record(signal(detail={"token": "hunter2", "dag_id": "daily_metrics"})) == "lost"
    said = capsys.readouterr().err
    assert "LOST SIGNAL" in said
    assert signal().idempotency_key in said
    assert "hunter2" not in said


def test_nonsense_never_raises(warehouse: psycopg.Connection, capsys: pytest.CaptureFixture[str]) -> None:
    assert signals.record(signal(occurred_at="yesterday")) == "lost"
    assert signals.record(None) == "lost"  # type: ignore[arg-type]
    assert "LOST SIGNAL" in capsys.readouterr().err


def test_a_half_line_swallows_no_other(warehouse: psycopg.Connection, spool_file: Path, warehouse_down: Any) -> None:
    signals.record(signal(1))
    whole = spool_file.read_bytes()
    spool_file.write_bytes(whole + whole[:40])
    signals.record(signal(2))
    warehouse_down()
    assert signals.drain() == {"recorded": 2, "known_already": 0, "broken": 1, "files": 1}


def test_broken_lines_are_kept_with_their_reason_and_block_nothing(
    warehouse: psycopg.Connection, spool_file: Path
) -> None:
    good = spool.to_line(signal(1)).decode()
    facts = json.loads(good)
    lines = [
        "{not json",
        "[]",
        json.dumps(facts | {"class": "P9"}),
        json.dumps(facts | {"occurred_at": "yesterday"}),
        json.dumps(facts | {"occurred_at": "2026-10-03T12:00:00"}),
        json.dumps(facts | {"title": None}),
        json.dumps(facts | {"detail": []}),
        json.dumps(facts | {"detail": {"x": "\x00"}, "idempotency_key": "refused by the warehouse"}),
        "",
        good.strip(),
    ]
    spool_file.parent.mkdir(parents=True)
    spool_file.write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n")
    assert signals.drain() == {"recorded": 1, "known_already": 0, "broken": 9, "files": 1}
    assert _keys(warehouse) == [signal(1).idempotency_key]
    kept = [json.loads(line) for line in Path(f"{spool_file}.broken").read_text().splitlines()]
    assert sorted(entry["number"] for entry in kept) == [1, 2, 3, 4, 5, 6, 7, 8, 11]
    assert {entry["line"] for entry in kept} >= {line for line in lines[:8] if line}
    assert all(entry["reason"] for entry in kept)
    assert signals.drain() == NOTHING


# ------------------------------------------------------------------------------------------- several processes
def _spool_many(path: str, worker: int, count: int) -> None:
    for number in range(count):
        spool.append(Path(path), signal(idempotency_key=f"{worker}-{number}", detail={"error": "x" * 1_500}))


def test_processes_spool_and_drain_at_once_and_lose_nothing(warehouse: psycopg.Connection, spool_file: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_spool_many, args=(str(spool_file), worker, 60)) for worker in range(4)]
    for worker in workers:
        worker.start()
    drained = []
    while any(worker.is_alive() for worker in workers):
        drained.append(signals.drain())
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    drained.append(signals.drain())
    assert sum(one["recorded"] for one in drained) == 240
    assert sum(one["broken"] + one["known_already"] for one in drained) == 0
    assert sorted(_keys(warehouse)) == sorted(f"{worker}-{number}" for worker in range(4) for number in range(60))


def test_a_spool_that_others_hold_is_passed_by(
    warehouse: psycopg.Connection, spool_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "_PATIENCE_SECONDS", 0.1)
    spool_file.parent.mkdir(parents=True)
    with spool._lock(spool_file.with_name("signals.jsonl.lock"), patience=0) as held:
        assert held
        spool.append(spool_file, signal(1))
        assert signals.drain() == {"recorded": 1, "known_already": 0, "broken": 0, "files": 1}
    assert not spool_file.exists()
    assert _keys(warehouse) == [signal(1).idempotency_key]


def test_two_drains_do_not_work_at_once(warehouse: psycopg.Connection, spool_file: Path) -> None:
    spool.append(spool_file, signal(1))
    with spool._lock(spool_file.with_name("signals.jsonl.drain-lock"), patience=0) as held:
        assert held
        assert signals.drain() == NOTHING
    assert signals.drain()["recorded"] == 1


_KILLED = """
import os, sys
from pathlib import Path
from include.incidents import signals, spool
from include.warehouse import signals as warehouse_signals

def end(*_): os._exit(9)
def after(function):
    def run(*given, **named):
        function(*given, **named)
        os._exit(9)
    return run

step = sys.argv[1]
if step == "before it is put aside": spool._put_aside = end
if step == "after it is put aside": spool._put_aside = after(spool._put_aside)
if step == "after reading": spool._read = after(spool._read)
if step == "before the commit": warehouse_signals.insert = after(warehouse_signals.insert)
if step == "after the commit": signals._insert_all = after(signals._insert_all)
if step == "after keeping broken lines": spool._keep_broken = after(spool._keep_broken)
if step == "before removing": Path.unlink = end
if step == "after removing": Path.unlink = after(Path.unlink)
signals.drain()
os._exit(0)
"""


@pytest.mark.parametrize(
    "step",
    [
        "before it is put aside",
        "after it is put aside",
        "after reading",
        "before the commit",
        "after the commit",
        "after keeping broken lines",
        "before removing",
        "after removing",
    ],
)
def test_a_drain_that_is_killed_is_finished_by_the_next(
    warehouse: psycopg.Connection, spool_file: Path, step: str
) -> None:
    for number in (1, 2, 3):
        spool.append(spool_file, signal(number))
    with spool_file.open("ab") as file:
        file.write(b"broken\n")
    killed = subprocess.run([sys.executable, "-c", _KILLED, step], cwd=ROOT, check=False, timeout=60)
    assert killed.returncode == 9, "the drain was to be killed at this step"
    spool.append(spool_file, signal(4))
    signals.drain()
    assert sorted(_keys(warehouse)) == [signal(number).idempotency_key for number in (1, 2, 3, 4)]
    assert len(Path(f"{spool_file}.broken").read_text().splitlines()) == 1
    assert not list(spool_file.parent.glob("*.waiting-*"))
    assert signals.drain() == NOTHING
