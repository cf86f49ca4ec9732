-- The newest drill of each kind and resource, and when one passed last.
SELECT DISTINCT ON (drill.kind, drill.resource)
       drill.drill_id, drill.kind, drill.resource, drill.outcome, drill.rpo_seconds, drill.rto_seconds,
       drill.rpo_target_seconds, drill.rto_target_seconds, drill.reason, drill.started_at, drill.finished_at,
       passed.drill_id AS passed_id, passed.finished_at AS passed_at
FROM ops.drill AS drill
LEFT JOIN LATERAL (
    SELECT drill_id, finished_at FROM ops.drill AS other
    WHERE other.kind = drill.kind AND other.resource = drill.resource AND other.outcome = 'passed'
    ORDER BY started_at DESC, drill_id DESC LIMIT 1
) AS passed ON true
ORDER BY drill.kind, drill.resource, drill.started_at DESC, drill.drill_id DESC
