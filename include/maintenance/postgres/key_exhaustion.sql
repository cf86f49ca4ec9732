-- Statements of key_exhaustion.py, each under its name. They read catalogs only, on PostgreSQL 13 to 18.

-- statement: sequences
-- Every sequence with how far it is, and all integer columns that its numbers get into: those that it belongs to
-- (serial, identity), those whose default calls it, and those that refer to these by foreign keys, over any number of
-- them. A column of partitions or heirs counts once, as that of the table they have it from: it is altered there. A
-- domain is as wide as the type below it. Who may not read a sequence is told no last_value, as for one never called.
-- Materialized, the foreign keys are joined once and not at each step.
WITH RECURSIVE integer_type (oid, lowest, highest) AS (
    VALUES ('smallint'::regtype::oid, '-32768'::bigint, 32767::bigint),
           ('integer'::regtype::oid, '-2147483648'::bigint, 2147483647::bigint),
           ('bigint'::regtype::oid, '-9223372036854775808'::bigint, 9223372036854775807::bigint)
    UNION ALL
    SELECT d.oid, t.lowest, t.highest FROM pg_type d JOIN integer_type t ON t.oid = d.typbasetype
), fed AS (
    SELECT d.objid AS sequence, d.refobjid AS relid, d.refobjsubid::smallint AS number
    FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
      AND d.deptype IN ('a', 'i')
    UNION
    SELECT d.refobjid, f.adrelid, f.adnum
    FROM pg_depend d JOIN pg_attrdef f ON f.oid = d.objid
    WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid = 0
), reference AS (
    SELECT k.conrelid, u.from_number, k.confrelid, u.to_number,
           quote_ident(k.conname) || ' of ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name
    FROM pg_constraint k CROSS JOIN LATERAL unnest(k.conkey, k.confkey) AS u (from_number, to_number)
    JOIN pg_class c ON c.oid = k.conrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE k.contype = 'f' AND k.conparentid = 0
), partition_key AS (  -- the columns of a key, also within its expressions, depend on the whole of their table
    SELECT d.objid AS relid, d.objsubid::smallint AS number
    FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = d.objid
      AND d.objsubid > 0 AND d.refobjsubid = 0 AND d.deptype = 'i'
), line (relid, number, origin, origin_number) AS (
    SELECT relid, number, relid, number
    FROM (SELECT relid, number FROM fed
          UNION SELECT conrelid, from_number FROM reference
          UNION SELECT confrelid, to_number FROM reference
          UNION SELECT relid, number FROM partition_key) AS named
    UNION
    SELECT l.relid, l.number, h.inhparent, p.attnum
    FROM line l
    JOIN pg_attribute a ON a.attrelid = l.origin AND a.attnum = l.origin_number AND a.attinhcount > 0
    JOIN pg_inherits h ON h.inhrelid = l.origin
    JOIN pg_attribute p ON p.attrelid = h.inhparent AND p.attname = a.attname
), integer_column AS (
    SELECT l.relid, l.number, l.origin, l.origin_number
    FROM line l
    JOIN pg_attribute a ON a.attrelid = l.origin AND a.attnum = l.origin_number AND a.attinhcount = 0
    JOIN integer_type t ON t.oid = a.atttypid
    JOIN pg_class c ON c.oid = l.origin AND c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
), referring AS MATERIALIZED (
    SELECT f.origin, f.origin_number, p.origin AS key_origin, p.origin_number AS key_number
    FROM reference k
    JOIN integer_column p ON p.relid = k.confrelid AND p.number = k.to_number
    JOIN integer_column f ON f.relid = k.conrelid AND f.number = k.from_number
), reached (sequence, origin, number, fed) AS (
    SELECT fed.sequence, i.origin, i.origin_number, true FROM fed JOIN integer_column i USING (relid, number)
    UNION
    SELECT r.sequence, f.origin, f.origin_number, false
    FROM reached r JOIN referring f ON f.key_origin = r.origin AND f.key_number = r.number
), heir (origin, relid) AS (  -- of plain inheritance: a partitioned table hands its triggers on
    SELECT r.origin, h.inhrelid
    FROM reached r
    JOIN pg_class c ON c.oid = r.origin AND c.relkind <> 'p'
    JOIN pg_inherits h ON h.inhparent = r.origin
    UNION
    SELECT p.origin, h.inhrelid FROM heir p JOIN pg_inherits h ON h.inhparent = p.relid
), ended AS (  -- the foreign keys that begin or end at a column
    SELECT l.origin, l.origin_number, jsonb_agg(DISTINCT e.name ORDER BY e.name) AS names
    FROM (SELECT conrelid, from_number, name FROM reference
          UNION SELECT confrelid, to_number, name FROM reference) AS e (relid, number, name)
    JOIN line l USING (relid, number)
    GROUP BY 1, 2
), filled AS (
    SELECT r.sequence, jsonb_agg(jsonb_build_object(
               'table', quote_ident(n.nspname) || '.' || quote_ident(c.relname), 'column', quote_ident(a.attname),
               'type', format_type(a.atttypid, NULL), 'lowest', t.lowest, 'highest', t.highest, 'fed', r.fed,
               'domain', a.atttypid NOT IN ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype),
               'copy', quote_ident(left(a.attname, 50) || '_bigint'),
               'trigger', quote_ident('widen_' || left(a.attname, 50)),
               'function', quote_ident(n.nspname) || '.'
                           || quote_ident('widen_' || left(c.relname || '_' || a.attname, 50)),
               'partition_key', (r.origin, r.number) IN (SELECT l.origin, l.origin_number
                                                         FROM line l JOIN partition_key USING (relid, number)),
               'heirs', (SELECT coalesce(jsonb_agg(quote_ident(hn.nspname) || '.' || quote_ident(hc.relname)
                                                   ORDER BY hn.nspname, hc.relname), '[]')
                         FROM heir h
                         JOIN pg_class hc ON hc.oid = h.relid AND hc.relpersistence <> 't'
                         JOIN pg_namespace hn ON hn.oid = hc.relnamespace
                         WHERE h.origin = r.origin),
               'foreign_keys', coalesce(e.names, '[]')
           ) ORDER BY n.nspname, c.relname, a.attname) AS columns
    FROM (SELECT sequence, origin, number, bool_or(fed) AS fed FROM reached GROUP BY 1, 2, 3) AS r
    LEFT JOIN ended e ON e.origin = r.origin AND e.origin_number = r.number
    JOIN pg_attribute a ON a.attrelid = r.origin AND a.attnum = r.number
    JOIN integer_type t ON t.oid = a.atttypid
    JOIN pg_class c ON c.oid = r.origin
    JOIN pg_namespace n ON n.oid = c.relnamespace
    GROUP BY r.sequence
)
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name, t.lowest, t.highest,
       s.seqmin AS minimum, s.seqmax AS maximum, s.seqstart AS start, s.seqincrement AS increment, s.seqcycle AS cycle,
       v.last_value, has_sequence_privilege(c.oid, 'SELECT, USAGE') AS readable, clock_timestamp() AS read_at,
       quote_ident(current_user) AS role, coalesce(f.columns, '[]') AS columns
