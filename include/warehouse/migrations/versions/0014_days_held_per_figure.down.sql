COMMENT ON COLUMN ops.rollup_uptime.days_held IS 'Days of it whose figures of this subject the warehouse holds.';
COMMENT ON COLUMN ops.rollup_revenue.days_held IS 'Days of it whose figures of this subject the warehouse holds.';
COMMENT ON COLUMN ops.rollup_feedback.days_held IS 'Days of it whose figures of this subject the warehouse holds.';
