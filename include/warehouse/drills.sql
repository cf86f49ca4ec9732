-- Statements of drills.py, each under its name.

-- statement: begin
-- Begins a drill, or begins it again after a failure or a killed task. What has passed stays as it is, and what became
-- of each earlier attempt stays in the detail: a backup that came back only at the second try is not one that came back.
INSERT INTO ops.drill AS drill (kind, resource, run_id, rpo_target_seconds, rto_target_seconds)
VALUES (%(kind)s, %(resource)s, %(run_id)s, %(rpo_target_seconds)s, %(rto_target_seconds)s)
ON CONFLICT (run_id, kind, resource) DO UPDATE SET
    outcome = 'running', attempts = drill.attempts + 1, rpo_seconds = NULL, rto_seconds = NULL, reason = '',
    rpo_target_seconds = excluded.rpo_target_seconds, rto_target_seconds = excluded.rto_target_seconds,
    detail = jsonb_build_object('earlier_attempts',
        coalesce(drill.detail -> 'earlier_attempts', '[]') || jsonb_strip_nulls(jsonb_build_object(
            'attempt', drill.attempts,
            'outcome', CASE drill.outcome WHEN 'running' THEN 'killed' ELSE drill.outcome END,
            'reason', nullif(drill.reason, ''),
            'started_at', drill.started_at,
            'stages_not_passed', (
                SELECT jsonb_agg(name ORDER BY position) FROM ops.drill_stage
                WHERE drill_id = drill.drill_id AND outcome IN ('failed', 'unknown'))))),
    started_at = excluded.started_at, finished_at = NULL
WHERE drill.outcome <> 'passed'
RETURNING {columns};

-- statement: forget_stages
DELETE FROM ops.drill_stage WHERE drill_id = %(id)s;

-- statement: lock
-- Stages that end at the same time take their places one after the other.
SELECT FROM ops.drill WHERE drill_id = %(id)s AND outcome = 'running' AND attempts = %(attempts)s FOR UPDATE;

-- statement: stage
INSERT INTO ops.drill_stage (drill_id, name, position, outcome, seconds, reason, detail)
VALUES (%(id)s, %(name)s, (SELECT 1 + coalesce(max(position), 0) FROM ops.drill_stage WHERE drill_id = %(id)s),
        %(outcome)s, %(seconds)s, %(reason)s, %(detail)s)
ON CONFLICT (drill_id, name) DO UPDATE SET
    position = excluded.position, outcome = excluded.outcome, seconds = excluded.seconds, reason = excluded.reason,
    detail = excluded.detail, recorded_at = clock_timestamp();

-- statement: finish
-- Nothing has passed of which a stage failed or could not be checked, unless the latter was accepted on purpose.
UPDATE ops.drill SET
    outcome = %(outcome)s, reason = %(reason)s, rpo_seconds = %(rpo_seconds)s, rto_seconds = %(rto_seconds)s,
    detail = detail || %(detail)s, finished_at = clock_timestamp()
WHERE drill_id = %(id)s AND outcome = 'running' AND attempts = %(attempts)s
  AND (%(outcome)s <> 'passed' OR (
        EXISTS (SELECT FROM ops.drill_stage WHERE drill_id = %(id)s AND outcome = 'passed')
        AND NOT EXISTS (
            SELECT FROM ops.drill_stage
            WHERE drill_id = %(id)s
              AND (outcome = 'failed' OR (outcome = 'unknown' AND name <> ALL (%(accepted)s)))
        )))
RETURNING {columns};

-- statement: act_begins
-- The drill as an act of maintenance: a dry run's plan, or what an earlier attempt left, makes room for this attempt.
INSERT INTO ops.maintenance_action AS action
    (idempotency_key, kind, resource, run_id, dry_run, state, plan, applied_at)
VALUES (%(key)s, %(kind)s, %(resource)s, %(run_id)s, false, 'applying', %(plan)s, clock_timestamp())
ON CONFLICT (idempotency_key) DO UPDATE SET
    dry_run = false, state = 'applying', plan = excluded.plan, applied = NULL, proof = NULL, reason = '',
    planned_at = excluded.planned_at, applied_at = excluded.applied_at, finished_at = NULL;

-- statement: act_ends
UPDATE ops.maintenance_action AS action SET
    state = CASE drill.outcome WHEN 'passed' THEN 'proven' ELSE 'failed' END,
    applied = (SELECT jsonb_build_object('stages', jsonb_agg(name ORDER BY position), 'seconds', sum(seconds))
               FROM ops.drill_stage WHERE drill_id = drill.drill_id),
    proof = jsonb_build_object(
        'drill', drill.drill_id, 'outcome', drill.outcome, 'attempts', drill.attempts,
        'rpo_seconds', drill.rpo_seconds, 'rto_seconds', drill.rto_seconds,
        'stages', (SELECT jsonb_object_agg(outcome, stages)
                   FROM (SELECT outcome, count(*) AS stages FROM ops.drill_stage
                         WHERE drill_id = drill.drill_id GROUP BY outcome) AS counted)),
    reason = drill.reason, finished_at = drill.finished_at
FROM ops.drill AS drill
WHERE drill.drill_id = %(id)s AND action.idempotency_key = %(key)s;

-- statement: find
SELECT {columns}
FROM ops.drill WHERE run_id = %(run_id)s AND kind = %(kind)s AND resource = %(resource)s;

-- statement: stages_of
SELECT name, outcome, seconds, reason, detail FROM ops.drill_stage WHERE drill_id = %(id)s ORDER BY position, name;

-- statement: finished
SELECT {columns}
FROM ops.drill
WHERE kind = %(kind)s AND resource = %(resource)s AND outcome <> 'running'
ORDER BY started_at DESC, drill_id DESC
LIMIT 26;  -- half a year of weekly ones, two years of monthly ones
