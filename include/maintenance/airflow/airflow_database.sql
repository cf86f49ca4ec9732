-- Statements of airflow_database.py, each under its name; they run in Airflow's metadata database.

-- statement: tables
SELECT relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relname = ANY (%(names)s)
ORDER BY relname;

-- statement: archives
-- What db clean moves removed rows to; a clean-up that failed leaves such tables behind.
SELECT relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND starts_with(relname, '_airflow_deleted__')
ORDER BY relname;

-- statement: lock
SELECT pg_try_advisory_lock(hashtext('gold-escrow-operations: airflow db clean'));

-- statement: needed
-- What is older than the cut-off and still needed, the oldest first: db clean looks at the age alone.
SELECT reason, earliest FROM (
    SELECT format('the run %%s of %%s is not finished', run_id, dag_id) AS reason,
           -- A run that was cleared starts anew, but has rows since it was created (which older runs do not tell).
           least(coalesce(created_at, run_after), start_date) AS earliest
    FROM dag_run WHERE state IN ('queued', 'running')
    UNION ALL
    SELECT format('the task %%s of the run %%s of %%s is %%s', task_id, run_id, dag_id, state), start_date
    FROM task_instance
    WHERE state NOT IN ('success', 'failed', 'skipped', 'upstream_failed', 'removed')
    UNION ALL
    SELECT format('the backfill %%s of %%s is not complete', b.id, b.dag_id),
           least(coalesce(r.created_at, r.run_after), r.start_date)
    FROM backfill b JOIN dag_run r ON r.backfill_id = b.id
    WHERE b.completed_at IS NULL
    UNION ALL
    SELECT format('the run of %%s for the partition %%s still waits for events', p.target_dag_id, p.partition_key),
           e.timestamp
    FROM asset_partition_dag_run p
    JOIN partitioned_asset_key_log l ON l.asset_partition_dag_run_id = p.id
    JOIN asset_event e ON e.id = l.asset_event_id
    WHERE p.created_dag_run_id IS NULL
    UNION ALL
    SELECT format('the next run of %%s still waits for other assets', target_dag_id), created_at
    FROM asset_dag_run_queue
) AS needed
WHERE earliest < %(cut_off)s
ORDER BY earliest, reason
LIMIT 1;
