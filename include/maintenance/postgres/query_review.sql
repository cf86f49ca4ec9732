-- Statements of query_review.py, each under its name.

-- statement: extension
-- Where pg_stat_statements is installed in this database, its version and the columns that it has.
SELECT n.nspname, e.extversion,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = to_regclass(quote_ident(n.nspname) || '.pg_stat_statements') AND a.attnum > 0)
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements';

-- statement: libraries
-- What the server loads at its start; there is no row for a role that may not read the setting.
SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries';

-- statement: settings
SELECT clock_timestamp(), pg_has_role('pg_read_all_stats', 'USAGE'), current_setting('track_io_timing')::boolean,
       current_setting('pg_stat_statements.track', true), current_setting('compute_query_id', true),
       current_setting('pg_stat_statements.max', true)::integer;
