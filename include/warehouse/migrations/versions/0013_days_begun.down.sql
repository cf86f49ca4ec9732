ALTER TABLE ops.rollup DROP COLUMN days_begun;
