-- The support tickets of one week or month by priority, the most urgent first.
SELECT priority, created, resolved, first_responses, within_target, breached, response_average_seconds
FROM ops.rollup_support
WHERE grain = %(grain)s AND period_start = %(first_day)s
ORDER BY array_position(ARRAY['high', 'medium', 'low'], priority), priority
