COMMENT ON COLUMN ops.index_usage.server IS 'System identifier of the cluster and name of the database.';
COMMENT ON COLUMN ops.statement_snapshot.server IS 'System identifier of the cluster and name of the database.';
COMMENT ON COLUMN ops.statement_text.server IS 'System identifier of the cluster and name of the database.';
