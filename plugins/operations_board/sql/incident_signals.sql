-- The newest signals of an incident with what they say.
SELECT signal.signal_id, signal.kind, signal.occurred_at, signal.title, signal.detail
FROM ops.incident_signal
JOIN ops.signal USING (signal_id)
WHERE incident_signal.incident_id = %(incident_id)s
ORDER BY signal.occurred_at DESC, signal.signal_id DESC
LIMIT %(limit)s
