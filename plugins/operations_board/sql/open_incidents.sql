-- Incidents that somebody must work on, the gravest and oldest first, each with the title of its latest signal.
SELECT incident_id, class, state, title, affected, detected_at, last_seen_at, occurrences, acknowledged_at,
       (SELECT signal.title FROM ops.signal
        WHERE signal.fingerprint = incident.fingerprint
          AND least(signal.occurred_at, signal.received_at) <= incident.last_seen_at
        ORDER BY least(signal.occurred_at, signal.received_at) DESC, signal.signal_id DESC LIMIT 1) AS last_title
FROM ops.incident
WHERE state IN ('detected', 'acknowledged', 'mitigated')
ORDER BY class, detected_at, incident_id
