"""How each kind of maintenance act is written in a few lines."""

from __future__ import annotations

from typing import Any

import pytest

from include.warehouse.actions import KINDS
from plugins.operations_board.action_lines import _PROOFS, action_summary
from plugins.operations_board.presentation import long_span, short_size
from tests.plugins import rows


def lines(kind: str, proof: Any = None, plan: Any = None, applied: Any = None) -> list[str]:
    return action_summary({"kind": kind, "proof": proof, "plan": plan or {}, "applied": applied})


def test_every_kind_has_words_of_its_own() -> None:
    assert set(_PROOFS) == set(KINDS)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            lines("vacuum", rows.VACUUM),
            ["Dead rows: 812 → 0", "Age in transactions: 150,112,904 → 52", "Rows changed since analyze: 931 → 0"],
        ),
        (
            lines("prune", rows.PRUNE, {"keep_days": 90}),
            [
                "1,881 rows archived in 2 files, read back and deleted",
                "Older than 90 days: 1,893 → 12",
                "12 rows kept under a legal hold",
                "4 transactions, the longest took 0.031 s",
            ],
        ),
        (
            lines("cache_statistics", rows.CACHE),
            [
                "Hit rate 94.2 % of 1,000 requests since the last recorded act",
                "31 of 1,204 keys never expire",
                "36 expired keys swept, 0 evicted",
                "Memory: 2.4 MB of 67.1 MB",
            ],
        ),
        (
            lines("cache_statistics", rows.CACHE | {
                "since_last": {"hits": None, "misses": None, "evicted_keys": None}, "sweep": {"expired_keys": None},
                "after": {"keys": 1204, "used_memory_bytes": 2_394_112, "maxmemory_bytes": None},
            }),
            [
                "This server tells no hits and misses",
                "31 of 1,204 keys never expire",
                "How many expired keys were swept is not known",
                "Memory: 2.4 MB",
            ],
        ),
        (
            lines("reindex", {"before": {"size_bytes": 125_829_120, "valid": True, "wasted_bytes": 83_886_080},
                              "after": {"size_bytes": 41_943_040, "valid": True, "wasted_bytes": 0},
                              "bytes_returned": 83_886_080}),
            ["Size: 126 MB → 41.9 MB", "Wasted: 83.9 MB → 0 B", "83.9 MB returned, 66.7 % of it"],
        ),
        (
            lines("rotate_logs", {"lines": 1, "equal_byte_for_byte": True, "sha256_of_file": "a",
                                  "bytes_before": 3_177_309, "bytes_after": 900}, applied={"to": "a.zst"}),
            ["Compressed to a.zst: 3.2 MB → 900 B", "Every one of 1 line kept"],
        ),
        (
            lines("rotate_logs", {"bytes_before": 900, "bytes_after": 900, "writer_reopened": False},
                  applied={"to": "a.log-20261002"}),
            ["Renamed to a.log-20261002 with 900 B", "No new log was begun yet"],
        ),
        (
            lines("rotate_logs", {"acts": {"proven": 4, "nothing_to_do": 2}}, applied={"acts": 4}),
            ["Proven: 4 acts", "Nothing to do: 2 acts"],
        ),
        (
            lines("rotate_logs", {"rotated": {"a.log": "a.log.1"}, "removed": ["a.log.9", "a.log.10"]}),
            ["a.log became a.log.1", "2 old files removed"],
        ),
        (
            lines("delete_logs", {"exists_after": False}, {"days": ["2026-09-01", "2026-09-02"]},
                  {"bytes_freed": 2000}),
            ["2.0 kB freed", "Held 2026-09-01 to 2026-09-02"],
        ),
        (
            lines("clean_airflow_database",
                  {"rows_due_before": {"dag_run": 2, "xcom": 0}, "rows_due_after": {"dag_run": 0}}),
            ["Old rows: 2 → 0", "dag_run: 2 → 0"],
        ),
        (
            lines("clean_airflow_database", {"rows_due_before": None, "rows_due_after": {"dag_run": 1, "xcom": 2}}),
            ["Old rows: not counted in time → 3"],
        ),
        (
            lines("delete_airflow_logs", {"files_before": 10, "files_after": 4, "bytes_after": 10,
                                          "kept_because_written_to": 1}, applied={"bytes_freed": 5000}),
            ["Files: 10 → 4", "5.0 kB freed, 10 B kept", "1 file kept: still written to"],
        ),
        (
            lines("remove_leftovers", {"findings": 0, "snapshots": 0, "snapshots_with_definitions": 0},
                  applied={"findings": 1200, "snapshots": 0, "definitions": 3, "folders": ["a", "b"]}),
            ["Old findings removed: 1,200", "Old definitions removed: 3", "Folders of killed tasks removed: 2"],
        ),
        (
            lines("full_restoration",
                  {"rto_seconds": 75.2, "rpo_seconds": 5400, "stages": {"passed": 12, "unknown": 1}},
                  {"rto_target_seconds": 3600, "rpo_target_seconds": 93600}),
            [
                "Brought back in 1 min, the target is 1 h",
                "Would lose 1 h 30 min, the target is 26 h",
                "12 stages passed",
            ],
        ),
        (
            lines("archive_restoration", {"rto_seconds": 0.5, "rpo_seconds": None, "stages": {"passed": 1}},
                  {"rto_target_seconds": None, "rpo_target_seconds": None}),
            ["Brought back in 0.5 s", "1 stage passed"],
        ),
        (
            lines("failover", None, {"backup": "escrow-2026-10-04.dump", "bytes": 4_200_000}),
            ["Backup: escrow-2026-10-04.dump", "Bytes: 4,200,000 (4.2 MB)"],
        ),
        (
            lines("prune", None, {"rows_older": 1893, "rows_older_is_exact": False, "rows_held": 0, "keep_days": 90}),
            ["About 1,893 rows older than 90 days"],
        ),
        (
            lines("vacuum", None, {"due": [{"table": "a"}], "expected_seconds": 0.4, "expected_not_to_fit": ["a"]}),
            ["1 table due", "Expected to take 0.4 s", "1 table expected not to fit in the window"],
        ),
    ],
)  # fmt: skip
def test_a_record_is_written_for_people(said: list[str], expected: list[str]) -> None:
    assert said == expected


@pytest.mark.parametrize("kind", [*KINDS, "something_new"])
@pytest.mark.parametrize(
    "proof", [None, {}, {"rows_before": 3, "rows_after": 1}, {"before": 1, "after": None}, [1], "x"]
)
def test_a_record_of_another_form_is_written_fact_by_fact(kind: str, proof: Any) -> None:
    said = lines(kind, proof, {"limit": 12})
    if isinstance(proof, dict) and "rows_before" in proof:
        assert said == ["Rows: 3 → 1"]
    elif not proof:
        assert said == ["Limit: 12"]


def test_sizes_and_long_times() -> None:
    assert [short_size(n) for n in (0, 999, 1000, 99_400, 999_600, 50_552_569_856, -2_000_000)] == [
        "0 B", "999 B", "1.0 kB", "99.4 kB", "1.0 MB", "50.6 GB", "-2.0 MB",
    ]  # fmt: skip
    assert [long_span(86_400 * days) for days in (1, 9, 21, 59, 61, 400)] == [
        "1 d", "9 days", "3 weeks", "8 weeks", "2 months", "13 months",
    ]  # fmt: skip
