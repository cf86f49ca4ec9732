-- The newest finished drills of a kind and resource, the newest first.
SELECT drill_id, outcome, rpo_seconds, rto_seconds, rpo_target_seconds, rto_target_seconds, started_at
FROM ops.drill
WHERE kind = %(kind)s AND resource = %(resource)s AND outcome <> 'running'
ORDER BY started_at DESC, drill_id DESC
LIMIT %(limit)s
