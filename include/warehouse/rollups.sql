-- Statements of rollups.py. Parameters: grain (week or month); period_start and period_end, its first day and the
-- first day after it; today, the current day in the platform's time zone; subjects, the number of subjects; enough, the
-- share of a day's source below which the day is incomplete.

-- statement: periods
-- What the days of each period give now, and what its rollup was made of. The one place that defines the input hash,
-- held days and finality. A day is held when all its subjects are; period_start narrows to one period unless null.
WITH day_state AS (
    SELECT day, count(*) FILTER (WHERE state <> 'missing') AS held_subjects, count(*) AS computed_subjects,
           string_agg(day::text || ' ' || subject || ' ' || content_hash, chr(10) ORDER BY subject COLLATE "C") AS content
    FROM ops.daily_subject
    WHERE %(period_start)s::date IS NULL OR (day >= %(period_start)s AND day < %(period_end)s)
    GROUP BY day
), period AS (
    SELECT date_trunc(%(grain)s, day::timestamp)::date AS period_start,
           count(*) FILTER (WHERE held_subjects = %(subjects)s)::integer AS days_held,
           count(*) FILTER (WHERE computed_subjects = %(subjects)s) AS days_computed,
           count(*) FILTER (WHERE computed_subjects < %(subjects)s) AS days_begun,
           coalesce(sum(held_subjects), 0) AS held_anything,
           encode(sha256(convert_to(string_agg(content, chr(10) ORDER BY day), 'UTF8')), 'hex') AS input_hash
    FROM day_state
    GROUP BY 1
), bounded AS (
    SELECT *, (period_start + ('1 ' || %(grain)s)::interval)::date AS period_end FROM period
), judged AS (
    SELECT period_start, period_end - period_start AS days_expected, days_held, held_anything > 0 AS holds_anything,
           days_computed = period_end - period_start AS is_computed, days_begun, period_end <= %(today)s::date AS is_over,
           period_end <= %(today)s::date AND days_held = period_end - period_start AS is_final, input_hash
    FROM bounded
)
SELECT judged.period_start, judged.days_expected, judged.days_held, judged.days_begun, judged.holds_anything, judged.is_computed,
       judged.is_over, judged.is_final, judged.input_hash, stored.period_start IS NOT NULL AS is_stored,
       coalesce(stored.days_held >= judged.days_held AND stored.days_begun >= judged.days_begun, false) AS is_corrected,
       stored.input_hash IS DISTINCT FROM judged.input_hash
           OR stored.is_final IS DISTINCT FROM judged.is_final AS is_stale
FROM judged
LEFT JOIN ops.rollup AS stored ON stored.grain = %(grain)s AND stored.period_start = judged.period_start
ORDER BY judged.period_start;

-- statement: announce
-- Takes the announcement of a period's present figures; no row when another run has it already.
INSERT INTO ops.rollup_announcement AS announced (grain, period_start, input_hash, run_id)
VALUES (%(grain)s, %(period_start)s, %(input_hash)s, %(run_id)s)
ON CONFLICT (grain, period_start) DO UPDATE
SET input_hash = excluded.input_hash, run_id = excluded.run_id, announced_at = excluded.announced_at
WHERE announced.input_hash <> excluded.input_hash OR announced.run_id = excluded.run_id
RETURNING grain;

-- statement: held
-- Days of which each subject is known, and how many of them are incomplete. Of fees and feedback, which a subject can be
-- told without, only those of which their own view tells: a source whose fees begin after the day does not tell that
-- there were none. Of the errors of the application's and of the error log, those days that have the log.
SELECT figures, count(*)::integer, (count(*) FILTER (WHERE completeness < %(enough)s))::integer
FROM ops.daily_subject
CROSS JOIN LATERAL (VALUES
    (subject), (CASE subject WHEN 'transactions' THEN 'fees' WHEN 'support' THEN 'feedback' END),
    (CASE subject WHEN 'traffic' THEN 'application' END), (CASE subject WHEN 'traffic' THEN 'error' END)
) AS told (figures)
WHERE day >= %(period_start)s AND day < %(period_end)s AND state <> 'missing' AND figures IS NOT NULL
    AND NOT coalesce(detail -> 'views_that_begin_later' ? figures, false)
    AND NOT coalesce(detail -> 'absent_logs' ? figures, false)
GROUP BY figures;

-- statement: latency
SELECT bucket, sum(requests)::bigint
FROM ops.hourly_latency
WHERE day >= %(period_start)s AND day < %(period_end)s
GROUP BY bucket;

-- statement: sketches
SELECT registers
FROM ops.daily_user_sketch
WHERE day >= %(period_start)s AND day < %(period_end)s
ORDER BY day;

-- statement: clear
-- The rows of the rollup tables go with it.
DELETE FROM ops.rollup WHERE grain = %(grain)s AND period_start = %(period_start)s;

-- statement: write_period
INSERT INTO ops.rollup
    (grain, period_start, period_key, days_expected, days_held, days_begun, days_incomplete, is_final, input_hash)
SELECT %(grain)s, %(period_start)s, %(period_key)s, %(days_expected)s, %(days_held)s, %(days_begun)s, count(*),
       %(is_final)s, %(input_hash)s
FROM (
    SELECT day
    FROM ops.daily_subject
    WHERE day >= %(period_start)s AND day < %(period_end)s AND state <> 'missing'
    GROUP BY day
    HAVING count(*) = %(subjects)s AND min(completeness) < %(enough)s
) AS incomplete;

