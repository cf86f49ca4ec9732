-- One page of maintenance actions, the newest first.
SELECT maintenance_action_id, kind, resource, dry_run, state, plan, applied, proof, reason, planned_at,
       count(*) OVER () AS total
FROM ops.maintenance_action
WHERE %(state)s = 'all' OR state = %(state)s
ORDER BY planned_at DESC, maintenance_action_id DESC
LIMIT %(limit)s OFFSET %(offset)s
