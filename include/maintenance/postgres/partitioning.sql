-- Statements of partitioning.py, each under its name.

-- statement: candidates
-- Ordinary tables with their best time column: that of the index it leads, else the one named like a creation.
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.oid,
       (SELECT a.attname::text
        FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull AND a.attgenerated = ''
          AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
        ORDER BY a.attname = (%(configured)s::jsonb ->> (quote_ident(n.nspname) || '.' || quote_ident(c.relname))) DESC NULLS LAST,
                 EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum AND i.indisvalid) DESC,
                 a.attname IN ('created_at', 'occurred_at', 'inserted_at', 'logged_at', 'recorded_at') DESC, a.attnum
        LIMIT 1) AS time_column
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND NOT c.relispartition AND c.relpersistence = 'p'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhparent = c.oid OR h.inhrelid = c.oid);
