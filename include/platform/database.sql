-- Statements of database.py, each under its name.

-- statement: session
-- Waits for locks for less than deadlock_timeout; tells whether the role is a superuser; values are written exactly.
-- Where policies would hide rows the server raises an error: what maintenance does not see it would count as not there.
SELECT rolsuper,
       set_config('lock_timeout', greatest(1, least((SELECT setting::integer * 0.8 FROM pg_settings
                                                     WHERE name = 'deadlock_timeout'), %(longest)s))::integer::text, false),
       set_config('lc_monetary', 'C', false), set_config('datestyle', 'ISO, YMD', false),
       set_config('intervalstyle', 'postgres', false), set_config('bytea_output', 'hex', false),
       set_config('extra_float_digits', '3', false), set_config('row_security', 'off', false)
FROM pg_roles WHERE rolname = current_user;

-- statement: server
-- The cluster and its database, which replicas share; the same with the primary's timeline (the first one is not named,
-- a standby has none): each server counts for itself, so what was counted before a promotion is not what is after it.
SELECT cluster,
       CASE WHEN NOT pg_is_in_recovery()
            THEN concat_ws('/', cluster, nullif(ltrim(left(pg_walfile_name(pg_current_wal_lsn()), 8), '0'), '1')) END
FROM (SELECT system_identifier || '/' || current_database() AS cluster FROM pg_control_system()) AS own;

-- statement: table
SELECT c.oid, n.nspname, c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(%(name)s) AND c.relkind IN ('r', 'p', 'm');

-- statement: columns
-- A NOT NULL that was added NOT VALID (18+) does not speak of the rows that were there before.
SELECT a.attname, format_type(a.atttypid, a.atttypmod),
       a.attnotnull AND NOT EXISTS (
           SELECT FROM pg_constraint c
           WHERE c.conrelid = a.attrelid AND c.contype = 'n' AND c.conkey = ARRAY[a.attnum] AND NOT c.convalidated
       ),
       a.attgenerated <> ''
FROM pg_attribute a
WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum;

-- statement: unique
SELECT EXISTS (
    SELECT FROM pg_index i
    WHERE i.indrelid = %(oid)s AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
      AND (SELECT array_agg(a.attname::text) FROM pg_attribute a
           WHERE a.attrelid = i.indrelid
             AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) <@ %(columns)s::text[]
);

-- statement: changed_by_deletion
-- Foreign keys may refer to one of its partitions as well.
SELECT DISTINCT conrelid::regclass::text
FROM pg_constraint
WHERE contype = 'f' AND confdeltype IN ('c', 'n', 'd')
  AND confrelid IN (SELECT %(oid)s::oid UNION SELECT relid FROM pg_partition_tree(%(oid)s::oid::regclass))
ORDER BY 1;

-- statement: blind_role
SELECT quote_ident(current_user) WHERE NOT pg_has_role('pg_read_all_stats', 'USAGE');

-- statement: horizon
-- Who holds the oldest snapshot. A vacuum does not hold one back from other tables, and neither does what happens in
-- another database, but for the catalogs that all databases share. A slot's catalog_xmin keeps rows of catalogs only.
-- Process ids and snapshots are shown to every role, what a process is and does is not. Of equal age is whoever came
-- first: a snapshot is as old as the oldest transaction that was open when it was taken.
SELECT holder, age, newest - (age - age((newest %% 4294967296)::text::xid)) AS transaction, since
FROM (
    SELECT format('process %%s (%%s as %%s, %%s) with a transaction open since %%s', pid,
                  coalesce(nullif(application_name, ''), backend_type, '?'), coalesce(usename, '?'), coalesce(state, '?'),
                  coalesce(to_char(xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), '?'))
               || CASE WHEN datname <> current_database() THEN format(' in the database %%s', datname) ELSE '' END AS holder,
           greatest(age(backend_xmin), age(backend_xid)) AS age, xact_start AS since
    FROM pg_stat_activity
    WHERE coalesce(backend_xmin, backend_xid) IS NOT NULL AND pid <> pg_backend_pid()
      AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum) AND pid NOT IN (SELECT pid FROM pg_stat_replication)
      AND (%(everywhere)s OR datname = current_database() OR datname IS NULL)
    UNION ALL
    SELECT format('the prepared transaction %%s of %%s in the database %%s', gid, owner, database), age(transaction), prepared
    FROM pg_prepared_xacts WHERE %(everywhere)s OR database = current_database()
    UNION ALL
    SELECT format('the replication slot %%s', slot_name),
           greatest(age(xmin), CASE WHEN %(catalogs)s THEN age(catalog_xmin) END), NULL
    FROM pg_replication_slots
    UNION ALL
    SELECT format('the standby %%s', application_name), age(backend_xmin), NULL
    FROM pg_stat_replication
) AS held, (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS newest) AS now
WHERE age IS NOT NULL
ORDER BY age DESC, since
LIMIT 1;
