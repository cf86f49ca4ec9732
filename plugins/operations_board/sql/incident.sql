-- One incident, with the title of its latest signal.
SELECT incident_id, fingerprint, class, state, title, affected, detected_at, last_seen_at, occurrences,
       acknowledged_at, resolved_at, state IN ('detected', 'acknowledged', 'mitigated') AS is_open,
       {last_title} AS last_title
FROM ops.incident
WHERE incident_id = %(incident_id)s
