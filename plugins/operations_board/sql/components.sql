-- The latest probe of each component, and the first of the unbroken row of probes with the same outcome: changed_at
-- when the change lies within the look-back, otherwise the row is known to reach back to seen_since at least.
SELECT components.component, latest.observed_at, latest.outcome, latest.value, latest.unit, latest.evidence,
       (SELECT min(same.observed_at) FROM ops.observation AS same
        WHERE same.signal = 'probe' AND same.resource = components.component
          AND same.observed_at > changed.observed_at) AS changed_at,
       (SELECT min(seen.observed_at) FROM ops.observation AS seen
        WHERE seen.signal = 'probe' AND seen.resource = components.component
          AND seen.observed_at >= latest.observed_at - %(look_back)s::interval) AS seen_since
FROM unnest(%(components)s::text[]) WITH ORDINALITY AS components (component, position)
LEFT JOIN LATERAL (
    SELECT observed_at, outcome, value, unit, evidence
    FROM ops.observation
    WHERE signal = 'probe' AND resource = components.component
    ORDER BY observed_at DESC
    LIMIT 1
) AS latest ON true
LEFT JOIN LATERAL (
    SELECT observed_at
    FROM ops.observation
    WHERE signal = 'probe' AND resource = components.component AND outcome <> latest.outcome
      AND observed_at < latest.observed_at AND observed_at >= latest.observed_at - %(look_back)s::interval
    ORDER BY observed_at DESC
    LIMIT 1
) AS changed ON true
ORDER BY components.position
