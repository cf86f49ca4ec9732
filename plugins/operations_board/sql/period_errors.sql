-- The endpoints with most errors in one week or month, each with its number in the period before it.
SELECT now.source, now.kind, now.endpoint, now.errors, coalesce(before.errors, 0) AS errors_before,
       count(*) OVER () AS total
FROM ops.rollup_error AS now
LEFT JOIN ops.rollup_error AS before
    ON before.grain = now.grain AND before.period_start = %(first_day_before)s
    AND before.source = now.source AND before.kind = now.kind AND before.endpoint = now.endpoint
WHERE now.grain = %(grain)s AND now.period_start = %(first_day)s
ORDER BY now.errors DESC, now.source, now.kind, now.endpoint
LIMIT %(limit)s
