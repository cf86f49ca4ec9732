-- Incidents that somebody must work on, the gravest and oldest first.
SELECT incident_id, class, state, title, affected, detected_at, last_seen_at, occurrences, acknowledged_at
FROM ops.incident
WHERE state IN ('detected', 'acknowledged', 'mitigated')
ORDER BY class, detected_at, incident_id
