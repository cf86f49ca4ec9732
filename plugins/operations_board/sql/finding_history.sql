-- What a check said about a resource in its runs, the newest first; outcome is absent in the first run after the one
-- that did not name the resource any more, and unsure tells that this run could not look at everything.
WITH runs AS (
    SELECT run_id, max(found_at) AS run_at, bool_or(outcome = 'unknown') AS unsure
    FROM ops.finding WHERE check_name = %(check)s GROUP BY run_id
), said AS (
    SELECT runs.run_id, runs.run_at, runs.unsure, f.finding_id, f.outcome, f.summary,
           lag(f.outcome) OVER (ORDER BY runs.run_at, runs.run_id) AS outcome_before
    FROM runs
    LEFT JOIN ops.finding AS f
        ON f.check_name = %(check)s AND f.resource = %(resource)s AND f.run_id = runs.run_id
)
SELECT run_id, run_at, unsure, finding_id, outcome, summary, count(*) OVER () AS total
FROM said
WHERE outcome IS NOT NULL OR outcome_before IS NOT NULL
ORDER BY run_at DESC, run_id DESC
LIMIT %(limit)s
