-- The latest probe of each component, and how long its outcome is known to last without a break: changed_at when the
-- change itself was seen within the look-back; otherwise the row is known to reach back to seen_since at least. A pause
-- of the watch longer than an observation holds is a break: nobody knows what the component did meanwhile. Rows of the
-- future, which a clock that jumped has left, tell nothing of now; five seconds are how far two clocks may differ.
SELECT components.component, latest.observed_at, latest.outcome, latest.value, latest.unit, latest.evidence,
       CASE WHEN NOT breach.was_a_pause THEN unbroken.since END AS changed_at,
       unbroken.since AS seen_since
FROM unnest(%(components)s::text[]) WITH ORDINALITY AS components (component, position)
LEFT JOIN LATERAL (
    SELECT observed_at, outcome, value, unit, evidence
    FROM ops.observation
    WHERE signal = 'probe' AND resource = components.component
      AND observed_at <= %(now)s::timestamptz + interval '5 seconds'
    ORDER BY observed_at DESC
    LIMIT 1
) AS latest ON true
LEFT JOIN LATERAL (
    SELECT observed_at, coalesce(next_at > observed_at + %(holds)s::interval, false) AS was_a_pause
    FROM (
        SELECT observed_at, outcome, lead(observed_at) OVER (ORDER BY observed_at) AS next_at
        FROM ops.observation
        WHERE signal = 'probe' AND resource = components.component
          AND observed_at BETWEEN latest.observed_at - %(look_back)s::interval AND latest.observed_at
    ) AS seen
    WHERE outcome <> latest.outcome OR next_at > observed_at + %(holds)s::interval
    ORDER BY observed_at DESC
    LIMIT 1
) AS breach ON true
LEFT JOIN LATERAL (
    SELECT min(observed_at) AS since
    FROM ops.observation
    WHERE signal = 'probe' AND resource = components.component
      AND observed_at > coalesce(breach.observed_at, '-infinity')
      AND observed_at BETWEEN latest.observed_at - %(look_back)s::interval AND latest.observed_at
) AS unbroken ON true
ORDER BY components.position
