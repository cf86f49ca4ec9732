-- Archives with chained manifests, partitions on their way out, legal holds.

-- ------------------------------------------------------------------------------------------------ archives
ALTER TABLE ops.archive DROP CONSTRAINT archive_state_check;
ALTER TABLE ops.archive ADD CONSTRAINT archive_state_check
    CHECK (state IN ('written', 'verified', 'deleted', 'withdrawing', 'withdrawn'));
ALTER TABLE ops.archive
    ADD COLUMN relation        text,
    ADD COLUMN replaces        text,
    ADD COLUMN chain_number    bigint,
    ADD COLUMN manifest_sha256 text,
    ADD CONSTRAINT archive_chain_unique UNIQUE (source_table, chain_number),
    ADD CONSTRAINT archive_chain_check CHECK ((chain_number IS NULL) = (manifest_sha256 IS NULL));
COMMENT ON COLUMN ops.archive.archive_id IS 'Table, time range, content and a random part: no archive ever takes the name of another.';
COMMENT ON COLUMN ops.archive.content_hash IS 'Order-independent hash of the rows: the sum of their MD5 sums, the two halves modulo 2^64. Equal for the source rows and the re-read file.';
COMMENT ON COLUMN ops.archive.state IS 'written, verified (read back and equal; its manifest is there), deleted (the source rows are gone), withdrawing or withdrawn (rows of it stay in their table, so it does not count; another archive may replace it).';
COMMENT ON COLUMN ops.archive.relation IS 'The table or partition that the rows were read from and are deleted from.';
COMMENT ON COLUMN ops.archive.replaces IS 'The withdrawn archive that this one takes the place of.';
COMMENT ON COLUMN ops.archive.chain_number IS 'Position of the manifest in the chain of the source table, from 1 without gaps.';
COMMENT ON COLUMN ops.archive.manifest_sha256 IS 'SHA-256 of the manifest, which names the manifest before it.';

-- ------------------------------------------------------------------------------------ partitions on their way out
CREATE TABLE ops.detached_partition (
    source_table    text        NOT NULL,
    partition       text        NOT NULL,
    bound           text        NOT NULL,
    state           text        NOT NULL CHECK (state IN ('detaching', 'archived', 'dropped', 'kept')),
    rows_archived   bigint,
    began_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source_table, partition, began_at)
);
CREATE UNIQUE INDEX detached_partition_one_open ON ops.detached_partition (source_table, partition)
    WHERE state IN ('detaching', 'archived');
COMMENT ON TABLE  ops.detached_partition IS 'Whole partitions past their retention: recorded before they are detached, so that none is ever forgotten.';
COMMENT ON COLUMN ops.detached_partition.source_table IS 'The partitioned table.';
COMMENT ON COLUMN ops.detached_partition.partition IS 'The partition.';
COMMENT ON COLUMN ops.detached_partition.bound IS 'Its bound as SQL, to attach it again with.';
COMMENT ON COLUMN ops.detached_partition.state IS 'detaching (is being or was detached, not archived yet), archived (all rows are in verified archives), dropped, or kept (attached again, or handed to a person).';
COMMENT ON COLUMN ops.detached_partition.rows_archived IS 'Rows of its archives.';
COMMENT ON COLUMN ops.detached_partition.began_at IS 'When its detaching was recorded.';
COMMENT ON COLUMN ops.detached_partition.changed_at IS 'When its state changed last.';

-- --------------------------------------------------------------------------------------------- legal holds
CREATE TABLE ops.legal_hold (
    legal_hold_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_table   text        NOT NULL,
    time_from      timestamptz,
    time_until     timestamptz,
    key_from       text,
    key_to         text,
    column_name    text,
    column_value   text,
    reason         text        NOT NULL CHECK (reason <> ''),
    placed_by      text        NOT NULL CHECK (placed_by <> ''),
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    released_at    timestamptz,
    released_by    text,
    CHECK (time_from < time_until),
    CHECK ((column_name IS NULL) = (column_value IS NULL)),
    CHECK ((released_at IS NULL) = (released_by IS NULL))
);
CREATE INDEX legal_hold_active ON ops.legal_hold (source_table) WHERE released_at IS NULL;
COMMENT ON TABLE  ops.legal_hold IS 'Rows that must not be deleted, whatever their age. A hold applies to the rows that meet all of its conditions; without any, to the whole table. Holds are released, never removed.';
COMMENT ON COLUMN ops.legal_hold.legal_hold_id IS 'Surrogate key.';
COMMENT ON COLUMN ops.legal_hold.source_table IS 'The table that it applies to.';
COMMENT ON COLUMN ops.legal_hold.time_from IS 'Holds rows from this time on, or from the beginning.';
COMMENT ON COLUMN ops.legal_hold.time_until IS 'Holds rows before this time, or without end.';
COMMENT ON COLUMN ops.legal_hold.key_from IS 'Holds rows from this key on.';
COMMENT ON COLUMN ops.legal_hold.key_to IS 'Holds rows up to this key, itself included.';
COMMENT ON COLUMN ops.legal_hold.column_name IS 'Holds rows with the value in this column, one of the rule''s hold_columns.';
COMMENT ON COLUMN ops.legal_hold.column_value IS 'The value, as text.';
COMMENT ON COLUMN ops.legal_hold.reason IS 'Why, for example the case number.';
COMMENT ON COLUMN ops.legal_hold.placed_by IS 'Who placed it.';
COMMENT ON COLUMN ops.legal_hold.created_at IS 'When it was placed.';
COMMENT ON COLUMN ops.legal_hold.released_at IS 'When it ended; without one it is in force.';
COMMENT ON COLUMN ops.legal_hold.released_by IS 'Who ended it.';
