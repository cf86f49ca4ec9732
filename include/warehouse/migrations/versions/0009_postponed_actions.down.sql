DROP INDEX ops.maintenance_action_resource;
ALTER TABLE ops.maintenance_action DROP CONSTRAINT maintenance_action_postponed_check;
UPDATE ops.maintenance_action SET state = 'nothing_to_do' WHERE state = 'postponed';
ALTER TABLE ops.maintenance_action DROP CONSTRAINT maintenance_action_state_check;
ALTER TABLE ops.maintenance_action ADD CONSTRAINT maintenance_action_state_check
    CHECK (state IN ('planned', 'applying', 'proven', 'nothing_to_do', 'failed'));
COMMENT ON COLUMN ops.maintenance_action.kind IS 'analyze, vacuum, prune, rotate_logs, delete_logs or cache_statistics.';
COMMENT ON COLUMN ops.maintenance_action.state IS 'planned (the end of a dry run), applying, proven, nothing_to_do or failed.';
COMMENT ON COLUMN ops.maintenance_action.reason IS 'Why nothing was to do, or why it failed.';
