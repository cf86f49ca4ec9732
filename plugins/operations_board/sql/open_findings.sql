-- The open findings of the latest run of every check, without what only their own pages show.
SELECT finding_id, check_name, resource, outcome, summary, remedy <> '' AS has_remedy, found_at, first_found_at,
       coalesce(is_new, false) AS is_new
FROM ops.latest_finding
WHERE outcome IN ('critical', 'warning', 'unknown')
ORDER BY array_position(ARRAY['critical', 'warning', 'unknown'], outcome), first_found_at, check_name, resource
