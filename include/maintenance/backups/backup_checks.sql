-- Statements of backup_checks.py, each under its name.

-- statement: sequences
-- Sequences that fill a column (serial, identity or a default with nextval), with the table's column.
SELECT DISTINCT format('%I.%I', sn.nspname, s.relname) AS sequence, sn.nspname, s.relname,
       tn.nspname, t.relname, a.attname, q.seqincrement > 0 AS ascending
FROM pg_class s
JOIN pg_namespace sn ON sn.oid = s.relnamespace
JOIN pg_sequence q ON q.seqrelid = s.oid
JOIN LATERAL (
    SELECT d.refobjid AS relation, d.refobjsubid AS number FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.refclassid = 'pg_class'::regclass
      AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
    UNION
    SELECT f.adrelid, f.adnum FROM pg_depend d JOIN pg_attrdef f ON f.oid = d.objid
    WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid
) AS used ON true
JOIN pg_class t ON t.oid = used.relation AND t.relkind IN ('r', 'p')
JOIN pg_namespace tn ON tn.oid = t.relnamespace
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = used.number
WHERE a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
  AND sn.nspname !~ '^pg_'
ORDER BY 1, 4, 5, 6;

-- statement: estimates
-- What the live server believes of its tables; readable without a right on them. Unlogged ones come back empty from a copy
-- of the cluster.
SELECT format('%I.%I', n.nspname, c.relname),
       greatest(coalesce(s.n_live_tup, 0), 0)::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema';
