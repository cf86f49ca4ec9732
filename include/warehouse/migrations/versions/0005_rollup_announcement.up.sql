-- Which weeks and months were announced as ready to be rolled up, so that one run follows and not one per day.

CREATE TABLE ops.rollup_announcement (
    grain        text        NOT NULL CHECK (grain IN ('week', 'month')),
    period_start date        NOT NULL,
    input_hash   text        NOT NULL,
    run_id       text        NOT NULL,
    announced_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (grain, period_start)
);
COMMENT ON TABLE  ops.rollup_announcement IS 'The last announcement that a week or month is ready to be rolled up.';
COMMENT ON COLUMN ops.rollup_announcement.grain IS 'week or month.';
COMMENT ON COLUMN ops.rollup_announcement.period_start IS 'First day of the period; weeks begin on Monday.';
COMMENT ON COLUMN ops.rollup_announcement.input_hash IS 'SHA-256 over the content hashes of the days as they were then, as in ops.rollup.';
COMMENT ON COLUMN ops.rollup_announcement.run_id IS 'The run that announced it; when it is repeated it announces it again.';
COMMENT ON COLUMN ops.rollup_announcement.announced_at IS 'When it was announced.';
