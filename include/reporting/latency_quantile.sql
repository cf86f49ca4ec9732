-- Percentiles of the response time of any days, from summed buckets of ops.hourly_latency; the same rule as latency.py.
-- Parameters: first_day and last_day (dates, both included). Gives one row; both values are absent without requests.
-- For one endpoint or hour add its condition to the first SELECT; for several groups add them to its GROUP BY and
-- partition both windows by them.
WITH merged AS (
    SELECT bucket, sum(requests) AS requests
    FROM ops.hourly_latency
    WHERE day BETWEEN %(first_day)s AND %(last_day)s
    GROUP BY bucket
), placed AS (
    SELECT CASE WHEN bucket = -32768 THEN 0
                ELSE 2 * power(1.01::double precision / 0.99, bucket) / (1 + 1.01::double precision / 0.99)
           END AS seconds,
           sum(requests) OVER (ORDER BY bucket) AS requests_to_here,
           sum(requests) OVER () AS requests
    FROM merged
)
SELECT round(min(seconds) FILTER (WHERE requests_to_here > floor(0.95 * (requests - 1)))::numeric, 6) AS p95_seconds,
       round(min(seconds) FILTER (WHERE requests_to_here > floor(0.99 * (requests - 1)))::numeric, 6) AS p99_seconds
FROM placed;
