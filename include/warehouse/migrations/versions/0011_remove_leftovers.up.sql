-- What the collection itself leaves behind is removed every night.
COMMENT ON COLUMN ops.maintenance_action.kind IS 'analyze, vacuum, prune, rotate_logs, delete_logs, cache_statistics, reindex, clean_airflow_database, delete_airflow_logs or remove_leftovers.';
COMMENT ON TABLE  ops.platform_definition IS 'How everything was defined in a snapshot: schema, grants, roles'' attributes, extensions, settings. Kept as long as it is compared with (maintenance.leftovers).';
