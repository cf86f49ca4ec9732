-- One page of the latest findings of every check, the worst first and among equals the oldest.
SELECT finding_id, check_name, resource, outcome, summary, evidence, remedy, estimated_gain, found_at, first_found_at,
       coalesce(is_new, false) AS is_new,
       count(*) OVER () AS total
FROM ops.latest_finding
WHERE outcome = ANY (%(outcomes)s) AND (%(check)s::text IS NULL OR check_name = %(check)s)
ORDER BY array_position(ARRAY['critical', 'warning', 'unknown', 'ok', 'not_applicable'], outcome),
         first_found_at, check_name, resource
LIMIT %(limit)s OFFSET %(offset)s
