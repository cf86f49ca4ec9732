-- Statement of uptime.py: time up, down, in maintenance and unknown per component and for the platform overall.
-- Parameters: start and end of the window; as_of, after which nothing is known; hold_seconds, how long an observation
-- holds at most; components and user_facing, arrays of names. Instants count to the millisecond, so that the four
-- times add up to the window exactly.
--
-- It is a sweep along the time line: whatever begins adds 1 where it begins and -1 where it ends, and the running sum
-- says what holds in between. The line begins 1 ms before the window: downtime that was there already is then no outage
-- of this window.

-- statement: uptime
WITH line AS (
    SELECT %(start)s::timestamptz AS begins, %(end)s::timestamptz AS ends,
           %(start)s::timestamptz - interval '1 millisecond' AS leads,
           least(date_trunc('milliseconds', %(as_of)s::timestamptz), %(end)s::timestamptz) AS known_until,
           make_interval(secs => %(hold_seconds)s::double precision) AS hold
), component AS (
    SELECT unnest(%(components)s::text[]) AS name
), observation AS (
    SELECT resource AS component, outcome, observed_at AS exactly_at,
           date_trunc('milliseconds', observed_at) AS observed_at
    FROM ops.observation, line
    WHERE signal = 'probe' AND resource = ANY (%(components)s::text[])
      AND observed_at > leads - hold AND observed_at < known_until
), held AS (
    SELECT component, outcome, observed_at AS begins,
           least(lead(observed_at) OVER (PARTITION BY component ORDER BY exactly_at),
                 date_trunc('milliseconds', observed_at + hold), known_until) AS ends
    FROM observation, line
), change AS (
    SELECT held.component, edge.at, edge.sign * (outcome IN ('ok', 'warning'))::integer AS up,
           edge.sign * (outcome = 'critical')::integer AS down, 0 AS maintenance
    FROM held, line, LATERAL (VALUES (greatest(held.begins, leads), 1), (held.ends, -1)) AS edge(at, sign)
    WHERE greatest(held.begins, leads) < held.ends
    UNION ALL
    SELECT component.name, edge.at, 0, 0, edge.sign
    FROM ops.maintenance_window AS maintenance
    JOIN component ON maintenance.component IN (component.name, '*')
    CROSS JOIN line
    CROSS JOIN LATERAL (VALUES
        (greatest(date_trunc('milliseconds', maintenance.starts_at), leads), 1),
        (least(date_trunc('milliseconds', maintenance.ends_at), line.ends), -1)) AS edge(at, sign)
    WHERE maintenance.starts_at < line.ends AND maintenance.ends_at > leads
    UNION ALL
    SELECT component.name, leads, 0, 0, 0 FROM component, line
), swept AS (
    SELECT component, at, sum(sum(up)) OVER so_far AS up, sum(sum(down)) OVER so_far AS down,
           sum(sum(maintenance)) OVER so_far AS maintenance
    FROM change
    GROUP BY component, at
    WINDOW so_far AS (PARTITION BY component ORDER BY at)
), state AS (
    SELECT component, at,
           CASE WHEN maintenance > 0 THEN 'maintenance' WHEN down > 0 THEN 'down'
                WHEN up > 0 THEN 'up' ELSE 'unknown' END AS state
    FROM swept
), component_interval AS MATERIALIZED (
    SELECT component, state, at AS begins,
           coalesce(lead(at) OVER (PARTITION BY component ORDER BY at), line.ends) AS ends
    FROM (SELECT *, lag(state) OVER (PARTITION BY component ORDER BY at) AS before FROM state) AS turn, line
    WHERE state IS DISTINCT FROM before AND at < line.ends
), overall_swept AS (
    SELECT edge.at,
           sum(sum(edge.sign) FILTER (WHERE state = 'maintenance')) OVER so_far AS maintenance,
           sum(sum(edge.sign) FILTER (WHERE state = 'down')) OVER so_far AS down,
           sum(sum(edge.sign) FILTER (WHERE state = 'unknown')) OVER so_far AS unknown
    FROM component_interval, LATERAL (VALUES (begins, 1), (ends, -1)) AS edge(at, sign)
    WHERE component = ANY (%(user_facing)s::text[])
    GROUP BY edge.at
    WINDOW so_far AS (ORDER BY edge.at)
), overall_state AS (
    -- A component under maintenance is not down: what is down here is another one, and users meet that.
    SELECT at, CASE WHEN down > 0 THEN 'down' WHEN maintenance > 0 THEN 'maintenance'
                    WHEN unknown > 0 THEN 'unknown' ELSE 'up' END AS state
    FROM overall_swept, line
    WHERE at < line.ends
), every_interval AS (
    SELECT component, state, begins, ends FROM component_interval
    UNION ALL
    SELECT 'overall', state, at, coalesce(lead(at) OVER (ORDER BY at), line.ends)
    FROM (SELECT *, lag(state) OVER (ORDER BY at) AS before FROM overall_state) AS turn, line
    WHERE state IS DISTINCT FROM before
), lasting AS (
    SELECT component, state, every_interval.begins >= line.begins AS begins_within,
           extract(epoch FROM every_interval.ends - greatest(every_interval.begins, line.begins))::numeric AS seconds
    FROM every_interval, line
    WHERE every_interval.ends > line.begins
)
SELECT component,
       round(coalesce(sum(seconds) FILTER (WHERE state = 'up'), 0), 3) AS up_seconds,
       round(coalesce(sum(seconds) FILTER (WHERE state = 'down'), 0), 3) AS down_seconds,
       round(coalesce(sum(seconds) FILTER (WHERE state = 'maintenance'), 0), 3) AS maintenance_seconds,
       round(coalesce(sum(seconds) FILTER (WHERE state = 'unknown'), 0), 3) AS unknown_seconds,
       count(*) FILTER (WHERE state = 'down' AND begins_within)::integer AS outages,
       (SELECT count(*) FROM held, line
        WHERE held.component = lasting.component AND held.ends > line.begins) AS observations
FROM lasting
GROUP BY component
ORDER BY component;
