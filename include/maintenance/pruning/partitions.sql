-- Statements of partitions.py, each under its name.

-- statement: partitioned
SELECT p.partstrat = 'r' AND p.partnatts = 1 AND a.attname = %(time)s AS by_time,
       p.partdefid <> 0 AS has_default,
       pg_has_role(c.relowner, 'USAGE') AS owned,
       pg_get_userbyid(c.relowner) AS owner
FROM pg_partitioned_table p
JOIN pg_class c ON c.oid = p.partrelid
LEFT JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
WHERE p.partrelid = %(oid)s;

-- statement: partitions
-- The partitions of a table that have rows before the cut-off, the oldest first. inhdetachpending is there from
-- PostgreSQL 14 on. A bound without a value is MINVALUE or MAXVALUE; the default partition has none.
SELECT oid, schema, relation, name, bound, pending, owned, rows, coalesce(upper <= %(cut_off)s, false) AS past,
       coalesce(upper, 'infinity') = 'infinity' AS endless
FROM (
    SELECT c.oid, n.nspname AS schema, c.relname AS relation,
           quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
           pg_get_expr(c.relpartbound, c.oid) AS bound,
           coalesce((to_jsonb(i) ->> 'inhdetachpending')::boolean, false) AS pending,
           c.relkind IN ('r', 'p') AND pg_has_role(c.relowner, 'USAGE') AS owned,
           greatest(c.reltuples, 0)::bigint AS rows,
           substring(pg_get_expr(c.relpartbound, c.oid) FROM $$FROM \('([^']+)'\)$$)::timestamptz AS lower,
           CASE WHEN pg_get_expr(c.relpartbound, c.oid) LIKE '%%TO (MAXVALUE)' THEN 'infinity'
                ELSE substring(pg_get_expr(c.relpartbound, c.oid) FROM $$TO \('([^']+)'\)$$)::timestamptz END AS upper
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE i.inhparent = %(oid)s
) AS found
WHERE pending OR coalesce(lower, '-infinity') < %(cut_off)s
ORDER BY upper;

-- statement: state
-- What became of a partition: NULL oid when it is gone; attached to this table, perhaps on its way out.
SELECT to_regclass(%(name)s)::oid AS oid,
       coalesce(bool_or(i.inhparent IS NOT NULL), false) AS attached,
       coalesce(bool_or((to_jsonb(i) ->> 'inhdetachpending')::boolean), false) AS pending
FROM (VALUES (1)) AS one
LEFT JOIN pg_inherits i ON i.inhrelid = to_regclass(%(name)s) AND i.inhparent = %(parent)s;

-- statement: frozen
SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = %(oid)s AND conname = 'being_archived');

-- statement: count
SELECT count(*) FROM {table};

-- statement: infinite
SELECT EXISTS (SELECT FROM {table} WHERE {time} IN ('-infinity', 'infinity'));

-- statement: held
SELECT EXISTS (SELECT FROM {table} AS source WHERE {held});
