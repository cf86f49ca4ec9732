DELETE FROM ops.maintenance_action WHERE kind IN ('backup_verification', 'full_restoration', 'failover', 'archive_restoration');
COMMENT ON COLUMN ops.maintenance_action.kind IS 'analyze, vacuum, prune, rotate_logs, delete_logs, cache_statistics, reindex, clean_airflow_database, delete_airflow_logs or remove_leftovers.';
COMMENT ON COLUMN ops.maintenance_action.resource IS 'The table, log file or cache it acts on.';
