-- The oldest day that has a report of any of the kinds; empty in a new warehouse.
SELECT min(period_key) AS first_key
FROM ops.report
WHERE kind = ANY (%(kinds)s)