FROM pg_sequence s
JOIN pg_class c ON c.oid = s.seqrelid AND c.relpersistence <> 't'
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
JOIN pg_sequences v ON v.schemaname = n.nspname AND v.sequencename = c.relname
JOIN integer_type t ON t.oid = s.seqtypid
LEFT JOIN filled f ON f.sequence = c.oid
ORDER BY 1;

-- statement: sizes
-- Bytes of the named tables, each with its partitions or heirs.
WITH RECURSIVE part (root, oid) AS (
    SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.oid
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE quote_ident(n.nspname) || '.' || quote_ident(c.relname) = ANY (%(tables)s::text[])
    UNION
    SELECT p.root, h.inhrelid FROM part p JOIN pg_inherits h ON h.inhparent = p.oid
)
SELECT root, coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM part GROUP BY root;

-- statement: narrow_references
-- Columns that refer to a bigint key and cannot hold all of its numbers. The key of a partition or heir is also that of
-- the tables that it has it from (origins).
WITH RECURSIVE line (relid, number, origin, name) AS (
    SELECT DISTINCT k.confrelid, u.number, k.confrelid, a.attname
    FROM pg_constraint k CROSS JOIN LATERAL unnest(k.confkey) AS u (number)
    JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.number
    WHERE k.contype = 'f' AND k.conparentid = 0
    UNION
    SELECT l.relid, l.number, h.inhparent, l.name
    FROM line l
    JOIN pg_attribute a ON a.attrelid = l.origin AND a.attname = l.name AND a.attinhcount > 0
    JOIN pg_inherits h ON h.inhrelid = l.origin
    JOIN pg_attribute p ON p.attrelid = h.inhparent AND p.attname = l.name
)
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS table_name, quote_ident(f.attname) AS column_name,
       quote_ident(k.conname) AS constraint_name, format_type(f.atttypid, NULL) AS type,
       quote_ident(rn.nspname) || '.' || quote_ident(rc.relname) AS key_table, quote_ident(p.attname) AS key_column,
       ARRAY(SELECT quote_ident(ln.nspname) || '.' || quote_ident(lc.relname) || '.' || quote_ident(l.name)
             FROM line l
             JOIN pg_class lc ON lc.oid = l.origin
             JOIN pg_namespace ln ON ln.oid = lc.relnamespace
             WHERE l.relid = k.confrelid AND l.number = u.to_number) AS origins
FROM pg_constraint k
CROSS JOIN LATERAL unnest(k.conkey, k.confkey) AS u (from_number, to_number)
JOIN pg_class c ON c.oid = k.conrelid AND c.relpersistence <> 't'
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class rc ON rc.oid = k.confrelid
JOIN pg_namespace rn ON rn.oid = rc.relnamespace
JOIN pg_attribute f ON f.attrelid = k.conrelid AND f.attnum = u.from_number
JOIN pg_attribute p ON p.attrelid = k.confrelid AND p.attnum = u.to_number
WHERE k.contype = 'f' AND k.conparentid = 0
  AND f.atttypid IN ('smallint'::regtype, 'integer'::regtype) AND p.atttypid = 'bigint'::regtype
ORDER BY 1, 3, 2;
