COMMENT ON COLUMN ops.maintenance_action.kind IS 'analyze, vacuum, prune, rotate_logs, delete_logs, cache_statistics, reindex, clean_airflow_database or delete_airflow_logs.';
COMMENT ON TABLE  ops.platform_definition IS 'How everything was defined in a snapshot: schema, grants, roles'' attributes, extensions, settings.';
