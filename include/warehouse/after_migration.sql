-- Run by the owner after every migration: comments on Alembic's own table and what the roles may do.
-- Running it again changes nothing. The roles are made by the set-up (or the cluster's owner); the grants of a
-- missing role are left out.
COMMENT ON TABLE  ops.alembic_version IS 'The newest migration that was applied, kept by Alembic.';
COMMENT ON COLUMN ops.alembic_version.version_num IS 'Number of the migration.';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'warehouse_writer') THEN
        GRANT USAGE ON SCHEMA ops TO warehouse_writer;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ops TO warehouse_writer;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA ops TO warehouse_writer;
        REVOKE INSERT, UPDATE, DELETE ON ops.alembic_version FROM warehouse_writer;
        REVOKE UPDATE, DELETE ON ops.signal, ops.incident_timeline, ops.metric_write FROM warehouse_writer;
        REVOKE DELETE ON ops.legal_hold FROM warehouse_writer;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'warehouse_reader') THEN
        GRANT USAGE ON SCHEMA ops TO warehouse_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA ops TO warehouse_reader;
    END IF;
END $$;
