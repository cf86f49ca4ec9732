-- Statements of sources.py, each under its name.

-- statement: index_on_time
SELECT EXISTS (
           SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
           JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
           WHERE i.indrelid = %(oid)s AND i.indisvalid AND i.indpred IS NULL AND a.attname = %(time)s
       ) AS indexed,
       (SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class
        WHERE oid = %(oid)s OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = %(oid)s)) AS rows;

-- statement: foreign_order
-- The type of a column, of a domain the one below it, whose comparisons are not the server's own: they lie beyond the
-- search path. Those of enums, ranges and the like are.
WITH RECURSIVE types AS (
    SELECT t.* FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = %(oid)s AND a.attname = %(key)s
    UNION ALL
    SELECT t.* FROM types JOIN pg_type t ON t.oid = types.typbasetype
)
SELECT format_type(oid, NULL) FROM types WHERE typtype = 'b' AND typnamespace <> 'pg_catalog'::regnamespace;

-- statement: children
-- Tables that inherit from a table and are no partitions of it, at whatever distance.
WITH RECURSIVE below AS (
    SELECT i.inhrelid FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent AND c.relkind = 'r'
    WHERE i.inhparent = %(oid)s
    UNION
    SELECT i.inhrelid FROM below JOIN pg_inherits i ON i.inhparent = below.inhrelid
)
SELECT inhrelid::regclass::text FROM below ORDER BY 1;

-- statement: hidden
-- The table and its partitions whose policies apply to this role. A partition's rows are read from it by name.
WITH RECURSIVE parts AS (
    SELECT %(oid)s::oid AS oid
    UNION
    SELECT i.inhrelid FROM parts JOIN pg_inherits i ON i.inhparent = parts.oid
)
SELECT c.oid::regclass::text FROM parts JOIN pg_class c USING (oid)
WHERE c.relrowsecurity AND row_security_active(c.oid)
ORDER BY 1;
