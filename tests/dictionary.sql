-- statement: columns
-- Every column of the warehouse with its type, key and meaning, tables and views by name, columns in their order.
SELECT c.relname AS relation,
       c.relkind = 'v' AS is_view,
       obj_description(c.oid, 'pg_class') AS relation_meaning,
       a.attname AS name,
       format_type(a.atttypid, a.atttypmod) AS type,
       EXISTS (
           SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p' AND a.attnum = ANY (k.conkey)
       ) AS in_key,
       (
           SELECT min(target.relname)
           FROM pg_constraint k JOIN pg_class target ON target.oid = k.confrelid
           WHERE k.conrelid = c.oid AND k.contype = 'f' AND a.attnum = ANY (k.conkey)
       ) AS refers_to,
       a.attnotnull AS required,
       col_description(c.oid, a.attnum) AS meaning
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'ops'::regnamespace AND c.relkind IN ('r', 'v', 'p', 'm')
ORDER BY c.relname COLLATE "C", a.attnum;
