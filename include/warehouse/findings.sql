-- Statements of findings.py, each under its name.

-- statement: lock
-- Two replacements of one check wait for each other.
SELECT pg_advisory_xact_lock(hashtextextended(%(check)s, %(seed)s));

-- statement: remove
DELETE FROM ops.finding
WHERE run_id = %(run_id)s AND check_name = %(check)s AND resource <> ALL (%(resources)s::text[]);

-- statement: replace
-- An open finding (warning, critical, unknown) is as old as the newest one of the same check and resource before it,
-- unless a run of the check since then has settled it: found it ok or not applicable, or did not name it any more
-- while nothing of that run was unknown.
WITH given AS (
    SELECT * FROM unnest(%(resources)s::text[], %(outcomes)s::text[], %(summaries)s::text[], %(evidence)s::jsonb[],
                         %(remedies)s::text[], %(gains)s::jsonb[])
        AS given (resource, outcome, summary, evidence, remedy, estimated_gain)
), aged AS (
    SELECT given.*, given.outcome IN ('warning', 'critical', 'unknown') AS open, before.first_found_at, before.first_run_id
    FROM given
    LEFT JOIN LATERAL (
        SELECT f.first_found_at, f.first_run_id, f.found_at, f.run_id FROM ops.finding f
        WHERE f.check_name = %(check)s AND f.resource = given.resource AND f.first_found_at IS NOT NULL
        ORDER BY f.found_at DESC LIMIT 1
    ) AS before ON NOT EXISTS (
        SELECT FROM ops.finding other
        WHERE other.check_name = %(check)s AND other.found_at > before.found_at AND other.run_id <> before.run_id
        GROUP BY other.run_id
        HAVING coalesce(bool_or(other.first_found_at IS NULL) FILTER (WHERE other.resource = given.resource),
                        NOT bool_or(other.outcome = 'unknown'))
    )
)
INSERT INTO ops.finding AS finding
    (run_id, check_name, resource, outcome, summary, evidence, remedy, estimated_gain, found_at, first_found_at, first_run_id)
SELECT %(run_id)s, %(check)s, resource, outcome, summary, evidence, remedy, estimated_gain, statement_timestamp(),
       CASE WHEN open THEN coalesce(first_found_at, statement_timestamp()) END,
       CASE WHEN open THEN coalesce(first_run_id, %(run_id)s) END
FROM aged
ON CONFLICT (run_id, check_name, resource) DO UPDATE SET
    outcome = excluded.outcome, summary = excluded.summary, evidence = excluded.evidence, remedy = excluded.remedy,
    estimated_gain = excluded.estimated_gain, found_at = excluded.found_at,
    first_found_at = excluded.first_found_at, first_run_id = excluded.first_run_id;

-- statement: old
-- What the latest run of a check found stays, whatever its age. An open finding's age stands in its newest row.
SELECT count(*) FROM ops.finding AS f
WHERE f.found_at < %(before)s
  AND NOT EXISTS (SELECT FROM ops.latest_finding AS latest WHERE latest.finding_id = f.finding_id);

-- statement: forget
DELETE FROM ops.finding AS f
WHERE f.found_at < %(before)s
  AND NOT EXISTS (SELECT FROM ops.latest_finding AS latest WHERE latest.finding_id = f.finding_id);

-- statement: of_run
SELECT resource, outcome, summary, evidence, remedy, estimated_gain
FROM ops.finding WHERE run_id = %(run_id)s AND check_name = %(check)s
ORDER BY resource;

-- statement: last_seen
SELECT DISTINCT ON (resource) resource, evidence FROM ops.finding WHERE check_name = %(check)s
ORDER BY resource, found_at DESC;
