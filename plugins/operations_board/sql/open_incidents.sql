-- Incidents that somebody must work on, the gravest and oldest first, each with the title of its latest signal.
SELECT incident_id, class, state, title, affected, detected_at, last_seen_at, occurrences, acknowledged_at,
       {last_title} AS last_title
FROM ops.incident
WHERE state IN ('detected', 'acknowledged', 'mitigated')
ORDER BY class, detected_at, incident_id
