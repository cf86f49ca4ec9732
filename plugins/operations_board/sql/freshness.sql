-- The newest day with metrics, and when metrics were last written.
SELECT (SELECT max(day) FROM ops.daily_subject WHERE state <> 'missing') AS newest_day,
       (SELECT max(written_at) FROM ops.metric_write) AS last_written_at
