-- A day may lack a subject for good, and another day of its week or month is corrected: that is no unfinished backfill.
ALTER TABLE ops.rollup ADD COLUMN days_begun integer NOT NULL DEFAULT 0 CHECK (days_begun >= 0);
COMMENT ON COLUMN ops.rollup.days_begun IS 'Days of which only some subjects were computed when it was made.';
