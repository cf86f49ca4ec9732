-- One page of drills, the newest first.
SELECT drill_id, kind, resource, outcome, rpo_seconds, rto_seconds, rpo_target_seconds, rto_target_seconds, reason,
       started_at, finished_at,
       count(*) OVER () AS total
FROM ops.drill
ORDER BY started_at DESC, drill_id DESC
LIMIT %(limit)s OFFSET %(offset)s
