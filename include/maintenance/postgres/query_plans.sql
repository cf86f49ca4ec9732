-- Statements of query_plans.py, each under its name.

-- statement: tables
-- Size and columns of the tables that a plan reads; the columns that a B-tree can order by default.
SELECT n.nspname, c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname),
       greatest(c.reltuples, s.n_live_tup, 0)::bigint, pg_relation_size(c.oid)::bigint, c.relkind IN ('r', 'm'),
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND EXISTS (SELECT FROM pg_opclass o JOIN pg_am am ON am.oid = o.opcmethod AND am.amname = 'btree'
                           JOIN pg_type t ON t.oid = a.atttypid
                           WHERE o.opcdefault AND (o.opcintype = t.oid OR t.typtype = 'e'
                                 OR EXISTS (SELECT FROM pg_cast k WHERE k.castsource = t.oid AND k.casttarget = o.opcintype
                                              AND k.castmethod = 'b')))
             ORDER BY a.attnum)
FROM unnest(%(schemas)s::text[], %(relations)s::text[]) AS wanted (schema, relation)
JOIN pg_namespace n ON n.nspname = wanted.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.relation
LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid;

-- statement: hypopg
SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'hypopg';
