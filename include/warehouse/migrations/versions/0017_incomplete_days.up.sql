-- A day of whose source a part was lost is held, but its figures are too low: every rollup says how many such days it has.
ALTER TABLE ops.rollup ADD COLUMN days_incomplete integer NOT NULL DEFAULT 0 CHECK (days_incomplete >= 0);
ALTER TABLE ops.rollup_uptime ADD COLUMN days_incomplete integer NOT NULL DEFAULT 0 CHECK (days_incomplete >= 0);
ALTER TABLE ops.rollup_traffic ADD COLUMN days_incomplete integer NOT NULL DEFAULT 0 CHECK (days_incomplete >= 0);
ALTER TABLE ops.rollup_error ADD COLUMN days_incomplete integer NOT NULL DEFAULT 0 CHECK (days_incomplete >= 0);
ALTER TABLE ops.rollup_users ADD COLUMN days_incomplete integer NOT NULL DEFAULT 0 CHECK (days_incomplete >= 0);
ALTER TABLE ops.rollup_transactions ADD COLUMN days_incomplete integer NOT NULL DEFAULT 0 CHECK (days_incomplete >= 0);
ALTER TABLE ops.rollup_revenue ADD COLUMN days_incomplete integer NOT NULL DEFAULT 0 CHECK (days_incomplete >= 0);
ALTER TABLE ops.rollup_support ADD COLUMN days_incomplete integer NOT NULL DEFAULT 0 CHECK (days_incomplete >= 0);
ALTER TABLE ops.rollup_feedback ADD COLUMN days_incomplete integer NOT NULL DEFAULT 0 CHECK (days_incomplete >= 0);
COMMENT ON COLUMN ops.rollup.days_incomplete IS 'Days held of which less than 0.99 of the source of some subject was there.';
COMMENT ON COLUMN ops.rollup_uptime.days_incomplete IS 'Days held of which more than 0.01 of the component''s time is unknown.';
COMMENT ON COLUMN ops.rollup_traffic.days_incomplete IS 'Days held of which less than 0.99 of the source was there.';
COMMENT ON COLUMN ops.rollup_error.days_incomplete IS 'Days held of which less than 0.99 of the source was there.';
COMMENT ON COLUMN ops.rollup_users.days_incomplete IS 'Days held of which less than 0.99 of the source was there.';
COMMENT ON COLUMN ops.rollup_transactions.days_incomplete IS 'Days held of which less than 0.99 of the source was there.';
COMMENT ON COLUMN ops.rollup_revenue.days_incomplete IS 'Days held of which less than 0.99 of the source was there.';
COMMENT ON COLUMN ops.rollup_support.days_incomplete IS 'Days held of which less than 0.99 of the source was there.';
COMMENT ON COLUMN ops.rollup_feedback.days_incomplete IS 'Days held of which less than 0.99 of the source was there.';

-- Overall is down also while another component is in maintenance.
COMMENT ON COLUMN ops.daily_uptime.down_seconds IS 'Seconds seen down outside maintenance; overall, outside that of the component that was down.';
COMMENT ON COLUMN ops.daily_uptime.maintenance_seconds IS 'Seconds of announced maintenance; overall, those in which no user-facing component was seen down.';
COMMENT ON COLUMN ops.rollup_uptime.down_seconds IS 'Seconds seen down outside maintenance; overall, outside that of the component that was down.';
COMMENT ON COLUMN ops.rollup_uptime.maintenance_seconds IS 'Seconds of announced maintenance; overall, those in which no user-facing component was seen down.';

-- What is stored does not know: as another hash than their days' it is made again by the next night's runs.
UPDATE ops.rollup SET input_hash = '';

-- Sums of money are exact: rounded day by day, fees of less than a cent would not add up to what the source has.
ALTER TABLE ops.daily_transactions ALTER COLUMN value_usd TYPE numeric;
ALTER TABLE ops.daily_revenue ALTER COLUMN amount_usd TYPE numeric;
ALTER TABLE ops.rollup_transactions ALTER COLUMN value_usd TYPE numeric;
ALTER TABLE ops.rollup_revenue ALTER COLUMN amount_usd TYPE numeric;

-- An attempt after another one begins anew; a run that ends of a failure that was told is not seen again.
COMMENT ON COLUMN ops.maintenance_action.applied_at IS 'When the change of the latest attempt began.';
COMMENT ON COLUMN ops.incident_timeline.kind IS 'detected, seen_again, run_ended, class_raised or a change of state.';
COMMENT ON COLUMN ops.incident.detected_at IS 'When the first signal occurred, or came where its clock is ahead.';
COMMENT ON COLUMN ops.incident.last_seen_at IS 'When the latest signal occurred, or came where its clock is ahead; the end of a run whose failed task was told before does not count.';
