"""Hand-made rows of one operating morning: what the board's tests and pictures show."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from tests.plugins import period_rows, upkeep_rows

HEALTH, ACTIVITY = "daily_system_health", "daily_user_activity"
COMPONENTS = ("frontend", "api", "database", "cache", "chain")
SUBJECTS = ("uptime", "traffic", "users", "transactions", "support")


def figure(name: str, label: str, text: str, comparison: str = "", outcome: str = "not_applicable") -> dict[str, Any]:
    return {
        "name": name, "label": label, "value": "1", "unit": "count", "text": text, "comparison": None,
        "comparison_days": 4, "change": None, "comparison_text": comparison, "outcome": outcome, "reason": "",
    }  # fmt: skip


HEALTH_FIGURES = [
    figure("uptime_overall", "Overall Uptime", "99.41%", "-0.55 pp against Saturdays", "warning"),
    figure("uptime_frontend", "Frontend Uptime", "99.98%", "no change", "ok"),
    figure("response_average_seconds", "Average Response Time", "1.2s", "+4.1 % against Saturdays", "ok"),
    figure("response_p95_seconds", "95th Percentile", "2.8s", "+2.0 % against Saturdays", "ok"),
    figure("error_rate", "Error Rate", "1.34%", "+0.98 pp against Saturdays", "warning"),
    figure("active_users", "Active Users", "1,247", "+9.1 % against Saturdays"),
    figure("transactions_created", "Total Transactions", "89", "-3.2 % against Saturdays"),
    figure("value_created", "Total Value", "$2.3M", "+1.4 % against Saturdays"),
]
ACTIVITY_FIGURES = [
    figure("new_users", "New Users", "23", "+2 against Saturdays"),
    figure("active_users", "Active Users", "1,247", "+9.1 % against Saturdays"),
    figure("sessions", "Sessions", "3,456", "+6.0 % against Saturdays"),
    figure("page_views", "Page Views", "12,789", "+5.2 % against Saturdays"),
    figure("transactions_created", "Created", "89", "-3.2 % against Saturdays"),
    figure("tickets_created", "Tickets Created", "3", "no change", "ok"),
    figure("first_response_hours", "Average Response Time", "2.3 hours", "-0.4 hours", "ok"),
]

CHART = """<svg viewBox="0 0 560 130" role="img" aria-label="Error rate, 28 days" width="100%">
<line x1="0" y1="120" x2="560" y2="120" stroke="#8a94a3"/>
<polyline fill="none" stroke="#3b7de0" stroke-width="2.5" points="{points}"/></svg>"""
DOCUMENT = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>:root{{color-scheme:light dark}}body{{font:15px/1.5 system-ui,sans-serif;max-width:50rem;margin:1.5rem auto;
padding:0 1rem;background:#fff;color:#1a202a}}
@media(prefers-color-scheme:dark){{body{{background:#171c23;color:#e7ebf1}}}}</style></head>
<body><h1>{title}</h1><p id="headline">{headline}</p><h2>Error rate</h2>{chart}</body></html>"""
MARKDOWN = "## {title}\n\n{headline}\n"


def document(title: str, headline: str) -> str:
    points = " ".join(f"{n * 20.7:.0f},{105 - (n * 37 % 23) - (45 if n == 27 else 0)}" for n in range(28))
    return DOCUMENT.format(title=title, headline=headline, chart=CHART.format(points=points))


