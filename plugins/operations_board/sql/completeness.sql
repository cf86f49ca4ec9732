-- What is known of each subject on each day from first_day to last_day, both included; state is absent where
-- nothing was ever written. first_day is the first day of which anything is known at all.
SELECT days.day::date AS day, subjects.subject, found.state, found.completeness, found.reason,
       (SELECT min(day) FROM ops.daily_subject) AS first_day
FROM generate_series(%(first_day)s::date, %(last_day)s::date, interval '1 day') AS days (day)
CROSS JOIN unnest(%(subjects)s::text[]) WITH ORDINALITY AS subjects (subject, position)
LEFT JOIN ops.daily_subject AS found ON found.day = days.day::date AND found.subject = subjects.subject
ORDER BY subjects.position, days.day
