-- One incident, with the title of its latest signal.
SELECT incident_id, fingerprint, class, state, title, affected, detected_at, last_seen_at, occurrences,
       acknowledged_at, resolved_at, state IN ('detected', 'acknowledged', 'mitigated') AS is_open,
       (SELECT signal.title FROM ops.signal
        WHERE signal.fingerprint = incident.fingerprint
          AND least(signal.occurred_at, signal.received_at) <= incident.last_seen_at
        ORDER BY least(signal.occurred_at, signal.received_at) DESC, signal.signal_id DESC LIMIT 1) AS last_title
FROM ops.incident
WHERE incident_id = %(incident_id)s
