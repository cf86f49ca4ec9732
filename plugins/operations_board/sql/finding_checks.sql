-- Every check with the number of its latest findings by outcome, when it looked last, and the longest pause between
-- two of its last runs: one that has not looked for much longer does not look any more.
WITH runs AS (
    SELECT check_name, run_id, max(found_at) AS found_at FROM ops.finding GROUP BY check_name, run_id
), paused AS (
    SELECT check_name, found_at,
           found_at - lag(found_at) OVER (PARTITION BY check_name ORDER BY found_at) AS pause,
           row_number() OVER (PARTITION BY check_name ORDER BY found_at DESC) AS back
    FROM runs
), usual AS (
    SELECT check_name, max(pause) AS pause FROM paused WHERE back <= %(runs)s GROUP BY check_name
)
SELECT latest.check_name,
       count(*) FILTER (WHERE latest.outcome = 'critical') AS critical,
       count(*) FILTER (WHERE latest.outcome = 'warning') AS warning,
       count(*) FILTER (WHERE latest.outcome = 'unknown') AS unknown,
       count(*) FILTER (WHERE latest.outcome = 'ok') AS ok,
       count(*) FILTER (WHERE latest.outcome = 'not_applicable') AS not_applicable,
       max(latest.found_at) AS found_at,
       usual.pause
FROM ops.latest_finding AS latest
JOIN usual USING (check_name)
GROUP BY latest.check_name, usual.pause
ORDER BY latest.check_name
