-- The oldest and the newest week, or month, that was rolled up; empty in a new warehouse.
SELECT min(period_start) AS first_day, max(period_start) AS last_day
FROM ops.rollup
WHERE grain = %(grain)s
