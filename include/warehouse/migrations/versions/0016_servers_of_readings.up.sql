COMMENT ON COLUMN ops.index_usage.server IS 'System identifier of the cluster, name of the database and, after a promotion, the primary''s timeline: each primary counts for itself.';
COMMENT ON COLUMN ops.statement_snapshot.server IS 'System identifier of the cluster, name of the database and, after a promotion, the primary''s timeline: each primary counts for itself.';
COMMENT ON COLUMN ops.statement_text.server IS 'System identifier of the cluster, name of the database and, after a promotion, the primary''s timeline: each primary counts for itself.';
