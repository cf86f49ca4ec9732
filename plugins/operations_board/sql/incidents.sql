-- One page of incidents, open ones first, then the newest.
SELECT incident_id, class, state, title, affected, detected_at, last_seen_at, occurrences, acknowledged_at, resolved_at,
       state IN ('detected', 'acknowledged', 'mitigated') AS is_open,
       count(*) OVER () AS total
FROM ops.incident
WHERE %(state)s = 'all' OR (state IN ('detected', 'acknowledged', 'mitigated')) = (%(state)s = 'open')
ORDER BY is_open DESC, detected_at DESC, incident_id DESC
LIMIT %(limit)s OFFSET %(offset)s
