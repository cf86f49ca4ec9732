-- What the rows of the reports' tables are compared with: each value on the days that are compared. Parameter: days.
SELECT 'uptime' AS part, ARRAY[component] AS key, day, uptime AS value
FROM ops.daily_uptime WHERE day = ANY (%(days)s)
UNION ALL
SELECT 'revenue', ARRAY[kind], day, amount_usd FROM ops.daily_revenue WHERE day = ANY (%(days)s)
UNION ALL
SELECT 'tickets', ARRAY[priority], day, created FROM ops.daily_support WHERE day = ANY (%(days)s)
UNION ALL
SELECT 'errors', ARRAY[source, kind, endpoint], day, errors FROM ops.daily_error WHERE day = ANY (%(days)s)
