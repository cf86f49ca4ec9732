-- The latest state of each maintenance act since a time: an act that failed and was repeated well is well.
SELECT maintenance_action_id, kind, resource, run_id, dry_run, state, plan, applied, proof, reason,
       planned_at, applied_at, finished_at
FROM (
    SELECT DISTINCT ON (kind, resource, dry_run) *
    FROM ops.maintenance_action
    WHERE planned_at >= %(since)s
    ORDER BY kind, resource, dry_run, planned_at DESC, maintenance_action_id DESC
) AS latest
ORDER BY state = 'failed' DESC, state = 'applying' DESC, planned_at DESC, maintenance_action_id DESC