-- statement: write_uptime
-- A component that came or went within the period has rows of its own days only.
INSERT INTO ops.rollup_uptime (grain, period_start, component, days_expected, days_held, days_incomplete, is_final,
                               up_seconds, down_seconds, maintenance_seconds, unknown_seconds, outages)
SELECT %(grain)s, %(period_start)s, component, %(days_expected)s, count(*),
       count(*) FILTER (WHERE unknown_seconds > (1 - %(enough)s)
                        * (up_seconds + down_seconds + maintenance_seconds + unknown_seconds)),
       %(is_over)s AND count(*) = %(days_expected)s,
       sum(up_seconds), sum(down_seconds), sum(maintenance_seconds), sum(unknown_seconds), sum(outages)
FROM ops.daily_uptime
WHERE day >= %(period_start)s AND day < %(period_end)s
GROUP BY component;

-- statement: write_traffic
INSERT INTO ops.rollup_traffic (grain, period_start, days_expected, days_held, days_incomplete, is_final, requests,
                                errors, client_errors, upgrades, response_seconds_sum, response_p95_seconds,
                                response_p99_seconds, bytes_sent, lines_broken)
SELECT %(grain)s, %(period_start)s, %(days_expected)s, %(traffic_held)s, %(traffic_incomplete)s, %(traffic_final)s,
       sum(requests), sum(errors), sum(client_errors), sum(upgrades), sum(response_seconds_sum),
       %(response_p95_seconds)s::numeric, %(response_p99_seconds)s::numeric, sum(bytes_sent), sum(lines_broken)
FROM ops.daily_traffic
WHERE day >= %(period_start)s AND day < %(period_end)s
HAVING count(*) > 0;

-- statement: write_error
INSERT INTO ops.rollup_error (grain, period_start, source, kind, endpoint, days_expected, days_held, days_incomplete,
                              is_final, errors)
SELECT %(grain)s, %(period_start)s, source, kind, endpoint, %(days_expected)s, held, incomplete, final, sum(errors)
FROM ops.daily_error
JOIN (VALUES
    ('access', %(traffic_held)s::integer, %(traffic_incomplete)s::integer, %(traffic_final)s::boolean),
    ('application', %(application_held)s, %(application_incomplete)s, %(application_final)s),
    ('error', %(error_held)s, %(error_incomplete)s, %(error_final)s)
) AS log (source, held, incomplete, final) USING (source)
WHERE day >= %(period_start)s AND day < %(period_end)s
GROUP BY source, kind, endpoint, held, incomplete, final;

-- statement: write_users
INSERT INTO ops.rollup_users (grain, period_start, days_expected, days_held, days_incomplete, is_final, active_users,
                              active_users_relative_error, sessions, page_views, new_users, verified_users,
                              pending_verification)
SELECT %(grain)s, %(period_start)s, %(days_expected)s, %(users_held)s, %(users_incomplete)s, %(users_final)s,
       %(active_users)s::bigint, %(active_users_relative_error)s::numeric, sum(sessions), sum(page_views),
       sum(new_users), sum(verified_users), sum(pending_verification)
FROM ops.daily_users
WHERE day >= %(period_start)s AND day < %(period_end)s
HAVING count(*) > 0;

-- statement: write_transactions
INSERT INTO ops.rollup_transactions (grain, period_start, outcome, days_expected, days_held, days_incomplete, is_final,
                                     transactions, value_usd)
SELECT %(grain)s, %(period_start)s, outcome, %(days_expected)s, %(transactions_held)s, %(transactions_incomplete)s,
       %(transactions_final)s, sum(transactions), sum(value_usd)
FROM ops.daily_transactions
WHERE day >= %(period_start)s AND day < %(period_end)s
GROUP BY outcome;

-- statement: write_revenue
INSERT INTO ops.rollup_revenue (grain, period_start, kind, days_expected, days_held, days_incomplete, is_final, fees,
                                amount_usd)
SELECT %(grain)s, %(period_start)s, kind, %(days_expected)s, %(fees_held)s, %(fees_incomplete)s, %(fees_final)s,
       sum(fees), sum(amount_usd)
FROM ops.daily_revenue
WHERE day >= %(period_start)s AND day < %(period_end)s
GROUP BY kind;

-- statement: write_support
INSERT INTO ops.rollup_support (grain, period_start, priority, days_expected, days_held, days_incomplete, is_final,
                                created, resolved, first_responses, response_seconds_sum, within_target, breached)
SELECT %(grain)s, %(period_start)s, priority, %(days_expected)s, %(support_held)s, %(support_incomplete)s,
       %(support_final)s, sum(created), sum(resolved), sum(first_responses), sum(response_seconds_sum),
       sum(within_target), sum(breached)
FROM ops.daily_support
WHERE day >= %(period_start)s AND day < %(period_end)s
GROUP BY priority;

-- statement: write_feedback
INSERT INTO ops.rollup_feedback (grain, period_start, days_expected, days_held, days_incomplete, is_final, ratings,
                                 rating_sum, rating_1, rating_2, rating_3, rating_4, rating_5)
SELECT %(grain)s, %(period_start)s, %(days_expected)s, %(feedback_held)s, %(feedback_incomplete)s, %(feedback_final)s,
       sum(ratings), sum(rating_sum), sum(rating_1), sum(rating_2), sum(rating_3), sum(rating_4), sum(rating_5)
FROM ops.daily_feedback
WHERE day >= %(period_start)s AND day < %(period_end)s
HAVING count(*) > 0;
