-- The P0 and P1 incidents of each asked window: detected in it, or detected before and not over when it began.
-- resolved_at is told only when it lies in the window, so that a past day's report does not change with later work.
SELECT
    asked.day,
    incident.incident_id,
    incident.class,
    incident.title,
    incident.affected,
    incident.detected_at,
    CASE WHEN incident.resolved_at < asked.window_end THEN incident.resolved_at END AS resolved_at
FROM unnest(%(days)s::date[], %(starts)s::timestamptz[], %(ends)s::timestamptz[]) AS asked (day, window_start, window_end)
JOIN ops.incident ON incident.detected_at < asked.window_end
    AND (
        incident.detected_at >= asked.window_start
        OR incident.resolved_at >= asked.window_start
        OR (incident.resolved_at IS NULL AND incident.state IN ('detected', 'acknowledged', 'mitigated'))
    )
WHERE incident.class IN ('P0', 'P1') AND incident.state <> 'cancelled'
ORDER BY asked.day, incident.class, incident.detected_at, incident.incident_id
