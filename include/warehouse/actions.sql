-- Statements of actions.py, each under its name.

-- statement: plan
-- Plans an act, or continues the row of an earlier attempt. What is proven stays as it is. An attempt that had begun
-- to change things keeps its first plan: that is the measurement from before the change.
INSERT INTO ops.maintenance_action AS action (idempotency_key, kind, resource, run_id, dry_run, state, plan)
VALUES (%(key)s, %(kind)s, %(resource)s, %(run_id)s, %(dry_run)s, 'planned', %(plan)s)
ON CONFLICT (idempotency_key) DO UPDATE SET
    state       = CASE WHEN action.state = 'proven' THEN action.state ELSE 'planned' END,
    dry_run     = CASE WHEN action.state = 'proven' THEN action.dry_run ELSE excluded.dry_run END,
    plan        = CASE WHEN action.applied_at IS NULL THEN excluded.plan ELSE action.plan END,
    planned_at  = CASE WHEN action.applied_at IS NULL THEN excluded.planned_at ELSE action.planned_at END,
    reason      = CASE WHEN action.state = 'proven' THEN action.reason ELSE '' END,
    finished_at = CASE WHEN action.state = 'proven' THEN action.finished_at END
RETURNING {columns};

-- statement: applying
-- The change of this attempt begins: an earlier one of the same act is over, and how long it takes counts anew.
UPDATE ops.maintenance_action SET state = 'applying', applied_at = clock_timestamp()
WHERE maintenance_action_id = %(id)s AND state IN ('planned', 'applying');

-- statement: prove
UPDATE ops.maintenance_action
SET state = 'proven', proof = %(proof)s, applied = %(applied)s, reason = %(reason)s, finished_at = clock_timestamp()
WHERE maintenance_action_id = %(id)s AND state = 'applying';

-- statement: nothing_to_do
UPDATE ops.maintenance_action SET state = 'nothing_to_do', reason = %(reason)s, finished_at = clock_timestamp()
WHERE maintenance_action_id = %(id)s AND state = 'planned';

-- statement: postpone
UPDATE ops.maintenance_action
SET state = 'postponed', reason = %(reason)s, applied = coalesce(%(applied)s, applied), finished_at = clock_timestamp()
WHERE maintenance_action_id = %(id)s AND state IN ('planned', 'applying');

-- statement: fail
UPDATE ops.maintenance_action
SET state = 'failed', reason = %(reason)s, proof = coalesce(%(proof)s, proof), finished_at = clock_timestamp()
WHERE maintenance_action_id = %(id)s AND state <> 'proven';

-- statement: find
SELECT {columns}
FROM ops.maintenance_action WHERE idempotency_key = %(key)s;

-- statement: last_proven
SELECT {columns}
FROM ops.maintenance_action
WHERE kind = %(kind)s AND resource = %(resource)s AND state = 'proven'
ORDER BY finished_at DESC, maintenance_action_id DESC LIMIT 1;

-- statement: recent
SELECT found.*
FROM unnest(%(kinds)s::text[]) AS kind
CROSS JOIN unnest(%(resources)s::text[]) AS resource
CROSS JOIN LATERAL (
    SELECT {columns}
    FROM ops.maintenance_action a
    WHERE a.kind = kind.kind AND a.resource = resource.resource AND NOT a.dry_run
    ORDER BY maintenance_action_id DESC LIMIT %(each)s
) AS found
ORDER BY found.maintenance_action_id DESC;

-- statement: of_run
SELECT {columns}
FROM ops.maintenance_action
WHERE run_id = %(run_id)s AND kind = ANY (%(kinds)s)
ORDER BY maintenance_action_id;

-- statement: begun
-- Acts on a resource that began to change it, the newest first.
SELECT {columns}
FROM ops.maintenance_action
WHERE kind = %(kind)s AND resource = %(resource)s AND applied_at IS NOT NULL
ORDER BY applied_at DESC, maintenance_action_id DESC LIMIT %(limit)s;

-- statement: left_by
SELECT {columns}
FROM ops.maintenance_action
WHERE run_id = %(run_id)s AND applied_at IS NOT NULL AND state <> 'proven'
ORDER BY maintenance_action_id;
