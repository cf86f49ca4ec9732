-- One maintenance action with all that it recorded.
SELECT maintenance_action_id, kind, resource, run_id, dry_run, state, plan, applied, proof, reason, planned_at,
       applied_at, finished_at
FROM ops.maintenance_action
WHERE maintenance_action_id = %(action_id)s
