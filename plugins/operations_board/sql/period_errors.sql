-- The endpoints with most errors in one week or month, each with its number in the period before it; none where a day of
-- that period has no such log, or one of this period.
SELECT now.source, now.kind, now.endpoint, now.errors,
       CASE WHEN now.source NOT IN (
           SELECT jsonb_array_elements_text(detail -> 'absent_logs') FROM ops.daily_subject
           WHERE subject = 'traffic' AND day >= %(first_day_before)s
               AND day < %(first_day)s::date + ('1 ' || %(grain)s)::interval
       ) THEN coalesce(before.errors, 0) END AS errors_before,
       count(*) OVER () AS total
FROM ops.rollup_error AS now
LEFT JOIN ops.rollup_error AS before
    ON before.grain = now.grain AND before.period_start = %(first_day_before)s
    AND before.source = now.source AND before.kind = now.kind AND before.endpoint = now.endpoint
WHERE now.grain = %(grain)s AND now.period_start = %(first_day)s
ORDER BY now.errors DESC, now.source, now.kind, now.endpoint
LIMIT %(limit)s
