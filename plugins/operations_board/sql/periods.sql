-- One row per asked week or month, in the order asked. Figures are named like those of the daily reports; <table>_days is
-- of how many days those of one rollup table are, <table>_incomplete how many of these days are incomplete. A period that
-- was never rolled up has a row without any figure.
-- What stands in braces is put in from include/reporting/figures.py.
SELECT
    asked.first_day,
    rollup.days_expected,
    rollup.days_held,
    rollup.days_incomplete,
    uptime.days_held AS uptime_days,
    uptime.days_incomplete AS uptime_incomplete,
    uptime.uptime AS uptime_overall,
    traffic.days_held AS traffic_days,
    traffic.days_incomplete AS traffic_incomplete,
    traffic.requests,
    traffic.errors,
    traffic.client_errors,
    traffic.error_rate,
    traffic.response_average_seconds,
    traffic.response_p95_seconds,
    traffic.response_p99_seconds,
    traffic.bytes_sent,
    traffic.lines_broken,
    users.days_held AS users_days,
    users.days_incomplete AS users_incomplete,
    users.active_users,
    users.active_users_relative_error,
    users.sessions,
    users.page_views,
    users.new_users,
    users.verified_users,
    users.pending_verification,
    transactions.*,
    -- No row of a kind is no fee only where a day tells of fees.
    coalesce(revenue.revenue_days, told.fees_days) AS revenue_days,
    coalesce(revenue.revenue_incomplete, told.fees_incomplete) AS revenue_incomplete,
    coalesce(revenue.revenue, CASE WHEN told.fees_days > 0 THEN 0 END) AS revenue,
    coalesce(revenue.fees, CASE WHEN told.fees_days > 0 THEN 0 END) AS fees,
    support.*,
    feedback.days_held AS feedback_days,
    feedback.days_incomplete AS feedback_incomplete,
    feedback.ratings,
    feedback.rating_average,
    feedback.rating_1,
    feedback.rating_2,
    feedback.rating_3,
    feedback.rating_4,
    feedback.rating_5
FROM unnest(%(first_days)s::date[]) WITH ORDINALITY AS asked (first_day, position)
LEFT JOIN ops.rollup ON rollup.grain = %(grain)s AND rollup.period_start = asked.first_day
LEFT JOIN ops.rollup_uptime AS uptime
    ON uptime.grain = rollup.grain AND uptime.period_start = rollup.period_start AND uptime.component = 'overall'
LEFT JOIN ops.rollup_traffic AS traffic
    ON traffic.grain = rollup.grain AND traffic.period_start = rollup.period_start
LEFT JOIN ops.rollup_users AS users ON users.grain = rollup.grain AND users.period_start = rollup.period_start
LEFT JOIN LATERAL (
    SELECT
        max(days_held) AS transactions_days,
        max(days_incomplete) AS transactions_incomplete,
        {outcome_columns}
    FROM ops.rollup_transactions AS one
    WHERE one.grain = rollup.grain AND one.period_start = rollup.period_start
    HAVING count(*) > 0  -- an outcome without a row is none only where the days tell of transactions
) AS transactions ON true
LEFT JOIN LATERAL (
    SELECT
        max(days_held) AS revenue_days,
        max(days_incomplete) AS revenue_incomplete,
        sum(amount_usd) AS revenue,
        sum(one.fees)::bigint AS fees
    FROM ops.rollup_revenue AS one
    WHERE one.grain = rollup.grain AND one.period_start = rollup.period_start
) AS revenue ON true
LEFT JOIN LATERAL (
    SELECT count(*)::integer AS fees_days, count(*) FILTER (WHERE completeness < {enough}) AS fees_incomplete
    FROM ops.daily_subject
    WHERE day >= rollup.period_start AND day < rollup.period_start + rollup.days_expected
      AND subject = 'transactions' AND state <> 'missing'
      AND NOT coalesce(detail -> 'views_that_begin_later' ? 'fees', false)
) AS told ON true
LEFT JOIN LATERAL (
    SELECT
        max(days_held) AS support_days,
        max(days_incomplete) AS support_incomplete,
        sum(created)::bigint AS tickets_created,
        sum(resolved)::bigint AS tickets_resolved,
        sum(breached)::bigint AS tickets_breached,
        sum(response_seconds_sum) / nullif(sum(first_responses), 0) / 3600 AS first_response_hours
    FROM ops.rollup_support AS one
    WHERE one.grain = rollup.grain AND one.period_start = rollup.period_start
) AS support ON true
LEFT JOIN ops.rollup_feedback AS feedback
    ON feedback.grain = rollup.grain AND feedback.period_start = rollup.period_start
ORDER BY asked.position
