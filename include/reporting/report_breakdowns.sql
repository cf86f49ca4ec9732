-- What the figures of the reports' tables are compared with: each on the days that are compared, under the table's part,
-- the key of its row and its name. Parameter: days.
SELECT 'uptime' AS part, ARRAY[component, name] AS key, day, value
FROM ops.daily_uptime, LATERAL (VALUES
    ('uptime', uptime), ('up_seconds', up_seconds), ('down_seconds', down_seconds),
    ('maintenance_seconds', maintenance_seconds), ('unknown_seconds', unknown_seconds), ('outages', outages)
) AS figure (name, value)
WHERE day = ANY (%(days)s)
UNION ALL
SELECT 'revenue', ARRAY[kind, name], day, value
FROM ops.daily_revenue, LATERAL (VALUES ('fees', fees), ('amount_usd', amount_usd)) AS figure (name, value)
WHERE day = ANY (%(days)s)
UNION ALL
SELECT CASE name WHEN 'response_average_seconds' THEN 'responses' ELSE 'tickets' END, ARRAY[priority, name], day, value
FROM ops.daily_support, LATERAL (VALUES
    ('created', created), ('resolved', resolved), ('first_responses', first_responses),
    ('within_target', within_target), ('breached', breached), ('response_average_seconds', response_average_seconds)
) AS figure (name, value)
WHERE day = ANY (%(days)s)
UNION ALL
SELECT 'errors', ARRAY[source, kind, endpoint], day, errors FROM ops.daily_error WHERE day = ANY (%(days)s)
