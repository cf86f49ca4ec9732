-- Snapshots of the platform's database: how far its counters are, how large its tables are, how everything is defined.
-- Every table and column carries a comment: docs/warehouse.md is generated from them.

CREATE TABLE ops.platform_snapshot (
    platform_snapshot_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id             text        NOT NULL UNIQUE,
    month              text        NOT NULL CHECK (month ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    taken_at           timestamptz NOT NULL,
    database_name      text        NOT NULL,
    server_version     integer     NOT NULL,
    system_identifier  bigint,
    next_transaction   bigint      NOT NULL,
    next_multixact     bigint      NOT NULL,
    counters_since     timestamptz,
    unreadable         jsonb       NOT NULL DEFAULT '{}'
);
CREATE INDEX platform_snapshot_taken_at ON ops.platform_snapshot (taken_at DESC);
COMMENT ON TABLE  ops.platform_snapshot IS 'The platform''s database at one moment; forecasts and comparisons are made from these.';
COMMENT ON COLUMN ops.platform_snapshot.platform_snapshot_id IS 'Surrogate key.';
COMMENT ON COLUMN ops.platform_snapshot.run_id IS 'The Airflow run (or command) that took it; a repeated task keeps the first one.';
COMMENT ON COLUMN ops.platform_snapshot.month IS 'Month of the run in the platform''s time zone, YYYY-MM.';
COMMENT ON COLUMN ops.platform_snapshot.taken_at IS 'When it was taken, by the platform''s clock.';
COMMENT ON COLUMN ops.platform_snapshot.database_name IS 'Name of the database.';
COMMENT ON COLUMN ops.platform_snapshot.server_version IS 'server_version_num, for example 180001.';
COMMENT ON COLUMN ops.platform_snapshot.system_identifier IS 'Identity of the cluster; snapshots of two clusters are never put in one forecast. Absent when it could not be read.';
COMMENT ON COLUMN ops.platform_snapshot.next_transaction IS 'Next transaction id with its epoch: it only grows.';
COMMENT ON COLUMN ops.platform_snapshot.next_multixact IS 'Next multixact id, 32 bits: it starts over after 4294967295.';
COMMENT ON COLUMN ops.platform_snapshot.counters_since IS 'When the database''s statistics were last reset; absent when never.';
COMMENT ON COLUMN ops.platform_snapshot.unreadable IS 'Kinds of definitions that the role may not read, each with the grant that would let it.';

CREATE TABLE ops.platform_table (
    platform_snapshot_id bigint NOT NULL REFERENCES ops.platform_snapshot ON DELETE CASCADE,
    table_name      text    NOT NULL,
    bytes           bigint  NOT NULL,
    estimated_rows  bigint,
    rows_inserted   bigint  NOT NULL,
    rows_updated    bigint  NOT NULL,
    rows_deleted    bigint  NOT NULL,
    PRIMARY KEY (platform_snapshot_id, table_name)
);
COMMENT ON TABLE  ops.platform_table IS 'Size and counters of each table in a snapshot; a partitioned table is the sum of its partitions.';
COMMENT ON COLUMN ops.platform_table.platform_snapshot_id IS 'The snapshot.';
COMMENT ON COLUMN ops.platform_table.table_name IS 'Schema-qualified name.';
COMMENT ON COLUMN ops.platform_table.bytes IS 'Bytes with indexes and TOAST.';
COMMENT ON COLUMN ops.platform_table.estimated_rows IS 'Rows as of its last vacuum or analyze; absent when it never had one.';
COMMENT ON COLUMN ops.platform_table.rows_inserted IS 'Rows inserted since the statistics were reset.';
COMMENT ON COLUMN ops.platform_table.rows_updated IS 'Rows updated since the statistics were reset.';
COMMENT ON COLUMN ops.platform_table.rows_deleted IS 'Rows deleted since the statistics were reset.';

CREATE TABLE ops.platform_definition (
    platform_snapshot_id bigint NOT NULL REFERENCES ops.platform_snapshot ON DELETE CASCADE,
    kind        text NOT NULL,
    name        text NOT NULL,
    definition  text NOT NULL,
    PRIMARY KEY (platform_snapshot_id, kind, name)
);
COMMENT ON TABLE  ops.platform_definition IS 'How everything was defined in a snapshot: schema, grants, roles'' attributes, extensions, settings.';
COMMENT ON COLUMN ops.platform_definition.platform_snapshot_id IS 'The snapshot.';
COMMENT ON COLUMN ops.platform_definition.kind IS 'table, column, index, constraint, view, function, trigger, policy, sequence, type, schema, extension, grant, role, setting, role_setting, replication, database or access_rule.';
COMMENT ON COLUMN ops.platform_definition.name IS 'Qualified name within its kind.';
COMMENT ON COLUMN ops.platform_definition.definition IS 'What defines it, in one line. Texts of views and functions are hashed, passwords in settings are left out.';
