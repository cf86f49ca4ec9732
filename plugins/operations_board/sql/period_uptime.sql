-- The uptime of each component in one week or month, overall first, with that of the period before it.
SELECT now.component, now.days_held, now.days_incomplete, now.days_expected, now.uptime,
       before.uptime AS uptime_before, now.down_seconds,
       now.maintenance_seconds, now.unknown_seconds, now.outages
FROM ops.rollup_uptime AS now
LEFT JOIN ops.rollup_uptime AS before
    ON before.grain = now.grain AND before.period_start = %(first_day_before)s AND before.component = now.component
WHERE now.grain = %(grain)s AND now.period_start = %(first_day)s
ORDER BY now.component <> 'overall', now.component
