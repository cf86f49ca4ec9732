-- Statements of reindex.py, each under its name. They work on PostgreSQL 13 to 18.

-- statement: index
-- One index as it is now.
SELECT c.oid::bigint AS oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, n.nspname AS schema,
       c.relname AS relation, i.indrelid::bigint AS table_oid,
       quote_ident(tn.nspname) || '.' || quote_ident(t.relname) AS table_name, pg_relation_size(c.oid)::bigint AS size_bytes,
       i.indisvalid AS valid,
       coalesce(substring(array_to_string(c.reloptions, ' ') FROM 'fillfactor=([0-9]+)')::integer, 90) AS fill_factor,
       ARRAY(SELECT other.indexrelid::bigint FROM pg_index other
             WHERE other.indrelid = i.indrelid AND NOT other.indisvalid ORDER BY 1) AS invalid_before
FROM pg_class c
JOIN pg_index i ON i.indexrelid = c.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE c.oid = to_regclass(%(name)s);

-- statement: left_over
-- What interrupted REINDEX INDEX CONCURRENTLY of an index (of any, without a name) left: invalid indexes on its table
-- under its name (cut off as the server does) with the server's suffix, of the same columns and condition.
SELECT left_over.oid::bigint, n.nspname, left_over.relname, quote_ident(n.nspname) || '.' || quote_ident(left_over.relname),
       quote_ident(my_schema.nspname) || '.' || quote_ident(my.relname), pg_has_role(left_over.relowner, 'USAGE'),
       pg_relation_size(left_over.oid)::bigint
FROM pg_index i
JOIN pg_class left_over ON left_over.oid = i.indexrelid AND left_over.relname ~ '_cc(new|old)[0-9]*$'
JOIN pg_namespace n ON n.oid = left_over.relnamespace
JOIN pg_index mine ON mine.indrelid = i.indrelid AND mine.indexrelid <> i.indexrelid
JOIN pg_class my ON my.oid = mine.indexrelid
JOIN pg_namespace my_schema ON my_schema.oid = my.relnamespace
CROSS JOIN LATERAL (SELECT regexp_replace(left_over.relname, '_cc(new|old)[0-9]*$', '') AS base) AS name
WHERE NOT i.indisvalid AND (%(name)s::text IS NULL OR my.oid = to_regclass(%(name)s))
  AND (my.relname = name.base OR starts_with(my.relname, name.base) AND octet_length(left_over.relname) >= 60)
  AND my.relname !~ '_cc(new|old)[0-9]*$'
  AND i.indkey::text = mine.indkey::text AND i.indclass::text = mine.indclass::text
  AND i.indcollation::text = mine.indcollation::text AND i.indisunique = mine.indisunique
  AND pg_get_expr(i.indpred, i.indrelid) IS NOT DISTINCT FROM pg_get_expr(mine.indpred, mine.indrelid)
  AND pg_get_expr(i.indexprs, i.indrelid) IS NOT DISTINCT FROM pg_get_expr(mine.indexprs, mine.indrelid)
ORDER BY 4;

-- statement: busy
-- Sessions that build an index of this table or change it: the one of a killed attempt goes on until it has finished.
SELECT DISTINCT l.pid
FROM pg_locks l
WHERE l.locktype = 'relation' AND l.relation = %(table_oid)s AND l.granted AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
ORDER BY 1;

-- statement: long_transaction
-- The oldest transaction of this database that the rebuilding would have to wait for longer than it may.
SELECT format('process %%s (%%s as %%s) with a transaction open since %%s', pid,
              coalesce(nullif(application_name, ''), backend_type), coalesce(usename, '?'),
              to_char(xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'))
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND coalesce(backend_xmin, backend_xid) IS NOT NULL
  AND xact_start < clock_timestamp() - make_interval(secs => %(seconds)s)
  AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
ORDER BY xact_start LIMIT 1;
