DROP TABLE ops.legal_hold;
DROP TABLE ops.detached_partition;
DELETE FROM ops.archive WHERE state IN ('withdrawing', 'withdrawn');
ALTER TABLE ops.archive
    DROP CONSTRAINT archive_state_check,
    DROP CONSTRAINT archive_chain_unique,
    DROP CONSTRAINT archive_chain_check,
    DROP COLUMN relation,
    DROP COLUMN replaces,
    DROP COLUMN chain_number,
    DROP COLUMN manifest_sha256;
ALTER TABLE ops.archive ADD CONSTRAINT archive_state_check CHECK (state IN ('written', 'verified', 'deleted'));
COMMENT ON COLUMN ops.archive.archive_id IS 'Table and time range of the rows; the same rows always have the same archive.';
COMMENT ON COLUMN ops.archive.content_hash IS 'Order-independent hash of the rows, equal for the source rows and the re-read file.';
COMMENT ON COLUMN ops.archive.state IS 'written, verified (read back and equal) or deleted (the source rows are gone).';
