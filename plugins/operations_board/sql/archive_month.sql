-- The reports about the days from first_key to last_key (both as YYYY-MM-DD, both included).
SELECT kind, period_key, verdict, headline
FROM ops.report
WHERE kind = ANY (%(kinds)s) AND period_key BETWEEN %(first_key)s AND %(last_key)s
ORDER BY period_key, kind
