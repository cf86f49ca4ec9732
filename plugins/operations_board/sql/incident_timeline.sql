-- What happened in an incident, in order.
SELECT entry, at, actor, kind, message, detail
FROM ops.incident_timeline
WHERE incident_id = %(incident_id)s
ORDER BY entry
