-- Every act has one record, from its plan to its proof; a rehearsal has its measurements in ops.drill beside it.
COMMENT ON COLUMN ops.maintenance_action.kind IS 'analyze, vacuum, prune, rotate_logs, delete_logs, cache_statistics, reindex, clean_airflow_database, delete_airflow_logs, remove_leftovers, or the kind of a drill: backup_verification, full_restoration, failover, archive_restoration.';
COMMENT ON COLUMN ops.maintenance_action.resource IS 'The table, log file, cache, backup source or sample of archives it acts on.';
INSERT INTO ops.maintenance_action
    (idempotency_key, kind, resource, run_id, dry_run, state, plan, proof, reason, planned_at, applied_at, finished_at)
SELECT concat_ws('|', run_id, kind, resource), kind, resource, run_id, false,
       CASE outcome WHEN 'running' THEN 'applying' WHEN 'passed' THEN 'proven' ELSE 'failed' END,
       jsonb_build_object('rpo_target_seconds', rpo_target_seconds, 'rto_target_seconds', rto_target_seconds),
       CASE WHEN outcome <> 'running' THEN jsonb_build_object(
           'drill', drill_id, 'outcome', outcome, 'attempts', attempts,
           'rpo_seconds', rpo_seconds, 'rto_seconds', rto_seconds,
           'stages', (SELECT jsonb_object_agg(s.outcome, stages)
                      FROM (SELECT outcome, count(*) AS stages FROM ops.drill_stage
                            WHERE drill_id = drill.drill_id GROUP BY outcome) AS s)) END,
       reason, started_at, started_at, finished_at
FROM ops.drill AS drill
ON CONFLICT (idempotency_key) DO NOTHING;
