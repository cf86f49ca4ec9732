-- The oldest and the newest day that has a report of any of the kinds; empty in a new warehouse.
SELECT min(period_key) AS first_key, max(period_key) AS last_key
FROM ops.report
WHERE kind = ANY (%(kinds)s)
