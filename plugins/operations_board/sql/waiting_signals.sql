-- Signals that no incident has taken up yet.
SELECT count(*) AS signals, min(signal.received_at) AS oldest_received_at
FROM ops.signal
WHERE NOT EXISTS (SELECT FROM ops.incident_signal WHERE incident_signal.signal_id = signal.signal_id)
