-- One finding, and the finding of the latest run of its check about the same resource, when there is one.
SELECT f.finding_id, f.run_id, f.check_name, f.resource, f.outcome, f.summary, f.evidence, f.remedy, f.estimated_gain,
       f.found_at, f.first_found_at, coalesce(f.first_run_id = f.run_id, false) AS is_new,
       run.found_at AS latest_run_at, latest.finding_id AS latest_id, latest.outcome AS latest_outcome
FROM ops.finding AS f
CROSS JOIN LATERAL (
    SELECT max(found_at) AS found_at FROM ops.latest_finding WHERE check_name = f.check_name
) AS run
LEFT JOIN ops.latest_finding AS latest ON latest.check_name = f.check_name AND latest.resource = f.resource
WHERE f.finding_id = %(finding_id)s
