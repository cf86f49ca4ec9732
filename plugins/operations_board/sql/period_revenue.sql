-- The fees of one week or month by kind, the largest sum first.
SELECT kind, fees, amount_usd, count(*) OVER () AS total
FROM ops.rollup_revenue
WHERE grain = %(grain)s AND period_start = %(first_day)s
ORDER BY amount_usd DESC, kind
LIMIT %(limit)s
