"""Findings and drills of some months, written as checks and drills write them and then moved to their times.

They need the connection ``warehouse`` to lead to the database that ``owner`` owns.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg

from include.outcome import Outcome
from include.warehouse import drills, findings, session
from include.warehouse.drills import DrillOutcome, Stage, StageOutcome
from include.warehouse.findings import Finding

UNUSED = Finding(
    "public.idx_sessions_user_agent", Outcome.WARNING,
    "No server has scanned it since 2026-06-02, for 124 days; it only slows writes.",
    {"table": "public.sessions", "size_bytes": 73_400_320, "scans": {"primary": 0, "platform_db_replica": 0},
     "unused_since": "2026-06-02T04:00:11.123456+00:00"},
    "DROP INDEX CONCURRENTLY public.idx_sessions_user_agent;", {"bytes": 73_400_320},
)  # fmt: skip
NEW_UNUSED = Finding(
    "public.idx_disputes_opened_by", Outcome.WARNING,
    "No server has scanned it since 2026-07-03, for 92 days; it only slows writes.",
    {"table": "public.disputes", "size_bytes": 212_992}, "DROP INDEX CONCURRENTLY public.idx_disputes_opened_by;",
    {"bytes": 212_992},
)  # fmt: skip
SLOT = Finding(
    "analytics_export", Outcome.CRITICAL,
    "slot analytics_export: nobody has read it since 2026-09-14 08:12 UTC; it keeps 48,210 MiB of WAL, without a limit",
    {"retained_bytes": 50_552_569_856, "wal_status": "extended", "active": False},
    "SELECT pg_drop_replication_slot('analytics_export');\n"
    "-- and bound what slots may keep: ALTER SYSTEM SET max_slot_wal_keep_size = '50GB';",
    {"bytes": 50_552_569_856},
)  # fmt: skip
LONG_REMEDY = "BEGIN;\nSET LOCAL lock_timeout = '2s';\n" + "\n".join(
    f"CREATE TABLE public.audit_logs_2026_{month:02} PARTITION OF public.audit_logs_partitioned "
    f"FOR VALUES FROM ('2026-{month:02}-01 00:00:00+00') TO ('2026-{month + 1:02}-01 00:00:00+00');"
    for month in range(1, 12)
    for _ in range(6)
) + "\nALTER TABLE public.audit_logs RENAME TO audit_logs_before;\nCOMMIT;  -- the end of the remedy"  # fmt: skip
PARTITION = Finding(
    "public.audit_logs", Outcome.WARNING,
    "public.audit_logs grows by 310 MB a month and is pruned row by row; by months its old rows would leave at once",
    {"bytes_per_day": 10_812_211, "size_bytes": 4_812_211_200, "rows": 28_112_904, "interval": "1 month"},
    LONG_REMEDY, {"rows_not_deleted_one_by_one_per_month": 1_812_332},
)  # fmt: skip
QUERIES = Finding(
    "all queries", Outcome.UNKNOWN, "It could not be checked: pg_stat_statements is not installed", {},
    "CREATE EXTENSION pg_stat_statements;",
)  # fmt: skip
AIRFLOW = Finding(
    "airflow_db", Outcome.UNKNOWN,
    "not configured: without the connection airflow_db the old rows of Airflow's metadata database are not removed",
    {"keep_days": 90}, "set AIRFLOW_CONN_AIRFLOW_DB for the workers",
)  # fmt: skip


def run_of(at: datetime) -> str:
    return f"scheduled__{at:%Y-%m-%dT%H:%M:%S}+00:00"


def found(owner: psycopg.Connection, at: datetime, check: str, *given: Finding) -> None:
    """What a check found in its run at ``at``; call it in the order of time."""
    findings.replace(run_of(at), check, given)
    owner.execute(
        "UPDATE ops.finding SET found_at = %(at)s,"
        " first_found_at = CASE WHEN first_run_id = run_id THEN %(at)s ELSE first_found_at END"
        " WHERE run_id = %(run)s AND check_name = %(check)s",
        {"at": at, "run": run_of(at), "check": check},
    )


def finding_id(owner: psycopg.Connection, check: str, resource: str, back: int = 0) -> int:
    """The row of a finding; ``back`` counts runs backwards."""
    row = owner.execute(
        "SELECT finding_id FROM ops.finding WHERE check_name = %s AND resource = %s"
        " ORDER BY found_at DESC OFFSET %s LIMIT 1",
        (check, resource, back),
    ).fetchone()
    assert row
    return int(row[0])


@session.kept_open()
def some_findings(owner: psycopg.Connection, now: datetime) -> None:
    """Three weekly index reviews, last month's checks and last night's."""
    sunday = now - timedelta(hours=23)
    month = now - timedelta(days=3)
    found(owner, sunday - timedelta(days=21), "unused_indexes", Finding("every index", Outcome.OK, "All are used."))
    found(owner, sunday - timedelta(days=14), "unused_indexes", UNUSED)
    found(owner, sunday - timedelta(days=7), "unused_indexes", UNUSED)
    found(owner, sunday, "unused_indexes", UNUSED, NEW_UNUSED)
    found(owner, sunday, "slow_queries", QUERIES)
    found(owner, month, "replication_slots", SLOT)
    found(owner, month, "tables_to_partition", PARTITION, Finding("all other tables", Outcome.OK, "31 are small."))
    found(owner, month, "prepared_transactions", Finding("all", Outcome.NOT_APPLICABLE, "they are switched off"))
    found(
        owner, month, "wraparound",
        *(Finding(f"table public.t{n}", Outcome.OK, f"public.t{n}: 1,812 days left", {"age": n}) for n in range(12)),
    )  # fmt: skip
    found(owner, now - timedelta(minutes=9), "airflow_database", AIRFLOW)


def drill(
    owner: psycopg.Connection, kind: str, resource: str, at: datetime, stages: Sequence[Stage],
    outcome: DrillOutcome | None = DrillOutcome.PASSED, reason: str = "", *, rpo: float | None = None,
    rto: float | None = None, targets: tuple[float, float] = (93_600, 3600), detail: dict[str, Any] | None = None,
) -> int:  # fmt: skip
    """A drill that began at ``at``; with an ``outcome`` of None it still runs."""
    begun = drills.begin(
        kind, resource, run_of(at), rpo_target_seconds=targets[0], rto_target_seconds=targets[1]
    )  # fmt: skip
    for stage in stages:
        drills.record(begun, stage)
    if outcome is not None:
        drills.finish(begun, outcome, reason, rpo_seconds=rpo, rto_seconds=rto, detail=detail)
    took = sum(stage.seconds or 0 for stage in stages)
    owner.execute(
        "UPDATE ops.drill SET started_at = %s, finished_at = CASE WHEN finished_at IS NOT NULL THEN %s::timestamptz END"
        " WHERE drill_id = %s",
        (at, at + timedelta(seconds=took), begun.drill_id),
    )
    return begun.drill_id


def passed(name: str, seconds: float, **detail: Any) -> Stage:
    return Stage(name, StageOutcome.PASSED, seconds, "", detail)


def verification_stages(restore: float) -> list[Stage]:
    return [
        passed("find_backup", 0.021, backup="escrow-2026-10-03.dump", age_hours=23.2),
        passed("checksums", 3.4, size_bytes=412_331_021, sha256="8d2f0c6a"),
        passed("restore", restore, tables=31, jobs=2),
        passed("catalog", 0.84, objects=412, differences=[]),
        passed("row_counts", 2.2, rows=28_112_904),
        Stage("amcheck", StageOutcome.NOT_APPLICABLE, None, "the extension amcheck is not in the backup"),
        passed("negative_control", 1.1),
    ]


@session.kept_open()
def some_drills(owner: psycopg.Connection, now: datetime) -> None:
    """Ten weekly verifications (the last passed), three restorations, and a failover that could not run."""
    sunday = now - timedelta(hours=22)
    for back in range(9, -1, -1):
        at, took = sunday - timedelta(days=7 * back), 700.0 + 17 * ((back * 5) % 7)
        if back == 6:
            stages = [passed("find_backup", 0.02), Stage("restore", StageOutcome.FAILED, 81.2, "pg_restore: error")]
            drill(
                owner, "backup_verification", "nightly", at, stages, DrillOutcome.FAILED, "restore: pg_restore: error"
            )
        elif back == 3:
            stages = [Stage("find_backup", StageOutcome.UNKNOWN, 0.02, "the folder is not there")]
            drill(
                owner,
                "backup_verification",
                "nightly",
                at,
                stages,
                DrillOutcome.COULD_NOT_RUN,
                "the folder is not there",
            )
        else:
            drill(
                owner, "backup_verification", "nightly", at, verification_stages(took), rpo=83_520 + back * 60,
                rto=took + 4.3, detail={"backup": "escrow-2026-10-03.dump", "bytes": 412_331_021},
            )  # fmt: skip
    for back in (2, 1, 0):
        at = now - timedelta(days=2 + 30 * back)
        drill(
            owner, "full_restoration", "nightly", at, [passed("restore", 812.0 + 40 * back), passed("archives", 96.3)],
            rpo=83_000, rto=910 + 40 * back,
        )  # fmt: skip
    drill(
        owner, "failover", "nightly, synchronous off", now - timedelta(days=32),
        [passed("build_standby", 12.1), passed("lost_writes", 0.2, lost=2)], rpo=0.042, rto=1.92, targets=(5, 60),
    )  # fmt: skip
    drill(
        owner, "failover", "nightly, synchronous off", now - timedelta(days=2, hours=-1),
        [Stage("find_backup", StageOutcome.PASSED, 0.1), Stage("restore", StageOutcome.UNKNOWN, 41.7,
         "the disk of the scratch folder is full; free space or set backups.scratch_folder to a larger one",
         {"free_bytes": 1_044_480})],
        DrillOutcome.COULD_NOT_RUN,
        "the disk of the scratch folder is full; free space or set backups.scratch_folder to a larger one",
        targets=(5, 60),
    )  # fmt: skip


@session.kept_open()
def all_well(owner: psycopg.Connection, now: datetime) -> None:
    """A check that found everything ok last night, and one passed drill of each kind."""
    found(owner, now - timedelta(hours=1), "wraparound", Finding("database escrow", Outcome.OK, "1,812 days left."))
    drill(owner, "backup_verification", "nightly", now - timedelta(days=6), [passed("restore", 60)], rpo=60, rto=60)
    drill(owner, "full_restoration", "nightly", now - timedelta(days=20), [passed("restore", 60)], rpo=60, rto=60)
    drill(owner, "failover", "nightly, synchronous off", now - timedelta(days=20), [passed("promote", 1)], rto=1)
