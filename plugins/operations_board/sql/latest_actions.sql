-- The latest state of each maintenance act since a time: an act that failed and was repeated well is well. Drills, which
-- are acts too, have a list of their own.
SELECT maintenance_action_id, kind, resource, dry_run, state, plan, applied, proof, reason, planned_at, applied_at,
       finished_at
FROM (
    SELECT DISTINCT ON (kind, resource, dry_run) *
    FROM ops.maintenance_action
    WHERE planned_at >= %(since)s
      AND NOT EXISTS (SELECT FROM ops.drill d
                      WHERE (d.run_id, d.kind, d.resource) = (maintenance_action.run_id, maintenance_action.kind,
                                                              maintenance_action.resource))
    ORDER BY kind, resource, dry_run, planned_at DESC, maintenance_action_id DESC
) AS latest
ORDER BY state = 'failed' DESC, state = 'applying' DESC, planned_at DESC, maintenance_action_id DESC
