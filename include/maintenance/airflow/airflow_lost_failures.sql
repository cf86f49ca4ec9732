-- Statements of airflow_lost_failures.py, each under its name.

-- statement: told
-- The runs of some DAGs whose failure a callback has told, each with the time of its latest signal. A missed deadline is
-- no failure yet.
SELECT detail ->> 'dag_id', detail ->> 'run_id', max(occurred_at)
FROM ops.signal
WHERE kind IN ('task_failed', 'dag_failed') AND fingerprint = ANY(%(fingerprints)s) AND occurred_at >= %(since)s
GROUP BY 1, 2;
