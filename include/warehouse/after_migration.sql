-- Run by the owner after every migration: comments on Alembic's own table and what the roles may do.
-- Running it again changes nothing. The settings operations.writers and operations.readers, lists of roles separated by
-- line breaks, say who may write and who may read; none of them is the owner.
COMMENT ON TABLE  ops.alembic_version IS 'The newest migration that was applied, kept by Alembic.';
COMMENT ON COLUMN ops.alembic_version.version_num IS 'Number of the migration.';

DO $$
DECLARE
    grantee text;
BEGIN
    FOREACH grantee IN ARRAY string_to_array(current_setting('operations.readers'), E'\n') LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA ops TO %I', grantee);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA ops TO %I', grantee);
    END LOOP;
    FOREACH grantee IN ARRAY string_to_array(current_setting('operations.writers'), E'\n') LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA ops TO %I', grantee);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ops TO %I', grantee);
        EXECUTE format('GRANT USAGE ON ALL SEQUENCES IN SCHEMA ops TO %I', grantee);
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON ops.alembic_version FROM %I', grantee);
        EXECUTE format('REVOKE UPDATE, DELETE ON ops.signal, ops.incident_timeline, ops.metric_write FROM %I', grantee);
        EXECUTE format('REVOKE DELETE ON ops.legal_hold FROM %I', grantee);
    END LOOP;
END $$;
