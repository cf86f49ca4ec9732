-- Rollups of revenue, feedback and components counted the days of their whole subject, also those that do not tell of
-- them. What days were computed since is left to the next rollup: a number is only ever lowered here.
WITH told AS (
    SELECT rollup.grain, rollup.period_start, known.figures, count(subject.day)::integer AS days
    FROM ops.rollup
    CROSS JOIN (VALUES ('transactions', 'fees'), ('support', 'feedback')) AS known (subject, figures)
    LEFT JOIN ops.daily_subject AS subject
        ON subject.day >= rollup.period_start
        AND subject.day < rollup.period_start + ('1 ' || rollup.grain)::interval
        AND subject.subject = known.subject AND subject.state <> 'missing'
        AND NOT coalesce(subject.detail -> 'views_that_begin_later' ? known.figures, false)
    GROUP BY rollup.grain, rollup.period_start, known.figures
), revenue AS (
    UPDATE ops.rollup_revenue AS rolled
    SET days_held = told.days, is_final = false
    FROM told
    WHERE (rolled.grain, rolled.period_start, 'fees') = (told.grain, told.period_start, told.figures)
        AND told.days < rolled.days_held
)
UPDATE ops.rollup_feedback AS rolled
SET days_held = told.days, is_final = false
FROM told
WHERE (rolled.grain, rolled.period_start, 'feedback') = (told.grain, told.period_start, told.figures)
    AND told.days < rolled.days_held;

UPDATE ops.rollup_uptime AS rolled
SET days_held = told.days, is_final = false
FROM (
    SELECT rollup.grain, rollup.period_start, uptime.component, count(*)::integer AS days
    FROM ops.rollup
    JOIN ops.daily_uptime AS uptime
        ON uptime.day >= rollup.period_start
        AND uptime.day < rollup.period_start + ('1 ' || rollup.grain)::interval
    GROUP BY rollup.grain, rollup.period_start, uptime.component
) AS told
WHERE (rolled.grain, rolled.period_start, rolled.component) = (told.grain, told.period_start, told.component)
    AND told.days < rolled.days_held;

COMMENT ON COLUMN ops.rollup_uptime.days_held IS 'Days of it whose uptime of this component the warehouse holds.';
COMMENT ON COLUMN ops.rollup_revenue.days_held IS 'Days of it whose fees the warehouse holds; a day before the source''s first fee is not held.';
COMMENT ON COLUMN ops.rollup_feedback.days_held IS 'Days of it whose feedback the warehouse holds; a day before the source''s first rating is not held.';
