-- An act that did not fit in its maintenance window is postponed: it is neither done nor was nothing to do.

ALTER TABLE ops.maintenance_action DROP CONSTRAINT maintenance_action_state_check;
ALTER TABLE ops.maintenance_action ADD CONSTRAINT maintenance_action_state_check
    CHECK (state IN ('planned', 'applying', 'proven', 'nothing_to_do', 'postponed', 'failed'));
ALTER TABLE ops.maintenance_action ADD CONSTRAINT maintenance_action_postponed_check
    CHECK (state <> 'postponed' OR reason <> '');
COMMENT ON COLUMN ops.maintenance_action.kind IS 'analyze, vacuum, prune, rotate_logs, delete_logs, cache_statistics, reindex, clean_airflow_database or delete_airflow_logs.';
COMMENT ON COLUMN ops.maintenance_action.state IS 'planned (the end of a dry run), applying, proven, nothing_to_do, postponed (to the next run) or failed.';
COMMENT ON COLUMN ops.maintenance_action.reason IS 'Why nothing was to do, why it was postponed or failed, or what a reader should know of its proof.';

-- What became of the last acts on a resource: their durations, and whether one was postponed.
CREATE INDEX maintenance_action_resource ON ops.maintenance_action (resource, kind, maintenance_action_id DESC);
