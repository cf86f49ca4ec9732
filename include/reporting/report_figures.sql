-- One row per asked day with every figure of the daily reports; the columns are named like the figures.
-- Groups without a row (an outcome nothing reached, a priority without tickets) are zero here; the caller makes all
-- figures of a subject absent whose source was missing. What stands in braces is put in from figures.py.
SELECT
    asked.day,
    uptime.*,
    traffic.requests,
    traffic.errors,
    traffic.client_errors,
    traffic.error_rate,
    traffic.response_average_seconds,
    traffic.response_p95_seconds,
    traffic.response_p99_seconds,
    traffic.bytes_sent,
    traffic.lines_read,
    traffic.lines_broken,
    logged.*,
    users.active_users,
    users.sessions,
    users.page_views,
    users.new_users,
    users.verified_users,
    users.pending_verification,
    transactions.*,
    revenue.*,
    support.*,
    feedback.ratings,
    feedback.rating_average,
    feedback.rating_1,
    feedback.rating_2,
    feedback.rating_3,
    feedback.rating_4,
    feedback.rating_5
FROM unnest(%(days)s::date[]) AS asked (day)
LEFT JOIN LATERAL (
    SELECT
        max(uptime) FILTER (WHERE component = 'overall') AS uptime_overall,
        max(uptime) FILTER (WHERE component = 'frontend') AS uptime_frontend,
        max(uptime) FILTER (WHERE component = 'api') AS uptime_api,
        max(uptime) FILTER (WHERE component = 'database') AS uptime_database,
        max(uptime) FILTER (WHERE component = 'cache') AS uptime_cache,
        max(uptime) FILTER (WHERE component = 'chain') AS uptime_chain,
        max(unknown_seconds) FILTER (WHERE component = 'overall') AS unknown_seconds
    FROM ops.daily_uptime WHERE daily_uptime.day = asked.day
) AS uptime ON true
LEFT JOIN ops.daily_traffic AS traffic ON traffic.day = asked.day
LEFT JOIN ops.daily_subject AS logs ON logs.day = asked.day AND logs.subject = 'traffic'
LEFT JOIN LATERAL (
    -- A log that tells nothing of the day does not tell that there were no errors.
    SELECT
        CASE WHEN logs.detail -> 'absent_logs' @> '"application"' THEN NULL
             ELSE coalesce(sum(errors) FILTER (WHERE source = 'application'), 0)::bigint END AS application_log_errors,
        CASE WHEN logs.detail -> 'absent_logs' @> '"error"' THEN NULL
             ELSE coalesce(sum(errors) FILTER (WHERE source = 'error'), 0)::bigint END AS error_log_errors
    FROM ops.daily_error WHERE daily_error.day = asked.day
) AS logged ON true
LEFT JOIN ops.daily_users AS users ON users.day = asked.day
LEFT JOIN LATERAL (
    SELECT
        {outcome_columns}
    FROM ops.daily_transactions WHERE daily_transactions.day = asked.day
) AS transactions ON true
LEFT JOIN LATERAL (
    -- A source whose fees begin after the day does not tell that there were none.
    SELECT
        CASE WHEN source.tells_fees THEN coalesce(sum(amount_usd), 0) END AS revenue,
        CASE WHEN source.tells_fees THEN coalesce(sum(fees), 0)::bigint END AS fees
    FROM (
        SELECT NOT coalesce((
            SELECT detail -> 'views_that_begin_later' @> '"fees"' FROM ops.daily_subject
            WHERE daily_subject.day = asked.day AND subject = 'transactions'
        ), false) AS tells_fees
    ) AS source
    LEFT JOIN ops.daily_revenue ON daily_revenue.day = asked.day
    GROUP BY source.tells_fees
) AS revenue ON true
LEFT JOIN LATERAL (
    SELECT
        coalesce(sum(created), 0)::bigint AS tickets_created,
        coalesce(sum(resolved), 0)::bigint AS tickets_resolved,
        coalesce(sum(breached), 0)::bigint AS tickets_breached,
        sum(response_seconds_sum) / nullif(sum(first_responses), 0) / 3600 AS first_response_hours
    FROM ops.daily_support WHERE daily_support.day = asked.day
) AS support ON true
LEFT JOIN ops.daily_feedback AS feedback ON feedback.day = asked.day
ORDER BY asked.day
