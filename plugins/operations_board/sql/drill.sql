-- One drill.
SELECT drill_id, kind, resource, run_id, outcome, attempts, rpo_seconds, rto_seconds, rpo_target_seconds,
       rto_target_seconds, reason, detail, started_at, finished_at
FROM ops.drill
WHERE drill_id = %(drill_id)s