def midnight(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def fill(owner: psycopg.Connection, now: datetime) -> date:
    """Fill a warehouse with an operating morning at ``now`` (UTC, after 02:10). Returns the day of the reports.

    The connection ``warehouse`` must lead to it, for findings and drills.
    """
    reports(owner, now)
    incidents(owner, now)
    actions(owner, now)
    observations(owner, now)
    subjects(owner, now)
    period_rows.some_periods(owner, now)
    upkeep_rows.some_findings(owner, now)
    upkeep_rows.some_drills(owner, now)
    return (midnight(now) - timedelta(days=1)).date()


def reports(owner: psycopg.Connection, now: datetime, days: int = 34) -> None:
    """Reports of the last days; 10 days back the activity report is missing, 11 days back both are."""
    for back in range(1, days + 1):
        start = midnight(now) - timedelta(days=back)
        verdicts = {HEALTH: "ok", ACTIVITY: "ok"}
        headlines = {HEALTH: "All figures are within their targets.", ACTIVITY: "Activity is as on other days."}
        if back == 1:
            verdicts[HEALTH] = "warning"
            headlines[HEALTH] = "Error rate 1.34% is above the target of 1%; overall uptime 99.41% is below 99.9%."
        elif back == 6:
            verdicts[HEALTH], headlines[HEALTH] = (
                "critical",
                "Overall uptime 95.82%: down longer than allowed in 30 days.",
            )
        elif back == 15:
            verdicts[ACTIVITY], headlines[ACTIVITY] = "unknown", "The support tickets of the day could not be read."
        for kind in (HEALTH, ACTIVITY):
            if back == 11 or (back == 10 and kind == ACTIVITY):
                continue
            name = "Daily System Health Report" if kind == HEALTH else "Daily User Activity Report"
            report(
                owner, kind, start, f"{name} - {start:%Y-%m-%d}", verdicts[kind], headlines[kind],
                HEALTH_FIGURES if kind == HEALTH else ACTIVITY_FIGURES,
            )  # fmt: skip


def report(
    owner: psycopg.Connection, kind: str, start: datetime, title: str, verdict: str, headline: str,
    figures: list[dict[str, Any]], html: str | None = None, completeness: float = 1, missing: tuple[str, ...] = (),
) -> None:  # fmt: skip
    owner.execute(
        "INSERT INTO ops.report (kind, period_key, window_start, window_end, title, verdict, headline, completeness,"
        " missing, figures, markdown, html, input_hash, first_rendered_at, rendered_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'h', %s, %s)",
        (
            kind, f"{start:%Y-%m-%d}", start, start + timedelta(days=1), title, verdict, headline, completeness,
            list(missing), Jsonb(figures), MARKDOWN.format(title=title, headline=headline),
            html or document(title, headline), start + timedelta(hours=24, minutes=21),
            start + timedelta(hours=24, minutes=21),
        ),
    )  # fmt: skip


def incidents(owner: psycopg.Connection, now: datetime) -> None:
    """One P1 that nobody took yet, one P3 that somebody works on, one closed."""
    year = now.year
    incident(
        owner, f"INC-{year}-003", "P2", "closed", "daily_metrics: task traffic failed", "daily_metrics",
        now - timedelta(days=9), 2, acknowledged=now - timedelta(days=9, minutes=-30),
        resolved=now - timedelta(days=9, minutes=-95),
    )  # fmt: skip
    incident(
        owner, f"INC-{year}-004", "P3", "acknowledged", "weekly_metrics missed its deadline", "weekly_metrics",
        now - timedelta(hours=20), 1, acknowledged=now - timedelta(hours=18),
    )  # fmt: skip
    incident(owner, f"INC-{year}-005", "P1", "detected", "platform_watch: task probe_components failed",
             "platform_watch", now - timedelta(minutes=47), 12)  # fmt: skip


def incident(
    owner: psycopg.Connection, name: str, klass: str, state: str, title: str, affected: str, at: datetime, times: int,
    acknowledged: datetime | None = None, resolved: datetime | None = None,
) -> None:  # fmt: skip
    last = at + timedelta(minutes=times - 1)
    owner.execute(
        "INSERT INTO ops.incident (incident_id, fingerprint, class, state, title, affected, detected_at, last_seen_at,"
        " occurrences, acknowledged_at, resolved_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (name, f"airflow:{affected}:{name}", klass, state, title, affected, at, last, times, acknowledged, resolved),
    )
    detail = {
        "dag_id": affected, "run_id": f"scheduled__{at:%Y-%m-%dT%H:%M}", "task_id": "probe_components", "try_number": 1,
        "error": "SourceUnavailable: platform_db (127.0.0.1:5432/escrow) cannot be reached",
    }  # fmt: skip
    entries = [("detected", at, f"Detected: {title}")]
    if times > 1:
        entries.append(("seen_again", last, f"Seen {times - 1} more times, last: {title}"))
    if acknowledged:
        entries.append(("acknowledged", acknowledged, "Taken by the engineer on call"))
    if resolved:
        entries.append(("resolved", resolved, "The source is back and the task has run again"))
    for number, (kind, when, message) in enumerate(entries, start=1):
        owner.execute(
            "INSERT INTO ops.incident_timeline (incident_id, entry, at, actor, kind, message, detail)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (name, number, when, "incident_watch", kind, message, Jsonb(detail if number == 1 else {})),
        )
    row = owner.execute(
        "INSERT INTO ops.signal (idempotency_key, kind, occurred_at, received_at, fingerprint, class, title, detail)"
        " VALUES (%s, 'task_failed', %s, %s, %s, %s, %s, %s) RETURNING signal_id",
        (f"airflow:{name}", at, at, f"airflow:{affected}:{name}", klass, title, Jsonb(detail)),
    ).fetchone()
    assert row
    owner.execute("INSERT INTO ops.incident_signal (signal_id, incident_id) VALUES (%s, %s)", (row[0], name))


def actions(owner: psycopg.Connection, now: datetime) -> None:
    """Last night's maintenance; the pruning failed, and the night before everything was well."""
    for back in (1, 0):
        at = midnight(now) - timedelta(days=back) + timedelta(hours=2)
        run = f"scheduled__{at:%Y-%m-%dT%H:%M:%S}+00:00"
        action(owner, "vacuum", "public.sessions", run, at, "proven", {"score": 1.8, "expected_seconds": 0.4},
               proof=VACUUM, applied={"statement": "VACUUM (ANALYZE) public.sessions", "seconds": 0.31})  # fmt: skip
        action(
            owner, "analyze", "public.transactions", run, at + timedelta(minutes=1), "proven", {"score": 1.1},
            proof={"before": {"dead_rows": 3, "changed_rows": 178}, "after": {"dead_rows": 3, "changed_rows": 0}},
            applied={"statement": "ANALYZE public.transactions"},
        )  # fmt: skip
        if back:
            action(owner, "prune", "public.audit_logs", run, at + timedelta(minutes=2), "proven",
                   {"rows_older": 1893, "keep_days": 90, "rows_older_is_exact": True, "rows_held": 12},
                   proof=PRUNE, applied={"rows_deleted": 1881})  # fmt: skip
        else:
            action(owner, "prune", "public.audit_logs", run, at + timedelta(minutes=2), "failed",
                   {"rows_older": 1902, "keep_days": 90, "rows_older_is_exact": True, "rows_held": 12},
                   reason="the archive could not be read back: 1,871 of 1,902 rows; nothing was deleted")  # fmt: skip
        day = f"{at - timedelta(days=1):%Y%m%d}"
        action(owner, "rotate_logs", "access.log", run, at + timedelta(minutes=3), "proven", {"bytes": 3177102},
               proof={"inode_before": 71, "inode_after": 71, "bytes_before": 3177102, "bytes_after": 3177309,
                      "lines": 40122, "writer_reopened": True, "renamed_file": "closed"},
               applied={"to": f"access.log-{day}", "writer": "USR1 to 212"})  # fmt: skip
        action(owner, "cache_statistics", "platform_redis", run, at + timedelta(minutes=4), "proven",
               {"keys_per_call": 1000}, proof=CACHE, applied={"keys_visited": 1204, "calls": 2})  # fmt: skip
    whole = {"due": [{"table": "public.sessions", "score": 1.8}], "expected_seconds": 0.4, "expected_not_to_fit": []}
    action(owner, "vacuum", "all tables", run, at, "proven", whole, applied={"tables": 2},
           proof={"before": {"transaction_age": 150_112_904, "multixact_age": 7, "size_bytes": 4_812_211_200},
                  "after": {"transaction_age": 150_112_904, "multixact_age": 7, "size_bytes": 4_812_211_200},
                  "tables": {"proven": ["public.sessions", "public.transactions"], "postponed": ["public.messages"]},
                  "dead_rows_removed": 812, "bytes_returned": 0})  # fmt: skip
    action(owner, "vacuum", "public.messages", run, at, "postponed", {"score": 1.2},
           reason="912.0 s are expected and 611.2 s of the window are left")  # fmt: skip
    action(owner, "rotate_logs", f"access.log-{day}", run, at + timedelta(minutes=3), "proven", {"bytes": 3177309},
           proof={"lines": 40122, "equal_byte_for_byte": True, "sha256_of_file": "77aa", "bytes_before": 3177309,
                  "bytes_after": 301776}, applied={"to": f"access.log-{day}.zst"})  # fmt: skip
    action(owner, "delete_logs", "access.log-20260901.zst", run, at, "proven",
           {"bytes": 298_112, "limit": "age", "days": ["2026-09-01"]}, proof={"exists_after": False},
           applied={"bytes_freed": 298_112})  # fmt: skip
    action(owner, "clean_airflow_database", "Airflow's metadata database", run, at + timedelta(minutes=5), "proven",
           {"rows_due": {"dag_run": 120, "task_instance": 2210, "xcom": 0}},
           proof={"rows_after": {"dag_run": 4100}, "removed_tables_after": 0,
                  "rows_due_before": {"dag_run": 120, "task_instance": 2210, "xcom": 0},
                  "rows_due_after": {"dag_run": 0, "task_instance": 0, "xcom": 0}},
           applied={"exit_status": 0})  # fmt: skip
    action(owner, "delete_airflow_logs", "Airflow's logs", run, at + timedelta(minutes=6), "proven",
           {"files": 412, "bytes": 9_112_904},
           proof={"files_before": 9120, "files_after": 8708, "bytes_after": 88_112_004, "old_folders_after": 0,
                  "kept_because_written_to": 0}, applied={"folders": 96, "bytes_freed": 9_112_904})  # fmt: skip
    action(owner, "reindex", "public.idx_messages_chat", run, at - timedelta(days=3), "proven",
           {"before": {"size_bytes": 125_829_120}, "wasted_bytes": 83_886_080, "answer": "approved by operator"},
           proof={"before": {"size_bytes": 125_829_120, "valid": True, "wasted_bytes": 83_886_080},
                  "after": {"size_bytes": 41_943_040, "valid": True, "wasted_bytes": 0}, "bytes_returned": 83_886_080},
           applied={"statement": 'REINDEX INDEX CONCURRENTLY "public"."idx_messages_chat"'})  # fmt: skip
    action(owner, "reindex", "public.idx_chats_created", run, at - timedelta(days=3), "planned",
           {"before": {"size_bytes": 20_971_520}, "wasted_bytes": 12_582_912, "answer": ""}, dry_run=True)  # fmt: skip


VACUUM = {
    "before": {"dead_rows": 812, "toast_dead_rows": 0, "live_rows": 2702, "changed_rows": 931, "multixact_age": 0,
               "transaction_age": 150_112_904, "size_bytes": 1_318_912},
    "after": {"dead_rows": 0, "toast_dead_rows": 0, "live_rows": 2702, "changed_rows": 0, "multixact_age": 0,
              "transaction_age": 52, "size_bytes": 1_318_912},
    "analyzed": True, "dead_rows_removed": 812, "bytes_returned": 0,
}  # fmt: skip
PRUNE = {
    "rows_older_before": 1893, "rows_older_before_is_exact": True, "rows_older_after": 12, "rows_held": 12,
    "rows_archived": 1881, "rows_of_partitions": 0, "archives": 2, "transactions": 4,
    "longest_transaction_milliseconds": 31.4, "replicas": 1, "largest_replica_lag_seconds": 0.012,
}  # fmt: skip
CACHE = {
    "before": {"keys": 1240, "used_memory_bytes": 2_412_331, "maxmemory_bytes": 67_108_864},
    "after": {"keys": 1204, "used_memory_bytes": 2_394_112, "maxmemory_bytes": 67_108_864},
    "since_last": {"hits": 942, "misses": 58, "evicted_keys": 0, "expired_keys": 211, "hit_rate": 0.942,
                   "since": "the last recorded act"},
    "sweep": {"expired_keys": 36, "keys_released": 36, "bytes_released": 18_219},
    "keys": {"visited": 1204, "with_expiry": 1173, "without_expiry": 31, "by_prefix": {}, "calls": 2, "complete": True},
}  # fmt: skip


def action(
    owner: psycopg.Connection, kind: str, resource: str, run: str, at: datetime, state: str, plan: dict[str, Any], *,
    proof: dict[str, Any] | None = None, applied: dict[str, Any] | None = None, reason: str = "", dry_run: bool = False,
) -> int:  # fmt: skip
    began = at + timedelta(seconds=2) if state != "planned" else None
    ended = at + timedelta(seconds=14) if state in ("proven", "failed", "nothing_to_do", "postponed") else None
    row = owner.execute(
        "INSERT INTO ops.maintenance_action (idempotency_key, kind, resource, run_id, dry_run, state, plan, applied,"
        " proof, reason, planned_at, applied_at, finished_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING maintenance_action_id",
        (
            f"{run}|{kind}|{resource}|{dry_run}", kind, resource, run, dry_run, state, Jsonb(plan),
            Jsonb(applied) if applied else None, Jsonb(proof) if proof else None, reason, at, began, ended,
        ),
    ).fetchone()  # fmt: skip
    assert row
    return int(row[0])


def observations(owner: psycopg.Connection, now: datetime, minutes: int = 180) -> None:
    """A probe a minute; the API has been slow for the last 25 minutes."""
    rows = []
    for back in range(minutes):
        at = now - timedelta(minutes=back, seconds=20)
        for component in COMPONENTS:
            slow = component == "api" and back < 25
            evidence = Jsonb({"status": 200, "attempts": 2 if slow else 1})
            rows.append((component, at, "warning" if slow else "ok", 3.412 if slow else 0.041, evidence))
    with owner.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ops.observation (signal, resource, observed_at, outcome, value, unit, evidence)"
            " VALUES ('probe', %s, %s, %s, %s, 'seconds', %s)",
            rows,
        )


def subjects(owner: psycopg.Connection, now: datetime, days: int = 12) -> None:
    """Complete days; three days back the traffic is partial, five days back support has never been written."""
    for back in range(1, days + 1):
        day = (midnight(now) - timedelta(days=back)).date()
        for subject in SUBJECTS:
            if back == 5 and subject == "support":
                continue
            partial = back == 3 and subject == "traffic"
            owner.execute(
                "INSERT INTO ops.daily_subject (day, subject, state, completeness, reason, content_hash)"
                " VALUES (%s, %s, %s, %s, %s, 'h')",
                (day, subject, "partial" if partial else "complete", 0.9231 if partial else 1,
                 "access.log.3.gz is missing" if partial else ""),
            )  # fmt: skip
            owner.execute(
                "INSERT INTO ops.metric_write (day, subject, written_at, run_id, content_hash, changed)"
                " VALUES (%s, %s, %s, 'run', 'h', true)",
                (day, subject, midnight(now) - timedelta(days=back - 1) + timedelta(minutes=14)),
            )
