-- Statements of vacuum.py, each under its name.

-- statement: measure
-- One table, or a partitioned one with the sums of its partitions. Who may maintain it differs by version. What died
-- counts on for ever; transactions before the oldest unfinished one are those that were over when this was measured.
SELECT c.oid, n.nspname AS schema, c.relname AS relation, c.relkind = 'p' AS partitioned,
       ({may_maintain}) AS may_maintain, {owner}, {rows_of} AS rows_of, busy.holder AS busy_with, busy.analyzes AS busy_analyzes,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next_transaction,
       pg_stat_get_tuples_updated(c.oid) + pg_stat_get_tuples_deleted(c.oid)
           + coalesce(pg_stat_get_tuples_updated(t.oid) + pg_stat_get_tuples_deleted(t.oid), 0) AS died_rows,
       pg_stat_get_dead_tuples(c.oid) AS dead_rows, coalesce(pg_stat_get_dead_tuples(t.oid), 0) AS toast_dead_rows,
       pg_stat_get_live_tuples(c.oid) AS live_rows, pg_stat_get_mod_since_analyze(c.oid) AS changed_rows,
       pg_stat_get_ins_since_vacuum(c.oid) AS inserted_rows,
       coalesce(pg_stat_get_ins_since_vacuum(t.oid), 0) AS toast_inserted_rows,
       pg_stat_get_vacuum_count(c.oid) AS vacuum_count, pg_stat_get_analyze_count(c.oid) AS analyze_count,
       CASE WHEN c.relfrozenxid <> '0' THEN greatest(age(c.relfrozenxid), age(t.relfrozenxid)) END AS transaction_age,
       CASE WHEN c.relminmxid <> '0' THEN greatest(mxid_age(c.relminmxid), mxid_age(t.relminmxid)) END AS multixact_age,
       (SELECT CASE WHEN count(*) FILTER (WHERE readable.it AND s.attname IS NULL) > 0 OR bool_and(readable.it) IS NOT FALSE
                    THEN count(*) FILTER (WHERE readable.it AND s.attname IS NULL) END
        FROM pg_attribute a
        CROSS JOIN LATERAL (SELECT has_column_privilege(c.oid, a.attnum, 'SELECT')
                                   AND NOT (c.relrowsecurity AND row_security_active(c.oid)) AS it) AS readable
        LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
                            AND s.inherited = (c.relkind = 'p')
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          AND coalesce(a.attstattarget, -1) <> 0 AND a.attgenerated <> 'v') AS unknown_columns,
       leaves.size_bytes,
       (SELECT {table_changes} FROM ({tree}) AS below JOIN pg_class l USING (oid) WHERE l.relkind = 'r')
           AS table_changes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
CROSS JOIN LATERAL (
    SELECT sum(pg_total_relation_size(l.relid))::bigint AS size_bytes
    FROM (SELECT relid::oid FROM pg_partition_tree(c.oid) WHERE isleaf
          UNION SELECT c.oid) AS l
) AS leaves
LEFT JOIN LATERAL ({vacuum_on_it}) AS busy ON true
WHERE c.oid = to_regclass(%(name)s) AND c.relkind IN ('r', 'm', 'p');

-- statement: lock_holder
-- Who holds a lock on the table that a vacuum cannot share.
SELECT format('process %%s (%%s as %%s) with %%s', l.pid, coalesce(nullif(a.application_name, ''), a.backend_type, '?'),
              coalesce(a.usename, '?'), l.mode)
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.relation = %(oid)s AND l.granted AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
LIMIT 1;

-- statement: database
SELECT age(datfrozenxid) AS transaction_age, mxid_age(datminmxid) AS multixact_age, pg_database_size(oid) AS size_bytes
FROM pg_database WHERE datname = current_database();

-- statement: cost_delay
-- How long the session's vacuums rest each time they have done vacuum_cost_limit of work.
SELECT set_config('vacuum_cost_delay', %(milliseconds)s::float8::text, false);
