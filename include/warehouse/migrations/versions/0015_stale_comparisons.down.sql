COMMENT ON COLUMN ops.report.own_inputs IS 'Hashes of the day''s own inputs: content_hash of each subject it uses, and its incidents; a difference makes the report stale.';
