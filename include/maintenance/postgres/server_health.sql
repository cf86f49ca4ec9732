-- Statements of server_health.py, each under its name.

-- statement: checksums
-- Of every database, and of the catalogs that all share (they have no name). NULL where checksums are off.
SELECT coalesce(datname::text, 'the shared catalogs') AS database, checksum_failures, checksum_last_failure
FROM pg_stat_database ORDER BY checksum_failures DESC NULLS LAST, datname;

-- statement: archiver
-- A command that hangs, or none at all, counts no failure: files that wait tell of those. A standby archives where the
-- mode is always.
SELECT current_setting('archive_mode') AS mode, pg_is_in_recovery() AS is_standby, archived_count, last_archived_wal,
       last_archived_time, failed_count, last_failed_wal, last_failed_time,
       coalesce(last_failed_time > last_archived_time, last_failed_time IS NOT NULL) AS fails,
       current_setting('archive_command') IN ('', '(disabled)')
           AND coalesce(current_setting('archive_library', true), '') = '' AS has_no_way,
       quote_ident(current_user) AS role
FROM pg_stat_archiver;

-- statement: waiting
-- Since when the oldest WAL file waits to be archived; NULL when none does.
SELECT min(modification) AS waits_since, min(modification) < now() - interval '1 hour' AS too_long
FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready';

-- statement: unvalidated
-- Constraints that rows of before need not meet. One of partitions or heirs is that of the table they have it from; one
-- that is not enforced (PostgreSQL 18) cannot be validated.
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS table_name, quote_ident(k.conname) AS constraint_name,
       pg_get_constraintdef(k.oid) AS definition
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT k.convalidated AND k.contype IN ('c', 'f', 'n') AND k.conparentid = 0 AND k.coninhcount = 0
  AND coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true' AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 1, 2;
